"""Exported states: every way in which a file can be wrong has its own words, and none gives a wrong result."""

from __future__ import annotations

import stat
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sloth.errors import StateError
from sloth.state.export import Reader, rekey, writing
from sloth.state.keys import Damaged, Keys, WrongKey, generate

ROWS = [{"key": f"file:copy:/{n}", "value": "ä" * n, "number": n, "none": None} for n in range(7)]


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return key_file(tmp_path / "key", generate())


def key_file(path: Path, *keys: str) -> Keys:
    path.touch(mode=0o600)
    path.write_text("# ours\n" + "\n".join(keys) + "\n")
    return Keys(path)


def write(path: Path, keys: Keys | None) -> None:
    with writing(path, ["web1", "web2"], keys, {"by": "ann"}) as writer:
        writer.rows("web1", "resources", ROWS[:3])
        writer.rows("web1", "resources", ROWS[3:])
        writer.rows("web2", "history", ROWS[:1])


def read(path: Path, keys: Keys) -> list[Any]:
    return list(Reader(path, keys))


WHOLE = [("web1", "resources", ROWS[:3]), ("web1", "resources", ROWS[3:]), ("web2", "history", ROWS[:1])]


@pytest.mark.parametrize("encrypted", [True, False])
def test_what_is_written_is_read_again(tmp_path: Path, keys: Keys, encrypted: bool) -> None:
    path = tmp_path / "dump"
    write(path, keys if encrypted else None)
    keys = keys if encrypted else Keys()
    assert read(path, keys) == WHOLE
    assert Reader(path, keys).verify() == {"web1": {"resources": 7}, "web2": {"history": 1}}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (b"file:copy" in path.read_bytes()) is not encrypted
    assert [found.name for found in tmp_path.iterdir() if found.name.startswith(".")] == []


def test_an_export_that_fails_leaves_nothing(tmp_path: Path, keys: Keys) -> None:
    def fail() -> None:
        with writing(tmp_path / "dump", ["a"], keys, {}) as writer:
            writer.rows("a", "runs", ROWS)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


@pytest.mark.parametrize("encrypted", [True, False])
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_is_an_error(tmp_path: Path, keys: Keys, encrypted: bool, at: float, bit: int) -> None:
    path = tmp_path / "dump"
    write(path, keys if encrypted else None)
    data = bytearray(path.read_bytes())
    data[int(at * len(data))] ^= 1 << bit
    path.write_bytes(data)
    with pytest.raises(StateError):
        read(path, keys if encrypted else Keys())


@pytest.mark.parametrize("encrypted", [True, False])
def test_lines_cannot_go_or_move_or_come(tmp_path: Path, keys: Keys, encrypted: bool) -> None:
    path = tmp_path / "dump"
    write(path, keys if encrypted else None)
    opened = keys if encrypted else Keys()
    lines = path.read_bytes().splitlines(keepends=True)
    other = tmp_path / "other"
    write(other, keys if encrypted else None)
    theirs = other.read_bytes().splitlines(keepends=True)
    wrong = [b"".join(lines[:count]) for count in range(len(lines))]
    wrong += [b"".join(lines)[: len(lines[0]) + cut] for cut in (5, len(lines[1]) + 10)]
    wrong += [b"".join([*lines[:3], *lines[4:]]), b"".join([*lines[:3], lines[4], lines[3], *lines[5:]])]
    wrong += [b"".join([*lines, lines[-1]]), b"".join([*lines[:4], theirs[4], *lines[5:]]), b"".join([*lines, b"x"])]
    for data in wrong:
        path.write_bytes(data)
        with pytest.raises(StateError):
            read(path, opened)
    path.write_bytes(lines[0] + lines[1].replace(b"ann", b"eve") + b"".join(lines[2:]))
    with pytest.raises(Damaged, match=r"header .* was altered"):
        read(path, opened)


def test_every_mistake_has_its_own_words(tmp_path: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "dump"
    write(path, keys)
    with pytest.raises(WrongKey, match=r"is encrypted with the key .*, not with"):
        read(path, key_file(tmp_path / "wrong", generate()))
    with pytest.raises(StateError, match=r"is encrypted with the key .*SLOTH_KEY"):
        read(path, Keys())
    lines = path.read_bytes().splitlines(keepends=True)
    other = b"B" if lines[3][20:21] == b"A" else b"A"
    path.write_bytes(b"".join([*lines[:3], lines[3][:20] + other + lines[3][21:], *lines[4:]]))
    with pytest.raises(Damaged, match="line 4 is damaged"):
        read(path, keys)
    path.write_bytes(b"".join(lines[:-1]))
    with pytest.raises(Damaged, match="cut off"):
        read(path, keys)
    path.write_bytes(b"SLOTH-STATE 2\n" + b"".join(lines[1:]))
    with pytest.raises(StateError, match=r"format 2.*upgrade"):
        read(path, keys)
    path.write_bytes(b"PK\3\4")
    with pytest.raises(StateError, match="not an export"):
        read(path, keys)
    with pytest.raises(StateError, match=r"cannot read .*: No such file"):
        read(tmp_path / "none", keys)
    with pytest.raises(StateError, match=r"cannot write .*: No such file"):
        write(tmp_path / "no" / "dump", keys)


def test_keys_are_rotated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = generate(), generate()
    path = tmp_path / "dump"
    monkeypatch.setenv("SLOTH_KEY", old)
    write(path, Keys())
    monkeypatch.setenv("SLOTH_KEY", f"{new}, {old}")
    assert read(path, Keys()) == WHOLE
    rekey(path, Keys(), Keys())
    monkeypatch.setenv("SLOTH_KEY", new)
    assert read(path, Keys()) == WHOLE
    monkeypatch.setenv("SLOTH_KEY", old)
    with pytest.raises(WrongKey):
        read(path, Keys())
    before = path.read_bytes()
    with pytest.raises(WrongKey):
        rekey(path, Keys(), Keys())
    assert path.read_bytes() == before


def test_a_passphrase_does_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "dump"
    write(path, Keys(passphrase=lambda: "correct horse"))
    assert read(path, Keys(passphrase=lambda: "correct horse")) == WHOLE
    with pytest.raises(WrongKey, match="wrong passphrase for"):
        read(path, Keys(passphrase=lambda: "battery staple"))
    with pytest.raises(StateError, match="needs a passphrase"):
        read(path, Keys())
    monkeypatch.setenv("SLOTH_PASSPHRASE", "correct horse")
    assert read(path, Keys()) == WHOLE
    hostile = path.read_bytes().replace(b'"n": 32768', b'"n": 1073741824')
    path.write_bytes(hostile)
    with pytest.raises(StateError, match="derivation"):
        read(path, Keys())


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        ("# none", 0o600, "no key in"),
        ("abc", 0o600, "not a Fernet key"),
        ("x", 0o644, "chmod 600"),
        (None, 0, "No such"),
    ],
)
def test_a_key_file_that_is_wrong(tmp_path: Path, text: str | None, mode: int, said: str) -> None:
    path = tmp_path / "key"
    if text is not None:
        path.write_text(text)
        path.chmod(mode)
    with pytest.raises(StateError, match=said):
        Keys(path).for_writing()


def test_memory_is_flat(tmp_path: Path, keys: Keys) -> None:
    def peak(frames: int) -> int:
        tracemalloc.start()
        with writing(tmp_path / "dump", ["a"], keys, {}) as writer:
            for number in range(frames):
                writer.rows("a", "history", [{"id": number, "diff": "x" * 500}] * 200)
        assert Reader(tmp_path / "dump", keys).verify() == {"a": {"history": frames * 200}}
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    small, large = peak(5), peak(50)
    assert large < small * 1.5


def test_what_is_put_into_an_encrypted_line_is_damage(tmp_path: Path, keys: Keys) -> None:
    path = tmp_path / "dump"
    write(path, keys)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:3], lines[3][:20] + b"!!" + lines[3][20:], *lines[4:]]))
    with pytest.raises(Damaged, match="line 4 is damaged"):
        read(path, keys)
    path.write_bytes(b"SLOTH-STATE 0\n" + b"".join(lines[1:]))
    with pytest.raises(StateError, match="not an export"):
        read(path, keys)


def test_a_plain_file_is_not_taken_for_the_encrypted_one(tmp_path: Path, keys: Keys) -> None:
    write(tmp_path / "dump", None)
    with pytest.raises(StateError, match="is not encrypted, although a key was given"):
        read(tmp_path / "dump", keys)
    assert read(tmp_path / "dump", Keys()) == WHOLE
    rekey(tmp_path / "dump", keys, keys)
    assert read(tmp_path / "dump", keys) == WHOLE


def test_many_rows_at_once_are_written_in_lines_that_can_be_read(tmp_path: Path, keys: Keys) -> None:
    rows = [{"diff": "x" * 100_000, "n": n} for n in range(100)]
    with writing(tmp_path / "dump", ["a"], keys, {}) as writer:
        writer.rows("a", "history", rows)
    assert [row for _, _, page in Reader(tmp_path / "dump", keys) for row in page] == rows
