"""Hosts with the controller's version of Python get the code of what a site needs, and use it only when it is whole."""

from __future__ import annotations

import marshal
import os
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sloth.payload import loader
from sloth.transport import bundle as bundle_module
from sloth.transport import stage1
from sloth.transport.bundle import Bundle, build

MAIN = "sloth.payload.__main__"
IMPORT = """
import sys, traceback
compiled = []
sys.addaudithook(lambda event, args: event == "compile" and compiled.append(args[1]))
sys.path.insert(0, {target!r})
from sloth.payload import loader
loader.install({target!r})
import sloth.payload.__main__
from sloth.payload.kernel import registry
from sloth.payload.kernel.errors import ArgumentError
import sloth.payload.lib.modes as modes
print(registry.find("file.copy").__module__, modes.__file__)
try:
    registry.find("file.cpoy")
except ArgumentError as error:
    print(error.hint)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    print(frame.filename, frame.line)
print(loader.__file__, [path for path in compiled if path.startswith({target!r}) and "__init__" not in path])
loader.save()
"""


def install(root: Path, bundle: Bundle, check: str, code: bytes) -> Path:
    """Install as stage 1 does; return the directory of the payload."""
    namespace: dict[str, Callable[..., Any]] = {}
    exec(stage1.SOURCE.rpartition("\nmain()")[0], namespace)  # noqa: S102  it is what runs on hosts
    target = root / bundle.sha256
    namespace["install"](str(root), str(target), bundle.sha256, bundle.data, check, code)
    return target


def use(target: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", IMPORT.format(target=str(target))], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def codes(target: Path) -> dict[str, str]:
    """Return the modules in the code file, and the paths that their code names."""
    (path,) = target.glob("code.*")
    return {name: marshal.loads(code).co_filename for name, (_, code) in loader.Kept(str(path)).all().items()}


def test_a_host_compiles_nothing_that_was_sent(tmp_path: Path) -> None:
    bundle = build()
    target = install(tmp_path, bundle, *bundle.code(["file.copy"]))
    sent = codes(target)
    assert {MAIN, "sloth.payload.modules.file.copy", "sloth.payload.session.server", "sloth"} <= sent.keys()
    assert not any(name.startswith("sloth.payload.modules.pkg") for name in sent), "what the site does not name"
    for path in ("kernel/diff.py", "lib/modes.py"):
        assert not (target / "sloth/payload" / path).exists(), "one file with all sources"
    lines = use(target)
    assert lines[0] == f"sloth.payload.modules.file.copy {target}/sloth/payload/lib/modes.py"
    assert lines[1] == 'did you mean "file.copy"?', "the names come from the file with the sources"
    assert lines[2].startswith(f"{target}/sloth/payload/kernel/registry.py raise ArgumentError("), "so do lines"
    assert lines[3] == f"{target}/sloth/payload/loader.py []", "nor is the loader compiled, which Python itself loads"
    compiled = {name for name, path in codes(target).items() if path.startswith("/")}
    assert compiled <= {"sloth.payload.installer"}, compiled


@pytest.mark.parametrize("what", ["none", "another Python", "damaged later"])
def test_without_usable_code_a_host_compiles(tmp_path: Path, what: str) -> None:
    bundle = build()
    check, code = bundle.code([])
    if what == "another Python":
        code = zlib.compress(b"\x00\x00\r\n" + zlib.decompress(code)[4:])
        check = f"{zlib.crc32(code):x}"
    target = install(tmp_path, bundle, *(("0", b"") if what == "none" else (check, code)))
    if what == "damaged later":
        (path,) = target.glob("code.*")
        path.write_bytes(path.read_bytes()[:100])
    else:
        assert not list(target.glob("code.*"))
    assert use(target)[0].startswith("sloth.payload.modules.file.copy ")
    assert all(path.startswith(str(target)) for path in codes(target).values())


@pytest.mark.parametrize("damage", ["bundle", "code", "cut"])
def test_nothing_damaged_is_installed(tmp_path: Path, damage: str) -> None:
    bundle = build()
    check, code = bundle.code([])
    if damage == "bundle":
        bundle = Bundle(bundle.sha256, bundle.data[:-1] + b"x")
    else:
        code = code[:-1] + (b"x" if damage == "code" else b"")
    with pytest.raises(RuntimeError, match="damaged"):
        install(tmp_path, bundle, check, code)
    assert os.listdir(tmp_path) == []


def test_custom_modules_come_with_their_code(tmp_path: Path) -> None:
    source = b"from sloth.payload.lib import modes\nVALUE = 1\n"
    bundle = build({"sloth/payload/modules/own.py": source, "sloth/payload/modules/odd.py": b"def ("})
    target = install(tmp_path, bundle, *bundle.code(["own.verb", "odd.verb"]))
    assert codes(target)["sloth.payload.modules.own"] == "sloth/payload/modules/own.py"
    assert "sloth.payload.modules.odd" not in codes(target), "the host reports what is wrong with it"


@pytest.mark.parametrize("extra", [{}, {"sloth/payload/modules/own.py": b"VALUE = 1  # one\n"}])
def test_what_a_distribution_brings_is_what_would_be_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: dict[str, bytes]
) -> None:
    shipped, other = tmp_path / "shipped", tmp_path / "slim.py"

    def made() -> Bundle:
        bundle_module._build.cache_clear()
        return build(extra)

    monkeypatch.setattr(bundle_module, "SHIPPED", tmp_path / "missing")
    built = made()
    bundle_module.ship(shipped)
    monkeypatch.setattr(bundle_module, "SHIPPED", shipped)
    with monkeypatch.context() as patch:
        patch.setattr("sloth.transport.slim.slim", lambda source: {b"VALUE = 1  # one\n": b"VALUE = 1  \n"}[source])
        assert made() == built, "nothing of ours is slimmed again"
    for damage in (b"", shipped.read_bytes()[:-1], shipped.read_bytes() + b"x"):
        shipped.write_bytes(damage)
        assert made() == built, "one that is not whole is not used"
    other.write_text("")
    with monkeypatch.context() as patch:
        patch.setattr(bundle_module, "__file__", str(other))
        patch.setattr("sloth.transport.slim.slim", lambda source: source)
        bundle_module.ship(shipped)
        assert made() != built
    assert made() == built, "nor one that was made by another program"


def test_code_is_compiled_when_a_site_needs_it_and_kept(tmp_path: Path) -> None:
    bundle_module._code.cache_clear()
    first = build(cache=tmp_path).code(["file.copy"])
    (kept,) = tmp_path.glob("*.code")
    little = kept.stat().st_size
    bundle_module._build.cache_clear()
    bundle_module._code.cache_clear()
    assert build(cache=tmp_path).code(["file.copy"]) == first
    assert kept.stat().st_size == little
    more = build(cache=tmp_path).code(["file.copy", "pkg.install"])
    assert kept.stat().st_size > little
    assert len(zlib.decompress(more[1])) > len(zlib.decompress(first[1]))
    # A file that is damaged, or cannot be written, costs time and nothing else.
    kept.write_bytes(kept.read_bytes()[:-1])
    bundle_module._code.cache_clear()
    assert build(cache=tmp_path).code(["file.copy"]) == first
    kept.unlink()
    kept.mkdir()
    bundle_module._code.cache_clear()
    assert build(cache=tmp_path).code(["file.copy", "pkg.install"]) == more
