"""The URL of an engine whose workers work on hosts: parsed and checked at once, without connecting.

    dask://127.0.0.1:8786        dasks://scheduler:8786?ca=ca.pem&cert=me.pem&key=me.key

dasks:// is TLS, with certificates on both sides; name= is that of the scheduler's certificate, if it is not the host.
Without TLS a scheduler must be on this machine.
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from urllib.parse import unquote

from sloth.errors import UsageError
from sloth.frozen import frozen
from sloth.suggest import did_you_mean_or_list

SCHEMES = ("dask", "dasks")
PORT = 8786
TLS_FILES = ("ca", "cert", "key")
NAME = "name"
EXAMPLE = "dasks://scheduler.example.com:8786?ca=ca.pem&cert=me.pem&key=me.key"
_HOST = re.compile(r"\[([0-9A-Fa-f:.]+)\]|[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?")


@frozen
class EngineAddress:
    """A scheduler of Dask.

    Attributes:
        tls: the files of TLS that the URL names, or none of them; None: plain TCP.
        name: which the scheduler's certificate must have; "": that of the host.
    """

    host: str
    port: int
    tls: dict[str, Path] | None
    name: str = ""

    @property
    def url(self) -> str:
        """The address as Dask has it."""
        return f"{'tcp' if self.tls is None else 'tls'}://{self}"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse(url: str) -> EngineAddress:
    """Return the address that a URL names. Raises UsageError."""
    scheme, separator, rest = url.strip().partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in SCHEMES:
        word = scheme if separator and re.fullmatch(r"[a-z0-9+.-]+", scheme) else ""
        what = f'unknown engine "{word}"' if word else f'the engine "{url}" is no URL'
        hint = "write dask://, or dasks:// for TLS" if word in ("tcp", "tls") else ""
        raise UsageError(what, hint=f"{hint or did_you_mean_or_list(word, SCHEMES, 'engines')}; for example {EXAMPLE}")
    authority, _, query = rest.partition("?")
    authority = authority.removesuffix("/")
    if "@" in authority:
        raise _wrong("credentials do not belong into a URL", "Dask knows its users by their certificates")
    if "/" in authority:
        raise _wrong("the URL has a path", f"for example {EXAMPLE}")
    host, port = _host_and_port(authority)
    options = _options(scheme, query)
    name = options.pop(NAME, "")
    files = _files(options)
    if scheme == "dask":
        if not is_loopback(host):
            raise _wrong(
                f"without TLS a scheduler must be on this machine, and {host} is not",
                f"start it with certificates, and use {EXAMPLE}; docs/scale.md shows how",
            )
        return EngineAddress(host, port, None)
    return EngineAddress(host, port, files, name)


def is_loopback(host: str) -> bool:
    """Return whether a name or an address is that of this machine for sure."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _wrong(what: str, hint: str) -> UsageError:
    return UsageError(what, hint=hint)


def _host_and_port(authority: str) -> tuple[str, int]:
    found = re.fullmatch(rf"({_HOST.pattern})(?::(.*))?", authority)
    if found is None:
        hint = f"write an IPv6 address in brackets: [{authority}]" if authority.count(":") > 1 else f"such as {EXAMPLE}"
        raise _wrong(f'"{authority}" is no host and port' if authority else "a host is missing", hint)
    host, port = found[2] or found[1], found[4]
    if port is None:
        return host.lower(), PORT
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        raise _wrong(f'"{port}" is no port: a number from 1 to 65535', f"the usual one is {PORT}")
    return host.lower(), int(port)


def _options(scheme: str, query: str) -> dict[str, str]:
    """Return the options of a query. Raises UsageError."""
    found: dict[str, str] = {}
    for pair in filter(None, query.split("&")):
        name, _, value = pair.partition("=")
        if name not in (*TLS_FILES, NAME):
            raise _wrong(f'unknown option "{name}"', did_you_mean_or_list(name, (*TLS_FILES, NAME), "options"))
        if scheme == "dask":
            raise _wrong(f'the option "{name}" is of TLS', "use dasks://")
        if name in found or not value:
            raise _wrong(f'the option "{name}" is {"there twice" if value else "empty"}', f"for example {EXAMPLE}")
        found[name] = unquote(value)
    return found


def _files(options: dict[str, str]) -> dict[str, Path]:
    """Return the files of TLS. Raises UsageError, also for files that cannot be read."""
    for name in TLS_FILES:
        if options and name not in options:
            raise _wrong(f'the option "{name}" is missing', "a cluster knows its members by ca, cert and key")
    files = {name: Path(value).expanduser() for name, value in options.items()}
    for name, path in files.items():
        try:
            data = path.read_bytes()
        except OSError as error:
            raise _wrong(f"{name}={path} cannot be read: {error.strerror}", "give the path of a PEM file") from None
        if name == "key" and b"ENCRYPTED" in data:  # OpenSSL would ask for the passphrase, of each process
            raise _wrong(f"key={path} is encrypted", "Dask needs a key without a passphrase")
    return files
