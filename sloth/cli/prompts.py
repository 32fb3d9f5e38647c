"""Asks questions on the terminal: those of a site, and those of --step."""

from __future__ import annotations

import getpass
import os
import sys

import click

from sloth.cli.output import read_line
from sloth.engine.stepping import Step
from sloth.playbook import Prompt
from sloth.report.text import neutral

_answers: dict[str, str] = {}
_PIECE = 4096  # bytes; a terminal gives a line at a time


def ask(prompt: Prompt) -> str | None:
    """Return the user's answer, None without a terminal. Ctrl-C and the end of input end the command.

    A name is asked once a command, also by one that loads the site twice.
    """
    if prompt.name not in _answers:
        answer = _ask(prompt)
        if answer is None:
            return None
        _answers[prompt.name] = answer
    return _answers[prompt.name]


def _ask(prompt: Prompt) -> str | None:
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
    except OSError:
        return None
    try:
        while True:
            answer = _read(terminal, _question(prompt), prompt.secret)
            if not answer and prompt.default is not None:
                return prompt.default
            problem = _problem(prompt, answer)
            if not problem and prompt.confirm and _read(terminal, "Again, to be sure: ", prompt.secret) != answer:
                problem = "The two answers differ."
            if not problem:
                return answer
            _write(terminal, problem + "\n")
    finally:
        os.close(terminal)


def _question(prompt: Prompt) -> str:
    choices = f" ({', '.join(prompt.choices)})" if prompt.choices else ""
    default = ""
    if prompt.default:
        default = " [there is a default]" if prompt.secret else f" [{prompt.default}]"
    return neutral(f"{prompt.text}{choices}{default}: ")


def _problem(prompt: Prompt, answer: str) -> str:
    if not answer:
        return "An answer is needed."
    if prompt.choices and answer not in prompt.choices:
        return neutral(f"It must be one of {', '.join(prompt.choices)}.")
    return ""


def _read(terminal: int, text: str, is_secret: bool) -> str:
    if is_secret:
        return getpass.getpass(text)
    _write(terminal, text)
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(terminal, _PIECE)
        if not piece:
            raise EOFError
        line += piece
    return line.decode("utf-8", "surrogateescape").strip()


def _write(terminal: int, text: str) -> None:
    os.write(terminal, text.encode("utf-8", "backslashreplace"))


async def ask_step(task: str) -> Step:
    """Ask whether to run a task; the answers are those of Ansible's --step, and no answer is no."""
    click.echo(neutral(f"Run task {task}? [N]o/(y)es/(c)ontinue: "), nl=False, err=True)
    answer = (await read_line(sys.stdin.fileno())).strip().lower()
    if answer in ("c", "continue"):
        return Step.RUN_ALL
    return Step.RUN if answer in ("y", "yes") else Step.SKIP


def is_yes() -> bool:
    """Return whether the user answers yes."""
    # Read from the descriptor: a thread that waits in sys.stdin would crash an interrupted process at its end.
    answer = os.read(sys.stdin.fileno(), 1024).decode("utf-8", "replace").strip().lower()
    return answer in ("y", "yes")
