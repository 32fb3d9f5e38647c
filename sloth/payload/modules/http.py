"""http.download: downloads a file."""

import email.utils
import hashlib
import os
import re
import time

from sloth.payload.kernel.resource import REQUIRED, ArgumentError, DriftBy, Failed, Field, Resource
from sloth.payload.lib import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from http.client import HTTPResponse
    from typing import Iterable, Iterator, Sequence

    from sloth.payload.kernel.hashing import Digest
    from sloth.payload.kernel.record import Asset
    from sloth.payload.kernel.resource import Args, Change
    from sloth.payload.kernel.values import Arguments, Attributes
    from sloth.payload.lib.host import Host

READ = 256 * 1024  # bytes


class Download(Resource):
    """Make sure that a file has the content that a URL serves.

    With a checksum, no server is queried when the file has it. Without one the server is queried on every run: either
    it answers that its file is not newer (If-Modified-Since), or the contents are compared. The download is checked,
    and replaces the file atomically. Proxies are taken from the environment. Passwords and headers are sent to the
    URL's host only, not along with a redirect to another one.
    """

    name = "http.download"
    subject = "dest"
    drift_by = DriftBy.RECORD
    volatile = ("current",)
    fields = (
        Field("url", "str", REQUIRED, help="http:// or https://"),
        Field("dest", "path", REQUIRED, help="the file on the host; in a directory, under the last part of the URL"),
        Field(
            "checksum", help='"sha256:HEX", also md5, sha1, sha512; or "sha256:URL" of a list as sha256sum writes it'
        ),
        *files.FIELDS,
        Field("username", aliases=("url_username",), help="for the server"),
        Field("password", secret=True, aliases=("url_password",), help="for the server"),
        Field("headers", "dict", secret=True, help="additional HTTP headers"),
        Field("timeout", "float", 30.0, how=True, help="seconds without data after which it fails"),
        Field("validate_certs", "bool", True, how=True, help="false: accept any certificate"),
        Field("force", "bool", False, how=True, help="without checksum: compare the content, whatever the server says"),
        files.BACKUP,
    )
    returns = (Field("dest", help="the file"), Field("backup_file", help="the copy of the old file"))
    example = """task({name = "tool", run = function()
    http.download({
        url = "https://example.com/tool", dest = "/usr/local/bin/tool", mode = "0755",
        checksum = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    })
end})"""

    @classmethod
    def check_together(cls, values: "Arguments") -> "None":
        if not re.match(r"^https?://[^/\s]+", values["url"]):
            raise ArgumentError("%s: url must begin with http:// or https://: %s" % (cls.name, _public(values["url"])))
        if values.get("checksum") is not None:
            name, colon, rest = values["checksum"].partition(":")
            if not colon or name not in hashlib.algorithms_guaranteed or name.startswith("shake") or not rest:
                raise ArgumentError("%s: checksum must be ALGORITHM:HEX or ALGORITHM:URL" % cls.name)
            if not rest.startswith("http") and len(rest) != 2 * hashlib.new(name).digest_size:
                raise ArgumentError("%s: checksum is not a valid %s: %s" % (cls.name, name, rest))

    def __init__(self, args: "Args", host: "Host", assets: "Sequence[Asset]" = ()) -> "None":
        Resource.__init__(self, args, host, assets)
        self._expected: "tuple[str, str | None] | None" = None
        self._fetched = ""  # the SHA-256 of what apply() has just written

    @property
    def dest(self) -> "str":
        path = self.host.expand(self.args.dest)
        if self.args.dest.endswith("/") or os.path.isdir(path):
            return os.path.join(path, self.args.url.partition("?")[0].rstrip("/").rpartition("/")[2] or "index.html")
        return path

    def identity(self) -> "str":
        return self.dest

    def files(self, attributes: "Attributes | None") -> "dict[str, Attributes | None]":
        return {self.dest: attributes}

    def observe(self) -> "Attributes | None":
        now = files.look(self.dest)
        if now is None:
            return None
        if now["type"] != "file":
            raise Failed("%s exists and is not a file but a %s" % (self.dest, now["type"]))
        now["content"] = self.host.content(self.dest)
        now["current"] = self._is_current()
        return now

    def desired(self, now: "Attributes | None") -> "Attributes | None":
        desired = dict({"type": "file", "current": True}, **files.desired_attributes(self.host, self.args, now))
        if now is not None and now["current"]:
            desired["content"] = now["content"]
        return desired

    def _is_current(self) -> "bool":
        content = self.host.content(self.dest)
        if self._fetched:
            return content.sha256 == self._fetched
        wanted = self._checksum()
        if wanted:
            name, digest = wanted
            if digest is None:
                return True
            return (content.sha256 if name == "sha256" else _digest_of(content.chunks(), name)) == digest
        if self.host.offline:
            return True  # the server is not queried
        since = None if self.args.force else os.stat(self.dest).st_mtime
        answer = self._open(self.args.url, since)
        return answer is None or _digest_of(_chunks(answer), "sha256") == content.sha256

    def _checksum(self) -> "tuple[str, str | None] | None":
        """Return the algorithm and hex digest that the file must have (None: not known); None without checksum."""
        if self.args.checksum is None:
            return None
        if self._expected is None:
            name, _, rest = self.args.checksum.partition(":")
            self._expected = (name, self._listed(rest) if rest.startswith("http") else rest.lower())
        return self._expected

    def _listed(self, url: "str") -> "str | None":
        """Return the digest of the file in a list such as that of sha256sum; in a list of one its name does not matter.

        None while the host is offline (drift detection), when no server may be queried.
        """
        if self.host.offline:
            return None
        text = b"".join(_chunks(self._get(url))).decode("utf-8", "replace")
        name = self.args.url.partition("?")[0].rpartition("/")[2]
        lines = [line.split() for line in text.splitlines() if line.strip()]
        for words in lines:
            if len(words) > 1 and words[1].lstrip("*./") == name:
                return words[0].lower()
        if len(lines) == 1:
            return lines[0][0].lower()
        raise Failed("%s has no checksum of %s" % (_public(url), name))

    def _get(self, url: "str") -> "HTTPResponse":
        response = self._open(url, None)
        if response is None:
            raise Failed("%s answered 304 Not Modified to a request without a date" % _public(url))
        return response

    def _open(self, url: "str", since: "float | None") -> "HTTPResponse | None":
        """Return the server's response, or None when nothing has changed since then. Raises Failed."""
        import socket
        import ssl
        import urllib.error
        import urllib.parse
        import urllib.request

        request = urllib.request.Request(_public(url, True), headers={"User-Agent": "sloth-runner"})
        # Unredirected: what is meant for this host stays with it.
        for name, value in (self.args.headers or {}).items():
            request.add_unredirected_header(str(name), str(value))
        user = self.args.username or urllib.parse.urlsplit(url).username
        if user:
            import base64

            password = self.args.password or urllib.parse.urlsplit(url).password or ""
            token = base64.b64encode(("%s:%s" % (user, password)).encode("utf-8")).decode("ascii")
            request.add_unredirected_header("Authorization", "Basic " + token)
        if since is not None:
            request.add_unredirected_header("If-Modified-Since", email.utils.formatdate(since, usegmt=True))
        context = ssl.create_default_context()
        if not self.args.validate_certs:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context))
        try:
            response: "HTTPResponse" = opener.open(request, timeout=self.args.timeout)
            return response
        except urllib.error.HTTPError as error:
            if error.code == 304:
                return None
            raise Failed("%s answered %d %s" % (_public(url), error.code, error.reason))
        except (urllib.error.URLError, OSError, ValueError) as error:
            why = getattr(error, "reason", error)
            if isinstance(why, socket.timeout):
                why = "no answer within %g seconds" % self.args.timeout
            why = getattr(why, "strerror", None) or why
            raise Failed("%s cannot be reached: %s" % (_public(url), why))

    def apply(self, change: "Change") -> "Attributes":
        assert change.after is not None
        values = {}
        path = self.dest
        if change.before is None or "current" in change:
            parent = os.path.dirname(path)
            if not os.path.isdir(parent):
                raise Failed("the directory %s does not exist" % parent, hint="create it with file.directory")
            if change.before is not None and self.args.backup:
                values["backup_file"] = files.back_up(path)
            wanted = self._checksum()
            answer = self._get(self.args.url)
            digests = [hashlib.sha256()] + ([hashlib.new(wanted[0])] if wanted else [])
            mode = change.after.get("mode") if change.before is None else None
            target = os.path.realpath(path)
            files.replace(target, _hashing(_chunks(answer), digests), mode, lambda _: _verify(digests, wanted))
            self._fetched = digests[0].hexdigest()
            change.after["content"] = self.host.content(path)
            modified = email.utils.parsedate_tz(answer.headers.get("Last-Modified", ""))
            if modified:
                os.utime(target, (time.time(), email.utils.mktime_tz(modified)))
        files.set_attributes(path, change)
        return values

    def result(self, now: "Attributes | None") -> "Attributes":
        return {"dest": self.dest}


def _verify(digests: "Sequence[Digest]", expected: "tuple[str, str | None] | None") -> "None":
    if expected and digests[-1].hexdigest() != expected[1]:
        raise Failed("the download's %s is %s, not %s" % (expected[0], digests[-1].hexdigest(), expected[1]))


def _hashing(chunks: "Iterable[bytes]", digests: "Sequence[Digest]") -> "Iterator[bytes]":
    for data in chunks:
        for digest in digests:
            digest.update(data)
        yield data


def _chunks(answer: "HTTPResponse") -> "Iterator[bytes]":
    import http.client

    length = answer.headers.get("Content-Length")
    left = int(length) if length and length.isdigit() else None
    while True:
        try:
            data = answer.read(READ)
        except (OSError, http.client.HTTPException) as error:
            raise Failed("the download was interrupted: %s" % error)
        if not data:
            break
        if left is not None:
            left -= len(data)
        yield data
    if left:
        raise Failed("the download was interrupted: %d bytes are missing" % left)


def _digest_of(chunks: "Iterable[bytes]", name: "str") -> "str":
    digest = hashlib.new(name)
    for data in chunks:
        digest.update(data)
    return digest.hexdigest()


def _public(url: "str", usable: "bool" = False) -> "str":
    """Return the URL without user and password; `usable`: for a request, without the *** in their place."""
    return re.sub(r"^(https?://)[^/@]*@", r"\1" if usable else r"\1***@", url)
