"""archive.unpack: unpacks a tar or zip archive into a directory."""

import json
import os

from sloth.payload.kernel.resource import REQUIRED, Args, Change, Failed, Field, Missing, Resource
from sloth.payload.lib import files, unfinished
from sloth.payload.lib.archives import open_archive, refuse_unsafe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Iterable, Iterator, Sequence

    from sloth.payload.kernel.content import Content
    from sloth.payload.kernel.record import Asset
    from sloth.payload.kernel.values import Attributes
    from sloth.payload.lib.archives import Member
    from sloth.payload.lib.host import Host


class Unpack(Resource):
    """Make sure that the members of a tar (gz, bz2, xz) or zip archive are in a directory.

    Every member is compared with the directory, by type, mode and content; only what differs is written, and each file
    is replaced atomically. Other files in the directory are kept. Members that would be written outside of it
    (absolute, with "..", through links) and devices stop the call before anything is written. An archive from the
    controller is sent once: the host remembers what was in it.

    Other than Ansible: members are compared by content, not by size and time, and modification times are not restored.

    Other than Ansible: the owners in the archive are ignored (`owner` and `group` set them), and so are set-uid,
    set-gid and sticky bits.

    Other than Ansible: absolute names, links that lead outside of dest, and devices are errors unless they are
    excluded.

    Other than Ansible: hard links become files of their own.

    Other than Ansible: `src` cannot be a URL (see http.download), and there is no `mode`, `extra_opts`, `keep_newer`
    and `list_files`.
    """

    name = "archive.unpack"
    subject = "dest"
    ships = "file"
    fields = (
        Field(
            "src",
            "file",
            REQUIRED,
            help="the archive on the controller: absolute, or below the site",
        ),
        Field("dest", "path", REQUIRED, help="the directory, which must exist"),
        Field("remote_src", "bool", False, help="src is a file on the host"),
        Field("creates", "path", how=True, help="do nothing when this path exists"),
        Field("strip_components", "int", 0, help="remove that many leading parts of the names"),
        Field("include", "list", help="only these members, and what is below them: names or shell patterns"),
        Field("exclude", "list", help="without these members, and what is below them"),
        files.FIELDS[0],
        files.FIELDS[1],
    )
    returns = (Field("dest", help="the directory"), Field("files", "int", help="how many members it has"))
    example = """task({name = "release", run = function()
    file.directory({path = "/srv/app"})
    archive.unpack({src = "app-1.2.tar.gz", dest = "/srv/app", strip_components = 1})
end})"""

    guards = ("creates",)

    def __init__(self, args: "Args", host: "Host", assets: "Sequence[Asset]" = ()) -> "None":
        Resource.__init__(self, args, host, assets)
        self._source = _Source(self)
        self._is_created: "bool | None" = None

    def _is_needless(self) -> "bool":
        """Return whether `creates` was there when the call began; what it has unpacked itself does not count."""
        if self._is_created is None:
            self._is_created = bool(self.args.creates) and os.path.lexists(self.host.expand(self.args.creates))
        return self._is_created

    @property
    def dest(self) -> "str":
        return self.host.expand(self.args.dest)

    def identity(self) -> "str":
        name = self.assets[0].name if self.assets else self.args.src
        return "%s:%s" % (self.dest, os.path.basename(name))

    def claims(self) -> "list[str]":
        here = ["archive:%s" % self.identity()]
        if self._is_needless():
            return here
        try:
            selected = self._selected()
        except Failed:  # observe() raises it
            return here
        root = self.host.canonical(self.dest)
        return here + [
            "path:%s/%s" % (root, name) for name in sorted(selected) if selected[name]["type"] != "directory"
        ]

    def _selected(self) -> "dict[str, Member]":
        """Return the members by their paths below dest, after strip_components, include and exclude."""
        found = {}
        for name, member in self._source.members().items():
            if self.args.include and not _is_among(name, self.args.include):
                continue
            if self.args.exclude and _is_among(name, self.args.exclude):
                continue
            parts = name.split("/")[self.args.strip_components :]
            if parts:
                found["/".join(parts)] = dict(member, member=name)
        if not found and self._source.members():
            raise Failed("include, exclude and strip_components leave no member of the archive")
        refuse_unsafe(found)
        return found

    # The three verbs

    def observe(self) -> "Attributes | None":
        if self._is_needless():
            return {"creates": self.args.creates}
        if not os.path.isdir(self.dest):
            raise Missing("the directory %s does not exist" % self.dest, hint="create it with file.directory")
        now = {}
        for name in self._selected():
            now[name] = self._look(os.path.join(self.dest, name))
        return now if any(now.values()) or not now else None

    def _look(self, path: "str") -> "Attributes | None":
        parent, root = os.path.dirname(path), os.path.realpath(self.dest)
        if os.path.realpath(parent) != os.path.normpath(os.path.join(root, os.path.relpath(parent, self.dest))):
            raise Failed("%s leads outside of %s through a link" % (parent, self.dest))
        seen = files.look(path, False)
        if seen is None:
            return None
        names = {"file": ["mode"], "directory": ["mode"], "link": ["target"]}.get(seen["type"], [])
        names += ["type"] + [name for name in ("owner", "group") if name in self.args]
        member = dict((name, seen[name]) for name in names)
        if seen["type"] == "file":
            member["sha256"] = self.host.content(path).sha256
        return member

    def desired(self, now: "Attributes | None") -> "Attributes | None":
        if now is not None and "creates" in now:
            return now
        owner = self._owner()
        desired = {}
        for name, member in self._selected().items():
            _refuse_other_type(os.path.join(self.dest, name), (now or {}).get(name), member)
            desired[name] = dict(member, **owner)
            del desired[name]["member"]
        return desired

    def _owner(self) -> "Attributes":
        given = Args({"owner": self.args.owner, "group": self.args.group, "mode": None})
        return files.desired_attributes(self.host, given, None)

    def way_back(self, before: "Attributes | None", after: "Attributes | None") -> "Attributes":
        raise Failed("the files that the archive replaced were not kept; remove %s by hand" % self.dest)

    def apply(self, change: "Change") -> "None":
        assert change.after is not None
        selected = self._selected()
        before = change.before or {}
        for name in sorted(name for name, member in selected.items() if member["type"] == "directory"):
            if before.get(name) is None:
                _make_directory(os.path.join(self.dest, name))
        names = dict((member["member"], name) for name, member in selected.items() if name in change)
        with open_archive(self._source.path()) as archive:
            for member, chunks in archive.contents():  # in its own order: a compressed one cannot be read backwards
                if member in names:
                    name = names[member]
                    self._apply_one(chunks, name, selected[name], before.get(name), change.after[name])
        for name in sorted(names.values(), reverse=True):
            if selected[name]["type"] == "directory":
                self._set_attributes(name, change.after[name], selected[name])
        self._source.discard()

    def _apply_one(
        self,
        chunks: "Callable[[], Iterator[bytes]]",
        name: "str",
        member: "Member",
        before: "Attributes | None",
        after: "Attributes",
    ) -> "None":
        path = os.path.join(self.dest, name)
        if before is not None and before["type"] != member["type"]:
            with files.Parent(path) as parent:
                parent.unlink()
            before = None
        files.make_directories(os.path.dirname(path))
        if member["type"] == "directory":
            _make_directory(path)
            return
        if member["type"] == "link":
            if before is None or before.get("target") != member["target"]:
                with files.Parent(path) as parent:
                    parent.put_link(member["target"])
        elif before is None or before.get("sha256") != member["sha256"]:
            files.replace(path, chunks(), member["mode"])
        self._set_attributes(name, after, member)

    def _set_attributes(self, name: "str", after: "Attributes", member: "Member") -> "None":
        path = os.path.join(self.dest, name)
        files.set_attributes(path, Change(files.look(path, False), after), False, member.get("target"))

    def result(self, now: "Attributes | None") -> "Attributes":
        return {"dest": self.dest, "files": len(self._selected()) if now and "creates" not in now else 0}


class _Source(object):
    """The archive that a call unpacks: a file on the host, or one that the controller sends when it must be read."""

    def __init__(self, call: "Unpack") -> "None":
        self._call = call
        self._members: "dict[str, Member] | None" = None
        self._directory = os.path.join(call.host.directory, "archives")

    def _content(self) -> "Content":
        call = self._call
        if call.assets:
            if len(call.assets) > 1 or call.assets[0].dir:
                raise Failed("%s is a directory, not an archive" % call.args.src, hint="file.copy copies a directory")
            return call.host.asset(call, 0)
        path = call.host.expand(call.args.src)
        if os.path.isdir(path):
            raise Failed("%s is a directory, not an archive" % path)
        if not os.path.isfile(path):
            raise Missing("there is no archive %s on the host" % path)
        return call.host.content(path)

    def members(self) -> "dict[str, Member]":
        """Return the members by name; the host remembers them, by the hash of the archive."""
        if self._members is None:
            path = os.path.join(self._directory, self._content().sha256 + ".json")
            try:
                with open(path) as file:
                    self._members = json.load(file)
            except (OSError, ValueError):
                with open_archive(self.path()) as archive:
                    self._members = archive.manifest()
                os.makedirs(self._directory, 0o700, exist_ok=True)
                files.replace(path, json.dumps(self._members).encode("ascii"), 0o600)
        assert self._members is not None
        return self._members

    def path(self) -> "str":
        """Return the path of a file with the archive; one from the controller is kept until the end of the call."""
        if not self._call.assets:
            return self._call.host.expand(self._call.args.src)
        content = self._content()
        path = self._copy(content)
        if not os.path.exists(path):
            os.makedirs(self._directory, 0o700, exist_ok=True)
            unfinished.note(path)
            files.replace(path, content.chunks(), 0o600)
        return path

    def _copy(self, content: "Content") -> "str":
        """Return where this process keeps an archive: another one, for another agent, removes its own."""
        return os.path.join(self._directory, "%s-%d" % (content.sha256, os.getpid()))

    def discard(self) -> "None":
        """Remove the copy of an archive from the controller; its members are remembered."""
        if self._call.assets:
            try:
                os.unlink(self._copy(self._content()))
            except OSError:
                pass


def _make_directory(path: "str") -> "None":
    """Create a directory, closed to others: its own mode is set after what is in it was written."""
    if not os.path.isdir(path):
        files.make_directories(os.path.dirname(path))
        with files.Parent(path) as parent:
            parent.mkdir(0o700)


def _refuse_other_type(path: "str", now: "Attributes | None", member: "Member") -> "None":
    """Raise Failed for what a member of the archive does not replace: a directory, a device and the like."""
    if now is not None and now["type"] not in ("file", "link", member["type"]):
        raise Failed("%s is a %s, and in the archive it is a %s" % (path, now["type"], member["type"]))


def _is_among(name: "str", patterns: "Iterable[str]") -> "bool":
    """Return whether a member is one of `patterns`, is below one, or matches one as a shell's pattern."""
    import fnmatch

    return any(name == one.rstrip("/") or name.startswith(one.rstrip("/") + "/") or fnmatch.fnmatch(name, one)
               for one in patterns)  # fmt: skip
