"""The backend Consul, by its KV store and transactions.

No Consul could be had where this was written: it follows the documentation of the HTTP API, and has met only a stub
that does so, too (tests/support/consul.py). Locks are our own, with numbers: sessions and their locks are not used.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from sloth.errors import UsageError
from sloth.state.backends.backend import BackendError, BackendUnavailable, Entry, Unsure
from sloth.state.backends.http import Answer, Http
from sloth.state.backends.naming import decode, directory, encode
from sloth.state.backends.tls import tls_context
from sloth.state.backends.untrusted import MALFORMED, parse

if TYPE_CHECKING:
    from sloth.state.backends.location import ConsulLocation

# A transaction is JSON with the value in base64, and may have 512 KB in all.
LIMIT = 375_000  # bytes
HOW_TO_LOG_IN = "set $CONSUL_HTTP_TOKEN, or $CONSUL_HTTP_TOKEN_FILE"


class Consul:
    """The KV store of a Consul. A value's version is its ModifyIndex, which no other change has."""

    limit = LIMIT

    def __init__(self, location: ConsulLocation) -> None:
        """Raises UsageError when a file of the TLS connection or the token's file cannot be used."""
        self.url = location.url
        context = tls_context(location.url, location.tls, "consul") if location.tls is not None else None
        self._http = Http(location.url, location.servers, context)
        self._root = encode(location.prefix) + "/"
        self._headers = _credentials(location.url)

    async def read(self, key: str) -> Entry | None:
        answer = await self._ask("GET", self._path(key, "?consistent"), again=True)
        if answer.status == 404:
            return None
        try:
            found = parse(answer.body)[0]
            return Entry(base64.b64decode(found["Value"] or ""), str(int(found["ModifyIndex"])))
        except MALFORMED:
            raise self._strange() from None

    async def write(self, key: str, value: bytes, expected: str | None) -> str | None:
        if len(value) > self.limit:
            raise BackendError(f"{self.url}: {key} has {len(value)} bytes, and a value may have {self.limit}")
        # A transaction returns the new index; a plain PUT with ?cas= would not.
        name, data = self._root + encode(key), base64.b64encode(value).decode("ascii")
        operation = {"KV": {"Verb": "cas", "Key": name, "Value": data, "Index": int(expected or 0)}}
        answer = await self._ask("PUT", "/v1/txn", json.dumps([operation]).encode("utf-8"), again=False)
        if answer.status == 409:
            # It does not do what it was asked to: for the index, or for a right that the token has not.
            entry = await self.read(key)
            if (entry.version if entry else None) == expected:
                raise BackendError(f"{self.url}: {key} cannot be written: {_text(answer)}", hint=HOW_TO_LOG_IN)
            return None
        try:
            return str(int(parse(answer.body)["Results"][0]["KV"]["ModifyIndex"]))
        except MALFORMED:
            raise self._strange() from None

    async def names(self, prefix: str) -> list[str]:
        path = f"/v1/kv/{quote(self._root + directory(prefix))}?keys&consistent"
        answer = await self._ask("GET", path, again=True)
        if answer.status == 404:
            return []
        try:
            found = [decode(str(name)[len(self._root) :]) for name in parse(answer.body)]
        except MALFORMED:
            raise self._strange() from None
        return sorted(name for name in found if name is not None and name.startswith(prefix))

    async def forget(self, key: str) -> None:
        await self._ask("DELETE", self._path(key), again=True)

    async def remove(self, key: str, expected: str) -> bool:
        answer = await self._ask("DELETE", self._path(key, f"?cas={int(expected)}"), again=True)
        return answer.body.strip() == b"true" or await self.read(key) is None

    async def clock(self) -> float:
        now = self._http.skew.now()
        if now is None:
            await self._ask("GET", "/v1/status/leader", again=True)
            now = self._http.skew.now()
            if now is None:
                raise BackendError(f"{self.url}: the server does not send its time")
        return now

    async def close(self) -> None:
        await self._http.close()

    def _path(self, key: str, query: str = "") -> str:
        return f"/v1/kv/{quote(self._root + encode(key))}{query}"

    async def _ask(self, method: str, path: str, body: bytes = b"", *, again: bool) -> Answer:
        """Return an answer of 200, 404 or 409, and raise what the others mean."""
        used = self._headers
        answer = await self._http.ask(method, path, body, used, again=again)
        if answer.status in (401, 403):
            self._headers = _credentials(self.url)  # the token's file may have another one by now
            if self._headers != used:
                answer = await self._http.ask(method, path, body, self._headers, again=again)
        if answer.status in (200, 404, 409):
            return answer
        what = _text(answer)
        if answer.status in (401, 403):
            raise BackendError(f"{self.url}: {what}", hint=f"{HOW_TO_LOG_IN}; it must read and write {self._root}")
        if answer.status == 413:
            hint = "txn_max_req_len and kv_max_value_size limit it"
            raise BackendError(f"{self.url}: too large: {what}", hint=hint)
        if answer.status == 429:  # the server limits the rate: it has not begun
            raise BackendUnavailable(f"{self.url}: {what}")
        if answer.status >= 500:
            raise (BackendUnavailable if again else Unsure)(f"{self.url}: {what}")
        if "HTTPS" in what:
            raise BackendError(f"{self.url}: the server wants TLS", hint="use consuls://")
        raise BackendError(f"{self.url}: the server refuses the request ({answer.status}): {what}")

    def _strange(self) -> BackendError:
        return BackendError(f"{self.url}: the answer is not what Consul answers", hint="is this a Consul?")


def _credentials(url: str) -> Mapping[str, str]:
    token, file = os.environ.get("CONSUL_HTTP_TOKEN", ""), os.environ.get("CONSUL_HTTP_TOKEN_FILE", "")
    if not token and file:
        try:
            token = Path(file).expanduser().read_text(encoding="ascii").strip()
        except (OSError, UnicodeError) as error:
            why = getattr(error, "strerror", None) or "it is no text"
            raise UsageError(f"{url}: cannot read the token's file {file}: {why}") from error
    if not token.isascii() or not all(map(str.isprintable, token)):
        raise UsageError(f"{url}: the token has characters that no token has", hint=HOW_TO_LOG_IN)
    headers = {"X-Consul-Token": token} if token else {}
    if os.environ.get("CONSUL_HTTP_AUTH"):
        basic = base64.b64encode(os.environ["CONSUL_HTTP_AUTH"].encode("utf-8")).decode("ascii")
        headers["Authorization"] = f"Basic {basic}"
    return headers


def _text(answer: Answer) -> str:
    """Return what the server says about an error."""
    try:
        return "; ".join(str(one["What"]) for one in parse(answer.body)["Errors"])[:300]
    except MALFORMED:
        return answer.body[:300].decode("utf-8", "replace").strip() or f"status {answer.status}"
