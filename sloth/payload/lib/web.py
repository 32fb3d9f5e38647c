"""HTTP requests with the standard library: any URL that people write, and errors in plain words."""

from sloth.payload.kernel.resource import ArgumentError, Failed
from sloth.payload.lib.regex import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from http.client import HTTPResponse
    from typing import Any, Iterator, Mapping
    from urllib.request import Request

READ = 256 * 1024  # bytes


def check_url(call: "str", url: "str") -> "None":
    """Raise ArgumentError for what is no URL of HTTP."""
    if not re.match(r"^https?://[^/\s]+", url):
        raise ArgumentError("%s: url must begin with http:// or https://: %s" % (call, public_url(url)))
    if re.search(r"[\x00-\x1f\x7f]", url):
        raise ArgumentError("%s: url contains a control character" % call, hint="such as a newline at its end")


def check_headers(call: "str", headers: "Mapping[str, object]") -> "None":
    """Raise ArgumentError for a header that would be several."""
    for name, value in headers.items():
        if re.search(r"[\x00-\x1f\x7f]", "%s%s" % (name, value)):
            raise ArgumentError("%s: the header %r contains a control character" % (call, name))


def public_url(url: "str") -> "str":
    """Return the URL with *** for a user and password."""
    return re.sub(r"^(https?://)[^/@]*@", r"\1***@", url)


def credentials(url: "str") -> "tuple[str, str]":
    """Return the user and password that a URL contains, or empty strings."""
    import urllib.parse

    user, _, password = _split(url).netloc.rpartition("@")[0].partition(":")
    return urllib.parse.unquote(user), urllib.parse.unquote(password)


def file_name(url: "str") -> "str":
    """Return the last part of the URL's path: the name under which it is stored in a directory."""
    name = _split(url).path.rstrip("/").rpartition("/")[2]
    return name if name not in ("", ".", "..") else "index.html"


def request_url(url: "str") -> "str":
    """Return the URL as it can be requested: without user and fragment, other than ASCII encoded as browsers do."""
    parts = _split(url)
    host = parts.netloc.rpartition("@")[2]
    try:
        host = host if _is_ascii(host) else host.encode("idna").decode("ascii")
    except UnicodeError as error:
        raise Failed("%s has an invalid host name: %s" % (public_url(url), error))
    path = _percent_encoded(parts.path) + ("?" + _percent_encoded(parts.query) if parts.query else "")
    return "%s://%s%s" % (parts.scheme, host, path)


def open_url(
    url: "str",
    headers: "Mapping[str, str]",
    user: "str" = "",
    password: "str" = "",
    timeout: "float" = 30.0,
    validate_certs: "bool" = True,
    method: "str" = "GET",
    body: "bytes | None" = None,
    any_status: "bool" = False,
) -> "HTTPResponse | None":
    """Send a request and return the response, or None for 304 Not Modified. Raises Failed.

    `headers` and the password are not sent along when the server redirects to another host; only GET and HEAD follow a
    redirect. Proxies are taken from the environment; timeout: seconds without data; any_status: a response with an
    error's code is returned, too.
    """
    import http.client
    import ssl
    import urllib.error
    import urllib.request

    try:
        request = urllib.request.Request(
            request_url(url), data=body, headers={"User-Agent": "sloth-runner"}, method=method
        )
    except ValueError as error:
        raise Failed("%s is not a valid URL: %s" % (public_url(url), error))
    for name, value in headers.items():
        request.add_unredirected_header(name, str(value))
    if user:
        import base64

        token = base64.b64encode(("%s:%s" % (user, password)).encode("utf-8", "surrogateescape")).decode("ascii")
        request.add_unredirected_header("Authorization", "Basic " + token)
    context = ssl.create_default_context()
    if not validate_certs:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE

    class Redirects(urllib.request.HTTPRedirectHandler):
        """Follows a redirect where the request is one that may be repeated."""

        def redirect_request(self, *given: "Any") -> "Request | None":
            if method not in ("GET", "HEAD"):
                return None
            request, response, code, message, sent, url = given
            if not re.match("https?://", url, re.IGNORECASE):  # urllib itself would follow one to FTP
                message = "%s, and leads to %s, which is not of HTTP" % (message, public_url(url))
                raise urllib.error.HTTPError(request.full_url, code, message, sent, response)
            return urllib.request.HTTPRedirectHandler.redirect_request(self, *given)

    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), Redirects)
    try:
        response: "HTTPResponse" = opener.open(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if any_status:
            return error  # type: ignore[return-value]  # it has what a response has
        if error.code == 304:
            return None
        raise Failed("%s answered %d %s" % (public_url(url), error.code, error.reason))
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise Failed("%s cannot be reached: %s" % (public_url(url), _reason(error, timeout)))
    except http.client.HTTPException as error:
        why = repr(str(error))  # what the server sent: it may be anything
        raise Failed("%s did not answer with valid HTTP: %s %s" % (public_url(url), type(error).__name__, why))
    if response.status != 200 and not any_status:  # 202 or 206: the content is not there yet, or not all of it
        response.close()
        raise Failed("%s answered %d %s" % (public_url(url), response.status, response.reason))
    return response


def _reason(error: "Exception", timeout: "float") -> "object":
    import socket

    why = getattr(error, "reason", error)
    if isinstance(why, socket.timeout):
        return "no answer within %g seconds" % timeout
    return getattr(why, "strerror", None) or why


def read_chunks(response: "HTTPResponse", is_head: "bool" = False) -> "Iterator[bytes]":
    """Yield the body. Raises Failed when it ends early. is_head: it answers HEAD, and so has none."""
    import http.client

    length = response.headers.get("Content-Length")
    left = int(length) if length and length.isdigit() and not is_head else None
    while True:
        try:
            data = response.read(READ)
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise Failed("the download was interrupted: %s" % error)
        if not data:
            break
        if left is not None:
            left -= len(data)
        yield data
    if left:
        raise Failed("the download was interrupted: %d bytes are missing" % left)


class _Parts(object):
    """A URL without its fragment."""

    __slots__ = ("netloc", "path", "query", "scheme")

    scheme: "str"
    netloc: "str"
    path: "str"
    query: "str"


def _split(url: "str") -> "_Parts":
    """Split an http URL. (urllib's own function refuses or changes some that people write.)"""
    parts = _Parts()
    parts.scheme, _, rest = url.partition("#")[0].partition("://")
    rest, _, parts.query = rest.partition("?")
    parts.netloc, slash, path = rest.partition("/")
    parts.path = slash + path or "/"
    return parts


def _is_ascii(text: "str") -> "bool":
    return all(ord(letter) < 128 for letter in text)


def _percent_encoded(text: "str") -> "str":
    """Encode blanks, control characters and what is not ASCII; what is encoded already is kept."""
    return "".join(
        chr(byte) if 0x20 < byte < 0x7F else "%%%02X" % byte for byte in text.encode("utf-8", "surrogateescape")
    )
