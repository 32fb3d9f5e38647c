"""asyncssh is imported with less, and is the same afterwards."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.support.paths import ROOT

LOOK = """
import json, os, sys
sys.path.insert(0, {root!r})
listed = []
if {ours}:
    from sloth.transport import asyncssh_import
    real = os.listdir
    os.listdir = lambda directory: listed.append(directory) or real(directory)
    asyncssh_import.load()
    os.listdir = real
import asyncssh
from asyncssh import encryption, kex, mac, public_key
algorithms = [kex.get_default_kex_algs(), encryption.get_default_encryption_algs(), mac.get_default_mac_algs(),
              public_key.get_default_public_key_algs(), public_key.get_public_key_algs(), public_key._x509_available]
print(json.dumps([repr(algorithms), sorted(sys.modules), listed]))
"""


def look(ours: bool, before: str = "") -> tuple[str, set[str], list[str]]:
    script = before + LOOK.format(root=str(ROOT), ours=ours)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    algorithms, modules, listed = json.loads(done.stdout)
    return algorithms, set(modules), listed


def test_the_algorithms_are_the_same_and_x509_is_spared_where_it_cannot_be_used() -> None:
    theirs, ours = look(ours=False), look(ours=True)
    assert ours[0] == theirs[0]
    assert "typing_extensions" not in ours[1]
    if "OpenSSL" not in theirs[1]:
        assert "cryptography.x509" not in ours[1]
        assert "asyncssh.crypto.x509" not in ours[1]
    libraries = [directory for directory in ours[2] if "/lib" in directory]
    assert len(libraries) == len(set(libraries)), "each directory is read once"


def test_what_was_imported_before_stays() -> None:
    algorithms, modules, _ = look(ours=True, before="import typing_extensions as known\n")
    assert algorithms == look(ours=False)[0]
    assert "typing_extensions" in modules


def test_x509_is_there_with_pyopenssl() -> None:
    """A stand-in for pyOpenSSL: only whether asyncssh gets to see it is looked at."""
    module = "import sys, types; sys.modules['OpenSSL'] = one = types.ModuleType('OpenSSL'); one.crypto = one\n"
    spec = "one.__spec__ = __import__('importlib.machinery').machinery.ModuleSpec('OpenSSL', None)\n"
    algorithms, modules, _ = look(ours=True, before=module + spec)
    assert "asyncssh.crypto.x509" in modules
    assert algorithms.endswith("True]")
