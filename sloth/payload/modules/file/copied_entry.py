"""What file.copy does with one file or directory of what it copies."""

import os

from sloth.payload.kernel.resource import Args, Change, Failed, Missing, Resource
from sloth.payload.lib import files, parents

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterator

    from sloth.payload.kernel.content import Content
    from sloth.payload.kernel.values import Attributes

SHA1 = 40  # characters of a SHA-1


class Entry(object):
    """A file or directory of a copy: its path on the host, the index of its asset, and the mode of its source.

    source: the path on the host of what is copied, with remote_src.
    """

    __slots__ = ("index", "is_directory", "mode", "path", "source")

    def __init__(
        self, path: "str", index: "int | None", mode: "str", is_directory: "bool", source: "str" = ""
    ) -> "None":
        self.path = path
        self.source = source
        self.index = index
        self.mode = mode
        self.is_directory = is_directory


class EntryCopy(Resource):
    """Looks at and writes one Entry at a time; the arguments are those of file.copy."""

    def look_at(self, entry: "Entry") -> "Attributes | None":
        seen = files.look(entry.path, self.args.follow or entry.is_directory)  # a link to a directory is one
        if seen is not None and seen["type"] == "file":
            seen["content"] = self.host.content(entry.path)
        return seen

    def desired_entry(self, now: "Attributes | None", entry: "Entry") -> "Attributes":
        if now is not None and not self.args.force and not entry.is_directory:
            return now
        if now is None:
            parents.refuse_blocked(self.host, entry.path)
        if entry.is_directory:
            return self.desired_directory(now, entry)
        if now is not None and now["type"] == "directory":
            raise Failed("%s is a directory" % entry.path)
        if now is not None and now["type"] not in ("file", "link"):
            raise Failed(
                "%s exists and is not a file but a %s" % (entry.path, now["type"]),
                hint="remove it first, with file.absent, if it is not needed",
            )
        content = self.content(entry)
        desired: "Attributes" = {"type": "file", "content": content}
        if now is not None and not (now["type"] == "file" and now["content"].sha256 == content.sha256):
            now = files.rewritten(now)
        mode = self.args.mode
        if mode == "preserve":
            mode = entry.mode if entry.index is not None else mode_of(entry.source)
        elif mode is None and entry.index is None and entry.mode:
            if now is None or now.get("content") != desired["content"]:
                mode = entry.mode  # of a tree on the host, as with Ansible: programs stay programs
        given = Args({"owner": self.args.owner, "group": self.args.group, "mode": mode})
        # A link that is replaced gives nothing on: its own mode, of which "u+x" would be made, permits all.
        base = now if now is None or now["type"] == "file" else None
        desired.update(files.desired_attributes(self.host, given, base))
        return desired

    def desired_directory(self, now: "Attributes | None", entry: "Entry") -> "Attributes":
        if now is not None and now["type"] != "directory":
            raise Failed("%s exists and is not a directory but a %s" % (entry.path, now["type"]))
        desired = {"type": "directory"}
        if (
            now is None or entry.index is not None or entry.source
        ):  # dest itself may be anybody's: its attributes are set if it is new
            desired.update(self.directory_attributes(entry.path, now, entry.mode))
        return desired

    def directory_attributes(self, path: "str", now: "Attributes | None", mode: "str" = "") -> "Attributes":
        """Return what a directory of the copy is to have; mode: that of its source, which it gets if it is new."""
        if now is not None or self.args.directory_mode is not None:
            mode = self.args.directory_mode
        given = Args({"owner": self.args.owner, "group": self.args.group, "mode": mode or None})
        new = parents.new_directory_mode(self.host, path) if now is None else None
        return files.desired_attributes(self.host, given, now, "directory", new)

    def content(self, entry: "Entry") -> "Content":
        if entry.index is None:
            if not os.path.isfile(entry.source):
                raise Missing("there is no file %s on the host to copy" % entry.source)
            content = self.host.content(entry.source)
        else:
            content = self.host.asset(self, entry.index)
        if self.args.checksum:
            _refuse_other(content, self.args.checksum)
        return content

    def apply_entries(
        self, entries: "list[Entry]", before: "dict[str, Attributes]", after: "dict[str, Attributes]"
    ) -> "Attributes":
        """Make the changes of a tree; before, after: the attributes by path."""
        values = {}
        closed = []
        for entry in entries:
            one = Change(before.get(entry.path), after.get(entry.path))
            if not one.names:
                continue
            if entry.is_directory and not _is_open(one):  # its owner could put nothing into it
                closed.append((entry.path, one))
                one = _opened(one)
            values.update(self.apply_entry(entry, one, True))
        for path, one in reversed(closed):
            files.set_attributes(path, one)
        return values

    def apply_entry(self, entry: "Entry", change: "Change", creates_parent: "bool") -> "Attributes":
        if not entry.is_directory:
            return self.apply_file(entry.path, change, creates_parent)
        if change.before is None:
            _make_directory(entry.path, self.directory_attributes(entry.path, None))
        files.set_attributes(entry.path, change)
        return {}

    def apply_file(self, path: "str", change: "Change", creates_parent: "bool") -> "Attributes":
        assert change.after is not None
        values = {"dest": path}
        parent = os.path.dirname(path)
        if creates_parent:
            _make_directory(parent, self.directory_attributes(parent, None))
        if not os.path.isdir(parent):
            raise Failed(
                "the directory %s does not exist" % parent, hint="create it with file.directory, or end dest with /"
            )
        if change.before is None or "content" in change or "type" in change:
            if change.before is not None and self.args.backup and os.path.isfile(path):  # also through a link
                values["backup_file"] = files.back_up(path)
            mode = change.after.get("mode") if change.before is None else None
            content = change.after["content"]
            validate = files.validation(self.args, self.host)
            info = files.replace(path, content.chunks(), mode, validate, wanted=change.after)
            if not self.args.validate:  # that is a command, which could have written to the file as well
                self.host.contents.note_written(path, info, content)
        files.set_attributes(path, change, self.args.follow)
        return values


def remote_entries(src: "str", dest: "str", is_content: "bool") -> "list[Entry]":
    """Return the entries of a tree that is on the host; is_content: what is in `src` is copied, not `src` itself."""
    root = dest if is_content else os.path.join(dest, os.path.basename(src))
    if (os.path.realpath(root) + "/").startswith(os.path.realpath(src) + "/"):
        raise Failed("%s is in the directory that is to be copied, %s" % (root, src))
    entries = [Entry(root, None, mode_of(src) or "", True, "" if is_content else src)]
    for name, is_directory in walk(src):
        source = os.path.join(src, name)
        entries.append(Entry(os.path.join(root, name), None, mode_of(source) or "", is_directory, source))
    return entries


def walk(directory: "str") -> "Iterator[tuple[str, bool]]":
    """Yield what is below a directory, by its relative path, and whether it is a directory; links are followed."""
    seen = set()
    for root, directories, names in os.walk(directory, followlinks=True):
        here = os.path.realpath(root)
        if here in seen:  # a link leads back to a directory that was there before
            del directories[:]
            continue
        seen.add(here)
        inside = os.path.relpath(root, directory)
        for name in sorted(directories):
            yield os.path.normpath(os.path.join(inside, name)), True
        for name in sorted(names):
            if os.path.isfile(os.path.join(root, name)):
                yield os.path.normpath(os.path.join(inside, name)), False
        directories.sort()


def _is_open(change: "Change") -> "bool":
    """Return whether the owner of a directory can put something into it, with the mode that it is to have."""
    return int((change.after or {}).get("mode", "0700"), 8) & 0o300 == 0o300


def _opened(change: "Change") -> "Change":
    """Return the change of a directory as it is while the copy puts something into it."""
    after = dict(change.after or {})
    return Change(change.before, dict(after, mode="%04o" % (int(after["mode"], 8) | 0o300)))


def _refuse_other(content: "Content", checksum: "str") -> "None":
    """Raise Failed if the content has another checksum."""
    name, digest = "SHA-256", content.sha256
    if len(checksum) == SHA1:
        import hashlib  # OpenSSL takes five milliseconds to load

        sha1 = hashlib.sha1()
        for chunk in content.chunks():
            sha1.update(chunk)
        name, digest = "SHA-1", sha1.hexdigest()
    if digest != checksum.lower():
        raise Failed("the %s of the content is %s, not %s" % (name, digest, checksum))


def mode_of(path: "str") -> "str | None":
    seen = files.look(path)
    return None if seen is None else str(seen["mode"])


def _make_directory(path: "str", attributes: "Attributes") -> "None":
    """Create a directory and its parents, each with these attributes."""
    if os.path.isdir(path):
        return
    _make_directory(os.path.dirname(path), attributes)
    with files.Parent(path) as parent:
        parent.mkdir()
    files.set_attributes(path, Change(None, attributes))
