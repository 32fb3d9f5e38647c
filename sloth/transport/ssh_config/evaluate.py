"""Evaluates a configuration for one host: which blocks apply, and so which value each keyword has."""

from __future__ import annotations

import os
import subprocess
from functools import cache

from sloth.transport.ssh_config import keywords
from sloth.transport.ssh_config.errors import ConfigError, Undecided
from sloth.transport.ssh_config.files import Configuration, Directive, Kind
from sloth.transport.ssh_config.tokens import (
    Values,
    check_name,
    expand,
    expand_hostname,
    local_user,
    tokens,
)
from sloth.transport.ssh_config.words import matches, matches_hosts, matches_list, take

EXEC = 60.0  # seconds for the command of a `Match exec`


class Evaluation:
    """One host and one configuration. `given` is what the command line would say: user and port."""

    def __init__(self, configuration: Configuration, original: str, given: Values) -> None:
        self._configuration = configuration
        self._original = original
        self._host = original
        self._is_final = False
        self._wants_final = False
        self._active = True
        self.values = Values(dict(given.words), dict(given.origins))

    def run(self) -> Values:
        """Return the values. Raises ConfigError, Undecided."""
        self._read()
        if self.values.one("canonicalizehostname") not in (None, "no", "none", "false"):
            raise Undecided("CanonicalizeHostname", self.values.where("canonicalizehostname"))
        user, where = self.values.one("user"), self.values.where("user")
        if user is not None and where and ("%" in user or "${" in user):
            raise Undecided(f"User {user}", where)  # OpenSSH expands it since version 10
        self._host = expand_hostname(self.values, self._original)
        if self._wants_final:
            self.values.words["hostname"] = [self._host.replace("%", "%%")]  # it is expanded
            self._is_final = True
            self._read()
        return self.values

    def _read(self) -> None:
        for file in self._configuration.files:
            self._active = True
            self._apply(file)

    def _apply(self, directives: tuple[Directive, ...], never: bool = False) -> None:
        """Apply the directives of a file; never: it is included by a block that does not apply."""
        for directive in directives:
            kind = directive.kind
            if kind is Kind.SETTING:
                if self._active:
                    self._set(directive)
            elif kind is Kind.HOST:
                self._active = not never and self._matches_host(directive)
            elif kind is Kind.MATCH:
                self._active = self._matches(directive) and not never
            elif kind is Kind.INCLUDE:
                active = self._active
                for file in directive.included:
                    self._apply(file, never=never or not active)
                    self._active = active
            else:
                self._unknown(directive)

    def _unknown(self, directive: Directive) -> None:
        patterns = ",".join(self.values.words.get("ignoreunknown", ()))
        if not patterns or not matches_list(directive.keyword, patterns, lower=True):
            raise Undecided(f"the keyword {directive.keyword}", directive.where)

    def _set(self, directive: Directive) -> None:
        """Take the value of a keyword whose block applies, if it has none yet."""
        keyword, words = directive.keyword, list(directive.words)
        values = self.values.words
        if keyword in keywords.APPENDED:
            if keyword == "sendenv" and directive.is_system:
                return  # what commands print must not depend on the controller's locale
            known = values.setdefault(keyword, [])
            known += [word for word in words if word not in known]
        elif keyword in values:
            return
        elif keyword in keywords.RAW:
            # Whichever of the two comes first counts.
            if keyword == "proxycommand" and (self.values.one("proxyjump") or "none").lower() != "none":
                return
            values[keyword] = [directive.text.lstrip(" \t\r\n=")]
        elif keyword == "proxyjump" and "proxycommand" in values:
            return
        else:
            values[keyword] = words
        self.values.origins.setdefault(keyword, directive.where)

    def _matches_host(self, directive: Directive) -> bool:
        if directive.is_literal:
            return self._host in directive.words
        found = False
        for pattern in directive.words:
            is_negated = pattern.startswith("!")
            if matches(self._host, pattern[is_negated:]):
                if is_negated:
                    return False
                found = True
        return found

    # Match

    def _matches(self, directive: Directive) -> bool:
        """Return whether the conditions of a Match line hold."""
        rest: str | None = directive.text
        count = 0
        result = True
        while rest:
            word, rest = take(rest)
            if not word or word.startswith("#"):
                break
            is_negated = word.startswith("!")
            name = word[is_negated:].lower()
            if name == "all":
                following = take(rest)[0] if rest else None
                if count or (following and not following.startswith("#")):
                    raise ConfigError("Match all cannot be combined with other conditions", where=directive.where)
                return not is_negated
            count += 1
            if name in ("canonical", "final"):
                self._wants_final = self._wants_final or name == "final"
                holds = self._is_final
            else:
                argument, rest = take(rest) if rest else (None, None)
                if not argument or argument.startswith("#"):
                    raise ConfigError(f"Match {name} has no argument", where=directive.where)
                holds = self._holds(name, argument, directive, result)
            result = result and holds != is_negated
        if not count:
            raise ConfigError("Match has no conditions", where=directive.where)
        return result

    def _holds(self, name: str, argument: str, directive: Directive, result: bool) -> bool:
        match name:
            case "host":
                return matches_hosts(self._hostname(), argument)
            case "originalhost":
                return matches_hosts(self._original, argument)
            case "user":
                return matches_list(self.values.one("user") or local_user(), argument)
            case "localuser":
                return matches_list(local_user(), argument)
            case "exec":
                # ssh does not run it either when an earlier condition does not hold.
                return result and _succeeds(expand(argument, self._tokens(), directive.where), directive.where)
        raise Undecided(f"Match {name}", directive.where)

    def _hostname(self) -> str:
        return self._host if self._is_final else expand_hostname(self.values, self._original, lower=False)

    def _tokens(self) -> dict[str, str]:
        known = tokens(self.values, self._original, self._hostname())
        for token in ("h", "r"):
            check_name(known[token], self.values.where("hostname" if token == "h" else "user"))
        return known


@cache
def _succeeds(command: str, where: str) -> bool:
    """Run the command of a `Match exec`, once for all hosts; return whether it succeeds. Raises ConfigError."""
    shell = os.environ.get("SHELL") or "/bin/sh"
    try:
        done = subprocess.run(
            [shell, "-c", command],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=EXEC, check=False,
            env=os.environ,  # and not C's, in which there may be variables for sites
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise ConfigError(f"the command of Match exec did not end within {EXEC:g} seconds", where=where) from None
    except OSError as error:
        raise ConfigError(f"the command of Match exec cannot be run: {error.strerror}", where=where) from None
    return done.returncode == 0
