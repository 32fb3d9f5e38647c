"""What is needed to connect to one host: the answer of a configuration, with all tokens expanded."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeAlias

from sloth.frozen import frozen
from sloth.transport.ssh_config.errors import ConfigError
from sloth.transport.ssh_config.tokens import (
    Values,
    check_name,
    expand,
    expand_hostname,
    local_user,
    port_number,
    tokens,
)

DEFAULT_KEYS = ("id_rsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk", "id_dsa")
USER_KNOWN_HOSTS = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")
GLOBAL_KNOWN_HOSTS = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
ALGORITHMS = ("ciphers", "hostkeyalgorithms", "kexalgorithms", "macs", "pubkeyacceptedalgorithms")
AUTHENTICATION = (
    "kbdinteractiveauthentication", "passwordauthentication", "preferredauthentications", "pubkeyauthentication"
)  # fmt: skip
_Expand: TypeAlias = Callable[[str, str], str]  # a path, expanded; its keyword


@frozen
class Target:
    """Where to connect to, and how.

    Attributes:
        name: as it was given, before HostName.
        identity_files: those that were named, or the usual ones if has_identities is False.
        identity_agent: the socket's path; "" for no agent.
        proxy_jump: the jump hosts, in order, as they were written.
        proxy_command: the command to run by a shell, or None.
        known_hosts: files to look up host keys in; new_keys: the one to which new ones are added, or "".
        known_name: the name to look up, or HostKeyAlias, which is_alias; then the port does not count.
        algorithms: lists in the syntax of ssh_config, by keyword.
        authentication: by keyword, what may be used. environment, send_env: variables for the sessions.
    """

    name: str
    host: str
    port: int
    user: str
    identity_files: tuple[str, ...]
    has_identities: bool
    identities_only: bool
    certificate_files: tuple[str, ...]
    identity_agent: str
    forward_agent: bool | str
    proxy_jump: tuple[str, ...]
    proxy_command: str | None
    known_hosts: tuple[str, ...]
    new_keys: str
    known_name: str
    is_alias: bool
    address_family: str
    bind_address: str | None
    algorithms: dict[str, str]
    authentication: dict[str, str]
    environment: tuple[str, ...]
    send_env: tuple[str, ...]
    pkcs11_provider: str | None


def make_target(values: Values, original: str) -> Target:
    """Return the target that `values` describe. Raises ConfigError."""
    _refuse_unsupported(values)
    host = expand_hostname(values, original)
    port = port_number(values)
    user = values.one("user") or local_user()
    known = tokens(values, original, host)

    def path(text: str, keyword: str) -> str:
        return expand(os.path.expanduser(text), known, values.where(keyword), variables=True)

    identities = [text for text in values.words.get("identityfile", ()) if text.lower() != "none"]
    alias = values.one("hostkeyalias")
    users, systems = _known_hosts(values, path)
    return Target(
        name=original,
        host=host,
        port=port,
        user=user,
        identity_files=tuple(path(text, "identityfile") for text in identities)
        if "identityfile" in values.words
        else tuple(os.path.expanduser(f"~/.ssh/{name}") for name in DEFAULT_KEYS),
        has_identities="identityfile" in values.words,
        identities_only=_flag(values, "identitiesonly"),
        certificate_files=tuple(path(text, "certificatefile") for text in values.words.get("certificatefile", ())),
        identity_agent=_agent(values, path),
        forward_agent=_forward(values, path),
        proxy_jump=_jumps(values),
        proxy_command=_proxy_command(values, known),
        known_hosts=(*users, *systems),
        new_keys=users[0] if users else "",
        known_name=(alias or host).lower(),
        is_alias=alias is not None,
        address_family=(values.one("addressfamily") or "any").lower(),
        bind_address=values.one("bindaddress"),
        algorithms={name: values.words[name][0] for name in ALGORITHMS if name in values.words},
        authentication={name: values.words[name][0].lower() for name in AUTHENTICATION if name in values.words},
        environment=tuple(values.words.get("setenv", ())),
        send_env=tuple(values.words.get("sendenv", ())),
        pkcs11_provider=_unless_none(values.one("pkcs11provider")),
    )


def _refuse_unsupported(values: Values) -> None:
    """Raise ConfigError for what would change which host is reached or trusted, and we cannot do."""
    refusal = values.words.get("refuseconnection")
    if refusal is not None:
        raise ConfigError(f"the connection is refused: {' '.join(refusal)}", where=values.where("refuseconnection"))
    for keyword in ("bindinterface", "proxyusefdpass", "revokedhostkeys"):
        value = values.one(keyword)
        if value is not None and value.lower() not in ("no", "none"):
            raise ConfigError(
                f"{keyword} {value} is not supported",
                hint="give the inventory another file: ssh_config",
                where=values.where(keyword),
            )


def _flag(values: Values, keyword: str) -> bool:
    return (values.one(keyword) or "no").lower() in ("yes", "true")


def _unless_none(text: str | None) -> str | None:
    return None if text is None or text.lower() == "none" else text


def _agent(values: Values, path: _Expand) -> str:
    """Return the path of the agent's socket; "" for no agent."""
    setting = values.one("identityagent")
    if setting is None or setting == "SSH_AUTH_SOCK":
        return os.environ.get("SSH_AUTH_SOCK", "")
    if setting.lower() == "none":
        return ""
    if setting.startswith("$") and not setting.startswith("${"):
        return os.environ.get(setting[1:], "")
    return path(setting, "identityagent")


def _forward(values: Values, path: _Expand) -> bool | str:
    setting = values.one("forwardagent") or "no"
    if setting.lower() in ("yes", "true", "no", "false"):
        return setting.lower() in ("yes", "true")
    if setting.startswith("$") and not setting.startswith("${"):
        return os.environ.get(setting[1:], "") or False
    return path(setting, "forwardagent")


def _jumps(values: Values) -> tuple[str, ...]:
    setting = _unless_none(values.one("proxyjump"))
    if setting is None:
        return ()
    hops = tuple(hop.strip() for hop in setting.split(","))
    if "" in hops:
        raise ConfigError(f"ProxyJump {setting} has an empty jump host", where=values.where("proxyjump"))
    return hops


def _proxy_command(values: Values, known: dict[str, str]) -> str | None:
    setting = _unless_none(values.one("proxycommand"))
    if setting is None:
        return None
    where = values.where("proxycommand")
    for token in ("h", "n", "r"):
        if f"%{token}" in setting:
            check_name(known[token], where)
    return expand(setting, known, where)


def _known_hosts(values: Values, path: _Expand) -> tuple[list[str], list[str]]:
    """Return the known_hosts files of the user, and those of the system."""
    users = values.words.get("userknownhostsfile", USER_KNOWN_HOSTS)
    systems = values.words.get("globalknownhostsfile", GLOBAL_KNOWN_HOSTS)
    return (
        [path(name, "userknownhostsfile") for name in users if name.lower() != "none"],
        [os.path.expanduser(name) for name in systems if name.lower() != "none"],
    )
