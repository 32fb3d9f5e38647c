"""A secret stays hidden in a file whose record is gone: the next calls about the file do not know it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.home import QuickHome

SECRET = "hunter2-hunter2"
COPY = 'file.copy({content = "pw=" .. secret("pw") .. "\\n", dest = "FILES/f"})'
LINE = 'file.lineinfile({path = "FILES/f", regexp = "^k =", line = "k = NUMBER"})'


def superseded(home: QuickHome) -> None:
    """The run that has the line has it: the copy is forgotten at its end."""


def deleted(home: QuickHome) -> None:
    home("state", "rm", "file:copy:*", "--agent", "web1", "--yes")


def cleared(home: QuickHome) -> None:
    home("state", "clear", "--agent", "web1", "--yes")


def renamed(home: QuickHome) -> None:
    home("state", "mv", f"file:copy:{home.files}/f", "file:template:/elsewhere", "--agent", "web1", "--yes")


def imported(home: QuickHome) -> None:
    home("state", "export", "--agent", "web1", "-o", "kept")
    home("state", "import", "kept", "--replace", "--yes")


@pytest.mark.parametrize("lose", [superseded, deleted, cleared, renamed, imported])
def test_a_forgotten_secret_is_not_shown_nor_kept(
    quick_home: QuickHome, lose: Callable[[QuickHome], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = quick_home
    monkeypatch.setenv("SLOTH_SECRET_PW", SECRET)
    home.site(COPY)
    home.run()
    lose(home)
    shown = ""
    for number in "12":
        home.site(LINE.replace("NUMBER", number))
        shown += home.run("--diff")
    (home.files / "f").write_text(f"pw={SECRET}\nk = 3\n")
    shown += home("drift", "--limit", "web1", "--diff") + home.run("--diff")
    shown += home("rollback", "last", "--limit", "web1", "--diff", "--check", status=1)
    assert SECRET not in shown
    for path in (home.path / ".sloth-runner").rglob("*.db*"):
        assert SECRET.encode() not in path.read_bytes(), path
    home.site('file.copy({content = "plain\\n", dest = "FILES/f"})')
    home.run()
    home.site(LINE.replace("NUMBER", "4"))
    assert "+k = 4" in home.run("--diff"), "nothing is secret in the file any more"
