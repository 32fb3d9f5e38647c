"""The backend S3: Amazon's, and every other server that honours conditional writes.

A server that ignores them is refused before the first write: two writers would both believe that they have won.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, TypeVar

from sloth.state.backends.aws import credentials
from sloth.state.backends.backend import (
    BackendError,
    BackendUnavailable,
    Damaged,
    Entry,
    Unsupported,
)
from sloth.state.backends.naming import LEAF, decode, directory, encode
from sloth.state.backends.s3_delete import delete_if
from sloth.state.backends.s3_errors import meaning
from sloth.state.backends.s3_store import LIMIT, Bucket, Meta, Store, clock_server, is_proxied
from sloth.state.backends.skew import FRESH
from sloth.state.backends.untrusted import MOST_NAMES

if TYPE_CHECKING:
    from sloth.state.backends.location import BucketLocation

T = TypeVar("T")
ID = 32  # hexadecimal digits before each value
PROBE_TRIES = 3
SETTLE = 0.02  # seconds


class S3:
    """A bucket. A value's version is the ETag of its object.

    An ETag is a hash of the bytes, so each write puts a new id before the value: else the version would be the same
    again when an old value comes back.
    """

    limit = LIMIT

    def __init__(self, location: BucketLocation) -> None:
        """Raises UsageError when the package is missing, or the credentials are."""
        self.url = location.url
        found = credentials(location)
        self._bucket = Bucket(location, found)
        self._http = clock_server(location.url, found)
        self._is_direct = not is_proxied(found.endpoint)  # whether that reaches the server
        self._offset = 0.0  # of the server's clock to time.monotonic(), learned from an object of ours
        self._learned: float | None = None
        self._has_conditions = False
        self._removes: bool | None = None  # whether the server deletes under a condition; None: it was not tried yet

    async def read(self, key: str) -> Entry | None:
        try:
            found = await self._bucket.ask(lambda store: store.get_async(encode(key, LEAF)), again=True)
            if found.meta["size"] > LIMIT + ID + 1:
                raise Damaged(f"{self.url}: {key} has {found.meta['size']} bytes, and a value may have {LIMIT}")
            data = await self._bucket.ask(lambda store: found.bytes_async(), again=True, size=found.meta["size"])
        except self._bucket.not_found as error:
            self._check_bucket(error)
            return None
        return Entry(bytes(data)[ID + 1 :], str(found.meta["e_tag"]))

    async def write(self, key: str, value: bytes, expected: str | None) -> str | None:
        if len(value) > self.limit:
            raise BackendError(f"{self.url}: {key} has {len(value)} bytes, and a value may have {self.limit}")
        await self._require_conditions()
        return await self._put(encode(key, LEAF), value, expected)

    async def names(self, prefix: str) -> list[str]:
        paths: list[str] = []
        used: Store | None = None
        pages: AsyncIterator[list[Meta]]

        async def next_page(store: Store) -> list[Meta]:
            nonlocal used, pages
            if store is not used:  # with renewed credentials the list begins anew: one that has failed just ends
                used, pages = store, store.list(directory(prefix, LEAF) or None)
                paths.clear()
            return await _next(pages)

        try:
            while page := await self._bucket.ask(next_page, again=True):
                paths += [one["path"] for one in page]
                if len(paths) > MOST_NAMES:
                    raise BackendError(f"{self.url}: the list of entries does not end", hint="is this an S3?")
        except self._bucket.not_found as error:
            self._check_bucket(error)
            return []
        found = (decode(path, LEAF) for path in paths)
        return sorted(name for name in found if name is not None and name.startswith(prefix))

    async def forget(self, key: str) -> None:
        await self._delete(encode(key, LEAF))

    async def remove(self, key: str, expected: str) -> bool:
        if not self._is_direct:
            raise Unsupported(f"{self.url}: nothing is deleted under a condition by way of a proxy")
        if self._removes is None:
            self._removes = await self._honours_conditional_deletes()
        if not self._removes:
            raise Unsupported(f"{self.url}: the server deletes whatever the condition is")
        return await self._delete_if(encode(key, LEAF), expected) or await self.read(key) is None

    async def clock(self) -> float:
        now = self._http.skew.now()
        if now is None and self._is_direct:
            try:
                await self._http.ask("HEAD", "/", again=True)  # refused, and dated
                now = self._http.skew.now()
            except BackendError:  # what is wrong with it the other client says
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
            size = len(data)
            done = await self._bucket.ask(lambda store: store.put_async(path, data, mode=mode), again=False, size=size)
        except (self._bucket.errors.AlreadyExistsError, self._bucket.errors.PreconditionError):
            return None
        except self._bucket.not_found as error:  # an If-Match of what is not there: another dialect's 412
            self._check_bucket(error)
            return None
        return str(done["e_tag"])

    async def _delete(self, path: str) -> None:
        async def delete(store: Store) -> None:
            await store.delete_async(path)

        try:
            await self._bucket.ask(delete, again=True)
        except self._bucket.not_found as error:
            self._check_bucket(error)

    async def _honours_conditional_deletes(self) -> bool:
        async with self._scratch() as path:
            first = await self._put(path, b"1", None)
            if first is None or await self._delete_if(path, f'"{"0" * 32}"'):
                return False
            return await self._delete_if(path, first)

    async def _delete_if(self, path: str, version: str) -> bool:
        return await self._bucket.ask(lambda store: delete_if(store, self._http, path, version), again=True)

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
                head = await self._bucket.ask(lambda store: store.head_async(path), again=True)
            # The time is cut to whole seconds.
            self._offset = head["last_modified"].timestamp() + 0.5 - (sent + received) / 2
            self._learned = received
        return time.monotonic() + self._offset

    def _check_bucket(self, error: Exception) -> None:
        if "<Code>NoSuchBucket</Code>" in str(error):
            raise meaning(self.url, str(error), True) from error


async def _next(pages: AsyncIterator[list[Meta]]) -> list[Meta]:
    """Return the next page of a list that is not empty; an empty one at the end."""
    async for page in pages:
        if page:
            return page
    return []
