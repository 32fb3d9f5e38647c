"""What may be shown and stored of attributes and of how they differ: contents by hash, secrets not at all."""

from sloth.payload.kernel.content import TEXT_LIMIT, Content, plain
from sloth.payload.kernel.redact import MASK

DIFF_LINES = 20000  # difflib is quadratic at worst: longer texts are told apart by hash only


class Seal(object):
    """Attributes as they may be shown and stored: contents by hash, secrets by keyed hash.

    sealed: the contents hold secrets, perhaps such as we do not know (yesterday's). They are not kept, and of their
    texts only the lines are shown that the site itself adds.
    """

    def __init__(self, resource, store, sealed=False):
        self._secrets = set(field.name for field in resource.fields if field.secret)
        self._store = store
        self._partial = resource.partial
        self.sealed = sealed

    def __call__(self, attributes):
        if attributes is None:
            return None
        return dict((str(name), self.one(name, value)) for name, value in attributes.items())

    def one(self, name, value):
        if name in self._secrets and value is not None:
            return self._store.keyed_hash(plain(value))
        return self._store.mask.data(plain(value))

    def text(self, text):
        """A text that may be shown."""
        return self._store.mask.text(text)

    def line(self, line):
        """A line of a unified diff that may be shown."""
        if not self.sealed or line[:1] == "@":
            return line
        if line[:1] == "+" and (not self._partial or self.text(line) != line):
            return line
        return line[:1] + MASK + "\n"


def difference_of(change, seal):
    """Return what a change alters: attribute -> {before, after} and, of texts, `unified`."""
    before, after = change.before or {}, change.after or {}
    names = change.names
    diff = {}
    if "" in names:
        diff["exists"] = {"before": change.before is not None, "after": change.after is not None}
        names = sorted(set(before) | set(after)) if change.after is None else names[1:]
    for name in names:
        old, new = before.get(name), after.get(name)
        entry = {"before": seal.one(name, old), "after": seal.one(name, new)}
        if isinstance(old, Content) or isinstance(new, Content):
            text = unified(old, new, seal)
            if text is not None:
                entry["unified"] = text
        diff[name] = entry
    return diff


def unified(old, new, seal=None):
    """Return the unified diff of two contents (None: empty) as str, or None when one is large or not text."""
    texts = []
    for content in (old, new):
        if content is not None and content.size > TEXT_LIMIT:
            return None
    for content in (old, new):
        data = content.data() if isinstance(content, Content) else b""
        if b"\0" in data:
            return None
        texts.append(data.decode("utf-8", "surrogateescape").splitlines(True))
    if len(texts[0]) + len(texts[1]) > DIFF_LINES:
        return None
    import difflib

    lines = []
    for number, line in enumerate(difflib.unified_diff(texts[0], texts[1], "before", "after")):
        whole = line if line.endswith("\n") else line + "\n\\ No newline at end of file\n"
        lines.append(whole if number < 2 or seal is None else seal.line(whole))
    text = "".join(lines)
    return text if seal is None else seal.text(text)


def not_so(change, seal):
    """Say in a word or two how what is there is not what was asked for."""
    if change.before is None or change.after is None:
        return "there is nothing" if change.before is None else "it is there"
    return ", ".join(
        "%s is %s, not %s" % (name, seal.one(name, change.before.get(name)), seal.one(name, change.after[name]))
        for name in change.names
    )


def not_converged(after, desired, names, seal):
    """Say what is left to do after a change that did not hold."""
    if desired is None:
        return "it is still there after it was removed"
    if after is None:
        return "it is not there after it was made"
    return "the change did not hold: " + ", ".join(
        "%s is %s, not %s" % (name, seal.one(name, after.get(name)), seal.one(name, desired[name])) for name in names
    )
