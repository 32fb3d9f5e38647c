"""Completion in the shells themselves: what a tab makes of a line."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.home import Home
from tests.support.terminal import Terminal

SHELLS = {
    "bash": (("--norc", "-i"), "source <(sloth-runner completion bash)"),
    "zsh": (("-f", "-i"), "autoload -U compinit; compinit -u -D; source <(sloth-runner completion zsh)"),
    "fish": (("--private", "-i"), "sloth-runner completion fish | source"),
}
SITE = """
task({ name = "motd", tags = { "greeting", "files" }, run = function()
    file.copy({ content = "hello\\n", dest = "FILES/motd" })
end })
task({ name = "install nginx", tags = "packages", run = function() end })
"""


@pytest.fixture(scope="module")
def completed_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A controller that has run a site once."""
    home = Home(tmp_path_factory.mktemp("completion"))
    (home.path / "site.sloth").write_text(SITE.replace("FILES", str(home.files)))
    with (home.path / "inventory.toml").open("a") as file:
        file.write('[groups.web]\nhosts = ["web*"]\n')
    home.run()
    return home.path


@pytest.fixture(scope="module", params=list(SHELLS))
def shell(request: pytest.FixtureRequest, completed_site: Path) -> Iterator[Terminal]:
    """An interactive shell in the site's directory, with our completion."""
    program = shutil.which(request.param)
    if program is None:
        pytest.skip(f"there is no {request.param}")
    argv, setup = SHELLS[request.param]
    with Terminal(argv, completed_site, program) as terminal:
        terminal.press(f"PATH={Path(sys.executable).parent}:$PATH\n" if request.param != "fish" else
                       f"set -x PATH {Path(sys.executable).parent} $PATH\n")  # fmt: skip
        terminal.press(setup + "\n")
        terminal.press("echo rea''dy\n")
        terminal.wait_for("[\r\n]ready")
        yield terminal


@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("sloth-runner inventory li", "inventory list "),
        ("sloth-runner run -f si", "run -f site.sloth "),
        ("sloth-runner run --limit web1,!@we", r"--limit web1,\\?!@web "),
        ("sloth-runner run --limit @fai", "--limit @failed "),
        ("sloth-runner run -f site.sloth --start-at mo", "--start-at motd "),
        ("sloth-runner run -f site.sloth --start-at ins", r"--start-at (install\\ nginx|'install nginx') "),
        ("sloth-runner run -f site.sloth -t greeting,pa", "-t greeting,packages "),
        ("sloth-runner call web1 file.cop", "call web1 file.copy "),
        ("sloth-runner call web1 file.copy dest=/x cont", "dest=/x content="),
        ("sloth-runner state show --agent web1 file:co", "file:copy:/[^ ]*/motd "),
        ("sloth-runner rollback la", "rollback last "),
    ],
)
def test_a_tab_completes(shell: Terminal, line: str, completed: str) -> None:
    shell.shown = ""
    shell.press(line)
    shell.press("\t")
    try:
        shell.wait_for(completed, 20)
    finally:
        shell.press("\x15")  # the line is taken back


def test_a_line_with_a_mistake_in_it_is_not_answered_with_an_error(shell: Terminal) -> None:
    shell.shown = ""
    shell.press("sloth-runner nonsense a\t")
    shell.press("\x15echo quie''t\n")
    shell.wait_for("[\r\n]quiet")
    assert "rror" not in shell.text
    assert "Traceback" not in shell.text
