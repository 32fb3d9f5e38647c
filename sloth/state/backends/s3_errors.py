"""What failed requests to S3 mean: by the status and the code of the answer, or by how far the request came."""

from __future__ import annotations

import re

from sloth.state.backends.aws import HOW_TO_LOG_IN
from sloth.state.backends.backend import BackendError, BackendUnavailable, Unsure

# Codes of S3: what is wrong about who we are (a new key may be there by now, or a new secret of the same key), and
# what shows that nothing was written.
LOGIN = {"ExpiredToken", "InvalidToken", "InvalidAccessKeyId", "SignatureDoesNotMatch", "TokenRefreshRequired"}
REGION = {"AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException"}
SLOW = {"SlowDown", "TooManyRequests", "RequestLimitExceeded"}


class Refused(BackendError):
    """The credentials are not valid, or not any more. Nothing was written."""


class ChecksumMissing(BackendError):
    """The bucket takes objects with a checksum only, since it keeps them for a time. Nothing was written."""


def meaning(url: str, text: str, again: bool) -> BackendError:
    """Return the error for what obstore reports; again: the request may be sent twice, as a read may."""
    status = re.search(r"status code: (\d{3})", text)
    code, message = re.search(r"<Code>(\w+)</Code>", text), re.search(r"<Message>([^<]{1,300})", text)
    what = f"{code[1]}: {message[1] if message else ''}".strip(": ") if code else ""
    if status is None:
        return _lost(url, text, again)
    number = int(status[1])
    what = what or f"the server answers with status {number}"
    if code and code[1] == "NoSuchBucket":
        return BackendError(f"{url}: there is no such bucket", hint="create it first, or check ?endpoint= and ?region=")
    if (code and code[1] in LOGIN) or number in (401, 403):
        hint = HOW_TO_LOG_IN
        if code is None or code[1] in LOGIN:
            return Refused(f"{url}: {what}", hint=hint)
        if code[1] == "RequestTimeTooSkewed":
            hint = "the clock of this machine is wrong, or the server's"
        if code[1] == "AccessDenied":
            hint = "the key needs s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket"
        return BackendError(f"{url}: {what}", hint=hint)
    if (code and code[1] in SLOW) or number == 429:
        return BackendUnavailable(f"{url}: {what}")
    if number >= 500 or number == 408:
        return (BackendUnavailable if again else Unsure)(f"{url}: {what}")
    if number == 400 and "checksum" in what and "Object Lock" in what:
        return ChecksumMissing(f"{url}: {what}")
    hint = "check ?region=" if code and code[1] in REGION else ""
    return BackendError(f"{url}: {what}", hint=hint)


def _lost(url: str, text: str, again: bool) -> BackendError:
    """Return the error for a request without an answer."""
    stray = re.search(r'invalid path: .*?\n.*?path: ("(?:[^"\\]|\\.){1,1000}")', text, re.DOTALL)
    if stray is not None:
        hint = "others have written it below our prefix: remove it, or choose another prefix"
        return BackendError(f"{url}: nothing can be listed beside the object {stray[1]}", hint=hint)
    # The text has the URL in it, and so the names of entries, but none of these characters from them.
    if "InvalidCertificate(" in text or "InvalidMessage(" in text:
        hint = "https:// needs a certificate that this machine trusts: ?ca=FILE, or $AWS_CA_BUNDLE, names another CA"
        return BackendError(f"{url}: no TLS connection to the server", hint=hint)
    if re.search(r"Error performing [A-Z]+ http://169\.254\.169\.254/", text):
        return BackendError(f"{url}: no credentials", hint=HOW_TO_LOG_IN)
    if "inner: BareRedirect" in text:
        return BackendError(f"{url}: the bucket is in another region", hint="check ?region=")
    if "kind: Connect" in text:
        hint = "check the endpoint, and that the server runs and no firewall is between"
        return BackendUnavailable(f"{url}: cannot connect", hint=hint)
    return (BackendUnavailable if again else Unsure)(f"{url}: no answer")
