"""The backend S3: Amazon's, and every other server that honours conditional writes.

A server that ignores them is refused before the first write: two writers would both believe that they have won.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Protocol, TypedDict, TypeVar, cast
from urllib.parse import urlsplit

from sloth.errors import UsageError
from sloth.state.backends import http
from sloth.state.backends.address import Address
from sloth.state.backends.aws import Credentials, credentials
from sloth.state.backends.backend import (
    BackendError,
    BackendUnavailable,
    Damaged,
    Entry,
    Unsupported,
    Unsure,
)
from sloth.state.backends.http import Http
from sloth.state.backends.naming import LEAF, decode, directory, encode
from sloth.state.backends.s3_delete import delete_if
from sloth.state.backends.s3_errors import Refused, meaning
from sloth.state.backends.skew import FRESH
from sloth.state.backends.tls import trusting
from sloth.state.backends.untrusted import MOST_NAMES

if TYPE_CHECKING:
    from sloth.state.backends.location import BucketLocation

T = TypeVar("T")
LIMIT = 32 * 1024 * 1024  # bytes of a value; all of it is in memory
ID = 32  # hexadecimal digits before each value
PROBE_TRIES = 3
SETTLE = 0.02  # seconds


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


class S3:
    """A bucket. A value's version is the ETag of its object.

    An ETag is a hash of the bytes, so each write puts a new id before the value: else the version would be the same
    again when an old value comes back.
    """

    limit = LIMIT

    def __init__(self, location: BucketLocation) -> None:
        """Raises UsageError when the package is missing, or the credentials are."""
        try:
            from obstore import exceptions
        except ImportError as error:
            hint = "pip install 'sloth-runner[s3]'"
            raise UsageError(f"{location.url}: the package obstore is missing", hint=hint) from error
        self.url = location.url
        self._location = location
        self._errors = exceptions
        self._not_found = (exceptions.NotFoundError, FileNotFoundError)
        self._credentials = credentials(location)
        self._store = _open_store(location, self._credentials)
        self._http = _clock_server(location.url, self._credentials)
        self._offset = 0.0  # of the server's clock to time.monotonic(), learned from an object of ours
        self._learned: float | None = None
        self._has_conditions = False
        self._removes: bool | None = None  # whether the server deletes under a condition; None: it was not tried yet

    async def read(self, key: str) -> Entry | None:
        try:
            found = await self._ask(lambda: self._store.get_async(encode(key, LEAF)), again=True)
            if found.meta["size"] > LIMIT + ID + 1:
                raise Damaged(f"{self.url}: {key} has {found.meta['size']} bytes, and a value may have {LIMIT}")
            data = await self._ask(found.bytes_async, again=True, size=found.meta["size"])
        except self._not_found as error:
            self._check_bucket(error)
            return None
        return Entry(bytes(data)[ID + 1 :], str(found.meta["e_tag"]))

    async def write(self, key: str, value: bytes, expected: str | None) -> str | None:
        if len(value) > self.limit:
            raise BackendError(f"{self.url}: {key} has {len(value)} bytes, and a value may have {self.limit}")
        await self._require_conditions()
        return await self._put(encode(key, LEAF), value, expected)

    async def names(self, prefix: str) -> list[str]:
        pages = self._store.list(directory(prefix, LEAF) or None).__aiter__()
        paths: list[str] = []
        try:
            while page := await self._ask(lambda: _next(pages), again=True):
                paths += [one["path"] for one in page]
                if len(paths) > MOST_NAMES:
                    raise BackendError(f"{self.url}: the list of entries does not end", hint="is this an S3?")
        except self._not_found as error:
            self._check_bucket(error)
            return []
        found = (decode(path, LEAF) for path in paths)
        return sorted(name for name in found if name is not None and name.startswith(prefix))

    async def forget(self, key: str) -> None:
        await self._delete(encode(key, LEAF))

    async def remove(self, key: str, expected: str) -> bool:
        if self._removes is None:
            self._removes = await self._honours_conditional_deletes()
        if not self._removes:
            raise Unsupported(f"{self.url}: the server deletes whatever the condition is")
        return await delete_if(self._store, self._http, encode(key, LEAF), expected) or await self.read(key) is None

    async def clock(self) -> float:
        now = self._http.skew.now()
        if now is None:
            try:
                await self._http.ask("HEAD", "/", again=True)  # refused, and dated
                now = self._http.skew.now()
            except BackendError:  # behind a proxy, perhaps, which the other client uses
                pass
        return now if now is not None else await self._clock_of_an_object()

    async def close(self) -> None:
        await self._http.close()
        # A thread of obstore that still lets go of its last request aborts the process when Python ends meanwhile.
        await asyncio.sleep(SETTLE)

    async def _put(self, path: str, value: bytes, expected: str | None) -> str | None:
        data = secrets.token_hex(ID // 2).encode("ascii") + b"\n" + value
        mode = "create" if expected is None else {"e_tag": expected}
        try:
            done = await self._ask(lambda: self._store.put_async(path, data, mode=mode), again=False, size=len(data))
        except (self._errors.AlreadyExistsError, self._errors.PreconditionError):
            return None
        except self._not_found as error:  # an If-Match of what is not there: another dialect's 412
            self._check_bucket(error)
            return None
        return str(done["e_tag"])

    async def _delete(self, path: str) -> None:
        async def delete() -> None:
            await self._store.delete_async(path)

        try:
            await self._ask(delete, again=True)
        except self._not_found as error:
            self._check_bucket(error)

    async def _honours_conditional_deletes(self) -> bool:
        async with self._scratch() as path:
            first = await self._put(path, b"1", None)
            if first is None or await delete_if(self._store, self._http, path, f'"{"0" * 32}"'):
                return False
            return await delete_if(self._store, self._http, path, first)

    @contextlib.asynccontextmanager
    async def _scratch(self) -> AsyncIterator[str]:
        """Give the path of an object that nobody else uses, and delete that in the end."""
        path = f"probe/{secrets.token_hex(8)}"
        try:
            yield path
        finally:
            with contextlib.suppress(BackendError):
                await self._delete(path)

    async def _require_conditions(self) -> None:
        """Raise BackendError unless the server honours If-None-Match and If-Match."""
        for left in range(PROBE_TRIES - 1, -1, -1):
            if self._has_conditions:
                return
            try:
                await self._probe()
                self._has_conditions = True
            except BackendUnavailable as error:  # of the probe: what was asked for is not even sent
                if left == 0:
                    raise BackendUnavailable(error.message, hint=error.hint) from error

    async def _probe(self) -> None:
        async with self._scratch() as path:
            why = await self._fault(path)
        if why:
            hint = "use a server that honours conditional writes: Amazon S3, SeaweedFS, Ceph, MinIO, R2, ..."
            raise BackendError(f"{self.url}: this server is no place for shared state: {why}", hint=hint)

    async def _fault(self, path: str) -> str:
        """Return what is wrong with the conditions of this server, or ""."""
        first = await self._put(path, b"1", None)
        if first is None:
            return "it refuses to create an object that is not there"
        if await self._put(path, b"2", None) is not None:
            return "it ignores If-None-Match"
        second = await self._put(path, b"3", first)
        if second is None:
            return "it refuses If-Match with the ETag that it has sent"
        if await self._put(path, b"4", first) is not None:
            return "it ignores If-Match"
        await self._delete(path)
        if await self._put(path, b"5", None) is None:  # seen in buckets with versions
            return "it refuses to create an object again that was deleted"
        return ""

    async def _clock_of_an_object(self) -> float:
        """Return the server's time as the time of an object that we have just written says."""
        if self._learned is None or time.monotonic() - self._learned > FRESH:
            async with self._scratch() as path:
                sent = time.monotonic()
                await self._put(path, b"", None)
                received = time.monotonic()
                head = await self._ask(lambda: self._store.head_async(path), again=True)
            # The time is cut to whole seconds.
            self._offset = head["last_modified"].timestamp() + 0.5 - (sent + received) / 2
            self._learned = received
        return time.monotonic() + self._offset

    async def _ask(self, request: Callable[[], Awaitable[T]], again: bool, size: int = 0) -> T:
        """Return the answer to a request; raise what its failure means, and pass on what callers look at.

        Where the credentials have expired, and others are there by now, it is made again with those.
        """
        try:
            return await self._ask_once(request, again, size)
        except Refused:
            found = credentials(self._location)
            if found == self._credentials:
                raise
            self._credentials, self._store = found, _open_store(self._location, found)
            return await self._ask_once(request, again, size)

    async def _ask_once(self, request: Callable[[], Awaitable[T]], again: bool, size: int) -> T:
        try:
            async with asyncio.timeout(http.CONNECT + http.ANSWER + size / http.SLOWEST):
                return await request()
        except (*self._not_found, self._errors.AlreadyExistsError, self._errors.PreconditionError):
            raise
        except TimeoutError:
            raise (BackendUnavailable if again else Unsure)(f"{self.url}: no answer in time") from None
        except (self._errors.BaseError, OSError) as error:
            raise meaning(self.url, str(error), again) from error

    def _check_bucket(self, error: Exception) -> None:
        if "<Code>NoSuchBucket</Code>" in str(error):
            raise meaning(self.url, str(error), True) from error


async def _next(pages: AsyncIterator[list[Meta]]) -> list[Meta]:
    """Return the next page of a list that is not empty; an empty one at the end."""
    async for page in pages:
        if page:
            return page
    return []


def _open_store(location: BucketLocation, found: Credentials) -> Store:
    """Return the client of the bucket. Raises UsageError when the CA's file cannot be used."""
    from obstore.store import S3Store

    options: dict[str, object] = {
        "allow_http": True,  # only where the endpoint says http://
        "connect_timeout": f"{http.CONNECT:.0f}s",
        "timeout": f"{http.ANSWER + LIMIT / http.SLOWEST:.0f}s",  # ours for each request are shorter
    }
    host = urlsplit(found.endpoint).hostname or ""
    if host == "localhost" or host.startswith("127.") or host == "::1":
        # The client takes a proxy from the environment, and would ask it for this machine. Of the two options that it
        # has, the second one makes the first one, of which there must be one, have no effect.
        options |= {"proxy_url": "http://127.0.0.1:9", "proxy_excludes": host}
    if found.ca is not None:
        trusting(location.url, found.ca)  # its errors name the file
        options["root_certificate"] = found.ca.read_bytes()
    return cast("Callable[..., Store]", S3Store)(
        location.bucket,
        prefix=encode(location.prefix),
        config=found.settings(),
        client_options=options,
        # No retries below us: a conditional write that is repeated would be refused for its own first try.
        retry_config={"max_retries": 0},
    )


def _clock_server(url: str, found: Credentials) -> Http:
    """Return a client for the time of the server, which it sends with refusals, too."""
    whole = urlsplit(found.endpoint or f"https://s3.{found.region}.amazonaws.com")
    is_tls = whole.scheme == "https"
    server = Address(whole.hostname or "", whole.port or (443 if is_tls else 80))
    return Http(url, [server], trusting(url, found.ca) if is_tls else None)
