"""Notes: files that hold one text, to show how a module of one's own is written."""

import os

from sloth.payload.kernel.resource import REQUIRED, Action, ArgumentError, Failed, Field, Resource


class Present(Resource):
    """Make sure that a note is there and says something.

    The first sentence is what `sloth-runner doc` lists; the rest of the docstring stands on the module's own page.
    """

    name = "note.present"  # the namespace is the file's name
    fields = (
        Field("path", "path", REQUIRED, help="the file"),
        Field("text", "str", REQUIRED, help="what it says"),
        Field("shout", "bool", False, help="in capital letters"),
    )
    returns = (Field("length", "int", help="characters of the note"),)
    example = 'task({name = "n", run = function() note.present({path = "~/note", text = "hello"}) end})'

    @classmethod
    def check_together(cls, values):
        """Look at the arguments together, on the controller: nothing has been touched yet."""
        if "\n" in values["text"]:
            raise ArgumentError("note.present: a note is one line")

    def identity(self):
        """What tells this resource from others of its type: the last part of its state key."""
        return self.host.expand(self.args.path)

    def observe(self):
        """Look at the host and change nothing: a dict of attributes, or None when there is nothing."""
        try:
            with open(self.identity(), encoding="utf-8") as file:
                return {"text": file.read().rstrip("\n")}
        except FileNotFoundError:
            return None

    def desired(self, now):
        """What should be there, given what observe() told: only what was asked for, and nothing but a calculation."""
        return {"text": self.args.text.upper() if self.args.shout else self.args.text}

    def apply(self, change):
        """Make it so. Afterwards observe() must tell what desired() wished, or the call fails."""
        path = self.identity()
        if not os.path.isdir(os.path.dirname(path)):
            raise Failed("there is no directory for %s" % path, hint="make it with file.directory")
        with open(path + ".new", "w", encoding="utf-8") as file:
            file.write(change.after["text"] + "\n")
        os.rename(path + ".new", path)

    def result(self, now):
        """More for the result that Lua gets, besides changed, reason, diff and the like."""
        return {"length": len(now["text"]) if now else 0}


class Read(Action):
    """Read a note aloud: something that is simply done, unless its guard stops it."""

    name = "note.read"
    fields = (Field("path", "path", REQUIRED, help="the file"),)
    returns = (Field("text", help="what it says"),)
    example = 'task({name = "r", run = function() print(note.read("~/note").text) end})'

    def identity(self):
        return self.host.expand(self.args.path)

    def guard(self):
        return "" if os.path.exists(self.identity()) else "there is no note"

    def run(self):
        done = self.host.run(["cat", self.identity()])
        return {"text": done.stdout.decode("utf-8", "replace").strip(), "changed": False}
