"""Whole states, out of their files and back: encrypted, verified, all or nothing."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest

from sloth.state.keys import generate
from tests.support.home import THREE_FILES, Home


@pytest.fixture
def applied_home(home: Home) -> Home:
    """Both hosts have had a run of three files."""
    home.site(THREE_FILES.replace("FILES", 'FILES/" .. host.name .. "'))
    for name in ("web1", "web2"):
        (home.files / name).mkdir()
        (home.files / name / "two").write_text("first\n")
    home("run", "-f", "site.sloth")
    return home


def states(applied_home: Home) -> Any:
    rows = applied_home.json("state", "list", "--agent", "web*")
    return [
        {name: row[name] for name in ("agent", "key", "checksum", "desired", "changed_at", "calls")} for row in rows
    ]


def test_all_of_it_comes_back(applied_home: Home) -> None:
    before, history = states(applied_home), applied_home.json("state", "history", "--agent", "web*")
    assert "encrypted" not in applied_home("state", "export", "--agent", "web*", "-o", "dump")
    applied_home("state", "clear", "--agent", "web*", "--yes")
    checked = applied_home.json("state", "import", "dump", "--merge", "--check")
    assert checked["agents"]["web1"]["added"] == 3
    assert states(applied_home) == []
    assert "web1: 3 added, 0 altered" in applied_home("state", "import", "dump", "--merge")
    assert states(applied_home) == before
    assert "web1: 0 added, 0 altered" in applied_home("state", "import", "dump", "--merge")
    assert applied_home.json("state", "history", "--agent", "web*") == history
    applied_home("drift", "--exit-code")
    for path in applied_home.path.rglob("web1.db*"):
        path.unlink()
    applied_home("state", "import", "dump", "--replace", "--yes")
    assert states(applied_home) == before
    assert applied_home.json("state", "history", "--agent", "web1")[0]["diff"] == history[0]["diff"]
    assert "3 unchanged" in applied_home.run()


def test_merge_keeps_what_is_there_and_replace_does_not(applied_home: Home) -> None:
    applied_home("state", "export", "--agent", "web1", "-o", "dump")
    applied_home.site(
        'file.copy({content = "other", dest = "FILES/web1/one"}) file.copy({content = "4", dest = "FILES/web1/four"})'
    )
    applied_home.run()
    later = states(applied_home)
    applied_home("state", "import", "dump", "--merge")
    assert states(applied_home) == later
    assert "--merge or --replace" in applied_home("state", "import", "dump", status=2)
    assert "--yes" in applied_home("state", "import", "dump", "--replace", status=2)
    applied_home("state", "import", "dump", "--replace", "--yes")
    assert [row["key"].rpartition("/")[2] for row in states(applied_home) if row["agent"] == "web1"] == [
        "one",
        "two:added",
        "three",
    ]


def test_what_is_frozen_stays_frozen_where_a_state_is_imported(applied_home: Home) -> None:
    one = f"file:copy:{applied_home.files}/web1/one"
    applied_home("state", "freeze", one, "--agent", "web1", "--until", "3d", "--why", "a <b>migration</b>")
    applied_home("state", "export", "--agent", "web1", "-o", "dump")
    for path in applied_home.path.rglob("web1.db*"):
        path.unlink()
    assert applied_home.json("state", "list", "frozen", "--agent", "web1") == []
    applied_home("state", "import", "dump", "--replace", "--yes")
    (row,) = applied_home.json("state", "list", "frozen", "--agent", "web1")
    assert (row["key"], row["frozen"]["why"]) == (one, "a <b>migration</b>")
    (applied_home.files / "web1" / "one").write_text("by hand\n")
    assert "is frozen until" in applied_home.run()
    assert (applied_home.files / "web1" / "one").read_text() == "by hand\n"
    # One that was thawed since comes back only with --replace, and what is frozen otherwise by now stays so.
    applied_home("state", "unfreeze", one, "--agent", "web1")
    applied_home("state", "freeze", one, "--agent", "web1", "--until", "5d", "--why", "another")
    applied_home("state", "import", "dump", "--merge")
    assert applied_home.json("state", "list", "frozen", "--agent", "web1")[0]["frozen"]["why"] == "another"
    applied_home("state", "import", "dump", "--replace", "--yes")
    assert applied_home.json("state", "list", "frozen", "--agent", "web1")[0]["frozen"]["why"] == "a <b>migration</b>"


def test_a_state_goes_to_another_agent(applied_home: Home) -> None:
    applied_home("state", "export", "--agent", "web1", "-o", "dump")
    applied_home("state", "clear", "--agent", "web2", "--yes")
    applied_home("state", "import", "dump", "--merge", "--agent", "web1=web2")
    assert len(applied_home.json("state", "list", "--agent", "web2")) == 3
    assert "selects 0 of web1" in applied_home("state", "import", "dump", "--merge", "--agent", "db", status=2)


def test_what_is_wrong_with_a_file_is_said_before_anything_is_touched(applied_home: Home) -> None:
    with mock.patch.dict("os.environ", {"SLOTH_KEY": generate()}):
        assert "encrypted" in applied_home("state", "export", "--agent", "web1", "-o", "dump", "--encrypt")
        assert "sound and encrypted" in applied_home("state", "verify", "dump")
        before = states(applied_home)
        data = (applied_home.path / "dump").read_bytes()
        (applied_home.path / "dump").write_bytes(data[:-200])
        for words in (["verify", "dump"], ["import", "dump", "--replace", "--yes"]):
            assert "cut off" in applied_home("state", *words, status=1)
        (applied_home.path / "dump").write_bytes(data)
    with mock.patch.dict("os.environ", {"SLOTH_KEY": generate()}):
        assert "is encrypted with the key" in applied_home("state", "import", "dump", "--replace", "--yes", status=1)
    assert "SLOTH_KEY" in applied_home("state", "verify", "dump", status=1)
    assert states(applied_home) == before


def test_an_agent_that_does_not_answer_is_no_half_export(applied_home: Home) -> None:
    with (applied_home.path / "inventory.toml").open("a") as file:
        file.write('[hosts.gone]\naddress = "127.0.0.1"\nport = 1\n')
    assert "gone" in applied_home("state", "export", "--agent", "all", "-o", "dump", status=4)
    assert not (applied_home.path / "dump").exists()
    applied_home("state", "export", "--agent", "web1", "-o", "dump")
    text = (applied_home.path / "dump").read_text()
    applied_home("state", "clear", "--agent", "web1", "--yes")
    (applied_home.path / "dump").write_text(text)
    assert "gone" in applied_home("state", "import", "dump", "--merge", "--agent", "web1=gone", status=4)
    assert states(applied_home)[0]["agent"] == "web2"


def test_an_export_of_replicas_asks_no_host_and_restores_the_records(applied_home: Home) -> None:
    before = states(applied_home)
    hosts = (applied_home.path / "inventory.toml").read_text()
    gone = hosts.replace('connection = "local"', 'address = "127.0.0.1"\nport = 1')
    (applied_home.path / "inventory.toml").write_text(gone)
    assert "wrote 6 rows" in applied_home("state", "export", "--agent", "web*", "--cached", "-o", "dump")
    assert "records of replicas only" in applied_home("state", "verify", "dump")
    assert applied_home.json("state", "verify", "dump")["records_only"] is True
    assert "no replica of web3" in applied_home(
        "state", "export", "--agent", "web3", "--cached", "-o", "other", "-i", "web3,", status=1
    )
    assert not (applied_home.path / "other").exists()
    (applied_home.path / "inventory.toml").write_text(hosts)
    history = applied_home.json("state", "history", "--agent", "web1")
    assert "use --merge" in applied_home("state", "import", "dump", "--replace", "--yes", status=2)
    assert applied_home.json("state", "history", "--agent", "web1") == history
    applied_home("state", "clear", "--agent", "web*", "--yes")
    assert "web1: 3 added, 0 altered" in applied_home("state", "import", "dump", "--merge")
    assert states(applied_home) == before
    assert "3 unchanged" in applied_home.run()
