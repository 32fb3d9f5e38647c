"""What a module may ask of the machine it runs on: paths, hashes, commands, content from the controller."""

import os
import pwd

from sloth.payload.kernel.content import Content
from sloth.payload.kernel.hashing import sha256_for
from sloth.payload.kernel.resource import Failed, Missing

READ = 1024 * 1024  # bytes read at once when a file is hashed or copied
TOOL = 300  # seconds for one of the system's tools


class Host(object):
    """One payload's view of its machine. `link` speaks to the controller, `signatures` remembers hashes.

    Attributes: home (str, of the account we run as), user (str), uid (int), check (bool: kernel's, not for modules),
    warnings (list of str, taken by the kernel after each call).
    """

    def __init__(self, link, signatures=None, home=None):
        self.link = link
        self.signatures = signatures
        self.uid = os.geteuid()
        self.home = home or _home(self.uid)
        self.warnings = []
        self.predicted = {}  # in a check: place -> what earlier calls would leave there (attributes, or None)
        self.offline = False  # nothing is asked of the network, and nothing refreshed: only what is here counts
        self.pending = False  # in a check: whether an earlier call would have changed something
        self.upcoming = lambda: []  # the kernel sets it: calls that wait behind this one, as (name, arguments)
        self._once = {}

    @property
    def group(self):
        import grp

        try:
            return grp.getgrgid(os.getegid()).gr_name
        except KeyError:
            return str(os.getegid())

    @property
    def user(self):
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return str(self.uid)

    def account(self, name):
        """Return the account `name` (pwd's pw_name, pw_uid, pw_gid, pw_dir, pw_shell), or None when there is none.

        In a check, one that an earlier call would make counts; its numbers are -1 where the system would choose them.
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

    def has_group(self, name):
        """Whether there is a group `name`, or in a check an earlier call would make it."""
        import grp

        place = "group:%s" % name
        if place in self.predicted:
            return self.predicted[place] is not None
        try:
            return grp.getgrnam(name) is not None
        except KeyError:
            return False

    def once(self, name, make, stamp=None):
        """Return make(), called once until something changes on the host, or (with `stamp`) until the stamp differs.

        name: str, begins with the module's name; stamp: any plain value, such as a file's size and times.
        """
        known = self._once.get(name)
        if known is None or known[0] != stamp:
            known = self._once[name] = (stamp, make())
        return known[1]

    def changed(self):
        """The kernel's word that something on the host has changed: what once() holds without a stamp is stale."""
        self._once = dict((name, known) for name, known in self._once.items() if known[0] is not None)

    def warn(self, text):
        """Tell the user something that is no failure; shown with the call's result."""
        self.warnings.append(text)

    def expand(self, path):
        """Return `path` absolute and normal: `~` and `~user` expanded, no `//`, `/./` or `x/..`, no final slash."""
        if path == "~" or path.startswith("~/"):
            path = self.home + path[1:]
        elif path.startswith("~"):
            name, _, rest = path[1:].partition("/")
            account = self.account(name)
            if account is None:
                raise Missing("there is no user %s (in the path %s)" % (name, path))
            path = os.path.join(account.pw_dir, rest)
        return os.path.normpath(path)

    def content(self, path):
        """Return the Content of the regular file `path`; a file not changed since it was last hashed is not read."""
        info = os.stat(path)
        known = self.signatures.get(path, info) if self.signatures else None
        sha256 = known or _hash_file(path)
        if self.signatures and not known:
            self.signatures.put(path, info, sha256)
        return Content(sha256, info.st_size, lambda: _read_file(path))

    def asset(self, call, index):
        """Return the Content of asset `index` that the controller ships with `call` (fetched when it is first read)."""
        asset = call.assets[index]
        return Content(asset.sha256, asset.size, lambda: self.link.pull(index, asset))

    def restore(self, path, attributes):
        """Make what is at `path` match `attributes` (a dict; None: nothing is there). Raises Failed, OSError."""
        from sloth.payload.lib.restore import restore

        restore(path, attributes)

    def give(self, content):
        """Stream `content` (Content) to the controller, which stores it where the call's arguments say (file.fetch).

        Returns when the controller has it; raises Failed with the controller's words when it cannot store it.
        """
        self.link.give(content)

    def run(self, argv, stdin=None, env=None, cwd=None, timeout=None, stream=False, umask=None):
        """Run a command (list: no shell; str: by /bin/sh) and return its Completed. See sloth.payload.lib.command."""
        from sloth.payload.lib.command import run

        return run(argv, self.link, stdin=stdin, env=env, cwd=cwd, timeout=timeout, stream=stream, umask=umask)

    def has_tool(self, name):
        """Whether the command `name` is on the path."""
        paths = os.environ.get("PATH", "").split(os.pathsep)
        return any(os.access(os.path.join(path, name), os.X_OK) for path in paths if path)

    def tool(self, argv, stdin=None):
        """Run one of the system's own tools (list), in English; raise Failed with what it says when it fails.

        stdin: bytes or None. What it says first may be warnings, what is indented explains the line above.
        """
        try:
            done = self.run(argv, stdin=stdin, env={"LC_ALL": "C"}, timeout=TOOL)
        except FileNotFoundError:
            raise Missing(
                "this host has no %s, which this change needs" % argv[0], hint="install the package that brings it"
            )
        if done.exit_code == 0:
            return
        said = (done.stderr or done.stdout).decode("utf-8", "replace").strip()
        lines = [line for line in said.splitlines() if line and not line[0].isspace()]
        hint = "set become = true on the task or the host" if self.uid != 0 else ""
        raise Failed(lines[-1] if lines else "%s: exit code %d" % (argv[0], done.exit_code), hint, said)


def _home(uid):
    """$HOME where it is ours, else what the account database says: sudo without -H leaves another user's $HOME."""
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


def _hash_file(path):
    digest = sha256_for(os.path.getsize(path))
    for data in _read_file(path):
        digest.update(data)
    return digest.hexdigest()


def _read_file(path):
    with open(path, "rb", buffering=0) as file:
        while True:
            data = file.read(READ)
            if not data:
                return
            yield data


def state_directory(home):
    """Where an account's state files are."""
    return os.path.join(home, ".sloth-runner", "state")
