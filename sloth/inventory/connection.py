"""What Ansible's connection variables mean here: each sets some of our settings, or is reported as not supported."""

from __future__ import annotations

import functools
import os
import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sloth.inventory.model import BecomeMethod, ConnectionType, HostKeyPolicy
from sloth.inventory.templated import Encrypted, Templated, is_template

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json

# Attributes of Settings. A value that is Ansible's default sets nothing.
Set = Mapping[str, object]
_CONNECTIONS = {
    "ssh": ConnectionType.SSH, "smart": ConnectionType.SSH, "paramiko": ConnectionType.SSH,
    "paramiko_ssh": ConnectionType.SSH, "local": ConnectionType.LOCAL, "docker": ConnectionType.DOCKER,
    "docker_api": ConnectionType.DOCKER, "podman": ConnectionType.PODMAN, "chroot": ConnectionType.CHROOT,
    "nspawn": ConnectionType.NSPAWN,
}  # fmt: skip
_TRUE, _FALSE = ("yes", "true", "on", "1", "y", "t"), ("no", "false", "off", "0", "n", "f", "")
# Of ssh: what has no effect on what a run does, or is done here anyway.
_HARMLESS = (
    "controlmaster", "controlpersist", "controlpath", "compression", "serveraliveinterval", "serveralivecountmax",
    "loglevel", "tcpkeepalive", "preferredauthentications", "batchmode", "identitiesonly", "forwardagent",
    "passwordauthentication", "kbdinteractiveauthentication", "gssapiauthentication", "pubkeyauthentication",
    "requesttty", "connectionattempts", "checkhostip", "addkeystoagent", "forwardx11",
)  # fmt: skip
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\Z")
_FLAGS = "46AaCfgKkMNnqsTtVvXxYy"
NAMES = {  # what a variable of Ansible is called in our files
    "ansible_host": "address", "ansible_ssh_host": "address", "ansible_port": "port", "ansible_ssh_port": "port",
    "ansible_user": "user", "ansible_ssh_user": "user", "ansible_ssh_private_key_file": "identity_file",
    "ansible_private_key_file": "identity_file", "ansible_python_interpreter": "python", "ansible_become": "become",
    "ansible_become_user": "become_user", "ansible_become_method": "become_method", "ansible_timeout":
    "connect_timeout", "ansible_ssh_timeout": "connect_timeout", "ansible_connection": "connection",
    "ansible_ssh_common_args": "proxy_jump", "ansible_host_key_checking": "host_keys", "ansible_sudo": "become",
    "ansible_ssh_extra_args": "proxy_jump", "ansible_sudo_user": "become_user", "sloth_tags": "tags",
    "ansible_ssh_host_key_checking": "host_keys",
}  # fmt: skip
_PASSWORDS = ("ansible_password", "ansible_ssh_pass", "ansible_ssh_password")
_BECOME_PASSWORDS = (
    "ansible_become_pass", "ansible_become_password", "ansible_sudo_pass", "ansible_su_pass",
    "ansible_sudo_password",
)  # fmt: skip
_UNSUPPORTED = (
    "ansible_shell_", "ansible_become_", "ansible_ssh_", "ansible_sftp_", "ansible_scp_", "ansible_winrm_",
    "ansible_psrp_", "ansible_httpapi_", "ansible_network_os", "ansible_paramiko_", "ansible_docker_",
    "ansible_podman_", "ansible_chroot_", "ansible_su", "ansible_persistent_", "ansible_kubectl_", "ansible_jail_",
    "ansible_lxc_", "ansible_lxd_", "ansible_aws_ssm_",
)  # fmt: skip
# Python is found, and calls are pipelined, without them.
_NEEDLESS = ("ansible_ssh_pipelining", "ansible_pipelining", "ansible_ssh_transfer_method", "ansible_ssh_retries",
             "ansible_ssh_executable", "ansible_shell_type", "ansible_shell_executable")  # fmt: skip


def examine(name: str, value: Json) -> str:
    """Return why a variable of the name `ansible_*` is not obeyed, "" when it is, or when it is no setting.

    Raises ValueError for an invalid value.
    """
    if isinstance(value, (Templated, Encrypted)):
        value = "{{ }}"  # it is known, and refused, when it is used
    if isinstance(value, str) and name in NAMES:
        # Any text can be an address or an account: these are checked for every one of many hosts.
        return "" if NAMES[name] in ("address", "user") or is_template(value) else _examine(name, value)
    if name in NAMES:
        return interpret(name, value)[1]
    if name in _NEEDLESS:
        return ""
    if name in _PASSWORDS:
        return f"{name} is not used: use password_env, or -k"
    if name in _BECOME_PASSWORDS:
        return f"{name} is not used: use become_password_command, or -K"
    return f"{name} is not supported, and has no effect" if name.startswith(_UNSUPPORTED) else ""


@functools.lru_cache(maxsize=1024)
def _examine(name: str, value: str) -> str:
    return interpret(name, value)[1]


def interpret(name: str, value: Json) -> tuple[Set, str]:
    """Return the attributes that a variable sets, and why some of it is not obeyed ("": all is).

    Raises ValueError for an invalid value.
    """
    if value is None:
        return {}, ""
    return _READERS[NAMES[name]](name, value)


def _text(attribute: str) -> Callable[[str, Json], tuple[Set, str]]:
    def read(name: str, value: Json) -> tuple[Set, str]:
        if isinstance(value, (dict, list)):
            raise ValueError(f"{name} must be a text, not {value!r}")
        return ({attribute: str(value)} if str(value) else {}), ""

    return read


def _port(name: str, value: Json) -> tuple[Set, str]:
    text = str(value).strip()
    if not text:
        return {}, ""
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise ValueError(f"{name} must be a port number, not {value!r}")
    return {"port": int(text)}, ""


def _key(name: str, value: Json) -> tuple[Set, str]:
    if not isinstance(value, str):
        raise ValueError(f"{name} must be a file name, not {value!r}")
    return ({"identity_files": (path(value),)} if value else {}), ""


def path(value: str) -> str:
    """Return a path as Ansible reads it: relative to the current directory."""
    return os.path.abspath(Path(value).expanduser()) if not value.startswith("~") else os.path.expanduser(value)


def _python(name: str, value: Json) -> tuple[Set, str]:
    text = str(value).strip()
    if not text or text.startswith("auto") or text.startswith("/usr/bin/env "):
        return {}, ""  # it is looked for anyway
    return {"python": text}, ""


def _bool(name: str, value: Json) -> bool:
    word = str(value).strip().lower()
    if word not in _TRUE + _FALSE:
        raise ValueError(f"{name} must be true or false, not {value!r}")
    return word in _TRUE


def _become(name: str, value: Json) -> tuple[Set, str]:
    return {"become": _bool(name, value)}, ""


def _become_user(name: str, value: Json) -> tuple[Set, str]:
    # With Ansible an account alone does not mean that it is used.
    return ({"become_user": str(value), "become_unless_set": False} if value else {}), ""


def _method(name: str, value: Json) -> tuple[Set, str]:
    word = str(value).rpartition(".")[2]
    if word in set(BecomeMethod):
        return {"become_method": BecomeMethod(word)}, ""
    return {}, f"{name} {value} is not supported: sudo is used"


def _seconds(name: str, value: Json) -> tuple[Set, str]:
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a number of seconds, not {value!r}") from None
    if not seconds > 0:
        raise ValueError(f"{name} must be a number of seconds above 0, not {value!r}")
    return {"connect_timeout": seconds}, ""


def _connection(name: str, value: Json) -> tuple[Set, str]:
    word = str(value).rpartition(".")[2]
    if word in _CONNECTIONS:
        return {"connection": _CONNECTIONS[word]}, ""
    return {}, f"{name} {value} is not supported: ssh is used"


def _host_keys(name: str, value: Json) -> tuple[Set, str]:
    return {"host_keys": HostKeyPolicy.STRICT if _bool(name, value) else HostKeyPolicy.ACCEPT_NEW}, ""


def _tags(name: str, value: Json) -> tuple[Set, str]:
    values = [word.strip() for word in value.split(",")] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(item, str) and _TAG.match(item) for item in values):
        raise ValueError(f"{name} must be a list of words, or words with commas between, not {value!r}")
    return {"tags": tuple(values)}, ""


def _ssh_args(name: str, value: Json) -> tuple[Set, str]:
    """Return what the options of ssh set: -J, -i, -l, -p, -F and -o, as far as there is a setting for it."""
    if not isinstance(value, str):
        raise ValueError(f"{name} must be a text, not {value!r}")
    try:
        words = shlex.split(value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    found: dict[str, object] = {}
    ignored: list[str] = []
    while words:
        word = words.pop(0)
        if not word.startswith("-") or word == "-":
            ignored.append(word)
            continue
        while word.startswith("-") and len(word) > 2 and word[1] in _FLAGS:
            word = "-" + word[2:]
        if word[1] in _FLAGS:
            continue
        rest = word[2:] or (words.pop(0) if words else "")
        key, equals, setting = rest.partition("=")
        if not equals:
            key, _, setting = rest.partition(" ")
        option, text = (key.strip().lower(), setting.strip()) if word[1] == "o" else (word[1], rest)
        if option not in _HARMLESS and not _ssh_option(option, text, found):
            ignored.append(f"-o {rest}" if word[1] == "o" else f"-{word[1]} {rest}")
    return found, f"{name}: {' '.join(ignored)} is not supported, and has no effect" if ignored else ""


def _ssh_option(option: str, value: str, found: dict[str, object]) -> bool:
    """Add what one option of ssh sets; return False when there is no setting for it."""
    match option:
        case "proxyjump" | "J":
            found["proxy_jump"] = value
        case "proxycommand":
            jump = _jump(value)
            if jump:
                found["proxy_jump"] = jump
            return bool(jump)
        case "stricthostkeychecking":
            is_open = value.lower() in ("no", "off", "accept-new")
            found["host_keys"] = HostKeyPolicy.ACCEPT_NEW if is_open else HostKeyPolicy.STRICT
        case "userknownhostsfile" if value == "/dev/null":
            pass  # of a host whose key is not checked; ours remembers it, and a changed key is refused
        case "userknownhostsfile":
            found["known_hosts"] = path(value)
        case "identityfile" | "i":
            found["identity_files"] = (path(value),)
        case "user" | "l":
            found["user"] = value
        case "port" | "p" if value.isdecimal():
            found["port"] = int(value)
        case "connecttimeout" if value.isdecimal() and int(value):
            found["connect_timeout"] = float(value)
        case "F":
            found["ssh_config"] = False if value in ("none", "/dev/null") else path(value)
        case _:
            return False
    return True


def _jump(command: str) -> str:
    """Return the jump host of a ProxyCommand that is `ssh -W %h:%p HOST` with options; "" for any other."""
    words = command.split()
    if not words or os.path.basename(words[0]) != "ssh" or not any("%h" in word for word in words):
        return ""
    user = port = host = ""
    is_through = False
    words = words[1:]
    while words:
        word = words.pop(0).strip("\"'")
        if word.startswith("-W"):
            target = word[2:] or (words.pop(0) if words else "")
            is_through = target.strip("\"'") in ("%h:%p", "[%h]:%p")
        elif word in ("-l", "-p") and words:
            value = words.pop(0)
            user, port = (value, port) if word == "-l" else (user, value)
        elif word in ("-o", "-i", "-F") and words:
            value = words.pop(0)
            if word != "-o" or value.partition("=")[0].lower() not in (*_HARMLESS, "stricthostkeychecking",
                                                                       "userknownhostsfile"):  # fmt: skip
                return ""  # a key for the jump host alone, or a configuration of its own
        elif word.startswith("-o") or (len(word) > 1 and word[0] == "-" and set(word[1:]) <= set(_FLAGS)):
            continue
        elif not word.startswith("-") and not host:
            host = word
        else:
            return ""
    if not host or not is_through:
        return ""
    return (f"{user}@" if user and "@" not in host else "") + host + (f":{port}" if port else "")


_READERS: Mapping[str, Callable[[str, Json], tuple[Set, str]]] = {
    "address": _text("address"),
    "port": _port,
    "user": _text("user"),
    "identity_file": _key,
    "python": _python,
    "become": _become,
    "become_user": _become_user,
    "become_method": _method,
    "connect_timeout": _seconds,
    "connection": _connection,
    "proxy_jump": _ssh_args,
    "host_keys": _host_keys,
    "tags": _tags,
}
