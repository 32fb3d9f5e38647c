"""The values of keywords, and what the tokens in them stand for."""

from __future__ import annotations

import os
import pwd
import re
import socket
from dataclasses import field
from functools import cache

from sloth.frozen import mutable
from sloth.transport.ssh_config.errors import ConfigError

# A shell would take these for more than a part of a name; ssh refuses them as well.
_UNSAFE = re.compile(r"^-|[\s'`\"$;&<>|(){}\x00-\x1f\x7f]|\\\\\Z")
_NUMBER = re.compile(r"0{0,99}[1-9][0-9]{0,4}\Z", re.ASCII)


@cache
def local_user() -> str:
    """Return the name of the user at the controller, as ssh determines it."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


@mutable
class Values:
    """What a configuration says of a host: by keyword, the words, and where the first came from."""

    words: dict[str, list[str]] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)

    def one(self, keyword: str) -> str | None:
        """Return the value of a keyword that has one word; None if it was not set."""
        words = self.words.get(keyword)
        return words[0] if words else None

    def where(self, keyword: str) -> str:
        """Return the file and line that set a keyword."""
        return self.origins.get(keyword, "")


def check_name(name: str, where: str) -> None:
    """Refuse the name of a host or an account that a shell must not see. Raises ConfigError."""
    if _UNSAFE.search(name):
        raise ConfigError(f"the name {name!r} has characters that it must not have", where=where)


def expand_hostname(values: Values, original: str, lower: bool = True) -> str:
    """Return the name or address to connect to."""
    name = values.one("hostname")
    host = original if name is None else expand(name, {"h": original}, values.where("hostname"))
    return host.lower() if lower and not _is_address(host) else host


def _is_address(host: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except (OSError, ValueError):
            continue
        return True
    return False


def tokens(values: Values, original: str, host: str) -> dict[str, str]:
    """Return what each token stands for."""
    local = socket.gethostname()
    port = port_number(values)
    user = values.one("user") or local_user()
    jump = values.one("proxyjump") or ""
    jump = "" if jump.lower() == "none" else jump
    known = {
        "d": os.path.expanduser("~"), "h": host, "i": str(os.getuid()), "j": jump, "l": local,
        "k": values.one("hostkeyalias") or original, "L": local.partition(".")[0], "n": original, "p": str(port),
        "r": user, "u": local_user(),
    }  # fmt: skip
    return known


def expand(text: str, known: dict[str, str], where: str, variables: bool = False) -> str:
    """Return `text` with its tokens replaced and, if asked, ${VARIABLES} of the environment. Raises ConfigError."""

    def replace(found: re.Match[str]) -> str:
        token, variable = found[1], found[2]
        if variable is not None:
            if not variables:
                return found[0]
            if variable not in os.environ:
                raise ConfigError(f"the environment variable {variable} is not set", where=where)
            return os.environ[variable]
        if token == "%":
            return "%"
        if token == "C" and "l" in known:
            from hashlib import sha1

            return sha1("".join(known[name] for name in "lhprj").encode()).hexdigest()
        if token not in known:
            raise ConfigError(f"%{token} cannot be used in {text!r}", where=where)
        return known[token]

    return re.sub(r"%(.|\Z)|\$\{([^}]*)\}", replace, text, flags=re.DOTALL)


def port_number(values: Values) -> int:
    """Return the port to connect to. Raises ConfigError."""
    return check_port(values.one("port") or "22", values.where("port"))


def check_port(text: str, where: str) -> int:
    """Return the number of a port. Raises ConfigError."""
    number = read_port(text)
    if not number:
        raise ConfigError(f"Port {text} is not the number of a port", where=where)
    return number


def read_port(text: str) -> int:
    """Return the number of a port, 0 if it is none."""
    number = int(text) if _NUMBER.match(text) else 0
    return number if number < 65536 else 0
