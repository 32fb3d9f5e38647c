"""Encryption on this side: the server has no content, and whatever it or a wrong key does is found out."""

from __future__ import annotations

from pathlib import Path

import pytest

from sloth.errors import StateError
from sloth.state.backends.location import open_backend, parse
from sloth.state.backends.rekey import rekey
from sloth.state.backends.sealed import SALT, NotEncrypted, Sealed
from sloth.state.backends.sqlite import SQLite
from sloth.state.keys import Damaged, Keys, WrongKey, generate, key_id


@pytest.fixture
def plain_server(tmp_path: Path) -> SQLite:
    """A server, as it sees itself."""
    return SQLite(tmp_path / "server.db")


def key_file(directory: Path, *keys: str) -> Keys:
    path = directory / f"{key_id(''.join(keys).encode())}.key"
    path.write_text("\n".join(keys))
    path.chmod(0o600)
    return Keys(path)


def phrase(text: str) -> Keys:
    return Keys(passphrase=lambda: text)


async def raw(server: SQLite, key: str) -> bytes:
    entry = await server.read(key)
    assert entry is not None
    return entry.value


async def test_the_server_sees_names_and_no_content(plain_server: SQLite) -> None:
    sealed = Sealed(plain_server, Keys())
    await sealed.write("shared/db", b"hunter2 " * 100, None)
    data = await raw(plain_server, "shared/db")
    assert b"hunter2" not in data
    assert len(data) < 800, "it is compressed before"
    assert await plain_server.names("") == ["shared/db"]
    second = Sealed(plain_server, Keys())
    await second.write("shared/db2", b"hunter2 " * 100, None)
    assert data.split(b"\n")[1] != (await raw(plain_server, "shared/db2")).split(b"\n")[1]


async def test_values_that_the_server_swaps_are_found(plain_server: SQLite) -> None:
    sealed = Sealed(plain_server, Keys())
    await sealed.write("shared/a", b"1", None)
    version = await sealed.write("shared/b", b"2", None)
    await plain_server.write("shared/b", await raw(plain_server, "shared/a"), version)
    with pytest.raises(Damaged, match="shared/b holds what was written as shared/a"):
        await sealed.read("shared/b")


async def test_a_name_cannot_be_made_of_another_one_and_its_value(plain_server: SQLite) -> None:
    sealed = Sealed(plain_server, Keys())
    await sealed.write("a", b"b 3 c", None)
    await plain_server.write("ab", await raw(plain_server, "a"), None)
    with pytest.raises(Damaged):
        await sealed.read("ab")


@pytest.mark.parametrize("at", [-1, -40, 60, 100])
async def test_a_value_that_was_altered_is_damaged_and_its_key_is_named(plain_server: SQLite, at: int) -> None:
    keys = Keys()
    sealed = Sealed(plain_server, keys)
    version = await sealed.write("a", b"x" * 100, None)
    data = bytearray(await raw(plain_server, "a"))
    data[at] ^= 1
    await plain_server.write("a", bytes(data), version)
    with pytest.raises(StateError) as caught:
        await sealed.read("a")
    assert isinstance(caught.value, Damaged | WrongKey)
    if at != 60:
        assert keys.for_writing()[0].ids[0] in caught.value.message


async def test_a_header_that_is_damaged(plain_server: SQLite) -> None:
    await plain_server.write("a", b"sloth-runner sealed 1 {]\nx", None)
    await plain_server.write("b", b"sloth-runner sealed 1", None)
    with pytest.raises(Damaged, match="the header of a is damaged"):
        await Sealed(plain_server, Keys()).read("a")
    with pytest.raises(NotEncrypted):
        await Sealed(plain_server, Keys()).read("b")


async def test_a_wrong_key_is_told_from_a_damaged_value(plain_server: SQLite, tmp_path: Path) -> None:
    mine, theirs = generate(), generate()
    await Sealed(plain_server, key_file(tmp_path, mine)).write("a", b"1", None)
    with pytest.raises(WrongKey) as caught:
        await Sealed(plain_server, key_file(tmp_path, theirs)).read("a")
    assert key_id(mine.encode()) in caught.value.message
    assert key_id(theirs.encode()) in caught.value.message


async def test_plain_and_sealed_are_not_taken_for_each_other(plain_server: SQLite) -> None:
    plain, sealed = Sealed(plain_server, None), Sealed(plain_server, Keys())
    await plain.write("plain", b"1", None)
    await sealed.write("sealed", b"2", None)
    with pytest.raises(NotEncrypted, match="plain is not encrypted"):
        await sealed.read("plain")
    with pytest.raises(StateError, match="sealed is encrypted with the key") as caught:
        await plain.read("sealed")
    assert Keys().for_writing()[0].ids[0] in caught.value.message
    assert "encrypt = true" in caught.value.hint


async def test_without_a_key_nothing_is_written(plain_server: SQLite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLOTH_KEY")
    with pytest.raises(StateError, match="no key to encrypt with"):
        await Sealed(plain_server, Keys()).write("a", b"1", None)
    assert await plain_server.names("") == []


async def test_the_first_key_encrypts_and_all_decrypt(plain_server: SQLite, tmp_path: Path) -> None:
    old, new = generate(), generate()
    await Sealed(plain_server, key_file(tmp_path, old)).write("a", b"1", None)
    both = Sealed(plain_server, key_file(tmp_path, new, old))
    entry = await both.read("a")
    assert entry is not None
    assert entry.value == b"1"
    await both.write("a", b"2", entry.version)
    entry = await Sealed(plain_server, key_file(tmp_path, new)).read("a")
    assert entry is not None
    assert entry.value == b"2"


async def test_one_passphrase_has_one_salt(plain_server: SQLite) -> None:
    for number in range(3):
        await Sealed(plain_server, phrase("correct horse")).write(f"n/{number}", b"1", None)
    heads = {(await raw(plain_server, f"n/{number}")).partition(b"\n")[0] for number in range(3)}
    assert len(heads) == 1
    reader = Sealed(plain_server, phrase("correct horse"))
    assert await reader.names("") == ["n/0", "n/1", "n/2"]
    assert [(await reader.read(name)) is not None for name in await reader.names("")] == [True] * 3
    with pytest.raises(WrongKey):
        await Sealed(plain_server, phrase("wrong horse")).read("n/0")
    with pytest.raises(WrongKey):
        await Sealed(plain_server, phrase("wrong horse")).write("n/9", b"1", None)


async def test_rekey(plain_server: SQLite, tmp_path: Path) -> None:
    old, new = key_file(tmp_path, generate()), key_file(tmp_path, generate())
    large = bytes(range(256)) * 40
    for number in range(5):
        await Sealed(plain_server, old).write(f"n/{number}", large, None)
    await Sealed(plain_server, None).write("plain", b"1", None)
    assert await rekey(plain_server, old, new) == 6
    with pytest.raises(WrongKey):
        await Sealed(plain_server, old).read("n/0")
    assert await rekey(plain_server, new, new) == 0, "it is so already"
    previous = new
    for wanted in (phrase("a b c"), phrase("d e f"), old):
        assert await rekey(plain_server, previous, wanted) == 6
        reader = Sealed(plain_server, wanted)
        for name in await reader.names(""):
            entry = await reader.read(name)
            assert entry is not None
            assert entry.value == (b"1" if name == "plain" else large)
        await reader.write("more", b"2", None)
        await reader.forget("more")
        previous = wanted
    assert SALT not in await plain_server.names("")


async def test_large_values_are_encrypted_in_pieces(tmp_path: Path) -> None:
    url = parse(f"sqlite://{tmp_path}/x.db")
    backend = open_backend(url, Keys())
    value = b"hunter2 " * 1_000_000
    await backend.write("a", value, None)
    entry = await backend.read("a")
    assert entry is not None
    assert entry.value == value
    await backend.close()
    content = b"".join(path.read_bytes() for path in tmp_path.glob("x.db*"))
    assert b"hunter2" not in content
    assert b"sha256" not in content, "the hash of a value tells whether it is one that is guessed"
