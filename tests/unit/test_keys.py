"""Where keys come from, what each mistake with them says, and how a wrong key is told from a damaged text."""

from __future__ import annotations

import base64
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.fernet import Fernet, MultiFernet
from hypothesis import given
from hypothesis import strategies as st

from sloth.errors import StateError, UsageError
from sloth.state import keys
from sloth.state.keys import BadKey, Damaged, Derivation, Keyring, NoKey, WrongKey, generate
from sloth.state.private import PrivateFile, write_private


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (keys.KEYS, keys.KEY_FILE, keys.PASSPHRASE):
        monkeypatch.delenv(name, raising=False)


def key_file(path: Path, content: str, mode: int = 0o600) -> Path:
    path.write_text(content)
    path.chmod(mode)
    return path


def test_several_keys_in_the_environment_the_first_encrypts_all_decrypt(monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = generate(), generate()
    monkeypatch.setenv("SLOTH_KEY", old)
    token = Keyring.find().encrypt(b"before")
    old_id = Keyring.find().primary_id
    for separator in (",", " ", "\n", " , "):
        monkeypatch.setenv("SLOTH_KEY", f"{new}{separator}{old}")
        ring = Keyring.find()
        assert len(ring.ids) == 2
        assert ring.primary_id != old_id
        assert ring.decrypt(token, old_id, "x") == b"before"
    assert Fernet(new).decrypt(ring.encrypt(b"after")) == b"after"
    assert MultiFernet([Fernet(new), Fernet(old)]).decrypt(token) == b"before"
    assert ring.primary().ids == (ring.primary_id,)


def test_a_key_file_holds_keys_and_comments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = generate(), generate()
    path = key_file(tmp_path / "keys", f"# production, May\n\n{first}  # the present one\n  {second}\n{first}\n")
    ring = Keyring.find(key_file=path)
    assert len(ring.ids) == 2
    assert Fernet(first).decrypt(ring.encrypt(b"x")) == b"x"
    monkeypatch.setenv("SLOTH_KEY_FILE", str(path))
    assert Keyring.find().ids == ring.ids


@pytest.mark.parametrize(
    "text",
    [
        "secret",
        generate()[:-1],
        generate() + "A",
        "!" + generate()[1:],
        base64.b64encode(b"\xff" * 32).decode(),
        "ü" * 44,
    ],
)
def test_a_malformed_key_is_named_by_its_place_and_never_shown(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = key_file(tmp_path / "keys", f"{generate()}\n{text}\n")
    with pytest.raises(BadKey, match=r"keys:2 is not a key.*key generate") as caught:
        Keyring.find(key_file=path)
    assert text not in str(caught.value)
    monkeypatch.setenv("SLOTH_KEY", f"{generate()} {text}")
    with pytest.raises(BadKey, match=r"key 2 of 2 in \$SLOTH_KEY is not a key") as caught:
        Keyring.find()
    assert text not in str(caught.value)


def test_key_files_that_are_missing_empty_or_open_to_others(tmp_path: Path) -> None:
    with pytest.raises(NoKey, match=r"there is no key file .*/none; hint: sloth-runner key generate -o "):
        Keyring.find(key_file=tmp_path / "none")
    with pytest.raises(NoKey, match="there is no key in the key file"):
        Keyring.find(key_file=key_file(tmp_path / "empty", "# nothing yet\n"))
    with pytest.raises(NoKey, match="cannot be read"):
        Keyring.find(key_file=tmp_path)
    with pytest.raises(BadKey, match="too large"):
        Keyring.find(key_file=key_file(tmp_path / "huge", "#" * 70000))
    for mode in (0o640, 0o604, 0o620):
        with pytest.raises(BadKey, match=rf"open to others \(mode {mode:04o}\); hint: chmod 600"):
            Keyring.find(key_file=key_file(tmp_path / "open", generate(), mode))


def test_a_key_may_come_through_a_pipe(tmp_path: Path) -> None:
    script = "import sys; from pathlib import Path; from sloth.state.keys import Keyring\n"
    script += "print(Keyring.find(key_file=Path('/dev/stdin')).primary_id)"
    key = generate()
    done = subprocess.run([sys.executable, "-c", script], input=key, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == Keyring.find(key_file=key_file(tmp_path / "k", key)).primary_id


def test_no_key_says_where_one_may_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLOTH_KEY", " , ")
    with pytest.raises(NoKey, match=r"there is no key; hint: give --key-file or --passphrase, or set \$SLOTH_KEY"):
        Keyring.find()
    with pytest.raises(NoKey, match="there is no passphrase"):
        Keyring.find(derivation=Derivation.fresh())
    with pytest.raises(BadKey, match="empty"):
        Keyring.find(passphrase="")


def test_what_is_given_beats_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLOTH_KEY", generate())
    monkeypatch.setenv("SLOTH_PASSPHRASE", "from the environment")
    given_key = generate()
    path = key_file(tmp_path / "k", given_key)
    assert Fernet(given_key).decrypt(Keyring.find(key_file=path).encrypt(b"x")) == b"x"
    assert Keyring.find(passphrase="typed").derivation is not None
    assert Keyring.find().derivation is None
    wanted = Derivation.fresh()
    assert Keyring.find(derivation=wanted).ids == Keyring.from_passphrase("from the environment", wanted).ids
    with pytest.raises(UsageError, match="give one of them"):
        Keyring.find(key_file=path, passphrase="typed")


def test_a_passphrase_makes_the_same_key_with_the_same_salt_only() -> None:
    ring = Keyring.find(passphrase="Größe")
    assert ring.derivation is not None
    assert len(ring.derivation.salt) == 16
    again = Derivation.from_header(ring.derivation.header(), "x")
    assert again == ring.derivation
    decomposed = "Gro\u0308ße"
    assert Keyring.find(passphrase=decomposed, derivation=again).decrypt(
        ring.encrypt(b"x"), ring.primary_id, "x", passphrase=True
    ) == (b"x")
    assert Keyring.find(passphrase="Größe").ids != ring.ids
    with pytest.raises(WrongKey, match="wrong passphrase"):
        Keyring.find(passphrase="grösse", derivation=again).need(ring.primary_id, "x", passphrase=True)


def test_the_derivation_is_the_scrypt_that_the_header_says() -> None:
    import hashlib

    derivation = Derivation(b"0123456789abcdef")
    assert derivation.header() == {"name": "scrypt", "n": 32768, "r": 8, "p": 1, "salt": "MDEyMzQ1Njc4OWFiY2RlZg=="}
    expected = hashlib.scrypt(b"pass", salt=b"0123456789abcdef", n=32768, r=8, p=1, maxmem=2**26, dklen=32)
    assert derivation.key("pass") == expected


@pytest.mark.parametrize(
    "change",
    [
        {"n": 2**30}, {"n": 2**13}, {"n": 40000}, {"n": "32768"}, {"n": True}, {"r": 2**20}, {"r": 0}, {"p": 1000},
        {"p": 0}, {"n": 2**18, "r": 16}, {"salt": "QQ=="}, {"salt": "A" * 400}, {"salt": "*" * 24}, {"salt": None},
        {"name": "md5"}, {"more": 1},
    ],
)  # fmt: skip
def test_a_header_cannot_ask_for_a_costly_or_a_cheap_derivation(change: dict[str, object]) -> None:
    header = {**Derivation.fresh().header(), **change}
    with pytest.raises(Damaged, match=r"vault: its header asks .* restore"):
        Derivation.from_header(header, "vault")


def test_a_header_that_is_no_object_is_refused() -> None:
    for header in (None, [], "scrypt", {}):
        with pytest.raises(Damaged):
            Derivation.from_header(header, "vault")


def test_a_wrong_key_is_told_from_a_damaged_text() -> None:
    ours, theirs = Keyring([os.urandom(32)]), Keyring([os.urandom(32)])
    token = theirs.encrypt(b"text")
    with pytest.raises(
        WrongKey, match=rf"the file is encrypted with the key {theirs.primary_id}, not with {ours.primary_id}"
    ):
        ours.decrypt(token, theirs.primary_id, "the file")
    with pytest.raises(WrongKey, match="encrypted with a passphrase, not with a key"):
        ours.decrypt(token, theirs.primary_id, "the file", passphrase=True)
    with pytest.raises(WrongKey, match="not with a passphrase"):
        Keyring.find(passphrase="p").decrypt(token, theirs.primary_id, "the file")
    with pytest.raises(Damaged, match="the file is damaged"):
        theirs.decrypt(token[:-8] + b"AAAAAAA=", theirs.primary_id, "the file")
    assert issubclass(WrongKey, StateError)
    assert issubclass(Damaged, StateError)


RING = Keyring([bytes(range(32))])


@given(data=st.binary(max_size=100), at=st.integers(0, 10**6), byte=st.integers(0, 255))
def test_no_byte_of_a_token_may_change(data: bytes, at: int, byte: int) -> None:
    token = RING.encrypt(data)
    at %= len(token)
    altered = token[:at] + bytes([byte]) + token[at + 1 :]
    if altered == token:
        assert RING.decrypt(altered, RING.primary_id, "it") == data
        return
    with pytest.raises(Damaged):
        RING.decrypt(altered, RING.primary_id, "it")


@given(junk=st.binary(min_size=1, max_size=3))
def test_nothing_may_be_added_to_a_token(junk: bytes) -> None:
    token = RING.encrypt(b"data")
    for altered in (junk + token, token + junk, token[:20] + junk + token[20:]):
        with pytest.raises(Damaged):
            RING.decrypt(altered, RING.primary_id, "it")


def test_ids_tell_keys_apart_and_are_not_their_plain_hash() -> None:
    import hashlib

    raw = bytes(range(32))
    assert RING.ids == ("7f3043794aac98cd",)  # files name it: it must never change
    assert hashlib.sha256(raw).hexdigest()[:16] != RING.primary_id
    with pytest.raises(ValueError, match="32 bytes"):
        Keyring([b"short"])


def test_starting_up_does_not_pay_for_cryptography() -> None:
    script = "import sys, sloth.state.keys; sys.exit('cryptography' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_private_files_are_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_private(path, b"one")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with PrivateFile(path) as file:
        file.write(b"tw")  # and never committed
    assert path.read_bytes() == b"one"
    with pytest.raises(StateError, match="exists already"):
        write_private(path, b"two", exclusive=True)
    assert path.read_bytes() == b"one"
    with pytest.raises(StateError, match="make the directory"):
        write_private(tmp_path / "no" / "file", b"")
    with pytest.raises(StateError, match="no regular file"):
        write_private(tmp_path, b"")
    with PrivateFile(tmp_path / "new", exclusive=True):
        pass
    (tmp_path / "link").symlink_to("file")
    write_private(tmp_path / "link", b"three")
    assert path.read_bytes() == b"three"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "link"]
