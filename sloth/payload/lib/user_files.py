"""Reads and writes files in users' homes so that neither a link nor a race there leads root anywhere else."""

import errno
import os
import stat

from sloth.payload.kernel.content import Content
from sloth.payload.kernel.resource import Failed, Field, Missing, Resource
from sloth.payload.lib import files

LIMIT = 16 * 1024 * 1024  # bytes; no file that we edit in a home is larger


class Place(object):
    """One file that belongs to an account. As root, in somebody else's home, every step goes by descriptor.

    strict: it is one of the account's own files below ~/.ssh, so the directory is 0700 and the file 0600; otherwise
    only what others could write to is taken from them. manage: the directory is made and kept right, too.
    """

    def __init__(self, host, account, path, strict=True, manage=True):
        """account: as host.account() returns it; path: absolute and normal."""
        self.host = host
        self.account = account
        self.path = path
        self.directory, self.base = os.path.split(path)
        self.strict = strict
        self.manage = manage
        home = os.path.normpath(account.pw_dir)
        self.guarded = host.uid == 0 and account.pw_uid not in (0, -1) and path.startswith(home.rstrip("/") + "/")
        self.home = home

    def look(self):
        """What is there: a dict of content (Content), mode, owner, directory_mode, directory_owner; None: no file.

        Raises Failed when something other than a file, or a file that is not the account's, stands there.
        """
        seen = {}
        try:
            directory = self._open_directory()
        except FileNotFoundError:
            return None
        try:
            info = os.fstat(directory)
            seen["directory_mode"] = "%04o" % stat.S_IMODE(info.st_mode)
            seen["directory_owner"] = files.user_name(info.st_uid)
            seen.update(self._look_file(directory))
            return seen
        finally:
            os.close(directory)

    def _look_file(self, directory):
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (os.O_NOFOLLOW if self.guarded else 0)
        try:
            descriptor = os.open(self.base, flags, dir_fd=directory)
        except FileNotFoundError:
            return {}
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise self._hostile(self.path, "is a link")
            raise
        try:
            info = os.fstat(descriptor)
            if not stat.S_ISREG(info.st_mode):
                raise Failed("%s is there and is no file" % self.path)
            # A hard link to a file that the user may not read would come out of our hands as the user's own.
            if self.guarded and (
                info.st_uid not in (0, self.account.pw_uid) or (info.st_uid == 0 and info.st_nlink > 1)
            ):
                raise self._hostile(self.path, "is not the user's own file")
            if info.st_size > LIMIT:
                raise Failed("%s is too large: %d bytes" % (self.path, info.st_size))
            data = b"".join(iter(lambda: os.read(descriptor, 65536), b""))
        finally:
            os.close(descriptor)
        return {
            "content": Content.of_bytes(data),
            "mode": "%04o" % stat.S_IMODE(info.st_mode),
            "owner": files.user_name(info.st_uid),
        }

    def wish(self, now, text):
        """What should be there when the file holds `text` (bytes), given what look() told."""
        now = now or {}
        old = now.get("content")
        wish = {"content": old if old is not None and old.data() == text else Content.of_bytes(text)}
        wish["mode"] = self._mode(now.get("mode"), "0600")
        wish["owner"] = self.account.pw_name
        if self.manage:
            wish["directory_mode"] = self._mode(now.get("directory_mode"), "0700")
            wish["directory_owner"] = self.account.pw_name
            if not self.strict:  # a directory that others keep, such as /etc/ssh
                wish["directory_owner"] = now.get("directory_owner", self.account.pw_name)
        return wish

    def _mode(self, now, new):
        if now is None or self.strict:
            return new
        return "%04o" % (int(now, 8) & ~0o022)

    def apply(self, change):
        """Make it so."""
        uid, gid = self.account.pw_uid, self.account.pw_gid
        if self.manage and not os.path.isdir(self.directory):
            self._make_directory(uid, gid)
        try:
            directory = self._open_directory()
        except FileNotFoundError:
            raise Missing("the directory %s does not exist" % self.directory, hint="make it with file.directory")
        try:
            if "directory_owner" in change and self.host.uid == 0 and os.fstat(directory).st_uid != uid:
                os.fchown(directory, uid, gid)
            if "directory_mode" in change:
                os.fchmod(directory, int(change.after["directory_mode"], 8))
            if any(name in change for name in ("content", "mode", "owner")):
                self._write(directory, change.after, uid, gid)
        finally:
            os.close(directory)

    def remove(self):
        """Remove the file."""
        directory = self._open_directory()
        try:
            os.unlink(self.base, dir_fd=directory)
            os.fsync(directory)
        finally:
            os.close(directory)

    def _write(self, directory, after, uid, gid):
        """Put a new file in the place of the old one."""

        def dress(descriptor):
            if os.fstat(descriptor).st_uid != uid:
                os.fchown(descriptor, uid, gid)
            os.fchmod(descriptor, int(after["mode"], 8))

        files.put(directory, self.path, [after["content"].data()], dress)

    def _open_directory(self):
        """A descriptor of the file's directory; below a user's home no step may be a link or somebody else's."""
        if not self.guarded:
            return os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        descriptor = os.open(self.home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for name in self._steps():
            try:
                following = os.open(
                    name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=descriptor
                )
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.ENOTDIR):
                    raise self._hostile(self.directory, "is a link, or leads through one")
                raise
            finally:
                os.close(descriptor)
            descriptor = following
            if os.fstat(descriptor).st_uid not in (0, self.account.pw_uid):
                os.close(descriptor)
                raise self._hostile(self.directory, "belongs to somebody else")
        return descriptor

    def _steps(self):
        relative = os.path.relpath(self.directory, self.home)
        return [] if relative == "." else relative.split("/")

    def _make_directory(self, uid, gid):
        if not self.guarded:
            parent = os.path.dirname(self.directory)
            if not os.path.isdir(parent):
                raise Missing("the directory %s does not exist" % parent, hint="make it with file.directory")
            os.mkdir(self.directory, 0o700)
            if self.host.uid == 0:
                os.chown(self.directory, uid, gid)
            return
        try:
            descriptor = os.open(self.home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise Missing(
                "%s, the home of %s, does not exist" % (self.home, self.account.pw_name), hint="make it first"
            )
        try:
            for name in self._steps():
                made = True
                try:
                    os.mkdir(name, 0o700, dir_fd=descriptor)
                except FileExistsError:
                    made = False
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
                following = os.open(name, flags, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = following
                if made:
                    os.fchown(descriptor, uid, gid)
        finally:
            os.close(descriptor)

    def _hostile(self, path, what):
        name = self.account.pw_name
        return Failed(
            "%s %s: as root we follow nothing that %s could have put there" % (path, what, name),
            hint="run the task as %s (become = %r), or name the real place in path" % (name, name),
        )


class HomeEdit(Resource):
    """Base of the edits of a part of a file in a home: a subclass must have `edit`, `_place` and the argument state."""

    partial = True
    returns = (Field("path", help="the file"),)

    @property
    def _place(self):
        """The Place of the file."""
        raise NotImplementedError(self.name)

    def edit(self, data):
        """The file's bytes after the edit, from those before it. Pure."""
        raise NotImplementedError(self.name)

    def observe(self):
        return self._place.look()

    def desired(self, now):
        content = (now or {}).get("content")
        if content is None and self.args.state == "absent":
            return now
        old = b"" if content is None else content.data()
        new = self.edit(old)
        if new == old and self.args.state == "absent":
            return now
        return self._place.wish(now, new)

    def apply(self, change):
        self._place.apply(change)

    def result(self, now):
        return {"path": self._place.path}


def account_of(host, name):
    """The account `name` (None: the one we run as); raises Missing."""
    account = host.account(name or host.user)
    if account is None:
        raise Missing("there is no user %s" % (name or host.user), hint="make it first, with user.create")
    return account


def lines_of(data):
    """The lines of a file (bytes) as str, each with its end; a byte that is not UTF-8 becomes a lone surrogate."""
    # Split as bytes: of a str, U+2028 and others would count as line ends, too.
    return [line.decode("utf-8", "surrogateescape") for line in data.splitlines(True)]


def joined(lines):
    """The reverse of lines_of()."""
    return "".join(lines).encode("utf-8", "surrogateescape")
