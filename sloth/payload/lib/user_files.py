"""Reads and writes files in users' homes so that no link or race there leads root to any other file."""

import errno
import os
import stat

from sloth.payload.kernel.content import Content
from sloth.payload.kernel.resource import Failed, Field, Missing, Resource
from sloth.payload.lib import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pwd import struct_passwd

    from sloth.payload.kernel.resource import Change
    from sloth.payload.kernel.values import Attributes
    from sloth.payload.lib.host import Host

LIMIT = 16 * 1024 * 1024  # bytes; no file in a home that is edited is larger
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class UserFile(object):
    """A file that belongs to an account. As root, in another user's home, every step goes by descriptor.

    strict: it is one of the account's own files below ~/.ssh, so the directory is 0700 and the file 0600; otherwise
    only write permission for group and others is removed. manage: the directory is created and its attributes are
    kept, too; False: it is created; None: it must exist.
    """

    def __init__(
        self, host: "Host", account: "struct_passwd", path: "str", strict: "bool" = True, manage: "bool | None" = True
    ) -> "None":
        """account: as host.account() returns it; path: absolute and normalized."""
        self.host = host
        self.account = account
        self.path = path
        self.directory, self.base = os.path.split(path)
        self.strict = strict
        self.manage = manage
        self.home = os.path.normpath(account.pw_dir)
        is_below_home = path.startswith(self.home.rstrip("/") + "/")
        self.is_guarded = host.uid == 0 and account.pw_uid not in (0, -1) and is_below_home

    def observe(self) -> "Attributes | None":
        """Return content (Content), mode, owner, directory_mode and directory_owner; None without a directory.

        Raises Failed when the path is no regular file, or one that is not the account's own.
        """
        try:
            directory = self._open_directory()
        except FileNotFoundError:
            return None
        try:
            info = os.fstat(directory)
            now: "Attributes" = {
                "directory_mode": "%04o" % stat.S_IMODE(info.st_mode),
                "directory_owner": files.user_name(info.st_uid),
            }
            now.update(self._observe_file(directory))
            return now
        finally:
            os.close(directory)

    def _observe_file(self, directory: "int") -> "Attributes":
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (os.O_NOFOLLOW if self.is_guarded else 0)
        try:
            descriptor = os.open(self.base, flags, dir_fd=directory)
        except FileNotFoundError:
            return {}
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise self._untrusted(self.path, "is a link")
            raise
        try:
            info = os.fstat(descriptor)
            if not stat.S_ISREG(info.st_mode):
                raise Failed("%s is not a regular file" % self.path)
            # Root would copy a hard link to a file that the user may not read into a file of the user's own.
            if self.is_guarded and (
                info.st_uid not in (0, self.account.pw_uid) or (info.st_uid == 0 and info.st_nlink > 1)
            ):
                raise self._untrusted(self.path, "is not the user's own file")
            if info.st_size > LIMIT:
                raise Failed("%s is too large to edit: %d bytes" % (self.path, info.st_size))
            data = b"".join(iter(lambda: os.read(descriptor, 65536), b""))
        finally:
            os.close(descriptor)
        return {
            "content": Content.of_bytes(data),
            "mode": "%04o" % stat.S_IMODE(info.st_mode),
            "owner": files.user_name(info.st_uid),
        }

    def desired(self, now: "Attributes | None", data: "bytes") -> "Attributes":
        """Return the desired attributes of the file with the content `data`, given what observe() returned."""
        now = now or {}
        old = now.get("content")
        desired: "Attributes" = {
            "content": old if old is not None and old.data() == data else Content.of_bytes(data),
            "mode": self._mode(now.get("mode"), "0600"),
            "owner": self.account.pw_name,
        }
        if self.manage:
            desired["directory_mode"] = self._mode(now.get("directory_mode"), "0700")
            desired["directory_owner"] = self.account.pw_name
            if not self.strict:  # a directory that is not the account's, such as /etc/ssh
                desired["directory_owner"] = now.get("directory_owner", self.account.pw_name)
        return desired

    def _mode(self, now: "str | None", new: "str") -> "str":
        if now is None or self.strict:
            return new
        return "%04o" % (int(now, 8) & ~0o022)

    def apply(self, change: "Change") -> "None":
        """Write the file and set the attributes in which the Change differs; raise Failed, OSError."""
        uid, gid = self.account.pw_uid, self.account.pw_gid
        after = change.after or {}
        if self.manage is not None and not os.path.isdir(self.directory):
            self._make_directory(uid, gid)
        try:
            directory = self._open_directory()
        except FileNotFoundError:
            raise Missing("the directory %s does not exist" % self.directory, hint="create it with file.directory")
        try:
            if "directory_owner" in change and self.host.uid == 0 and os.fstat(directory).st_uid != uid:
                os.fchown(directory, uid, gid)
            if "directory_mode" in change:
                os.fchmod(directory, int(after["directory_mode"], 8))
            if any(name in change for name in ("content", "mode", "owner")):
                self._write(directory, after, uid, gid)
        finally:
            os.close(directory)

    def remove(self) -> "None":
        """Remove the file."""
        directory = self._open_directory()
        try:
            os.unlink(self.base, dir_fd=directory)
            os.fsync(directory)
        finally:
            os.close(directory)

    def _write(self, directory: "int", after: "Attributes", uid: "int", gid: "int") -> "None":
        """Replace the file."""

        def set_attributes(descriptor: "int") -> "None":
            if os.fstat(descriptor).st_uid != uid:
                os.fchown(descriptor, uid, gid)
            os.fchmod(descriptor, int(after["mode"], 8))

        files.put(directory, self.path, [after["content"].data()], set_attributes)

    def _open_directory(self) -> "int":
        """Open the file's directory; below another user's home no step may be a link or belong to anybody else."""
        if not self.is_guarded:
            return _open(self.directory) if self.host.uid == 0 else os.open(self.directory, _DIRECTORY)
        descriptor = os.open(self.home, _DIRECTORY)
        for name in self._steps():
            try:
                following = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=descriptor)
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.ENOTDIR):
                    raise self._untrusted(self.directory, "is a link, or leads through one")
                raise
            finally:
                os.close(descriptor)
            descriptor = following
            if os.fstat(descriptor).st_uid not in (0, self.account.pw_uid):
                os.close(descriptor)
                raise self._untrusted(self.directory, "belongs to another user")
        return descriptor

    def _steps(self) -> "list[str]":
        """Return the names of the directories from the home down to the file's directory."""
        relative = os.path.relpath(self.directory, self.home)
        return [] if relative == "." else relative.split("/")

    def _make_directory(self, uid: "int", gid: "int") -> "None":
        if not self.is_guarded and not self.manage:
            return files.make_directories(self.directory)
        if not self.is_guarded:
            parent = os.path.dirname(self.directory)
            if not os.path.isdir(parent):
                raise Missing("the directory %s does not exist" % parent, hint="create it with file.directory")
            with files.Parent(self.directory) as place:
                place.mkdir(0o700)
                if self.host.uid == 0:
                    _give_new(place.base, place.descriptor, uid, gid)
            return
        try:
            descriptor = os.open(self.home, _DIRECTORY)
        except FileNotFoundError:
            raise Missing(
                "%s, the home of %s, does not exist" % (self.home, self.account.pw_name), hint="create it first"
            )
        try:
            for name in self._steps():
                is_new = True
                try:
                    os.mkdir(name, 0o700, dir_fd=descriptor)
                except FileExistsError:
                    is_new = False
                if is_new:
                    _give_new(name, descriptor, uid, gid)
                following = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = following
        finally:
            os.close(descriptor)

    def _untrusted(self, path: "str", why: "str") -> "Failed":
        name = self.account.pw_name
        return Failed(
            "%s %s: as root, nothing that %s could have created is followed" % (path, why, name),
            hint="run the task as %s (become = %r), or give the real location as path" % (name, name),
        )


def _open(path: "str") -> "int":
    """Open a directory as root, by way of trusted links only, so that its owner and mode can be set."""
    walked = files.open_directory(path)  # a descriptor by which only names can be looked up
    try:
        return os.open(".", _DIRECTORY, dir_fd=walked)
    finally:
        os.close(walked)


def _give_new(name: "str", directory: "int", uid: "int", gid: "int") -> "None":
    """Give an account a directory that was created a moment ago, and nothing that was moved in its place."""
    descriptor = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
    try:
        if os.listdir(descriptor):
            raise Failed("%s was exchanged for another directory" % name)
        os.fchown(descriptor, uid, gid)
    finally:
        os.close(descriptor)


class UserFileEdit(Resource):
    """Base of the resources that edit a part of a user's file; a subclass has `user_file`, `edit` and a `state`."""

    partial = True
    returns = (Field("path", help="path of the file"),)

    @property
    def user_file(self) -> "UserFile":
        """The file that is edited."""
        raise NotImplementedError(self.name)

    def edit(self, data: "bytes") -> "bytes":
        """Return the file's content after the edit, from the content before it. Pure."""
        raise NotImplementedError(self.name)

    def part(self) -> "str":
        """Return what tells the part that is managed from others of the file."""
        return self.identity()

    def claims(self) -> "list[str]":
        path = self.host.canonical(self.user_file.path)
        return ["path:%s#%s:%s" % (path, self.name.partition(".")[2], self.part())]

    def observe(self) -> "Attributes | None":
        return self.user_file.observe()

    def desired(self, now: "Attributes | None") -> "Attributes | None":
        content = (now or {}).get("content")
        if content is None and self.args.state == "absent":
            return now
        old = b"" if content is None else content.data()
        new = self.edit(old)
        if new == old and (content is None or self.args.state == "absent"):
            return now
        return self.user_file.desired(now, new)

    def apply(self, change: "Change") -> "Attributes | None":
        self.user_file.apply(change)
        return None

    def result(self, now: "Attributes | None") -> "Attributes":
        return {"path": self.user_file.path}


def split_lines(data: "bytes") -> "list[str]":
    """Return the lines of a file as str, each with its end; a byte that is not UTF-8 becomes a lone surrogate."""
    # Split as bytes: in a str, U+2028 and others would count as line ends, too.
    return [line.decode("utf-8", "surrogateescape") for line in data.splitlines(True)]


def join_lines(lines: "list[str]") -> "bytes":
    """Return the reverse of split_lines()."""
    return "".join(lines).encode("utf-8", "surrogateescape")
