"""The way to a host: itself and the jump hosts before it, each as the configuration describes it."""

from __future__ import annotations

from sloth.errors import HostError
from sloth.transport.ssh_config.asking_ssh import ask_ssh
from sloth.transport.ssh_config.errors import ConfigError, Undecided
from sloth.transport.ssh_config.evaluate import Evaluation
from sloth.transport.ssh_config.files import Configuration
from sloth.transport.ssh_config.target import Target, make_target
from sloth.transport.ssh_config.tokens import Values, check_name, read_port

HOPS = 16  # jump hosts in a row


def find_route(
    configuration: Configuration,
    name: str,
    *,
    user: str | None = None,
    port: int | None = None,
    jump: str | None = None,
    jump_user: str | None = None,
) -> list[Target]:
    """Return the hosts to connect to, one through the other; the last is the one that `name` names.

    user, port, jump: what the command line of ssh would say; they win. jump_user: the account on the hosts of `jump`
    for which nothing names one. Raises ConfigError, HostError.
    """
    given = _given(user, port, jump)
    target = _target(configuration, name, given)
    route = [target]
    hops = target.proxy_jump
    while hops:
        if len(route) > HOPS:
            names = " through ".join(one.name for one in route[:4])
            raise ConfigError(f"the jump hosts lead in a circle: {names} ...")
        hop_user, hop, hop_port = _split(hops[-1], name)
        # The hop before is given, as by `ssh -J`; the first one's own ProxyJump counts.
        before = ",".join(hops[:-1]) or None
        found = _target(configuration, hop, _given(hop_user, hop_port, before), jump_user if jump else None)
        jump = before
        route.insert(0, found)
        hops = found.proxy_jump
    return route


def _given(user: str | None, port: int | None, jump: str | None) -> Values:
    words = {"user": user, "port": str(port) if port is not None else None, "proxyjump": jump}
    return Values({keyword: [value] for keyword, value in words.items() if value is not None})


def _target(configuration: Configuration, name: str, given: Values, default_user: str | None = None) -> Target:
    check_name(name, "")
    try:
        values = Evaluation(configuration, name, given).run()
    except Undecided as reason:
        values = ask_ssh(configuration, name, given, reason)
    if default_user is not None:
        values.words.setdefault("user", [default_user])
    return make_target(values, name)


def _split(text: str, host: str) -> tuple[str | None, str, int | None]:
    """Return user, name and port of a jump host: [user@]name[:port], or ssh://[user@]name[:port]."""
    rest = text.removeprefix("ssh://").rstrip("/") if text.startswith("ssh://") else text
    user, at, rest = rest.rpartition("@")
    if rest.startswith("["):
        name, bracket, after = rest[1:].partition("]")
        colon, port = after[:1], after[1:]
        is_valid = bool(bracket) and colon in ("", ":")
    else:
        name, colon, port = rest.partition(":")
        is_valid = ":" not in port
        if not is_valid:  # an IPv6 address without brackets
            name, colon, port, is_valid = rest, "", "", True
    if not name or not is_valid or (port and not read_port(port)) or (at and not user):
        raise HostError(f"{host}: the jump host {text!r} is not user@host:port")
    return user or None, name, int(port) if port else None
