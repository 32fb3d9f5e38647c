"""What a module may ask of the machine it runs on: paths, hashes, commands, content from the controller."""

import hashlib
import os
import pwd

from sloth.payload.content import Content
from sloth.payload.resource import Failed

READ = 1024 * 1024  # bytes read at once when a file is hashed or copied


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
        self.predicted = {}  # in a check: path -> what earlier calls would leave there (attributes, or None)

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

    def warn(self, text):
        """Tell the user something that is no failure; shown with the call's result."""
        self.warnings.append(text)

    def expand(self, path):
        """Return `path` absolute and normal: `~` and `~user` expanded, no `//`, `/./` or `x/..`, no final slash."""
        if path == "~" or path.startswith("~/"):
            path = self.home + path[1:]
        elif path.startswith("~"):
            name, _, rest = path[1:].partition("/")
            try:
                path = os.path.join(pwd.getpwnam(name).pw_dir, rest)
            except KeyError:
                raise Failed("there is no user %s (in the path %s)" % (name, path))
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
        return Content(asset["sha256"], asset["size"], lambda: self.link.pull(index, asset))

    def give(self, content):
        """Stream `content` (Content) to the controller, which stores it where the call's arguments say (file.fetch).

        Returns when the controller has it; raises Failed with the controller's words when it cannot store it.
        """
        self.link.give(content)

    def run(self, argv, stdin=None, env=None, cwd=None, timeout=None, stream=False, umask=None):
        """Run a command (list: no shell; str: by /bin/sh) and return its Completed. See sloth.payload.command."""
        from sloth.payload.command import run

        return run(argv, self.link, stdin=stdin, env=env, cwd=cwd, timeout=timeout, stream=stream, umask=umask)


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
    digest = hashlib.sha256()
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
