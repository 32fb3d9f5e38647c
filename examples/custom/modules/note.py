"""Notes: files that hold one line of text. A complete module of your own, to copy from."""

import os

from sloth.payload.kernel.resource import REQUIRED, Action, ArgumentError, Failed, Field, Resource
from sloth.payload.lib import files


class Present(Resource):
    """Make sure that a file holds a note.

    The first sentence is what `sloth-runner doc` lists; the rest of the docstring is shown on the module's own page.
    """

    name = "note.present"  # the namespace is the name of this file
    fields = (
        Field("path", "path", REQUIRED, help="the file"),
        Field("text", "str", help="the note, one line"),
        Field("shout", "bool", False, help="write it in capital letters"),
        # With this argument the kernel can remove the note by itself, for `run --prune` and `rollback`.
        Field("state", choices=("present", "absent"), default="present", help="whether the note exists"),
    )
    returns = (Field("length", "int", help="the number of characters of the note"),)
    example = 'task({name = "n", run = function() note.present({path = "~/note", text = "hello"}) end})'

    @classmethod
    def check_together(cls, values):
        """Check the arguments against each other. This runs on the controller, before any host is touched."""
        if values["state"] == "present" and values["text"] is None:
            raise ArgumentError("note.present needs text, unless state is absent")
        if "\n" in (values["text"] or ""):
            raise ArgumentError("note.present: text must be one line")

    def identity(self):
        """Return the last part of the state key: what distinguishes this resource from others of its type."""
        return self.host.expand(self.args.path)

    def claims(self):
        """Return what this manages, so that the kernel knows if another call manages the same: here, a whole file."""
        return ["path:" + self.host.canonical(self.identity())]

    def observe(self):
        """Read the host, change nothing; return a dict of attributes, or None when there is nothing."""
        try:
            with open(self.identity(), encoding="utf-8") as file:
                return {"text": file.read().rstrip("\n")}
        except FileNotFoundError:
            return None

    def desired(self, now):
        """Return the attributes that observe() should return, or None for "should not exist". Calculate only."""
        if self.args.state == "absent":
            return None
        return {"text": self.args.text.upper() if self.args.shout else self.args.text}

    def apply(self, change):
        """Change the host. Afterwards observe() must return what desired() returned, or the call fails."""
        path = self.identity()
        if change.after is None:
            os.unlink(path)
            return
        if not os.path.isdir(os.path.dirname(path)):
            raise Failed("%s does not exist" % os.path.dirname(path), hint="create it with file.directory")
        # replace() is the way to write a file: nobody ever reads half of it, an existing file keeps its mode, owner,
        # ACLs and SELinux context, and a kill leaves the old file. realpath(): a link stays a link to the new content.
        files.replace(os.path.realpath(path), [(change.after["text"] + "\n").encode("utf-8")])

    def result(self, now):
        """Return further values of the result; Lua gets them besides changed, reason, diff and the like."""
        return {"length": len(now["text"]) if now else 0}


class Read(Action):
    """Read a note: something that is simply done, unless its guard stops it."""

    name = "note.read"
    fields = (Field("path", "path", REQUIRED, help="the file"),)
    returns = (Field("text", help="the note"),)
    example = 'task({name = "r", run = function() print(note.read("~/note").text) end})'

    def identity(self):
        return self.host.expand(self.args.path)

    def guard(self):
        """Return why there is nothing to do, or an empty string."""
        return "" if os.path.exists(self.identity()) else "there is no note"

    def run(self):
        """Do it, and return a dict of result values; "changed" is True unless it is among them."""
        done = self.host.run(["cat", self.identity()])
        return {"text": done.stdout.decode("utf-8", "replace").strip(), "changed": False}
