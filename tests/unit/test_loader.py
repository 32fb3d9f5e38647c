"""The payload's modules load from one file of code, and whatever is wrong with that file costs only time."""

from __future__ import annotations

import os
import subprocess
import sys
import traceback
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sloth.payload import loader

ROOT = Path(__file__).parent.parent.parent
RUN = """
import sys
sys.path.insert(0, {root!r})
import importlib.util
spec = importlib.util.spec_from_file_location("code_loader", {loader!r})
loader = importlib.util.module_from_spec(spec)
spec.loader.exec_module(loader)
loader.install({root!r})
from sloth.pack import inner
print(inner.__file__, inner.VALUE, sys.modules["sloth.pack"].__path__[0])
loader.save()
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory with the sources of a package."""
    (tmp_path / "sloth/pack").mkdir(parents=True)
    (tmp_path / "sloth/__init__.py").write_text("")
    (tmp_path / "sloth/pack/__init__.py").write_text("")
    (tmp_path / "sloth/pack/inner.py").write_text("VALUE = 1\ndef fail():\n    raise ValueError\n")
    return tmp_path


def run(root: Path) -> list[str]:
    """Import `inner` in a process of its own; return its file, its value and the path of its package."""
    text = RUN.format(root=str(root), loader=str(ROOT / "sloth/payload/loader.py"))
    command = [sys.executable, "-I", "-S", "-c", text]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def code_file(root: Path) -> Path:
    (found,) = root.glob("code.*")
    return found


def test_modules_come_from_the_code_file_once_they_were_compiled(root: Path) -> None:
    expected = [str(root / "sloth/pack/inner.py"), "1", str(root / "sloth/pack")]
    assert run(root) == expected
    (root / "sloth/pack/inner.py").write_text("VALUE = 2")  # the sources of a bundle never change
    written = code_file(root).stat().st_mtime_ns
    assert run(root) == expected
    assert code_file(root).stat().st_mtime_ns == written, "nothing was compiled, so nothing is written"
    assert code_file(root).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "other", "directory"])
def test_a_code_file_that_cannot_be_used_is_no_error(root: Path, damage: str) -> None:
    run(root)
    path = code_file(root)
    content = path.read_bytes()
    (root / "sloth/pack/inner.py").write_text("VALUE = 2")
    flipped = content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]
    data = {"empty": b"", "cut": content[:-1], "flipped": flipped, "other": b"\x00" + content[1:], "directory": None}[
        damage
    ]
    path.unlink()
    if data is None:
        path.mkdir()
    else:
        path.write_bytes(data)
    assert run(root)[1] == "2"
    assert list(root.glob(".new-*")) == []
    if data is not None:
        assert zlib.crc32(path.read_bytes()) != zlib.crc32(data), "it is written anew"


def test_one_module_that_is_damaged_is_compiled_and_the_others_are_kept(root: Path) -> None:
    run(root)
    path = code_file(root)
    content = bytearray(path.read_bytes())
    whole = loader.Kept(str(path))
    _, at, length, _ = whole.index["sloth.pack.inner"]
    content[whole._start + at + length // 2] ^= 1
    path.write_bytes(content)
    assert sorted(loader.Kept(str(path)).all()) == sorted(set(whole.index) - {"sloth.pack.inner"})
    assert run(root)[1] == "1"
    assert sorted(loader.Kept(str(path)).all()) == sorted(whole.index), "it is there again"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10**6), st.integers(0, 255), st.booleans())
def test_no_damage_is_taken_for_code(root: Path, at: int, value: int, is_cut: bool) -> None:
    path = root / "damaged"
    codes = {"a": (True, b"one"), "b": (False, b""), "c": (False, bytes(range(256)) * 40)}
    content = loader.pack(codes)
    at %= len(content)
    path.write_bytes(content[:at] if is_cut else content[:at] + bytes([value]) + content[at + 1 :])
    found = loader.Kept(str(path))
    assert found.all().items() <= codes.items()
    found.close()
    assert found.all() == {}, "nothing is read of a descriptor that something else may have got"


@pytest.mark.parametrize("length", [b"ffffffff", b"7fffffff", b"00000000", b"-0000001"])
def test_no_memory_is_taken_for_a_length_that_is_damaged(
    root: Path, length: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = loader.pack({"a": (False, b"one")})
    at = len(loader.MAGIC) + 8
    (root / "damaged").write_bytes(content[:at] + length + content[at + 8 :])
    asked: list[int] = []
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda file, size, start: asked.append(size) or pread(file, size, start))
    assert loader.Kept(str(root / "damaged")).all() == {}
    assert asked == [16384]


def test_a_long_list_of_modules_is_read(root: Path) -> None:
    codes = {f"sloth.{'m' * 80}{number}": (False, b"%d" % number) for number in range(900)}
    (root / "long").write_bytes(loader.pack(codes))
    assert loader.Kept(str(root / "long")).all() == codes


def test_what_another_session_removes_meanwhile_is_no_error(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = loader.CodeFile(str(root))
    assert found.find_spec("sloth.pack.inner") is not None
    gone = ".new-4194305"  # above every process number
    monkeypatch.setattr(os, "listdir", lambda path, names=os.listdir: [gone, *names(path)])
    found.save()
    assert code_file(root).is_file()


def test_a_traceback_names_the_source(root: Path) -> None:
    found = loader.CodeFile(str(root))
    spec = found.find_spec("sloth.pack.inner")
    assert spec is not None
    module = type(sys)("sloth.pack.inner")
    found.exec_module(module)
    with pytest.raises(ValueError) as error:
        module.fail()
    frame = traceback.extract_tb(error.value.__traceback__)[-1]
    assert (frame.filename, frame.lineno, frame.line) == (str(root / "sloth/pack/inner.py"), 3, "raise ValueError")


def test_what_two_sessions_compiled_is_kept(root: Path) -> None:
    (root / "sloth/pack/other.py").write_text("")
    one, two = loader.CodeFile(str(root)), loader.CodeFile(str(root))
    assert one.find_spec("sloth.pack.inner") is not None
    assert two.find_spec("sloth.pack.other") is not None
    assert two.find_spec("sloth.pack.nothing") is None
    assert two.find_spec("json") is None
    one.save()
    two.save()
    for path in (root / "sloth/pack").glob("*.py"):
        path.unlink()
    again = loader.CodeFile(str(root))
    assert again.find_spec("sloth.pack.inner") is not None
    assert again.find_spec("sloth.pack.other") is not None


def test_without_a_place_to_write_the_next_session_compiles_again(root: Path) -> None:
    found = loader.CodeFile(str(root))
    assert found.find_spec("sloth.pack.inner") is not None
    for path in sorted(root.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    root.rmdir()
    found.save()
    assert not root.exists()
