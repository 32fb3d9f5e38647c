"""Secrets on the controller: where one is looked for, which of them data holds, and how shared values are sealed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from sloth.engine import events
from sloth.engine.sealing import SecretSealer
from sloth.engine.secrets import Secrets
from sloth.errors import CallError, StateError
from sloth.payload.kernel.content import TEXT_LIMIT
from sloth.payload.kernel.redact import MASK
from sloth.state.keys import Damaged, Keys, generate
from sloth.state.shared import SEALED
from sloth.state.vault import Vault
from sloth.transport import Asset

HORSE, BATTERY = "correct horse", "battery staple"


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> Secrets:
    """Those of a site that has read two."""
    monkeypatch.setenv("SLOTH_KEY", generate())
    monkeypatch.setenv("SLOTH_SECRET_DB_ONE", HORSE)
    monkeypatch.setenv("SLOTH_SECRET_TWO", BATTERY)
    found = Secrets([Path("/site")], Keys())
    assert (found.get("db/one", Path("/site")), found.get("two", Path("/site"))) == (HORSE, BATTERY)
    return found


def test_a_secret_is_looked_for_in_the_environment_and_then_in_vaults(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault.set({"one": "of the site", "two": "of the site"})
    (tmp_path / "role").mkdir()
    role = Vault(tmp_path / "role" / vault.path.name, Keys())
    role.set({"one": "of the role"})
    found = Secrets([tmp_path], Keys())
    assert found.get("one", tmp_path / "role") == "of the role"
    assert found.get("one", tmp_path) == "of the site"
    assert found.get("one", tmp_path / "none") == "of the site"
    monkeypatch.setenv("SLOTH_SECRET_TWO", "of the environment")
    assert found.get("two", tmp_path) == "of the environment"
    with pytest.raises(CallError, match="there is no secret a-b") as raised:
        Secrets([tmp_path / "none"], Keys()).get("a-b", tmp_path / "none")
    assert raised.value.hint == "sloth-runner secret set a-b, or set the environment variable SLOTH_SECRET_A_B"


def test_the_secrets_of_a_call_are_found_in_its_arguments_and_contents(secrets: Secrets) -> None:
    def content(data: bytes) -> Asset:
        return Asset("a", size=len(data), open=lambda: iter([data]))

    def unread() -> Iterator[bytes]:
        raise AssertionError("of a large content no text is shown, so it is not read")

    assert secrets.found_in({"cmd": "date"}, [content(b"nothing"), Asset("d", dir=True)]) == set()
    assert secrets.found_in({"cmd": ["login", f"-p{HORSE}"]}, []) == {HORSE}
    assert secrets.found_in({}, [content(b"\xff" + BATTERY.encode())]) == {BATTERY}
    assert secrets.found_in({"cmd": HORSE}, [content(BATTERY.encode())]) == {HORSE, BATTERY}
    text = BATTERY.encode().rjust(TEXT_LIMIT)
    assert secrets.found_in({}, [content(text)]) == {BATTERY}
    assert secrets.found_in({}, [Asset("a", size=TEXT_LIMIT + 1, open=unread)]) == set()
    assert Secrets([], Keys()).found_in({"cmd": HORSE}, []) == set()


def test_data_holds_those_secrets_that_are_in_it(secrets: Secrets) -> None:
    assert secrets.held_by({"a": [HORSE]}) == {HORSE}
    assert secrets.held_by({HORSE: f"with {BATTERY}"}) == {HORSE, BATTERY}
    assert secrets.held_by({"a": ["horse"]}) == set()
    assert Secrets([], Keys()).held_by(HORSE) == set()


def test_what_is_learned_is_hidden_and_has_no_name(secrets: Secrets) -> None:
    secrets.learn(["tr0ub4dor&3", HORSE])
    assert secrets.redact([f"tr0ub4dor&3 {HORSE}"]) == [f"{MASK} {MASK}"]
    assert secrets.held_by("tr0ub4dor&3") == {"tr0ub4dor&3"}
    assert sorted(name for _, name in secrets.named) == ["db/one", "two"]


def test_without_secrets_events_are_what_they_are() -> None:
    output = events.CallOutput(0.0, "h", "t", "c", "stdout", "\udcff")
    (shown,) = Secrets([], Keys()).events(output)
    assert shown is output


def test_the_end_of_one_host_shows_what_it_has_printed_and_nothing_of_another(secrets: Secrets) -> None:
    for host in ("web1", "web2"):
        (shown,) = secrets.events(events.CallOutput(0.0, host, "t", "c", "stdout", "on correct h"))
        assert isinstance(shown, events.CallOutput)
        assert shown.data == "on "
    rest, _ = secrets.events(events.HostFinished(0.0, "web1", events.Status.CHANGED, 0.0))
    assert isinstance(rest, events.CallOutput)
    assert (rest.host, rest.data) == ("web1", "correct h")
    (shown,) = secrets.events(events.CallOutput(0.0, "web2", "t", "c", "stdout", "orse"))
    assert isinstance(shown, events.CallOutput)
    assert shown.data == MASK


def test_a_sealed_value_is_read_by_who_has_the_key_and_its_secrets_are_hidden_there(secrets: Secrets) -> None:
    sealer = SecretSealer(secrets, Keys())
    assert sealer.seal("v", {"a": "horse"}) is None
    sealed = sealer.seal("v", {"password": HORSE})
    assert sealed is not None
    assert sealed.startswith(SEALED)
    assert HORSE not in sealed
    other = Secrets([], Keys())
    assert SecretSealer(other, Keys()).open("v", sealed) == {"password": HORSE}
    assert other.redact(HORSE) == MASK
    stored = json.loads(sealed.removeprefix(SEALED))
    for text in ("", "[]", "{}", '{"key": null, "token": ""}', json.dumps({**stored, "token": "x\udcff"})):
        with pytest.raises(Damaged, match="the shared value v is damaged"):
            sealer.open("v", SEALED + text)
    with pytest.raises(Damaged, match="the shared value w is damaged"):
        sealer.open("w", sealed)  # it was moved to another name


def test_a_secret_is_in_no_name_and_is_never_stored_in_clear_text(
    secrets: Secrets, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sealer = SecretSealer(secrets, Keys())
    with pytest.raises(StateError, match="a secret cannot be in the name"):
        sealer.seal(f"of {HORSE}", 1)
    monkeypatch.delenv("SLOTH_KEY")
    with pytest.raises(StateError, match=r"state\.set v: it has a secret in it, and there is no key"):
        sealer.seal("v", HORSE)
