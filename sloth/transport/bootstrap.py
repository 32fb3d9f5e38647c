"""The first thing that runs on a host: a few lines of Python that fetch, check and start the payload."""

from __future__ import annotations

import base64
import re
import zlib

from sloth.errors import UsageError
from sloth.payload.session import wire

# Said by stage 1 on stdout after wire.MARK, a line each.
OK = b"OK\n"
NEED = b"NEED\n"
ERROR = b"ERR "
TRY_NEXT = 75  # exit status: this Python will not do
NEEDS_BUNDLE = 76  # exit status: the payload is not here
NO_PYTHON = "sloth-no-python:"  # on stderr, then what was tried
HEADER = "%64s %012d\n"  # the bundle's hash, and how many bytes of it follow
CANDIDATES = (
    "python3", "python3.14", "python3.13", "python3.12", "python3.11", "python3.10", "python3.9", "python3.8",
    "python3.7", "python3.6", "/usr/bin/python3", "/usr/local/bin/python3", "/usr/libexec/platform-python",
)  # fmt: skip

# Parses on any Python 3, and is the only code that an old or stripped one gets to see. It reads from fd 0 no byte
# more than its own, since the payload reads on. Every directory on the way must be ours and closed to others: what
# lies in it is run, perhaps as root.
SOURCE = """
import os, sys
if sys.version_info < (3, 6):
    os._exit(75)
try:
    import _sqlite3, fcntl, json, pwd, select, struct, threading, zlib
except ImportError:
    os._exit(75)

def say(data):
    os.write(1, data)

def read(count):
    parts = []
    while count:
        part = os.read(0, min(count, 1048576))
        if not part:
            os._exit(74)
        parts.append(part)
        count -= len(part)
    return b"".join(parts)

def private(path):
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    info = os.lstat(path)
    if info.st_uid != os.geteuid() or info.st_mode & 0o170022 != 0o040000:
        raise RuntimeError("%s is not a directory that only its owner can write" % path)

def install(root, target, name, data):
    import hashlib, io, shutil, time, zipfile
    if hashlib.sha256(data).hexdigest() != name:
        raise RuntimeError("the payload arrived damaged")
    new = "%s/.new-%d-%s" % (root, os.getpid(), os.urandom(4).hex())
    os.mkdir(new, 0o700)
    try:
        zipfile.ZipFile(io.BytesIO(data)).extractall(new)
        try:
            os.rename(new, target)
        except OSError:
            if not os.path.isdir(target):
                raise
    finally:
        shutil.rmtree(new, True)
    for other in os.listdir(root):
        path = root + "/" + other
        if other != name and time.time() - os.lstat(path).st_mtime > 30 * 86400:
            shutil.rmtree(path, True)

def main():
    os.umask(0o077)
    say(MARK)
    name, size = read(78).decode("ascii").split()
    uid = os.geteuid()
    home = os.environ.get("HOME", "")
    try:
        if not home.startswith("/") or os.stat(home).st_uid != uid:
            raise OSError
    except OSError:
        home = pwd.getpwuid(uid).pw_dir
    data = read(int(size))
    root = home + "/.sloth-runner/payload"
    target = root + "/" + name
    try:
        private(home + "/.sloth-runner")
        private(root)
        if not os.path.isdir(target):
            if not data:
                say(b"NEED\\n")
                os._exit(76)
            install(root, target, name, data)
        private(target)
    except (OSError, RuntimeError) as error:
        say(("ERR %s\\n" % (str(error).replace("\\n", " "),)).encode("utf-8", "replace"))
        os._exit(77)
    sys.path.insert(0, target)
    say(b"OK\\n")
    from sloth.payload.__main__ import main
    code = main()
    try:
        sys.stderr.flush()
    finally:
        os._exit(code)

main()
"""

PLAIN_PATH = re.compile(r"[A-Za-z0-9_./+-]+\Z")
_SAFE_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\$?\Z")


def _packed() -> str:
    source = f"MARK = {wire.MARK!r}\n{SOURCE}"
    return base64.b64encode(zlib.compress(source.encode("ascii"), 9)).decode("ascii")


def command(python: str | None, become: str | None = None, prompt: str = "") -> str:
    """Return the one command line that starts stage 1 on a host.

    python: the interpreter to use (None: look for one); become: the account to become by sudo (None: nobody);
    prompt: what sudo prints to stderr when it wants the password (empty: it must not want one). The line is safe in
    every login shell: single quotes around characters that no shell touches. Raises UsageError for odd names.
    """
    if python is not None and not PLAIN_PATH.match(python):
        raise UsageError(f"python = {python!r} is not the plain path of an interpreter")
    candidates = python or " ".join(CANDIDATES)
    start = "import sys,base64,zlib;exec(zlib.decompress(base64.b64decode(sys.argv[1])))"
    loop = (
        f'for p in {candidates}; do command -v "$p" >/dev/null 2>&1 || continue; '
        f'"$p" -I -S -E -c "{start}" {_packed()}; r=$?; [ $r = {TRY_NEXT} ] || exit $r; t="$t $p"; done; '
        f'echo "{NO_PYTHON}$t" >&2; exit 127'
    )
    shell = f"sh -c '{loop}'"
    if become is None:
        return shell
    if not _SAFE_USER.match(become):
        raise UsageError(f"become: {become!r} is not the name of an account")
    how = f"-S -p {prompt}" if prompt else "-n"
    return f"sudo {how} -H -u {become} -- {shell}"
