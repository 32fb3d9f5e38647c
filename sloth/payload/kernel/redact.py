"""The one place on a host that hides secrets: whatever is stored or answered is made a Redacted here first.

Secrets are hidden in two ways. By name: a field that is declared secret is replaced by a keyed hash, so that a change
of it can still be noticed. By value: the values of secrets that the run has read are replaced wherever they stand.
"""

from sloth.payload.kernel.content import plain
from sloth.payload.kernel.hashing import as_utf8, canonical
from sloth.payload.kernel.resource import secrets_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Collection, Iterable, Pattern

    from sloth.payload.kernel.record import RecordedCall
    from sloth.payload.kernel.resource import Resource
    from sloth.payload.kernel.values import Attributes, Diff, Json
    from sloth.payload.state.store import Store

MASK = "********"
SHORTEST = 4  # characters; a shorter value would garble every text, so it is hidden only where it stands alone


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
    """Knows the values of secrets. Finds them quoted for JSON, XML, a shell or a URL, in base64, and by line, too."""

    def __init__(self, values: "Iterable[str]" = (), key: "Callable[[], bytes] | None" = None) -> "None":
        """key: returns the key of keyed hashes, which never leaves the state file."""
        self._values: "set[str]" = set()
        self._found: "set[str]" = set()  # the forms of all values
        self._forms: "list[str]" = []  # the same, once they are needed: the longest first
        self._compiled: "Pattern[str] | None" = None
        self.key_maker = key
        self.add(values)

    def add(self, values: "Iterable[str]") -> "None":
        """Hide these values, too; an empty one hides nothing."""
        fresh = set(value for value in values if value) - self._values
        if fresh:
            from sloth.payload.kernel.secret_forms import secret_forms  # most sites have no secrets

            self._values |= fresh
            self._found.update(form for value in fresh for form in secret_forms(value) if len(form) >= SHORTEST)
            self._compiled = None

    @property
    def _pattern(self) -> "Pattern[str] | None":
        # A site may read hundreds of secrets one by one, so it is made when something has to be redacted.
        if self._compiled is None and self._found:
            import re

            # The longest first, since the first alternative that fits wins.
            self._forms = sorted(self._found, key=lambda form: (-len(form), form))
            self._compiled = re.compile(_alternatives(self._forms, re.escape))
        return self._compiled

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
        pattern = self._pattern
        return pattern.sub(MASK, text) if pattern else text

    def partial(self, text: "str") -> "int":
        """Return how many characters at the end of `text` may be the beginning of a secret that goes on."""
        longest = 0
        for form in self._forms if self._pattern else ():
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
        pattern = self._pattern
        for match in pattern.finditer(text) if pattern else ():
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

        assert self.key_maker is not None
        return {"secret": hmac.new(self.key_maker(), canonical(value).encode("ascii"), hashlib.sha256).hexdigest()}

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
    texts only those lines are shown that the site itself adds. Of attributes in which a secret was recorded, what they
    are before a change is hidden (see hide()).
    """

    def __init__(
        self, resource: "Resource", redactor: "Redactor", sensitive: "bool" = False, masked: "bool" = False
    ) -> "None":
        """masked: every attribute is a secret."""
        self._secrets = secrets_of(type(resource))
        self._redactor = redactor
        self._partial = resource.partial
        self._hidden: "set[str]" = set()
        self.sensitive = sensitive or masked
        self._masked = masked

    def hide(self, recorded: "Attributes | None") -> "None":
        """Hide what the attributes were in which a secret was `recorded`: we may no longer know its value."""
        self._hidden.update(name for name, value in (recorded or {}).items() if holds_mask(value))

    def hide_secrets_of_others(self, store: "Store", things: "Collection[str]") -> "None":
        """Hide what calls about the same things or files knew to be secret, and this session may not."""
        for key in store.claims.neighbours(things):
            record = store.records.get(key)
            if not key:  # a record that was forgotten since
                self.sensitive = True
            elif record is not None and record.is_sensitive:
                self.sensitive = True
                if not set(things).isdisjoint(store.claims.of(key)):  # else it has attributes of another part
                    self.hide(record.desired)
                    self.hide(record.observed)

    def attributes(self, attributes: "Attributes | None") -> "Redacted":
        """Return attributes (None: absent) as they may be stored and shown."""
        if attributes is None:
            return NOTHING
        return Redacted(dict((str(name), self.value(name, value)) for name, value in attributes.items()))

    def former(self, attributes: "Attributes | None") -> "Redacted":
        """Return attributes as they were before a change, as they may be stored and shown."""
        shown = self.attributes(attributes)
        return Redacted(self._former(shown.data)) if self._hidden and shown.data is not None else shown

    def _former(self, shown: "Attributes") -> "Attributes":
        return dict((name, MASK if name in self._hidden else value) for name, value in shown.items())

    def value(self, name: "str", value: "object") -> "Json":
        """Return the value of one attribute as it may be stored and shown."""
        if (self._masked or name in self._secrets) and value is not None:
            return self._redactor.keyed_hash(plain(value))
        return self._redactor.plain(plain(value))

    def diff(self, diff: "Diff") -> "Redacted":
        """Return how attributes differ (see kernel/diff.py) as it may be stored and shown."""
        shown = {}
        for name, entry in diff.items():
            shown[name] = dict((side, self.value(name, value)) for side, value in entry.items() if side != "unified")
            if name in self._hidden and shown[name].get("before") is not None:
                shown[name]["before"] = MASK
            if "unified" in entry and not self._masked:
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


def claimed(resource: "Resource", redactor: "Redactor") -> "list[str]":
    """Return what a resource claims, as it is recorded."""
    return [redactor.key(as_utf8(thing)) for thing in resource.claims()]


def claimed_by_all(resource: "Resource", redactor: "Redactor") -> "list[str]":
    """Return what all parts of a call claim, as it is recorded."""
    return [thing for part in resource.parts() for thing in claimed(part, redactor)]


def view_of(resource: "Resource", call: "RecordedCall | None", store: "Store") -> "View":
    """Return how a call that was recorded is shown and stored: this session may not know its secrets."""
    view = View(resource, store.redactor, call is not None and call.sensitive, call is not None and call.masked)
    view.hide_secrets_of_others(store, claimed_by_all(resource, store.redactor))
    return view


def is_keyed_hash(value: "Json") -> "bool":
    """Return whether a recorded value stands for a secret."""
    return isinstance(value, dict) and list(value) == ["secret"]


def holds_mask(value: "Json") -> "bool":
    """Return whether a secret was hidden somewhere in plain data, so that it cannot be compared with another."""
    if isinstance(value, str):
        return MASK in value
    if isinstance(value, dict):
        return any(holds_mask(key) or holds_mask(item) for key, item in value.items())
    return isinstance(value, (list, tuple)) and any(holds_mask(item) for item in value)


def _before_cut(key: "str") -> "tuple[str, str]":
    """Return what comes before the mark and the digest of a shortened key, and the mark; "" when it is not one."""
    head, digest = key[:-12], key[-12:]
    if len(digest) == 12 and all(char in "0123456789abcdef" for char in digest):
        for mark in ("...", "~"):
            if head.endswith(mark):
                return head[: -len(mark)], mark
    return key, ""


def _alternatives(forms: "list[str]", escape: "Callable[[str], str]", shared: "int" = 0) -> "str":
    """Return a pattern of these forms, of which the first `shared` characters are the same and are left out.

    Those with the same beginning are tried together: a long secret has hundreds of forms, for each of its lines.
    """
    if len(forms) <= 8 or shared == SHORTEST:
        return "|".join(escape(form[shared:]) for form in forms)
    groups: "dict[str, list[str]]" = {}
    for form in forms:
        groups.setdefault(form[shared], []).append(form)
    return "|".join(
        "%s(?:%s)" % (escape(char), _alternatives(groups[char], escape, shared + 1)) for char in sorted(groups)
    )
