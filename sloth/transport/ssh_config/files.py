"""Reads ssh_config files, with those that they include, into directives. Errors name the file and line."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterable
from enum import Enum, auto
from pathlib import Path
from typing import Literal

from sloth.frozen import frozen
from sloth.transport.ssh_config import keywords
from sloth.transport.ssh_config.errors import ConfigError
from sloth.transport.ssh_config.tokens import check_port
from sloth.transport.ssh_config.words import BLANK, split, take

SYSTEM = "/etc/ssh/ssh_config"
DEPTH = 16  # files that include each other


class Kind(Enum):
    """What a directive does."""

    SETTING = auto()
    HOST = auto()
    MATCH = auto()
    INCLUDE = auto()
    UNKNOWN = auto()


@frozen
class Directive:
    """One line. keyword: in lower case; text: what follows it; words: that, split; included: for Include."""

    where: str
    kind: Kind
    keyword: str
    text: str
    words: tuple[str, ...]
    is_system: bool
    is_literal: bool = False  # the names of a Host line are no patterns
    included: tuple[tuple[Directive, ...], ...] = ()


@frozen
class Configuration:
    """The files that apply to a host: the user's, then the system's; the first value of a keyword counts.

    path: the user's file, or the only one if it was named.
    """

    path: str | None
    files: tuple[tuple[Directive, ...], ...]
    is_named: bool = False
    runs_commands: bool = False  # evaluating it may take a while

    @classmethod
    def read(cls, which: str | Literal[False] | None) -> Configuration:
        """Read a file that was named (a path), the usual ones (None), or none (False). Raises ConfigError."""
        if which is False or which == "none":
            return cls(None, ())
        if which is not None:
            path = str(Path(which).expanduser())
            named = (_read(path, is_system=False, where="", check=False),)
            return cls(path, named, is_named=True, runs_commands=_may_run(named))
        path = str(Path("~/.ssh/config").expanduser())
        files: list[tuple[Directive, ...]] = []
        if os.path.exists(path):
            files.append(_read(path, is_system=False, where="", check=True))
        if os.path.exists(SYSTEM):
            files.append(_read(SYSTEM, is_system=True, where="", check=False))
        return cls(path, tuple(files), runs_commands=_may_run(files))


def _may_run(files: Iterable[tuple[Directive, ...]]) -> bool:
    """Return whether evaluating files may run a command: of Match exec, or the ssh program."""
    for directive in (directive for file in files for directive in file):
        text = directive.text.lower()
        if directive.kind is Kind.UNKNOWN or directive.keyword == "canonicalizehostname":
            return True
        if directive.kind is Kind.MATCH and ("exec" in text or "localnetwork" in text):
            return True
        if _may_run(directive.included):
            return True
    return False


def _read(path: str, is_system: bool, where: str, check: bool, depth: int = 0) -> tuple[Directive, ...]:
    """Return the directives of a file; where: of the Include that names it."""
    if depth > DEPTH:
        raise ConfigError(f"too many files include each other; the last one is {path}", where=where)
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            info = os.fstat(file.fileno())
            lines = file.read().split("\n")
    except OSError as error:
        raise ConfigError(f"the SSH configuration {path} cannot be read: {error.strerror}", where=where) from error
    if check and (info.st_uid not in (0, os.getuid()) or stat.S_IMODE(info.st_mode) & 0o022):
        raise ConfigError(
            f"the SSH configuration {path} belongs to another user, or others can write it",
            hint=f"ssh refuses it, too: chmod go-w {path}",
        )
    directives = []
    for number, line in enumerate(lines, 1):
        directive = _directive(line, f"{path}:{number}", is_system, depth)
        if directive is not None:
            directives.append(directive)
    return tuple(directives)


def _directive(line: str, where: str, is_system: bool, depth: int) -> Directive | None:
    """Return the directive of a line; None for a blank one or a comment."""
    word, rest = take(line.rstrip(BLANK + "\f"))
    if word == "":
        word, rest = take(rest or "")
    if not word or word.startswith("#"):
        return None
    keyword = word.lower()
    keyword = keywords.ALIASES.get(keyword, keyword)
    text = (rest or "").lstrip(BLANK)
    if not text:
        raise ConfigError(f"{word} has no argument", where=where)
    try:
        words = tuple(split(text))
    except ValueError as error:
        raise ConfigError(f"{word}: {error}", where=where) from None
    _check(keyword, word, words, where)
    kind = _KINDS.get(keyword) or (Kind.SETTING if keyword in keywords.KNOWN else Kind.UNKNOWN)
    if kind is Kind.SETTING and (keyword not in keywords.USED or (not words and keyword in keywords.MAY_BE_EMPTY)):
        return None
    is_literal = kind is Kind.HOST and not any(character in text for character in "*?!")
    included = _included(words, where, is_system, depth) if kind is Kind.INCLUDE else ()
    return Directive(where, kind, keyword, text, words, is_system, is_literal, included)


_KINDS = {"host": Kind.HOST, "match": Kind.MATCH, "include": Kind.INCLUDE}


def _check(keyword: str, word: str, words: tuple[str, ...], where: str) -> None:
    """Refuse arguments that ssh refuses, wherever they would be used. Raises ConfigError."""
    if keyword in keywords.RAW | keywords.OBSOLETE or keyword == "match" or keyword not in keywords.KNOWN:
        return
    if (not words and keyword not in keywords.MAY_BE_EMPTY) or "" in words:
        raise ConfigError(f"{word} has an empty argument", where=where)
    if keyword in keywords.ONE_WORD and len(words) > 1:
        raise ConfigError(f"{word} takes one argument, not {len(words)}: {' '.join(words)}", where=where)
    if keyword == "port":
        check_port(words[0], where)
    if keyword == "identitiesonly" and words[0].lower() not in ("yes", "no", "true", "false"):
        raise ConfigError(f"{word} is yes or no, not {words[0]}", where=where)


def _included(words: tuple[str, ...], where: str, is_system: bool, depth: int) -> tuple[tuple[Directive, ...], ...]:
    files = []
    for pattern in words:
        if pattern.startswith("~"):
            if is_system:
                raise ConfigError(f"a system's file cannot include {pattern}", where=where)
            path = str(Path(pattern).expanduser())
        elif os.path.isabs(pattern):
            path = pattern
        else:
            path = os.path.join("/etc/ssh" if is_system else str(Path("~/.ssh").expanduser()), pattern)
        for found in sorted(path for path in glob.glob(path) if not os.path.isdir(path)):
            files.append(_read(found, is_system, where, True, depth + 1))
    return tuple(files)
