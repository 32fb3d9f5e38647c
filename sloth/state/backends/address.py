"""The addresses of servers, as backends have them, and how they are written."""

from __future__ import annotations

import re

from sloth.frozen import frozen

HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?")
IPV6 = re.compile(r"\[([0-9A-Fa-f:.]+)\]")
SCHEMES = {"http": 80, "https": 443}  # with their ports


@frozen
class Address:
    """The address of one server."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return "host:port", with an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class WrongAddress(ValueError):
    """A text is no address; it says why."""

    def __init__(self, why: str, hint: str = "") -> None:
        super().__init__(why)
        self.hint = hint


def parse_address(text: str, usual: int) -> Address:
    """Return the address that "host:port" means; usual: the port without one. Raises WrongAddress."""
    bracketed = re.fullmatch(IPV6.pattern + r"(?::(.*))?", text)
    host, port = (bracketed[1], bracketed[2]) if bracketed else (text, None)
    if not bracketed and text.count(":") > 1:
        raise WrongAddress(f'"{text}" is no host and port', f"write an IPv6 address in brackets: [{text}]")
    if not bracketed and ":" in text:
        host, _, port = text.partition(":")
    if not host:
        raise WrongAddress("a host is missing")
    if bracketed:
        _check_ipv6(host)
    elif not HOST.fullmatch(host):
        raise WrongAddress(f'"{host}" is no name of a host', _in_ascii(host))
    if port is None:
        return Address(host.lower(), usual)
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        raise WrongAddress(f'"{port}" is no port: a number from 1 to 65535', f"the usual one is {usual}")
    return Address(host.lower(), int(port))


def parse_endpoint(text: str) -> tuple[str, Address]:
    """Return the scheme and the address that "https://host:port" means. Raises WrongAddress."""
    scheme, _, rest = text.partition("://")
    if scheme not in SCHEMES or not rest.rstrip("/") or re.search(r"[/?#@]", rest.removesuffix("/")):
        raise WrongAddress("the endpoint must be http://host:port or https://host:port")
    return scheme, parse_address(rest.removesuffix("/"), SCHEMES[scheme])


def _check_ipv6(text: str) -> None:
    import ipaddress

    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        raise WrongAddress(f'"[{text}]" is no IPv6 address') from None


def _in_ascii(host: str) -> str:
    """Return the hint how DNS has a name with other characters than those of ASCII; "" for what can be no name."""
    try:
        name = host.encode("idna").decode("ascii")
    except UnicodeError:
        return ""
    return f"write it as {name}" if name != host and HOST.fullmatch(name) else ""
