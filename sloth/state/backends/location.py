"""Where a backend is: its URL is parsed and checked at once, and opened without connecting.

    sqlite:///path                               etcd://host:2379,host:2379/prefix   etcds://...?ca=&cert=&key=
    s3://bucket/prefix?endpoint=&region=&ca=     consul://host:8500/prefix           consuls://...?ca=&cert=&key=

Credentials are never in a URL, so a URL can be shown, logged and committed.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote_to_bytes

from sloth.errors import UsageError
from sloth.frozen import frozen
from sloth.state.backends.address import Address, WrongAddress, parse_address, parse_endpoint
from sloth.suggest import did_you_mean_or_list

if TYPE_CHECKING:
    from sloth.state.backends.backend import Backend
    from sloth.state.keys import Keys

PREFIX = "sloth-runner"  # where a URL has none, so that our names do not mix with those of others
PORTS = {"etcd": 2379, "etcds": 2379, "consul": 8500, "consuls": 8501}
TLS_FILES = ("ca", "cert", "key")
QUERY = {
    "sqlite": (), "etcd": (), "etcds": TLS_FILES, "consul": (), "consuls": TLS_FILES,
    "s3": ("endpoint", "region", "ca"),
}  # fmt: skip
EXAMPLES = {
    "sqlite": "sqlite:///var/lib/sloth-runner/shared.db",
    "etcd": "etcd://host1:2379,host2:2379/prefix",
    "etcds": "etcds://host1:2379,host2:2379/prefix?ca=ca.pem",
    "consul": "consul://host:8500/prefix",
    "consuls": "consuls://host:8501/prefix?ca=ca.pem",
    "s3": "s3://bucket/prefix?region=eu-west-1",
}
CREDENTIALS = {
    "etcd": "set $ETCDCTL_USER and $ETCDCTL_PASSWORD",
    "consul": "set $CONSUL_HTTP_TOKEN, or $CONSUL_HTTP_TOKEN_FILE",
    "s3": "set $AWS_ACCESS_KEY_ID and $AWS_SECRET_ACCESS_KEY, or use ~/.aws/credentials",
}
BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


@frozen
class Tls:
    """The files of a TLS connection: the CA's certificates, our certificate and its key, where a URL names them."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None


@frozen
class FileLocation:
    """A SQLite file."""

    url: str
    path: Path


@frozen
class ServersLocation:
    """Servers of etcd or Consul. `tls` is None for plain HTTP."""

    url: str
    servers: tuple[Address, ...]
    prefix: str
    tls: Tls | None = None


@frozen
class EtcdLocation(ServersLocation):
    """Servers of one etcd cluster."""


@frozen
class ConsulLocation(ServersLocation):
    """An agent or server of Consul."""


@frozen
class BucketLocation:
    """A bucket of S3. Without an endpoint it is Amazon's; without a region that of the environment counts."""

    url: str
    bucket: str
    prefix: str
    endpoint: str = ""
    region: str = ""
    ca: Path | None = None


Location = FileLocation | EtcdLocation | ConsulLocation | BucketLocation


def parse(url: str) -> Location:
    """Return the location that a URL names. Raises UsageError, whose message has no credentials in it."""
    scheme, separator, rest = url.strip().partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in QUERY:
        word = scheme if separator and re.fullmatch(r"[a-z0-9+.-]+", scheme) else ""
        what = f'unknown backend "{word}"' if word else "the backend is no URL"
        hint = did_you_mean_or_list(word, QUERY, "backends")
        raise UsageError(what, hint=f"{hint}; for example {EXAMPLES['etcd']}")
    authority, slash, tail = _split(rest)
    path, _, query = tail.partition("?")
    _refuse_credentials(scheme, authority + path)  # in the path, too: a password may have a "/" in it
    if "#" in rest:
        raise _wrong(scheme, 'the URL has a "#" in it', 'write it as "%23"')
    options = _options(scheme, query)
    if scheme == "sqlite":
        return _file(authority, slash + path)
    prefix = _prefix(scheme, path)
    if scheme == "s3":
        return _bucket(authority, prefix, options)
    servers = tuple(_address(scheme, one) for one in authority.split(","))
    if len(servers) > 1 and scheme.startswith("consul"):
        raise _wrong(scheme, "the URL names several hosts", "name one: a Consul agent finds the servers by itself")
    tls = _tls(scheme, options) if scheme in ("etcds", "consuls") else None
    shown = f"{scheme}://{','.join(map(str, servers))}/{quote(prefix)}{_query(options)}"
    kind = EtcdLocation if scheme.startswith("etcd") else ConsulLocation
    return kind(shown, servers, prefix, tls)


def open_backend(location: Location, keys: Keys | None = None) -> Backend:
    """Return the backend at a location, which connects when it is first used.

    keys: encrypt its values on this side. Raises UsageError when a package or a file that it needs is missing.
    """
    from sloth.state.backends.pieced import Pieced
    from sloth.state.backends.sealed import Sealed

    return Pieced(Sealed(open_server(location), keys))


def open_server(location: Location) -> Backend:
    """Return the server at a location as it is: with encrypted values, and large ones in pieces. Raises UsageError."""
    if isinstance(location, EtcdLocation):
        from sloth.state.backends.etcd import Etcd

        return Etcd(location)
    if isinstance(location, ConsulLocation):
        from sloth.state.backends.consul import Consul

        return Consul(location)
    if isinstance(location, BucketLocation):
        from sloth.state.backends.s3 import S3

        return S3(location)
    from sloth.state.backends.sqlite import SQLite

    return SQLite(location.path)


def _split(rest: str) -> tuple[str, str, str]:
    """Return authority, "/" or "", and path with query of what follows "://"."""
    end = re.search(r"[/?]", rest)
    if end is None:
        return rest, "", ""
    return rest[: end.start()], "/" if end[0] == "/" else "", rest[end.start() + (end[0] == "/") :]


def _wrong(scheme: str, what: str, hint: str = "") -> UsageError:
    return UsageError(f"the backend {scheme}://...: {what}", hint=hint or f"for example {EXAMPLES[scheme]}")


def _refuse_credentials(scheme: str, authority: str) -> None:
    if "@" in authority:
        how = CREDENTIALS.get(scheme.removesuffix("s") if scheme != "s3" else scheme, "leave them out")
        raise _wrong(scheme, "credentials do not belong into a URL, which is shown and logged", how)


def _options(scheme: str, query: str) -> dict[str, str]:
    """Return the options of a query, checked against those that the scheme has."""
    options: dict[str, str] = {}
    for pair in filter(None, query.split("&")):
        name, _, value = pair.partition("=")
        if name.lower() in ("password", "user", "token", "username", "secret", "access_key_id", "secret_access_key"):
            _refuse_credentials(scheme, "@")
        if name not in QUERY[scheme]:
            hint = did_you_mean_or_list(name, QUERY[scheme], "options")
            secure = f"{scheme}s"
            if not QUERY[scheme] and name in QUERY.get(secure, ()):
                hint = f"use {secure}://, which is TLS"
            raise _wrong(scheme, f'unknown option "{name}"', hint or f"{scheme}:// has no options")
        if name in options:
            raise _wrong(scheme, f'the option "{name}" is there twice', "give it once")
        options[name] = _decode(scheme, value)
        if not options[name]:
            raise _wrong(scheme, f'the option "{name}" is empty', "leave it out, or give it a value")
    return options


def _query(options: dict[str, str]) -> str:
    return "?" + "&".join(f"{name}={quote(value, safe='/:')}" for name, value in options.items()) if options else ""


def _decode(scheme: str, text: str) -> str:
    """Return a percent-encoded text as it is meant."""
    if re.search(r"%(?![0-9A-Fa-f]{2})", text):
        raise _wrong(scheme, 'a "%" without two hexadecimal digits', 'write a "%" as "%25"')
    try:
        decoded = unquote_to_bytes(text).decode("utf-8")
    except UnicodeError:
        raise _wrong(scheme, "the URL is not UTF-8", 'write other characters as "%C3%BC"') from None
    if re.search(r"[\x00-\x1f\x7f]", decoded):
        raise _wrong(scheme, "the URL has a control character in it", "remove it")
    return decoded


def _prefix(scheme: str, path: str) -> str:
    prefix = _decode(scheme, path).strip("/")
    for part in prefix.split("/") if prefix else ():
        if part in ("", ".", ".."):
            raise _wrong(scheme, f'the prefix "{prefix}" has the part "{part}"', 'its parts are names between "/"')
    return prefix or PREFIX


def _file(authority: str, path: str) -> FileLocation:
    decoded = _decode("sqlite", path)
    if authority:
        raise _wrong("sqlite", "the path must be absolute", f"sqlite:///{authority}{decoded} with three slashes")
    if decoded.strip("/") == "" or decoded.endswith("/"):
        raise _wrong("sqlite", "no path of a file")
    return FileLocation(f"sqlite://{quote(decoded)}", Path(decoded))


def _address(scheme: str, text: str) -> Address:
    try:
        return parse_address(text, PORTS[scheme])
    except WrongAddress as error:
        raise _wrong(scheme, str(error), error.hint) from None


def _tls(scheme: str, options: dict[str, str]) -> Tls:
    if ("cert" in options) != ("key" in options):
        missing = "key" if "cert" in options else "cert"
        raise _wrong(scheme, f'the option "{missing}" is missing', "a certificate is used with its key")
    return Tls(**{name: Path(value).expanduser() for name, value in options.items()})


def _bucket(bucket: str, prefix: str, options: dict[str, str]) -> BucketLocation:
    if not bucket:
        raise _wrong("s3", "the bucket is missing")
    if not BUCKET.fullmatch(bucket):
        hint = "3 to 63 lower-case letters, digits, dots and hyphens"
        if ":" in bucket:
            hint = "the server is an option: s3://bucket/prefix?endpoint=http://host:port"
        raise _wrong("s3", f'"{bucket}" is no name of a bucket', hint)
    endpoint = options.get("endpoint", "")
    if endpoint:
        _refuse_credentials("s3", endpoint)
        try:
            parse_endpoint(endpoint)
        except WrongAddress as error:
            raise _wrong("s3", str(error), error.hint) from None
        options["endpoint"] = endpoint = endpoint.rstrip("/")
    shown = f"s3://{bucket}/{quote(prefix)}{_query(options)}"
    ca = Path(options["ca"]).expanduser() if "ca" in options else None
    return BucketLocation(shown, bucket, prefix, endpoint, options.get("region", ""), ca)
