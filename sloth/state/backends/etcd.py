"""The backend etcd (3.4 or newer), by the JSON gateway of its v3 API."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from sloth.state.backends.backend import BackendError, BackendUnavailable, Entry, Unsure
from sloth.state.backends.http import Answer, Http
from sloth.state.backends.tls import tls_context
from sloth.state.backends.untrusted import MALFORMED, MOST_NAMES, parse

if TYPE_CHECKING:
    from sloth.payload.kernel.values import JsonObject
    from sloth.state.backends.location import EtcdLocation

LIMIT = 1024 * 1024  # bytes of a value; the server takes 1.5 MiB a request, unless it is set otherwise
PAGE = 1000  # names in one answer
# Codes of gRPC. What a server answers with UNAVAILABLE to a write may have happened: it may be applied later.
EXHAUSTED, OUT_OF_RANGE, UNAUTHENTICATED, DENIED = 8, 11, 16, 7
UNSURE = {1, 2, 4, 10, 13, 14, 15}  # cancelled, unknown, deadline, aborted, internal, unavailable, data loss
HOW_TO_LOG_IN = "set $ETCDCTL_USER (NAME:PASSWORD, or NAME with $ETCDCTL_PASSWORD)"


class Compacted(BackendError):
    """The revision of the first page of names was compacted before the last one."""


class Etcd:
    """A cluster of etcd. A value's version is the revision of its last change, which no other change has."""

    limit = LIMIT

    def __init__(self, location: EtcdLocation) -> None:
        """Raises UsageError when a file of the TLS connection cannot be used."""
        self.url = location.url
        context = tls_context(location.url, location.tls, "etcd") if location.tls is not None else None
        self._http = Http(location.url, location.servers, context)
        self._root = location.prefix.encode("utf-8") + b"/"
        self._user, _, self._password = os.environ.get("ETCDCTL_USER", "").partition(":")
        self._password = self._password or os.environ.get("ETCDCTL_PASSWORD", "")
        self._token = ""

    async def read(self, key: str) -> Entry | None:
        found = await self._call("kv/range", {"key": self._name(key)}, again=True)
        try:
            for one in found.get("kvs", ()):
                return Entry(base64.b64decode(one.get("value", "")), str(int(one["mod_revision"])))
            return None
        except MALFORMED:
            raise self._strange() from None

    async def write(self, key: str, value: bytes, expected: str | None) -> str | None:
        if len(value) > self.limit:
            raise BackendError(f"{self.url}: {key} has {len(value)} bytes, and a value may have {self.limit}")
        name = self._name(key)
        compare = {"key": name, "target": "MOD", "result": "EQUAL", "mod_revision": expected or "0"}
        put = {"request_put": {"key": name, "value": _base64(value)}}
        done = await self._call("kv/txn", {"compare": [compare], "success": [put]}, again=False)
        try:
            return str(int(done["header"]["revision"])) if done.get("succeeded") else None
        except MALFORMED:
            raise self._strange() from None

    async def names(self, prefix: str) -> list[str]:
        first = start = self._root + prefix.encode("utf-8", "surrogateescape")
        end = start[:-1] + bytes([start[-1] + 1])  # the last byte is never 0xff in UTF-8
        names: list[str] = []
        revision = "0"  # all pages are of the first one's
        while True:
            page = {
                "key": _base64(start), "range_end": _base64(end), "keys_only": True, "limit": str(PAGE),
                "revision": revision,
            }  # fmt: skip
            try:
                found = await self._call("kv/range", page, again=True)
            except Compacted:
                start, names, revision = first, [], "0"
                continue
            try:
                revision = str(int(found["header"]["revision"]))
                keys = [base64.b64decode(one["key"]) for one in found.get("kvs", ())]
            except MALFORMED:
                raise self._strange() from None
            # Pages that bring what was not asked for may never end.
            if not all(start <= key < end for key in keys) or len(names) > MOST_NAMES:
                raise self._strange()
            names += [key[len(self._root) :].decode("utf-8", "surrogateescape") for key in keys]
            if not found.get("more") or not keys:
                return sorted(names)
            start = keys[-1] + b"\0"

    async def forget(self, key: str) -> None:
        await self._call("kv/deleterange", {"key": self._name(key)}, again=True)

    async def remove(self, key: str, expected: str) -> bool:
        name = self._name(key)
        compare = {"key": name, "target": "MOD", "result": "EQUAL", "mod_revision": expected}
        delete = {"request_delete_range": {"key": name}}
        done = await self._call("kv/txn", {"compare": [compare], "success": [delete]}, again=True)
        return bool(done.get("succeeded")) or await self.read(key) is None

    async def clock(self) -> float:
        now = self._http.skew.now()
        if now is None:
            # A member without a leader says so at once here, where it would leave us waiting elsewhere.
            answer = await self._http.ask("GET", "/health", again=True, is_cut_off=_is_unsure)
            now = self._http.skew.now()
            if now is None:
                raise BackendError(f"{self.url}: the server does not send its time ({answer.status})")
        return now

    async def close(self) -> None:
        await self._http.close()

    def _name(self, key: str) -> str:
        return _base64(self._root + key.encode("utf-8", "surrogateescape"))

    async def _call(self, what: str, body: Mapping[str, object], again: bool) -> JsonObject:
        """Return the answer of the gateway, logging in where that is needed. Raises BackendError, Unsure."""
        data = json.dumps(body).encode("ascii")
        if self._user and not self._token:
            await self._log_in()
        answer = await self._ask(what, data, again)
        if answer.status != 200 and self._user and _is_old_token(answer):
            await self._log_in()
            answer = await self._ask(what, data, again)
        return self._content(answer, again)

    async def _ask(self, what: str, data: bytes, again: bool) -> Answer:
        headers = {"Content-Type": "application/json", **({"Authorization": self._token} if self._token else {})}
        return await self._http.ask("POST", f"/v3/{what}", data, headers, again=again, is_cut_off=_is_unsure)

    async def _log_in(self) -> None:
        self._token = ""
        data = json.dumps({"name": self._user, "password": self._password}).encode("utf-8")
        answer = await self._ask("auth/authenticate", data, True)
        if answer.status == 400:
            what = _error(answer)[1]
            if "not enabled" in what:
                hint = "unset $ETCDCTL_USER: this server has no users"
            else:
                hint = f"check $ETCDCTL_USER and $ETCDCTL_PASSWORD of {self._user}"
            raise BackendError(f"{self.url}: cannot log in: {what}", hint=hint)
        self._token = str(self._content(answer, True).get("token", ""))

    def _strange(self) -> BackendError:
        return BackendError(f"{self.url}: the answer is not what etcd answers", hint="is this an etcd?")

    def _content(self, answer: Answer, again: bool) -> JsonObject:
        """Return the content of a good answer, and raise what the others mean."""
        if answer.status == 200:
            try:
                content = parse(answer.body)
                if isinstance(content, dict):
                    return content
            except ValueError:
                pass
            raise self._strange()
        code, what = _error(answer)
        if code == OUT_OF_RANGE:
            raise Compacted(f"{self.url}: {what}")
        if answer.status == 401 or code == UNAUTHENTICATED or "user name is empty" in what:
            raise BackendError(f"{self.url}: {what}", hint=HOW_TO_LOG_IN)
        if answer.status == 403 or code == DENIED:
            hint = f"the user needs the right to read and write the prefix {self._root.decode('utf-8')}"
            raise BackendError(f"{self.url}: {what}", hint=hint)
        if code == EXHAUSTED and "too many requests" in what:
            raise BackendUnavailable(f"{self.url}: {what}")
        if code == EXHAUSTED and "space" in what:
            hint = "compact and defragment it, then `etcdctl alarm disarm`; --auto-compaction-retention prevents it"
            raise BackendError(f"{self.url}: {what}", hint=hint)
        if "too large" in what or "larger than max" in what or answer.status == 413:
            hint = f"the server must take {self.limit} bytes and a little more: --max-request-bytes"
            raise BackendError(f"{self.url}: {what}", hint=hint)
        if _is_unsure(answer):
            raise (BackendUnavailable if again else Unsure)(f"{self.url}: {what}")
        if answer.status == 404:
            raise BackendError(f"{self.url}: the server has no v3 JSON gateway", hint="etcd 3.4 or newer is needed")
        if "HTTPS" in what:
            raise BackendError(f"{self.url}: the server wants TLS", hint="use etcds://")
        raise BackendError(f"{self.url}: the server refuses the request ({answer.status}): {what}")


def _error(answer: Answer) -> tuple[int, str]:
    """Return the gRPC code and the text of an error; without a code 0."""
    try:
        content = parse(answer.body)
        return int(content.get("code", 0)), str(content.get("message") or content.get("error") or "")[:300]
    except MALFORMED:
        return 0, answer.body[:300].decode("utf-8", "replace").strip() or f"status {answer.status}"


def _is_unsure(answer: Answer) -> bool:
    """Return whether a member could not do what was asked for, or may still do it: it has no leader, perhaps."""
    return answer.status in (500, 502, 503, 504) or (answer.status != 200 and _error(answer)[0] in UNSURE)


def _is_old_token(answer: Answer) -> bool:
    code, what = _error(answer)
    return code == UNAUTHENTICATED or answer.status == 401 or "revision of auth store is old" in what


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
