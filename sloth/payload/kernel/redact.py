"""The one place on a host that hides secrets: whatever is stored or answered is made a Redacted here first.

Secrets are hidden in two ways. By name: a field that is declared secret is replaced by a keyed hash, so that a change
of it can still be noticed. By value: the values of secrets that the run has read are replaced wherever they stand.
"""

from sloth.payload.kernel.content import plain
from sloth.payload.kernel.hashing import canonical
from sloth.payload.kernel.resource import secrets_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Iterable, Pattern

    from sloth.payload.kernel.resource import Resource
    from sloth.payload.kernel.values import Attributes, Diff, Json

MASK = "********"
SHORTEST = 4  # characters; a shorter value would garble every text, so it is hidden only where it stands alone
LINE = 8  # characters of a line of a longer secret (a private key, say) from which on it is hidden by itself


class Redacted(object):
    """Plain data without secrets, and its canonical JSON, which is made once. Only this file creates them."""

    __slots__ = ("_json", "data")

    def __init__(self, data: "Json", json: "str | None" = None) -> "None":
        self.data = data
        self._json = json

    @property
    def json(self) -> "str":
        if self._json is None:
            self._json = canonical(self.data)
        return self._json

    def only(self, names: "Iterable[str] | None") -> "Redacted":
        """Return those attributes that are among `names` (None: all of them)."""
        if self.data is None or names is None:
            return self
        return Redacted(dict((name, self.data[name]) for name in names if name in self.data))

    def updated(self, other: "Redacted") -> "Redacted":
        """Return these attributes with those of `other` on top."""
        return Redacted(dict(self.data or {}, **other.data))


NOTHING = Redacted(None)


class Redactor(object):
    """Knows the values of secrets. Also finds them in base64, quoted for JSON or a URL, and line by line."""

    def __init__(self, values: "Iterable[str]" = (), key: "Callable[[], bytes] | None" = None) -> "None":
        """key: returns the key of keyed hashes, which never leaves the state file."""
        self._values: "set[str]" = set()
        self._pattern: "Pattern[str] | None" = None
        self._forms: "list[str]" = []
        self._key = key
        self.add(values)

    def add(self, values: "Iterable[str]") -> "None":
        """Hide these values, too; an empty one hides nothing."""
        fresh = set(value for value in values if value) - self._values
        if fresh:
            import re

            self._values |= fresh
            forms = set(form for value in self._values for form in _forms(value) if len(form) >= SHORTEST)
            self._forms = sorted(forms, key=lambda form: (-len(form), form))
            # The longest first, since the first alternative that fits wins.
            self._pattern = re.compile("|".join(re.escape(form) for form in self._forms)) if forms else None

    def __bool__(self) -> "bool":
        return bool(self._values)

    @property
    def values(self) -> "set[str]":
        """The secrets that are hidden."""
        return self._values

    def text(self, text: "str") -> "str":
        """Return `text` without the secrets in it."""
        if text in self._values:
            return MASK
        return self._pattern.sub(MASK, text) if self._pattern else text

    def partial(self, text: "str") -> "int":
        """Return how many characters at the end of `text` may be the beginning of a secret that goes on."""
        longest = 0
        for form in self._forms:
            at = max(0, len(text) - len(form) + 1)
            while True:
                at = text.find(form[0], at)
                if at < 0 or len(text) - at <= longest:
                    break
                if form.startswith(text[at:]):
                    longest = len(text) - at
                    break
                at += 1
        return longest

    def stream(self, text: "str") -> "tuple[str, str]":
        """Return what can be shown of a text that goes on, redacted, and its end, which may begin a secret.

        The end is returned as it came: were a line of a longer secret hidden already, the rest would not be recognised.
        """
        at = len(text) - self.partial(text)
        for match in self._pattern.finditer(text) if self._pattern else ():
            if match.end() > at:
                at = min(at, match.start())
                break
        return self.text(text[:at]), text[at:]

    def plain(self, value: "Json") -> "Json":
        """Return plain data (dicts, lists, scalars) without the secrets in its texts and names."""
        if not self._values:
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return dict((self.plain(key), self.plain(item)) for key, item in value.items())
        if isinstance(value, (list, tuple)):
            return [self.plain(item) for item in value]
        return value

    def redact(self, value: "object") -> "Redacted":
        """Return data of any kind without secrets; contents are replaced by their hashes."""
        return Redacted(self.plain(plain(value)))

    def contains(self, value: "Json") -> "bool":
        """Return whether plain data has a secret in it."""
        return bool(self._values) and self.plain(value) != (list(value) if isinstance(value, tuple) else value)

    def keyed_hash(self, value: "Json") -> "dict[str, str]":
        """Return what stands for a secret value: {"secret": an HMAC with a key that never leaves the state file}."""
        import hashlib
        import hmac

        assert self._key is not None
        return {"secret": hmac.new(self._key(), canonical(value).encode("ascii"), hashlib.sha256).hexdigest()}

    def key(self, key: "str") -> "str":
        """Return a state key without the secrets in it, still distinct from others that look the same then.

        A module that shortens a long identity ("head...digest", "head~digest") does not know the secrets in it, so the
        beginning of one may stand before the cut; and the digest would let people try out short ones.
        """
        shown = self.text(key)
        if not self._values:
            return key
        head, mark = _before_cut(shown)
        cut = self.partial(head) if mark else 0
        if cut >= SHORTEST:
            shown = head[:-cut] + MASK
        elif mark and shown != key:
            shown = head + mark
        return key if shown == key else "%s~%s" % (shown, self.keyed_hash(key)["secret"][:8])


class View(object):
    """How one resource may be seen: its attributes and their differences without secrets.

    sensitive: its contents hold secrets, perhaps such as we do not know (yesterday's). They are not kept, and of their
    texts only those lines are shown that the site itself adds.
    """

    def __init__(self, resource: "Resource", redactor: "Redactor", sensitive: "bool" = False) -> "None":
        self._secrets = secrets_of(type(resource))
        self._redactor = redactor
        self._partial = resource.partial
        self.sensitive = sensitive

    def attributes(self, attributes: "Attributes | None") -> "Redacted":
        """Return attributes (None: absent) as they may be stored and shown."""
        if attributes is None:
            return NOTHING
        return Redacted(dict((str(name), self.value(name, value)) for name, value in attributes.items()))

    def value(self, name: "str", value: "object") -> "Json":
        """Return the value of one attribute as it may be stored and shown."""
        if name in self._secrets and value is not None:
            return self._redactor.keyed_hash(plain(value))
        return self._redactor.plain(plain(value))

    def diff(self, diff: "Diff") -> "Redacted":
        """Return how attributes differ (see kernel/diff.py) as it may be stored and shown."""
        shown = {}
        for name, entry in diff.items():
            shown[name] = dict((side, self.value(name, value)) for side, value in entry.items() if side != "unified")
            if "unified" in entry:
                shown[name]["unified"] = self._unified(entry["unified"])
        return Redacted(shown)

    def _unified(self, text: "str") -> "str":
        if self.sensitive:
            lines = text.splitlines(True)
            text = "".join(lines[:2] + [self._line(line) for line in lines[2:]])
        return self._redactor.text(text)

    def _line(self, line: "str") -> "str":
        if line[:1] in ("@", "\\"):
            return line
        if line[:1] == "+" and (not self._partial or self._redactor.text(line) != line):
            return line
        return line[:1] + MASK + "\n"


def is_keyed_hash(value: "Json") -> "bool":
    """Return whether a recorded value stands for a secret."""
    return isinstance(value, dict) and list(value) == ["secret"]


def _before_cut(key: "str") -> "tuple[str, str]":
    """Return what comes before the mark and the digest of a shortened key, and the mark; "" when it is not one."""
    head, digest = key[:-12], key[-12:]
    if len(digest) == 12 and all(char in "0123456789abcdef" for char in digest):
        for mark in ("...", "~"):
            if head.endswith(mark):
                return head[: -len(mark)], mark
    return key, ""


def _forms(value: "str") -> "list[str]":
    """Return the ways in which `value` may stand in a text."""
    import base64
    import json

    raw = value.encode("utf-8", "surrogateescape")
    quoted = "".join(chr(byte) if chr(byte).isalnum() or chr(byte) in "-._~" else "%%%02X" % byte for byte in raw)
    forms = [value, value.strip(), base64.b64encode(raw).decode("ascii"), quoted]
    forms += [json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]]
    # As error messages quote it: repr() picks its quotes by the whole text, a shell closes and opens them, Lua has %q.
    shown = repr("'\"" + value)[4:-1]
    forms += [shown, shown.replace("\\'", "'"), value.replace("'", "'\"'\"'")]
    forms.append(value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\\n").replace("\r", "\\13"))
    if "\n" in value:
        forms += [line.strip() for line in value.splitlines() if len(line.strip()) >= LINE]
    return forms
