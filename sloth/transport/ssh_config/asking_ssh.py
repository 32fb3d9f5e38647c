"""Asks the ssh program of this machine (`ssh -G`) what only it can evaluate."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess

from sloth.transport.ssh_config.errors import ConfigError, Undecided
from sloth.transport.ssh_config.files import Configuration
from sloth.transport.ssh_config.keywords import APPENDED, LISTS, RAW, SINGLE
from sloth.transport.ssh_config.tokens import Values

TIMEOUT = 60.0  # seconds for ssh to evaluate its configuration, in which it may run commands and query the DNS


def ask_ssh(configuration: Configuration, original: str, given: Values, reason: Undecided) -> Values:
    """Return the values that ssh itself uses for a host. Raises ConfigError."""
    ssh = shutil.which("ssh")
    if ssh is None:
        raise ConfigError(
            f"{reason.what} can only be evaluated by the ssh program, which is not installed here",
            hint="install it (openssh-client), or give the inventory another file: ssh_config",
            where=reason.where,
        )
    command = [ssh, "-G"]
    if configuration.path is not None and (configuration.is_named or configuration.path != f"{_home()}/.ssh/config"):
        command += ["-F", configuration.path]
    for option, keyword in (("-l", "user"), ("-p", "port"), ("-J", "proxyjump")):
        value = given.one(keyword)
        if value is not None:
            command += [option, value]
    try:
        done = subprocess.run(
            [*command, "--", original], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=TIMEOUT,
            check=False, env=os.environ,  # and not C's, in which there may be variables for sites
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"ssh -G {original}: {error}", where=reason.where) from None
    if done.returncode:
        raise ConfigError(f"ssh refuses the configuration: {done.stderr.strip()[-500:]}", where=reason.where)
    return _read(done.stdout, given, reason)


def _read(printed: str, given: Values, reason: Undecided) -> Values:
    values = Values(dict(given.words), dict(given.origins))
    for line in printed.splitlines():
        keyword, _, value = line.partition(" ")
        if not value or value == "[none]":
            continue
        if keyword in APPENDED:
            values.words.setdefault(keyword, []).append(value)
        elif keyword in LISTS:
            values.words.setdefault(keyword, []).extend(value.split(" "))
        elif keyword in RAW | SINGLE:
            values.words[keyword] = [value]
        values.origins.setdefault(keyword, reason.where)
    values.words.pop("canonicalizehostname", None)
    # What ssh prints because nothing was set; it takes the home from the account database, and we from $HOME.
    if all(path.startswith("~/.ssh/id_") for path in values.words.get("identityfile", ())):
        values.words.pop("identityfile", None)
    if values.words.get("userknownhostsfile") == [f"{_home()}/.ssh/known_hosts", f"{_home()}/.ssh/known_hosts2"]:
        del values.words["userknownhostsfile"]
    return values


def _home() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return ""
