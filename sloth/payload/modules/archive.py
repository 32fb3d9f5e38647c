"""archive.unpack: what is in an archive, in a directory."""

import json
import os
import posixpath
import stat

from sloth.payload.kernel.hashing import sha256
from sloth.payload.kernel.resource import REQUIRED, Failed, Field, Missing, Resource
from sloth.payload.lib import files

READ = 1024 * 1024  # bytes


class Unpack(Resource):
    """Make sure that the members of a tar (gz, bz2, xz) or zip archive are in a directory.

    Every member is compared with what is there, by type, mode and content; only what differs is written, each file
    whole. What else is in the directory stays. Members that would lead outside (absolute, with "..", through links)
    and devices stop the call before anything is written. An archive from the controller is sent once: the host
    remembers what was in it.
    """

    name = "archive.unpack"
    subject = "dest"
    ships = "file"
    fields = (
        Field("src", "str", REQUIRED, help="the archive on the controller, beside the site"),
        Field("dest", "path", REQUIRED, help="the directory, which must be there"),
        Field("remote_src", "bool", False, help="src is a file on the host"),
        Field("creates", "path", how=True, help="nothing is done when this path exists"),
        Field("strip_components", "int", 0, help="leave out that many leading parts of the names"),
        Field("include", "list", help="only these members, or what is below them"),
        Field("exclude", "list", help="not these members, nor what is below them"),
        files.FIELDS[0],
        files.FIELDS[1],
    )
    returns = (Field("dest", help="the directory"), Field("files", "int", help="how many members it has"))
    example = """task({name = "release", run = function()
    file.directory({path = "/srv/app"})
    archive.unpack({src = "app-1.2.tar.gz", dest = "/srv/app", strip_components = 1})
end})"""

    def __init__(self, args, host, assets=()):
        Resource.__init__(self, args, host, assets)
        self._members = None

    @property
    def dest(self):
        return self.host.expand(self.args.dest)

    def identity(self):
        name = self.assets[0].name if self.assets else self.args.src
        return "%s:%s" % (self.dest, os.path.basename(name))

    # The archive

    def _content(self):
        if self.assets:
            return self.host.asset(self, 0)
        path = self.host.expand(self.args.src)
        if not os.path.isfile(path):
            raise Missing("there is no archive %s on the host" % path)
        return self.host.content(path)

    def _manifest_path(self, sha256):
        return os.path.join(self.host.home, ".sloth-runner", "archives", sha256 + ".json")

    def _manifest(self):
        """What is in the archive: name -> {type, mode, sha256 or target}, as it was when it was first read."""
        if self._members is None:
            content = self._content()
            path = self._manifest_path(content.sha256)
            try:
                with open(path) as file:
                    self._members = json.load(file)
            except (OSError, ValueError):
                with _Archive(self._local(content)) as archive:
                    self._members = archive.manifest()
                os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
                files.replace(path, [json.dumps(self._members).encode("ascii")], 0o600)
        return self._members

    def _local(self, content):
        """The path of a file that holds the archive; one from the controller is kept until the call is over."""
        if not self.assets:
            return self.host.expand(self.args.src)
        path = os.path.join(self.host.home, ".sloth-runner", "archives", content.sha256)
        if not os.path.exists(path):
            os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
            files.replace(path, content.chunks(), 0o600)
        return path

    def _wanted(self):
        """Path below dest -> member, after strip_components, include and exclude."""
        found = {}
        for name, member in self._manifest().items():
            if self.args.include and not _among(name, self.args.include):
                continue
            if self.args.exclude and _among(name, self.args.exclude):
                continue
            parts = name.split("/")[self.args.strip_components :]
            if parts:
                found["/".join(parts)] = dict(member, member=name)
        links = set(name for name, member in found.items() if member["type"] == "link")
        for name in found:
            parents = name.split("/")[:-1]
            for depth in range(1, len(parents) + 1):
                if "/".join(parents[:depth]) in links:
                    raise Failed("the archive's member %s goes through a link in it" % name)
        return found

    # The three verbs

    def observe(self):
        if self.args.creates and os.path.lexists(self.host.expand(self.args.creates)):
            return {"creates": self.args.creates}
        if not os.path.isdir(self.dest):
            raise Missing("the directory %s does not exist" % self.dest, hint="make it with file.directory")
        now = {}
        for name in self._wanted():
            now[name] = self._look(os.path.join(self.dest, name))
        return now if any(now.values()) else None

    def _look(self, path):
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

    def desired(self, now):
        if now is not None and "creates" in now:
            return now
        owner = files.wanted(self.host, _Owner(self.args), None)
        wish = {}
        for name, member in self._wanted().items():
            wish[name] = dict(member, **owner)
            del wish[name]["member"]
        return wish

    def way_back(self, before, after):
        raise Failed("what an archive wrote over was not kept; remove %s by hand" % self.dest)

    def apply(self, change):
        wanted = self._wanted()
        before = change.before or {}
        names = dict((member["member"], name) for name, member in wanted.items() if name in change)
        with _Archive(self._local(self._content())) as archive:
            for member, chunks in archive.contents():  # in its own order: a compressed one cannot be read backwards
                if member in names:
                    name = names[member]
                    self._apply_one(chunks, name, wanted[name], before.get(name), change.after[name])
        if self.assets:
            try:
                os.unlink(self._local(self._content()))
            except OSError:
                pass

    def _apply_one(self, chunks, name, member, before, after):
        from sloth.payload.kernel.resource import Change

        path = os.path.join(self.dest, name)
        if before is not None and before["type"] != member["type"]:
            if before["type"] == "directory":
                raise Failed("%s is a directory, and the archive has a %s there" % (path, member["type"]))
            os.unlink(path)
            before = None
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if member["type"] == "directory":
            if before is None and not os.path.isdir(path):
                os.mkdir(path, int(member["mode"], 8))
        elif member["type"] == "link":
            if before is not None and before.get("target") != member["target"]:
                os.unlink(path)
                before = None
            if before is None:
                os.symlink(member["target"], path)
        elif before is None or before.get("sha256") != member["sha256"]:
            files.replace(path, chunks(), member["mode"])
        files.set_attributes(path, Change(files.look(path, False), after), False)

    def result(self, now):
        return {"dest": self.dest, "files": len(self._wanted()) if now and "creates" not in now else 0}


class _Owner(object):
    def __init__(self, args):
        self.owner, self.group, self.mode = args.owner, args.group, None


class _Archive(object):
    """A tar or zip file, read by the standard library."""

    def __init__(self, path):
        import tarfile
        import zipfile

        self._tar = self._zip = None
        try:
            if zipfile.is_zipfile(path):
                self._zip = zipfile.ZipFile(path)
            else:
                self._tar = tarfile.open(path)
        except (tarfile.TarError, zipfile.BadZipFile, EOFError, ValueError) as error:
            raise Failed("%s is no archive that can be read: %s" % (os.path.basename(path), error))

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        (self._tar or self._zip).close()

    def manifest(self):
        """name -> {type, mode, sha256 or target}; raises Failed on a member that may not be unpacked."""
        found = {}
        for name, member in self._tar_members() if self._tar else self._zip_members():
            clean = posixpath.normpath(name)
            if name.startswith("/") or clean.startswith("../") or clean == "..":
                raise Failed("the archive's member %s would go outside of dest" % name)
            if clean == ".":
                continue
            if member["type"] == "link":
                target = posixpath.normpath(posixpath.join(posixpath.dirname(clean), member["target"]))
                if member["target"].startswith("/") or target.startswith("../") or target == "..":
                    raise Failed("the archive's link %s leads outside of dest, to %s" % (name, member["target"]))
            found[clean] = member
        return found

    def _tar_members(self):
        for info in self._tar:
            mode = "%04o" % (stat.S_IMODE(info.mode) & 0o777)  # set-uid and the like are not taken over
            if info.isdir():
                yield info.name, {"type": "directory", "mode": mode}
            elif info.issym():
                yield info.name, {"type": "link", "target": info.linkname}
            elif info.isreg() or info.islnk():
                yield info.name, {"type": "file", "mode": mode, "sha256": _digest(self._tar.extractfile(info))}
            else:
                raise Failed("the archive's member %s is a device or the like" % info.name)

    def _zip_members(self):
        for info in self._zip.infolist():
            unix = info.external_attr >> 16
            if info.filename.endswith("/"):
                yield info.filename, {"type": "directory", "mode": "%04o" % (unix & 0o777 or 0o755)}
            elif stat.S_ISLNK(unix):
                yield info.filename, {"type": "link", "target": self._zip.read(info).decode("utf-8", "surrogateescape")}
            else:
                with self._zip.open(info) as file:
                    yield (
                        info.filename,
                        {"type": "file", "mode": "%04o" % (unix & 0o777 or 0o644), "sha256": _digest(file)},
                    )

    def contents(self):
        """Yield (name, a callable that returns an iterator of its bytes) of every member, in the archive's order."""
        for info in self._tar or self._zip.infolist():
            name = info.name if self._tar else info.filename
            yield posixpath.normpath(name), lambda info=info: self._chunks(info)

    def _chunks(self, info):
        file = self._tar.extractfile(info) if self._tar else self._zip.open(info)
        with file:
            for data in iter(lambda: file.read(READ), b""):
                yield data


def _digest(file):
    digest = sha256()
    for data in iter(lambda: file.read(READ), b""):
        digest.update(data)
    return digest.hexdigest()


def _among(name, patterns):
    import fnmatch

    return any(name == one.rstrip("/") or name.startswith(one.rstrip("/") + "/") or fnmatch.fnmatch(name, one)
               for one in patterns)  # fmt: skip
