"""Whole states, out of their files and back: encrypted, verified, all or nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from sloth.state.keys import generate
from tests.integration.test_state import THREE_FILES, Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path)
    made.site(THREE_FILES.replace("FILES", 'FILES/" .. host.name .. "'))
    for name in ("web1", "web2"):
        (made.files / name).mkdir()
        (made.files / name / "two").write_text("first\n")
    made("run", "-f", "site.sloth")
    return made


def states(home: Home) -> Any:
    rows = home.json("state", "list", "--agent", "web*")
    return [
        {name: row[name] for name in ("agent", "key", "checksum", "desired", "changed_at", "calls")} for row in rows
    ]


def test_all_of_it_comes_back(home: Home) -> None:
    before, history = states(home), home.json("state", "history", "--agent", "web*")
    assert "encrypted" not in home("state", "export", "--agent", "web*", "-o", "dump")
    home("state", "clear", "--agent", "web*", "--yes")
    checked = json.loads(home("state", "import", "dump", "--merge", "--check", "--output", "json"))
    assert checked["agents"]["web1"]["added"] == 3
    assert states(home) == []
    assert "web1: 3 added, 0 altered" in home("state", "import", "dump", "--merge")
    assert states(home) == before
    assert "web1: 0 added, 0 altered" in home("state", "import", "dump", "--merge")
    assert home.json("state", "history", "--agent", "web*") == history
    home("drift", "--exit-code")
    for path in home.path.rglob("web1.db*"):
        path.unlink()
    home("state", "import", "dump", "--replace", "--yes")
    assert states(home) == before
    assert home.json("state", "history", "--agent", "web1")[0]["diff"] == history[0]["diff"]
    assert "3 unchanged" in home.run()


def test_merge_keeps_what_is_there_and_replace_does_not(home: Home) -> None:
    home("state", "export", "--agent", "web1", "-o", "dump")
    home.site(
        'file.copy({content = "other", dest = "FILES/web1/one"}) file.copy({content = "4", dest = "FILES/web1/four"})'
    )
    home.run()
    later = states(home)
    home("state", "import", "dump", "--merge")
    assert states(home) == later
    assert "--merge or --replace" in home("state", "import", "dump", status=2)
    assert "--yes" in home("state", "import", "dump", "--replace", status=2)
    home("state", "import", "dump", "--replace", "--yes")
    assert [row["key"].rpartition("/")[2] for row in states(home) if row["agent"] == "web1"] == [
        "one",
        "two:added",
        "three",
    ]


def test_a_state_goes_to_another_agent(home: Home) -> None:
    home("state", "export", "--agent", "web1", "-o", "dump")
    home("state", "clear", "--agent", "web2", "--yes")
    home("state", "import", "dump", "--merge", "--agent", "web1=web2")
    assert len(home.json("state", "list", "--agent", "web2")) == 3
    assert "names 0 of web1" in home("state", "import", "dump", "--merge", "--agent", "db", status=2)


def test_what_is_wrong_with_a_file_is_said_before_anything_is_touched(home: Home) -> None:
    with mock.patch.dict("os.environ", {"SLOTH_KEY": generate()}):
        assert "encrypted" in home("state", "export", "--agent", "web1", "-o", "dump", "--encrypt")
        assert "sound and encrypted" in home("state", "verify", "dump")
        before = states(home)
        data = (home.path / "dump").read_bytes()
        (home.path / "dump").write_bytes(data[:-200])
        for words in (["verify", "dump"], ["import", "dump", "--replace", "--yes"]):
            assert "cut off" in home("state", *words, status=1)
        (home.path / "dump").write_bytes(data)
    with mock.patch.dict("os.environ", {"SLOTH_KEY": generate()}):
        assert "is encrypted with the key" in home("state", "import", "dump", "--replace", "--yes", status=1)
    assert "SLOTH_KEY" in home("state", "verify", "dump", status=1)
    assert states(home) == before


def test_an_agent_that_does_not_answer_is_no_half_export(home: Home) -> None:
    with (home.path / "inventory.toml").open("a") as file:
        file.write('[hosts.gone]\naddress = "127.0.0.1"\nport = 1\n')
    assert "gone" in home("state", "export", "--agent", "all", "-o", "dump", status=4)
    assert not (home.path / "dump").exists()
    home("state", "export", "--agent", "web1", "-o", "dump")
    text = (home.path / "dump").read_text()
    home("state", "clear", "--agent", "web1", "--yes")
    (home.path / "dump").write_text(text)
    assert "gone" in home("state", "import", "dump", "--merge", "--agent", "web1=gone", status=4)
    assert states(home)[0]["agent"] == "web2"
