"""http.request: sends a request and returns the answer."""

import json

from sloth.payload.kernel.resource import REQUIRED, Action, ArgumentError, Failed, Field
from sloth.payload.lib.regex import re
from sloth.payload.lib.web import check_headers, check_url, credentials, open_url, public_url, read_chunks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from http.client import HTTPResponse

    from sloth.payload.kernel.values import Arguments, Attributes, Json

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
SAFE = ("GET", "HEAD", "OPTIONS")  # they change nothing, so they run in a check, too
LARGEST = 1024 * 1024  # bytes of an answer's body


class Request(Action):
    """Send an HTTP request from the host, such as a call of an API or a health check.

    GET, HEAD and OPTIONS change nothing: they count as unchanged, and run in a check, too. Every other method counts as
    a change. The code of the answer must be one of `status`. `json` in the result is the body as a value, where the
    server declares it as JSON. A redirect is followed by GET and HEAD only, without credentials and headers when it
    leads to another host.

    Other than Ansible (uri): the code is `status_code` in the result, since `status` is that of the call; `json` takes
    a table instead of `body_format`; the body is always returned; `dest` is http.download's.
    """

    name = "http.request"
    unknown_hint = "GET and HEAD are sent in a check, too"
    fields = (
        Field("url", "str", REQUIRED, help="http:// or https://"),
        Field("method", "str", "GET", choices=METHODS, help="the method"),
        Field("headers", "dict", secret=True, help="additional HTTP headers"),
        Field("body", "str", help="the body"),
        Field("json", "any", help="the body as a value, which is sent as JSON"),
        Field("status", "list", ["200"], how=True, aliases=("status_code",), help="codes that count as success"),
        Field("fail", "bool", True, how=True, help="false: another code is not an error; see success"),
        Field("username", aliases=("url_username", "user"), help="for the server"),
        Field("password", secret=True, aliases=("url_password",), help="for the server"),
        Field("timeout", "float", 30.0, how=True, help="seconds without data after which it fails"),
        Field("validate_certs", "bool", True, how=True, help="false: accept any certificate"),
    )
    returns = (
        Field("status_code", "int", help="the code of the answer"),
        Field("success", "bool", help="whether the code is among status"),
        Field("body", help="the body as text, up to 1 MB"),
        Field("json", "any", help="the body as a value, where it is JSON"),
        Field("headers", "dict", help="the headers of the answer, by names in small letters"),
    )
    example = """task({name = "healthy", retries = 10, delay = 3, until = function(r) return r.json.ready end,
    run = function() return http.request({url = "http://127.0.0.1:8080/health"}) end})"""

    @classmethod
    def check_together(cls, values: "Arguments") -> "None":
        check_url(cls.name, values["url"])
        check_headers(cls.name, values.get("headers") or {})
        if values["body"] is not None and values["json"] is not None:
            raise ArgumentError("http.request: give either body or json")
        for code in values["status"]:
            if not re.match(r"[1-5][0-9][0-9]\Z", code):
                raise ArgumentError("http.request: status must be codes such as 200, not %r" % code)

    def identity(self) -> "str":
        return "%s %s" % (self.args.method, public_url(self.args.url))

    def safe_in_check(self) -> "bool":
        return self.args.method in SAFE

    def unrun(self, why: "str") -> "Attributes":
        return {"status_code": 200, "success": True, "body": why, "headers": {}}

    def run(self) -> "Attributes":
        args = self.args
        headers = dict(args.headers or {})
        body = args.body.encode("utf-8", "surrogateescape") if args.body is not None else None
        if args.json is not None:
            body = json.dumps(args.json).encode("ascii")
            if not any(name.lower() == "content-type" for name in headers):
                headers["Content-Type"] = "application/json"
        user, password = credentials(args.url)
        response = open_url(
            args.url, headers, args.username or user, args.password or password, args.timeout, args.validate_certs,
            method=args.method, body=body, any_status=True,
        )  # fmt: skip
        assert response is not None
        with response:
            text = _body(response, args.url, args.method == "HEAD")
        found = {
            "status_code": response.status,
            "success": str(response.status) in args.status,
            "body": text.decode("utf-8", "surrogateescape"),
            "headers": dict((name.lower(), value) for name, value in response.headers.items()),
            "changed": not self.safe_in_check(),
        }
        if "json" in response.headers.get("Content-Type", ""):
            found["json"] = _value(text)
        if not found["success"] and args.fail:
            answer = "%s answered %d %s" % (public_url(args.url), response.status, response.reason)
            raise Failed(answer, detail=str(found["body"])[-2000:], numbers={"status_code": response.status})
        return found


def _body(response: "HTTPResponse", url: "str", is_head: "bool") -> "bytes":
    data = b""
    for chunk in read_chunks(response, is_head):
        data += chunk
        if len(data) > LARGEST:
            text = "the answer of %s is larger than %d bytes" % (public_url(url), LARGEST)
            raise Failed(text, hint="http.download stores an answer of any size in a file")
    return data


def _value(text: "bytes") -> "Json":
    """Return the value of a JSON text, None when it is none that can be sent."""

    def refuse(name: "str") -> "None":
        raise ValueError(name)

    try:
        value: "Json" = json.loads(text.decode("utf-8"), parse_constant=refuse)
        return value
    except (ValueError, RecursionError):
        return None
