"""The client of a bucket: what we use of the package obstore, and how it is opened."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Protocol, TypedDict, TypeVar, cast
from urllib.parse import urlsplit

from sloth.errors import UsageError
from sloth.state.backends import http
from sloth.state.backends.address import parse_endpoint
from sloth.state.backends.aws import Credentials, credentials
from sloth.state.backends.backend import BackendUnavailable, Unsure
from sloth.state.backends.http import Http
from sloth.state.backends.naming import encode
from sloth.state.backends.s3_errors import ChecksumMissing, Refused, meaning
from sloth.state.backends.tls import trusting

if TYPE_CHECKING:
    from sloth.state.backends.location import BucketLocation

T = TypeVar("T")
LIMIT = 32 * 1024 * 1024  # bytes of a value; all of it is in memory


class Meta(TypedDict):
    """What obstore reports of an object."""

    path: str
    e_tag: str
    size: int
    last_modified: datetime


class Found(Protocol):
    """An object that obstore has found."""

    meta: Meta

    async def bytes_async(self) -> bytes: ...


class Store(Protocol):
    """What we use of obstore's S3Store; the package need not be there."""

    async def get_async(self, path: str) -> Found: ...

    async def put_async(self, path: str, file: bytes, *, mode: str | Mapping[str, str]) -> Meta: ...

    async def head_async(self, path: str) -> Meta: ...

    async def delete_async(self, paths: str) -> None: ...

    def list(self, prefix: str | None = None) -> AsyncIterator[list[Meta]]: ...


class Bucket:
    """A bucket, with the credentials that count now.

    Attributes:
        store: the client.
        errors: the exceptions that it raises, of which not_found are some.
    """

    def __init__(self, location: BucketLocation, found: Credentials) -> None:
        """Raises UsageError when the package is missing, or a setting is wrong."""
        try:
            from obstore import exceptions
        except ImportError as error:
            hint = "pip install 'sloth-runner[s3]'"
            raise UsageError(f"{location.url}: the package obstore is missing", hint=hint) from error
        self.url = location.url
        self.errors = exceptions
        self.not_found = (exceptions.NotFoundError, FileNotFoundError)
        self._location = location
        self._credentials = found
        self._checksums = False  # whether the bucket wants them
        self.store = _open(location, found, self._checksums)

    async def ask(self, request: Callable[[Store], Awaitable[T]], again: bool, size: int = 0) -> T:
        """Return the answer to a request; raise what its failure means, and pass on what callers look at.

        Where the credentials have expired, and others are there by now, it is made again with those; where a checksum
        is missing, with one. Another request may have found that out meanwhile.
        """
        used, had_checksum = self._credentials, self._checksums
        try:
            return await self._ask_once(request, again, size)
        except Refused:
            found = credentials(self._location)
            if found == used:
                raise
            self._use(found, self._checksums)
        except ChecksumMissing:
            if had_checksum:
                raise
            self._use(self._credentials, True)
        return await self._ask_once(request, again, size)

    def _use(self, found: Credentials, checksums: bool) -> None:
        """Make requests with these credentials from now on, and with a checksum of each object."""
        if (found, checksums) != (self._credentials, self._checksums):
            self._credentials, self._checksums = found, checksums
            self.store = _open(self._location, found, checksums)

    async def _ask_once(self, request: Callable[[Store], Awaitable[T]], again: bool, size: int) -> T:
        try:
            async with asyncio.timeout(http.CONNECT + http.ANSWER + size / http.SLOWEST):
                return await request(self.store)
        except (*self.not_found, self.errors.AlreadyExistsError, self.errors.PreconditionError):
            raise
        except TimeoutError:
            raise (BackendUnavailable if again else Unsure)(f"{self.url}: no answer in time") from None
        except (self.errors.BaseError, OSError) as error:
            raise meaning(self.url, str(error), again) from error


def _open(location: BucketLocation, found: Credentials, checksums: bool) -> Store:
    """Return the client of the bucket. Raises UsageError when the CA's file cannot be used.

    checksums: send one with each object, as some buckets want it, and some servers refuse it.
    """
    from obstore.exceptions import BaseError
    from obstore.store import S3Store

    options: dict[str, object] = {
        "allow_http": True,  # only where the endpoint says http://
        "connect_timeout": f"{http.CONNECT:.0f}s",
        "timeout": f"{http.ANSWER + LIMIT / http.SLOWEST:.0f}s",  # ours for each request are shorter
    }
    host = urlsplit(found.endpoint).hostname or ""
    if _is_here(host):
        # The client takes a proxy from the environment, and would ask it for this machine. Of the two options that it
        # has, the second one makes the first one, of which there must be one, have no effect.
        options |= {"proxy_url": "http://127.0.0.1:9", "proxy_excludes": host}
    if found.ca is not None:
        trusting(location.url, found.ca)  # its errors name the file
        options["root_certificate"] = found.ca.read_bytes()
    try:
        return cast("Callable[..., Store]", S3Store)(
            location.bucket,
            prefix=encode(location.prefix),
            config=found.settings() | ({"checksum_algorithm": "SHA256"} if checksums else {}),
            credential_provider=_tokenless(found),
            client_options=options,
            # No retries below us: a conditional write that is repeated would be refused for its own first try.
            retry_config={"max_retries": 0},
        )
    except BaseError as error:
        what = str(error).partition("\n")[0]
        raise UsageError(f"{location.url}: {what}", hint="check the variables $AWS_...") from None


def _tokenless(found: Credentials) -> Callable[[], Mapping[str, str | None]] | None:
    """Return what gives the client a key without a session's token: by itself it takes that of the environment."""
    if not found.key or found.token:
        return None
    return lambda: {"access_key_id": found.key, "secret_access_key": found.secret, "expires_at": None}


def is_proxied(endpoint: str) -> bool:
    """Return whether the client asks a proxy of the environment for the server. endpoint: "" for Amazon's."""
    if not any(name.lower().endswith("_proxy") for name in os.environ):
        return False
    from urllib.request import getproxies_environment, proxy_bypass  # most have no proxy, and its import is slow

    whole = urlsplit(endpoint or "https://amazonaws.com")
    host = whole.hostname or ""
    proxies = getproxies_environment()
    is_named = whole.scheme in proxies or "all" in proxies
    return is_named and not _is_here(host) and not proxy_bypass(host, proxies)


def _is_here(host: str) -> bool:
    """Return whether a host is this machine."""
    return host == "localhost" or host.startswith("127.") or host == "::1"


def clock_server(url: str, found: Credentials) -> Http:
    """Return a client for the time of the server, which it sends with refusals, too."""
    scheme, server = parse_endpoint(found.endpoint or f"https://s3.{found.region}.amazonaws.com")
    return Http(url, [server], trusting(url, found.ca) if scheme == "https" else None)
