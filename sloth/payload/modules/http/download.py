"""http.download: downloads a file."""

import email.utils
import hashlib
import json
import os
import time

from sloth.payload.kernel.hashing import sha256
from sloth.payload.kernel.resource import REQUIRED, ArgumentError, DriftBy, Failed, Field, Resource
from sloth.payload.lib import files
from sloth.payload.lib.regex import re
from sloth.payload.lib.web import check_headers, check_url, credentials, file_name, open_url, public_url, read_chunks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from http.client import HTTPResponse
    from typing import Iterable, Iterator, Sequence

    from sloth.payload.kernel.hashing import Digest
    from sloth.payload.kernel.record import Asset
    from sloth.payload.kernel.resource import Args, Change
    from sloth.payload.kernel.values import Arguments, Attributes
    from sloth.payload.lib.host import Host


class Download(Resource):
    """Make sure that a file has the content that a URL serves.

    With a checksum, no server is queried when the file has it. Without one the server is queried on every run. While
    the file has the content that was downloaded, the server may answer that its own has not changed (If-None-Match,
    If-Modified-Since); otherwise the contents are compared. The download is checked, and replaces the file atomically.
    Proxies are taken from the environment.

    Other than Ansible: a file that exists is compared with the URL even without `force` (Ansible leaves it as it is).

    Other than Ansible: passwords and headers are sent to the URL's host only, not along with a redirect to another one.

    Other than Ansible: in a directory the file has the last part of the URL as its name, whatever the server suggests.

    Other than Ansible: blanks and letters such as `ü` in a URL are encoded, as browsers do; a fragment (`#part`) is not
    part of the file's name.

    Other than Ansible: only http and https are supported, and there is no `tmp_dest`, `use_proxy`, `client_cert` and
    `decompress`. A timeout of 30 seconds is the default.
    """

    name = "http.download"
    subject = "dest"
    drift_by = DriftBy.RECORD
    volatile = ("current",)
    fields = (
        Field("url", "str", REQUIRED, help="http:// or https://"),
        Field("dest", "path", REQUIRED, help="the file on the host; in a directory, under the last part of the URL"),
        Field(
            "checksum",
            help='"sha256:HEX", also md5, sha1, sha512; or "sha256:URL" of a list as sha256sum (--tag) writes it',
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
        check_url(cls.name, values["url"])
        check_headers(cls.name, values.get("headers") or {})
        if values.get("checksum") is not None:
            name, colon, rest = values["checksum"].partition(":")
            if not colon or name not in hashlib.algorithms_guaranteed or name.startswith("shake") or not rest:
                raise ArgumentError("%s: checksum must be ALGORITHM:HEX or ALGORITHM:URL" % cls.name)
            if not rest.startswith("http") and len(_hex_digits(rest)) != 2 * hashlib.new(name).digest_size:
                raise ArgumentError("%s: checksum is not a valid %s: %s" % (cls.name, name, rest))

    def __init__(self, args: "Args", host: "Host", assets: "Sequence[Asset]" = ()) -> "None":
        Resource.__init__(self, args, host, assets)
        self._expected: "tuple[str, str | None] | None" = None
        self._fetched = ""  # the SHA-256 of what apply() has just written

    @property
    def dest(self) -> "str":
        path = self.host.expand(self.args.dest)
        if self.args.dest.endswith("/") or os.path.isdir(path):
            return os.path.join(path, file_name(self.args.url))
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
        is_current = now is not None and now["current"]
        given = files.desired_attributes(self.host, self.args, now if is_current else files.rewritten(now))
        desired = dict({"type": "file", "current": True}, **given)
        if now is not None and is_current:
            desired["content"] = now["content"]
        return desired

    def _is_current(self) -> "bool":
        content = self.host.content(self.dest)
        if self._fetched:
            return content.sha256 == self._fetched
        expected = self._checksum()
        if expected:
            name, digest = expected
            if digest is None:
                return True
            return (content.sha256 if name == "sha256" else _digest_of(content.chunks(), name)) == digest
        if self.host.offline:
            return True  # the server is not queried
        response = self._open(
            self.args.url, {} if self.args.force else self._last_download().conditions(content.sha256)
        )
        if response is None:
            return True
        is_same = _digest_of(read_chunks(response), "sha256") == content.sha256
        if is_same:
            self._last_download().remember(response, content.sha256)
        return is_same

    def _last_download(self) -> "_LastDownload":
        return _LastDownload(self.host, self.args.url, self.dest)

    def _checksum(self) -> "tuple[str, str | None] | None":
        """Return the algorithm and hex digest that the file must have (None: not known); None without checksum."""
        if self.args.checksum is None:
            return None
        if self._expected is None:
            name, _, rest = self.args.checksum.partition(":")
            self._expected = (name, self._listed(rest, name) if rest.startswith("http") else _hex_digits(rest))
        return self._expected

    def _listed(self, url: "str", algorithm: "str") -> "str | None":
        """Return the digest of the file in a list such as that of sha256sum; in a list of one its name does not matter.

        None while the host is offline (drift detection), when no server may be queried.
        """
        if self.host.offline:
            return None
        text = b"".join(read_chunks(self._get(url))).decode("utf-8-sig", "replace")
        name = file_name(self.args.url)
        listed = parse_checksums(text, algorithm)
        for other, digest in listed:
            if os.path.basename(other) == name:
                return digest
        if len(listed) == 1:
            return listed[0][1]
        raise Failed("%s has no checksum of %s" % (public_url(url), name))

    def _get(self, url: "str") -> "HTTPResponse":
        response = self._open(url, {})
        if response is None:
            raise Failed("%s answered 304 Not Modified to a request without a condition" % public_url(url))
        return response

    def _open(self, url: "str", conditions: "dict[str, str]") -> "HTTPResponse | None":
        """Return the server's response, or None when nothing has changed. Raises Failed."""
        args = self.args
        headers = dict((str(name), str(value)) for name, value in (args.headers or {}).items())
        headers.update(conditions)
        user, password = credentials(url)
        if args.username:
            user, password = args.username, args.password or password
        elif args.password:
            password = args.password
        return open_url(url, headers, user, password, args.timeout, args.validate_certs)

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
            response = self._get(self.args.url)
            digests = [hashlib.sha256()] + ([hashlib.new(wanted[0])] if wanted else [])
            mode = change.after.get("mode") if change.before is None else None
            target = files.resolve(path)
            chunks = _hashing(read_chunks(response), digests)
            files.replace(target, chunks, mode, lambda _: _verify(digests, wanted), wanted=change.after)
            self._fetched = digests[0].hexdigest()
            change.after["content"] = self.host.content(path)
            self._last_download().remember(response, self._fetched)
            modified = email.utils.parsedate_tz(response.headers.get("Last-Modified", ""))
            if modified:
                times = (time.time(), email.utils.mktime_tz(modified))
                with files.Parent(target) as place:
                    os.utime(place.base, times, dir_fd=place.descriptor, follow_symlinks=False)
        files.set_attributes(path, change)
        return values

    def result(self, now: "Attributes | None") -> "Attributes":
        return {"dest": self.dest}


def _hex_digits(text: "str") -> "str":
    """Return the digest of an argument without blanks, and what else comes along when one is copied from a page."""
    return re.sub(r"\W+", "", text).lower()


def parse_checksums(text: "str", algorithm: "str") -> "list[tuple[str, str]]":
    """Return (name, digest) of each line: as sha256sum writes it, with --tag too, or the digest alone."""
    size = 2 * hashlib.new(algorithm).digest_size
    found = []
    for line in text.splitlines():
        tagged = re.match(r"^\s*[\w-]+ ?\((.*)\) ?= ?([0-9A-Fa-f]{%d})\s*$" % size, line)
        plain = re.match(r"^\s*\\?([0-9A-Fa-f]{%d})(?:[ \t]+\*?(.*?))?\s*$" % size, line)
        if tagged:
            found.append((tagged.group(1), tagged.group(2).lower()))
        elif plain:
            found.append((plain.group(2) or "", plain.group(1).lower()))
    return found


class _LastDownload(object):
    """What a server said of the content that was downloaded last, with which it can answer that nothing has changed."""

    def __init__(self, host: "Host", url: "str", dest: "str") -> "None":
        self._directory = os.path.join(host.directory, "downloads")
        self._path = os.path.join(self._directory, _digest(dest) + ".json")
        self._url = _digest(url)  # not the URL itself: it may contain a password

    def conditions(self, content: "str") -> "dict[str, str]":
        """Return the headers of a conditional request, if the file (its SHA-256) is still what was downloaded."""
        try:
            with open(self._path) as file:
                last = json.load(file)
            is_valid = last["url"] == self._url and last["sha256"] == content
            return dict((str(name), str(value)) for name, value in last["headers"].items()) if is_valid else {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    def remember(self, response: "HTTPResponse", content: "str") -> "None":
        headers = {}
        for name, condition in (("ETag", "If-None-Match"), ("Last-Modified", "If-Modified-Since")):
            value = response.headers.get(name)
            if value:
                headers[condition] = value
        last = {"url": self._url, "sha256": content, "headers": headers}
        try:
            os.makedirs(self._directory, 0o700, exist_ok=True)
            files.replace(self._path, json.dumps(last).encode("ascii"), 0o600)
        except (OSError, Failed):  # the next run downloads the file again to compare it
            pass


def _digest(text: "str") -> "str":
    return sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _verify(digests: "Sequence[Digest]", expected: "tuple[str, str | None] | None") -> "None":
    if expected and digests[-1].hexdigest() != expected[1]:
        raise Failed("the download's %s is %s, not %s" % (expected[0], digests[-1].hexdigest(), expected[1]))


def _hashing(chunks: "Iterable[bytes]", digests: "Sequence[Digest]") -> "Iterator[bytes]":
    for data in chunks:
        for digest in digests:
            digest.update(data)
        yield data


def _digest_of(chunks: "Iterable[bytes]", name: "str") -> "str":
    digest = hashlib.new(name)
    for data in chunks:
        digest.update(data)
    return digest.hexdigest()
