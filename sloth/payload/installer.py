"""Installs the payload on a host. Stage 1 (transport/stage1.py) runs this from the bundle that it has checked."""

import marshal
import os
import sys
import time
import zlib
from _frozen_importlib_external import MAGIC_NUMBER

MONTH = 30 * 86400
# What is imported before the loader works, or by a command line. All others stay in one file: see payload/loader.py.
FILES = ("sloth/__init__.py", "sloth/payload/__init__.py", "sloth/payload/loader.py", "sloth/payload/__main__.py")
FIRST = ("sloth/payload/installer.py",) + FILES  # the first part of a bundle


def install(root: "str", target: "str", sources: "dict[str, bytes]", data: "bytes", code: "bytes") -> "None":
    """Make the directory `target` with the payload, and remove what nothing has used for a month beside it.

    sources: those of FILES by their paths; data: all, as received; code: see transport/precompiled.py. It appears when
    it is whole; another session may make it at the same time. Raises OSError.
    """
    new = "%s/.new-%d-%s" % (root, os.getpid(), os.urandom(4).hex())
    os.mkdir(new, 0o700)
    try:
        os.makedirs(new + "/sloth/payload")
        for path in FILES:
            _write(new + "/" + path, sources[path])
        _write(new + "/sources", data)
        code = zlib.decompress(code) if code else b""
        if code.startswith(MAGIC_NUMBER):
            _write("%s/code.%s" % (new, sys.implementation.cache_tag), code)
            _write_loader(new + "/sloth/payload/__pycache__", code)
        try:
            os.rename(new, target)
        except OSError:
            if not os.path.isfile(target + "/sloth/payload/__main__.py"):
                _remove(target)
                os.rename(new, target)
    finally:
        if os.path.lexists(new):
            _remove(new)
    for name in os.listdir(root):
        other = root + "/" + name
        try:
            old = time.time() - os.lstat(other).st_mtime > MONTH
        except OSError:
            continue
        if old and other != target:
            _remove(other)


def _write_loader(directory: "str", code: "bytes") -> "None":
    """Keep the loader's code, which is in a code file, as Python itself keeps code; it takes long to compile."""
    start = len(MAGIC_NUMBER) + 16
    end = start + int(code[start - 8 : start], 16)
    _, at, size, _ = marshal.loads(code[start:end])["sloth.payload.loader"]
    os.mkdir(directory)
    header = MAGIC_NUMBER + b"\1" + bytes(11)  # unchecked, and no hash: see PEP 552
    _write("%s/loader.%s.pyc" % (directory, sys.implementation.cache_tag), header + code[end + at : end + at + size])


def _remove(path: "str") -> "None":
    """Remove a directory as far as that is possible."""
    import shutil  # with bz2 and lzma, and nearly never needed

    shutil.rmtree(path, True)


def _write(path: "str", data: "bytes") -> "None":
    with open(path, "xb") as file:
        file.write(data)
