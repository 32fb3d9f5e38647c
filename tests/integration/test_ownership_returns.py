"""What a record claims comes back with it: after an import, a rollback and a renaming nothing of others goes."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

import pytest

from tests.support.home import Home

NOTHING = 'exec.run({cmd = "true", unless = "true"})'
COPY = 'file.copy({content = "a", dest = "FILES/f"})'
TEMPLATE = 'file.template({src = "t.j2", dest = "FILES/f"})'
SECRET_LINE = 'file.lineinfile({path = "FILES/f", line = "pw = " .. secret("pw")})'


def by_import(home: Home) -> None:
    home("state", "export", "--agent", "web1", "-o", "kept")
    home("state", "import", "kept", "--replace", "--yes")


def by_format_2(home: Home) -> None:
    """Make the state what a migration from format 2 leaves: nobody has claimed anything yet."""
    with sqlite3.connect(home.path / ".sloth-runner/state/web1.db") as db:
        db.execute("DELETE FROM claims")
    db.close()


def by_renaming(home: Home) -> None:
    key = next(key for key in home.recorded() if not key.startswith("file:copy"))
    home("state", "mv", key, "file:other:x", "--agent", "web1", "--yes")


@pytest.mark.parametrize("lose", [by_import, by_format_2, by_renaming])
@pytest.mark.parametrize("other", [TEMPLATE, SECRET_LINE])
def test_pruning_leaves_what_another_site_manages(
    home: Home, lose: Callable[[Home], None], other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A has made a file, and B manages it (or a line of it) since; A drops it."""
    monkeypatch.setenv("SLOTH_SECRET_PW", "hunter2-hunter2")
    (home.path / "t.j2").write_text("b\n")
    home.site(COPY, "a.sloth")
    home.site(other, "b.sloth")
    home.run(site="a.sloth")
    home.run(site="b.sloth")
    there = home.text("f")
    lose(home)
    home.site(NOTHING, "a.sloth")
    assert "orphaned" not in home.run(site="a.sloth", verb="plan")
    home.run("--prune", "--yes", site="a.sloth")
    assert home.text("f") == there
    assert "0 would change" in home.run("--check", site="b.sloth")


def test_what_a_rollback_brings_back_is_managed_again(home: Home) -> None:
    """B is pruned and brought back; then A, whose file it is no more, drops it."""
    (home.path / "t.j2").write_text("b\n")
    home.site(COPY, "a.sloth")
    home.run(site="a.sloth")
    home.site(TEMPLATE, "b.sloth")
    home.run(site="b.sloth")
    home.site(NOTHING, "a.sloth")
    home.run("--prune", "--yes", site="a.sloth")
    home.site(NOTHING, "b.sloth")
    home.run("--prune", "--yes", site="b.sloth")
    assert home.text("f") is None
    home("rollback", "last", "--limit", "web1", "--yes")
    assert home.text("f") == "b\n"
    home.site(COPY, "c.sloth")
    home.run(site="c.sloth")
    found = home.json("state", "list", "--agent", "web1")
    by = {row["key"]: row["superseded_by"] for row in found}
    assert by == {f"file:copy:{home.files}/f": None, f"file:template:{home.files}/f": f"file:copy:{home.files}/f"}
    assert "none has drifted" in home("drift", "--limit", "web1", "--exit-code"), "C has the file now, and B not"
