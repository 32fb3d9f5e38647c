"""The machine that a module works on: paths, accounts, file contents, commands, content from the controller."""

import os
import pwd

from sloth.payload.kernel.hashing import as_utf8
from sloth.payload.kernel.resource import Failed, Missing
from sloth.payload.lib import names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterator, Mapping, Protocol, Sequence, TypeVar

    from sloth.payload.kernel.content import Content
    from sloth.payload.kernel.foresight import Foresight
    from sloth.payload.kernel.record import Asset
    from sloth.payload.kernel.resource import Call
    from sloth.payload.kernel.values import Arguments, Attributes
    from sloth.payload.lib.command import Completed
    from sloth.payload.lib.contents import Contents, Hashes

    T = TypeVar("T")
    # The calls that wait behind the running one: (name, the arguments as the site gave them).
    Upcoming = Callable[[], "list[tuple[str, Arguments]]"]

    class Link(Protocol):
        """The part of the connection to the controller that a call needs; the session's channel provides it."""

        def pull(self, index: "int", asset: "Asset") -> "Iterator[bytes]": ...

        def give(self, content: "Content") -> "None": ...

        def output(self, stream: "str", data: "bytes") -> "None": ...

        def cancelled(self) -> "bool": ...


ACCOUNTS = "/var/lib/sloth-runner/"  # and an account's name: a directory that root has made for it
TEMPORARY = "/var/tmp/sloth-runner-"  # and an account's name: its directory where neither its home nor root gives one
TOOL = 300  # seconds for one of the system's tools


class Host(object):
    """The machine that the payload runs on, as its modules see it.

    Attributes for modules: home (directory of the account that the payload runs as), directory (where files of
    sloth-runner itself go, closed to other accounts), uid, user, group, offline; kernel and session set the others.
    """

    def __init__(self, link: "Link", signatures: "Hashes | None" = None, home: "str | None" = None) -> "None":
        self.link = link
        self.signatures = signatures
        self.uid = os.geteuid()
        self.home = home or home_of(self.uid)
        self.directory = find_directory(self.home, self.uid)
        self.warnings: "list[str]" = []  # the session takes them after each call
        # In a check: what earlier calls would leave, by Resource.place() or, if `foreseeable`, key(); None: nothing.
        self.predicted: "dict[str, Attributes | None]" = {}
        self.foreseen: "set[str]" = set()  # in a check: paths that actions would create
        self.foresight: "Foresight | None" = None  # in a check: the kernel's, of what nothing else predicts
        self.offline = False  # a call must not use the network nor refresh anything: only what is on the host counts
        self.pending = False  # in a check: an earlier call would have changed something
        self.upcoming: "Upcoming" = list
        self._real: "dict[str, str]" = {}  # directories and where they really are, while nothing changes
        self._contents: "Contents | None" = None
        self._once: "dict[str, tuple[object, Any]]" = {}  # name -> (stamp, what was computed: see once())

    @property
    def contents(self) -> "Contents":
        """The contents of files and assets; the first call that has some loads what knows them."""
        self._contents = self._contents or _load_contents(self.link)
        return self._contents

    @property
    def group(self) -> "str":
        """The primary group of the account that the payload runs as; its number where it has no name."""
        return names.group_name(os.getegid())

    @property
    def user(self) -> "str":
        """The account that the payload runs as; its number where it has no name."""
        return names.user_name(self.uid)

    def account(self, name: "str") -> "pwd.struct_passwd | None":
        """Return the entry of the account `name` in the account database, or None when there is none.

        In a check, an account that an earlier call would create counts as there; its numbers are -1 where the system
        would choose them.
        """
        place = "user:%s" % name
        if place in self.predicted:
            seen = self.predicted[place]
            if seen is None:
                return None
            numbers = [int(seen[key]) if str(seen.get(key, "")).isdigit() else -1 for key in ("uid", "gid")]
            home = seen.get("home") or "/home/%s" % name
            return pwd.struct_passwd((name, "x", numbers[0], numbers[1], "", home, seen.get("shell") or ""))
        try:
            return pwd.getpwnam(name)
        except KeyError:
            return None

    def has_group(self, name: "str") -> "bool":
        """Return whether the group `name` exists or, in a check, an earlier call would create it."""
        import grp

        place = "group:%s" % name
        if place in self.predicted:
            return self.predicted[place] is not None
        try:
            return grp.getgrnam(name) is not None
        except KeyError:
            return False

    def canonical(self, path: "str") -> "str":
        """Return an absolute path whose directory has no links in it; the last component may be one.

        It is a name for the file, in which a byte that is not UTF-8 is escaped.
        """
        directory, base = os.path.split(path)
        return as_utf8(os.path.join(self.real_directory(directory), base)) if base else path

    def resolve(self, path: "str") -> "str":
        """Return the path of what an absolute path means, without links; like os.path.realpath(), but quicker."""
        directory, base = os.path.split(path)
        real = os.path.join(self.real_directory(directory), base)
        return os.path.realpath(real) if base in ("", ".", "..") or os.path.islink(real) else real

    def links(self, path: "str") -> "list[str]":
        """Return the links, by their canonical paths, that an absolute path is or leads through."""
        return _links(self, path, 8)

    def real_directory(self, directory: "str") -> "str":
        """Return os.path.realpath(directory), which is kept until something changes on the host."""
        real = self._real.get(directory)
        if real is None:
            real = self._real[directory] = os.path.realpath(directory)
        return real

    def once(self, name: "str", make: "Callable[[], T]", stamp: "object" = None) -> "T":
        """Return make(), which is called once and again only after a change: a cache that spans the calls of a run.

        name: identifies the value; it begins with the module's name. stamp: a plain value that differs when make()
        would return something else, such as a file's size and times; without one, any change on the host counts.
        """
        cached = self._once.get(name)
        if cached is None or cached[0] != stamp:
            cached = self._once[name] = (stamp, make())
        value: "T" = cached[1]
        return value

    def changed(self) -> "None":
        """Forget what once() keeps without a stamp: something on the host has changed."""
        self._real = {}
        names.forget()
        self._once = dict((name, cached) for name, cached in self._once.items() if cached[0] is not None)

    def warn(self, text: "str") -> "None":
        """Show `text` to the user with the result of the call, which does not fail because of it."""
        self.warnings.append(text)

    def expand(self, path: "str") -> "str":
        """Return `path` absolute and normalized: `~` and `~user` expanded, no `//`, `/./` or `x/..`, no final slash.

        Raises Missing when there is no such user.
        """
        if path == "~" or path.startswith("~/"):
            path = self.home + path[1:]
        elif path.startswith("~"):
            name, _, rest = path[1:].partition("/")
            account = self.account(name)
            if account is None:
                raise Missing("there is no user %s (in the path %s)" % (name, path))
            path = os.path.join(account.pw_dir, rest)
        return os.path.normpath(path)

    def content(self, path: "str") -> "Content":
        """Return the Content of the regular file `path`; a file not changed since it was last hashed is not read."""
        return self.contents.of_file(path, self.signatures)

    def asset(self, call: "Call", index: "int") -> "Content":
        """Return the Content of asset `index` of `call`; the controller sends it when it is first read."""
        return self.contents.of_asset(call.assets[index], index)

    def restore(self, path: "str", attributes: "Attributes | None") -> "None":
        """Make what is at `path` match `attributes` (None: nothing is there). Raises Failed, OSError."""
        from sloth.payload.lib.restore import restore

        restore(path, attributes)

    def give(self, content: "Content") -> "None":
        """Stream `content` to the controller, which stores it at the location that the call's arguments name.

        Returns when the controller has stored it; raises Failed with the controller's reason when it cannot.
        """
        self.link.give(content)

    def run(
        self,
        argv: "str | Sequence[str]",
        stdin: "bytes | None" = None,
        env: "Mapping[str, str] | None" = None,
        cwd: "str | None" = None,
        timeout: "float | None" = None,
        stream: "bool" = False,
        umask: "int | None" = None,
    ) -> "Completed":
        """Run a command (a list without a shell, a string with /bin/sh) and return its Completed.

        env: variables to add; timeout: seconds; stream: show its output while it runs. See sloth.payload.lib.command.
        """
        from sloth.payload.lib.command import run

        completed: "Completed" = run(
            argv, self.link, stdin=stdin, env=env, cwd=cwd, timeout=timeout, stream=stream, umask=umask
        )
        return completed

    def has_tool(self, name: "str") -> "bool":
        """Return whether the command `name` is in $PATH."""
        paths = os.environ.get("PATH", "").split(os.pathsep)
        return any(os.access(os.path.join(path, name), os.X_OK) for path in paths if path)

    def tool(self, argv: "Sequence[str]", stdin: "bytes | None" = None) -> "None":
        """Run one of the system's own tools, with English messages; raise Failed with its error message if it fails.

        Raises Missing when the host has no such tool.
        """
        try:
            done = self.run(argv, stdin=stdin, env={"LC_ALL": "C"}, timeout=TOOL)
        except FileNotFoundError:
            raise Missing(
                "this host has no command %s, which this change needs" % argv[0],
                hint="install the package that contains it",
            )
        if done.exit_code == 0:
            return
        output = (done.stderr or done.stdout).decode("utf-8", "replace").strip()
        # The first lines may be warnings, and an indented line explains the one above it.
        lines = [line for line in output.splitlines() if line and not line[0].isspace()]
        hint = "set become = true on the task or the host" if self.uid != 0 else ""
        raise Failed(lines[-1] if lines else "%s: exit code %d" % (argv[0], done.exit_code), hint, output)


def _load_contents(link: "Link") -> "Contents":
    from sloth.payload.lib.contents import Contents

    return Contents(link)


def home_of(uid: "int") -> "str":
    """Return $HOME if the account `uid` owns it, else its home in the account database.

    sudo without -H leaves the home of the user who called it.
    """
    home = os.environ.get("HOME", "")
    try:
        if home.startswith("/") and os.stat(home).st_uid == uid:
            return home
    except OSError:
        pass
    try:
        return pwd.getpwuid(uid).pw_dir
    except KeyError:
        return home or "/"


def find_directory(home: "str | None" = None, uid: "int | None" = None) -> "str":
    """Return the directory in which an account keeps state, lock and payload: by default, this account.

    It is ~/.sloth-runner, or one of the account's own outside of a home that it cannot write. Stage 1 makes it, and
    looks for it by the same rule (sloth/transport/stage1.py).
    """
    uid = os.geteuid() if uid is None else uid
    home = home_of(uid) if home is None else home
    usual = os.path.join(home, ".sloth-runner")
    try:
        entry = pwd.getpwuid(uid)
        name = entry.pw_name
        if home != entry.pw_dir and os.access(home, os.W_OK):  # a home of its own that somebody chose for this session
            return usual
    except KeyError:
        name = str(uid)
    for path in (usual, ACCOUNTS + name, TEMPORARY + name):
        try:
            if os.lstat(path).st_uid == uid:
                return path
        except OSError:
            pass
    return usual


def refresh(directory: "str") -> "None":
    """Set the times of an account's files in /var/tmp, where the system removes what was not used for a month."""
    if not directory.startswith(TEMPORARY):
        return
    for path, folders, files in os.walk(directory):
        for name in folders + files:
            try:
                os.utime(os.path.join(path, name), None, follow_symlinks=False)
            except OSError:
                pass


def state_directory(directory: "str") -> "str":
    """Return where the state files are in an account's directory (see find_directory)."""
    return os.path.join(directory, "state")


def _links(host: "Host", path: "str", depth: "int") -> "list[str]":
    directory, base = os.path.split(path)
    found = []
    if base and os.path.islink(path):
        found.append(host.canonical(path))
        if depth:
            found += _links(host, os.path.normpath(os.path.join(directory, os.readlink(path))), depth - 1)
    if base and host.real_directory(directory) != directory:
        found += _links(host, directory, depth)
    return found
