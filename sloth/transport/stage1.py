"""What runs on a host before the payload does: stage 1, and the command lines that start it.

Stage 1 is a few lines of Python. It reads the rest from stdin, checks it and runs it.
"""

from __future__ import annotations

import base64
import re
import zlib
from dataclasses import replace
from functools import cache, partial

from sloth.errors import UsageError
from sloth.payload.session import wire
from sloth.transport import exit_errors
from sloth.transport.become import Become, check_account

# What stage 1 prints on stdout after wire.MARK, a line each.
OK = b"OK\n"
NEED = b"NEED\n"
HOME = b"HOME\n"  # the account has no directory for its files, and cannot make one
ERROR = b"ERR "
DATA = "/var/lib/sloth-runner"  # holds a directory for each account that has none in its home
TRY_NEXT = 75  # exit status: this Python cannot be used
NEEDS_BUNDLE = 76  # exit status: the payload is not here
NO_PYTHON = exit_errors.NO_PYTHON  # on stderr, then what was tried
# The bundle's hash, and how many bytes of it follow. Where some do, the CRC of the code that belongs to it comes next,
# and how many bytes that has.
HEADER = "%64s %012d\n"
SILENCE = wire.SILENCE
CANDIDATES = (
    "python3", "python3.14", "python3.13", "python3.12", "python3.11", "python3.10", "python3.9", "python3.8",
    "python3.7", "python3.6", "/usr/bin/python3", "/usr/local/bin/python3", "/usr/libexec/platform-python",
)  # fmt: skip

# Parses on any Python 3, and is the only code that an old or incomplete one gets to see. It reads from fd 0 no byte
# more than its own, since the payload reads on. Every directory on the way must belong to the account and be closed to
# others: the files in it are run, perhaps as root. Collecting garbage would cost a millisecond, and imports make none.
# Where the disk is full or read-only, the payload goes to memory: what it runs then may be what frees the disk.
# What is large and rarely used, json, is looked for, and not loaded.
# An installation needs the first part of the bundle only (payload/loader.py), and loads OpenSSL for no hash.
SOURCE = """
import gc, os, sys
gc.set_threshold(50000)
if sys.version_info < (3, 6):
    os._exit(75)
try:
    import _sqlite3, _thread, fcntl, pwd, select, struct, zlib
    from _frozen_importlib_external import PathFinder
    PathFinder.find_spec("json").name
except (AttributeError, ImportError):
    os._exit(75)

def say(data):
    os.write(1, data)

def read(count):
    parts = []
    while count:
        part = select.select([0], [], [], SILENCE)[0] and os.read(0, min(count, 1048576))
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

def directory(uid):
    home = usual = os.environ.get("HOME", "")
    name = str(uid)
    try:
        entry = pwd.getpwuid(uid)
        name, usual = entry.pw_name, entry.pw_dir
        if not home.startswith("/") or os.stat(home).st_uid != uid:
            home = usual
    except KeyError:
        pass
    except OSError:
        home = usual
    own = home + "/.sloth-runner", "/var/lib/sloth-runner/" + name, "/var/tmp/sloth-runner-" + name
    for path in own if home == usual else own[:1]:
        try:
            if os.lstat(path).st_uid == uid:
                return path
        except OSError:
            pass
    last = len(sys.argv) > 2
    for path in own[:2 + last]:
        try:
            os.mkdir(path, 0o700)
            return path
        except FileExistsError:
            if os.lstat(path).st_uid == uid:
                return path
            if last and path != own[0]:
                raise RuntimeError("%s belongs to another account" % path)
        except OSError as error:
            if error.errno not in (1, 2, 13, 20, 30, 40) or path == own[2]:
                raise
    say(b"HOME\\n")
    os._exit(78)

def install(root, target, name, data, check="0", code=b""):
    import marshal
    for module in "_sha2", "_sha256", "hashlib":
        try:
            sha256 = __import__(module).sha256
            break
        except ImportError:
            pass
    if sha256(data).hexdigest() != name or zlib.crc32(code) != int(check, 16):
        raise RuntimeError("the payload arrived damaged")
    sources = marshal.loads(zlib.decompressobj().decompress(data))
    scope = {}
    exec(sources["sloth/payload/installer.py"], scope)
    scope["install"](root, target, sources, data, code)

def place(top, name, data, *code):
    root = top + "/payload"
    target = root + "/" + name
    private(top)
    private(root)
    if not os.path.isfile(target + "/sloth/payload/__main__.py"):
        if not data:
            say(b"NEED\\n")
            os._exit(76)
        install(root, target, name, data, *code)
    private(target)
    return target

def main():
    os.umask(0o077)
    say(MARK)
    name, size = read(78).decode("ascii").split()
    data = read(int(size))
    check, code = "0", b""
    if data:
        check, size = read(78).decode("ascii").split()
        code = read(int(size))
    try:
        uid = os.geteuid()
        try:
            target = place(directory(uid), name, data, check, code)
        except OSError as error:
            if error.errno not in (28, 30, 122):
                raise
            target = place("/dev/shm/sloth-%d" % uid, name, data, check, code)
    except (OSError, RuntimeError) as error:
        say(("ERR %s\\n" % (str(error).replace("\\n", " "),)).encode("utf-8", "replace"))
        os._exit(77)
    sys.path.insert(0, target)
    say(b"OK\\n")
    from sloth.payload import loader
    loader.install(target)
    from sloth.payload.__main__ import main
    code = main()
    try:
        sys.stderr.flush()
    finally:
        os._exit(code)

main()
"""

# Runs as root: makes the directory of an account that has none in its home. Nobody else can write to its parent; one
# that belongs to somebody else than root and the account is left as it is, and stage 1 refuses it.
MAKE_SOURCE = """
import os, pwd, sys
if sys.version_info < (3, 6):
    os._exit(75)
account = pwd.getpwuid(pwd.getpwnam(sys.argv[2]).pw_uid if len(sys.argv) > 2 else os.geteuid())

def make(path, mode, uid, gid):
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    found = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    if os.fstat(found).st_uid == 0:
        os.fchown(found, uid, gid)
        os.fchmod(found, mode)

make(PARENT, 0o755, 0, 0)
make(PARENT + "/" + account.pw_name, 0o700, account.pw_uid, account.pw_gid)
"""

PLAIN_PATH = re.compile(r"[A-Za-z0-9_./+-]+\Z")


def command(python: str | None, become: Become | None = None, prompt: str = "", *, anywhere: bool = False) -> str:
    """Return the command line that starts stage 1 on a host.

    python: the interpreter to use (None: look for one); become: the account to become (None: nobody); prompt: see
    Become.prompt(); anywhere: an account without a directory of its own may make one in /var/tmp. The line is safe in
    every login shell: single quotes around characters that no shell touches. Raises UsageError for odd names.
    """
    source = f"MARK = {wire.MARK!r}\nSILENCE = {SILENCE!r}\n{SOURCE}"
    return _command(python, source, "-" if anywhere else "", become, prompt)


def shell(script: str, become: Become | None, prompt: str = "") -> str:
    """Return the command line that runs a shell script without single quotes, by no Python. Raises UsageError."""
    if become is None:
        return f"sh -c '{script}'"
    switch = become.switch(prompt, lambda source, arguments: "exit 127")
    return f"sh -c '{switch}' '{script}'"


def make_directory(python: str | None, become: Become | None, prompt: str = "") -> str:
    """Return the command line that makes a directory for an account that has none in its home.

    become: root makes it for its account; None: the login account, which may be root, tries it for itself. Raises
    UsageError.
    """
    if become is not None:
        check_account(become.account)
    source = f"PARENT = {DATA!r}\n{MAKE_SOURCE}"
    root = replace(become, account="root") if become else None
    return _command(python, source, become.account if become else "", root, prompt)


def _command(python: str | None, source: str, argument: str, become: Become | None, prompt: str) -> str:
    if python is not None and not PLAIN_PATH.match(python):
        raise UsageError(f"python = {python!r} is not the plain path of an interpreter")
    loop = _loop(python, source, argument)
    if become is None:
        return f"sh -c '{loop}'"
    switch = become.switch(prompt, partial(_loop, python))
    # What switches has been told to speak English; what it runs gets its own LC_ALL back.
    restore = 'if [ "$LC_ALL" = C ]; then LC_ALL=$0; [ -n "$0" ] || unset LC_ALL; fi; '
    return f"sh -c '{switch}' '{restore}{loop}'"


def _loop(python: str | None, source: str, arguments: str) -> str:
    """Return the shell command that runs `source` by `python`, or by the first interpreter that can be used."""
    candidates = python or " ".join(CANDIDATES)
    start = "import sys,binascii,zlib;exec(zlib.decompress(binascii.a2b_base64(sys.argv[1])))"
    words = f"{_packed(source)} {arguments}".rstrip()
    return (
        f'for p in {candidates}; do command -v "$p" >/dev/null 2>&1 || continue; '
        f'"$p" -I -S -E -c "{start}" {words}; r=$?; [ $r = {TRY_NEXT} ] || exit $r; t="$t $p"; done; '
        f'echo "{NO_PYTHON}$t" >&2; exit 127'
    )


@cache
def _packed(source: str) -> str:
    return base64.b64encode(zlib.compress(source.encode("ascii"), 9)).decode("ascii")
