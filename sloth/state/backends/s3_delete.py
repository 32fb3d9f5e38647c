"""Deletes an object of S3 under the condition that it is as it was read.

obstore has no condition for this, so its URL is signed, and asked for by our own client. Amazon S3 honours the
condition since 2025; servers that ignore it are found out by a probe.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from sloth.state.backends.http import Http
from sloth.state.backends.s3_errors import meaning

if TYPE_CHECKING:
    from obstore.store import S3Store

SIGNED = timedelta(minutes=5)  # for which a signed URL is valid


async def delete_if(store: object, http: Http, path: str, version: str) -> bool:
    """Delete an object if its ETag is `version`; return whether it was deleted. Raises BackendError."""
    from obstore import sign_async

    url = urlsplit(await sign_async(cast("S3Store", store), "DELETE", path, SIGNED))
    headers = {"Host": url.netloc, "If-Match": version}
    answer = await http.ask("DELETE", f"{url.path}?{url.query}", headers=headers, again=True)
    if answer.status in (200, 204):
        return True
    if answer.status in (404, 409, 412):
        return False
    text = answer.body[:2000].decode("utf-8", "replace")
    raise meaning(http.url, f"status code: {answer.status} {text}", True)
