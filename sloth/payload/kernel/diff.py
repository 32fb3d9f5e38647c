"""How attributes differ, in full; it is redacted (kernel/redact.py) before anybody gets to see it."""

from sloth.payload.kernel import plain_json
from sloth.payload.kernel.content import TEXT_LIMIT, Content
from sloth.payload.kernel.errors import NotKept

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterable

    from sloth.payload.kernel.redact import View
    from sloth.payload.kernel.resource import Change
    from sloth.payload.kernel.values import Attributes, Diff, Json

DIFF_LINES = 20000  # difflib is quadratic at worst: of longer texts only the hashes are compared
_sorted_json = plain_json.encoder(sort_keys=True)


def differences(change: "Change") -> "Diff":
    """Return what a change alters: attribute -> {before, after} and, of texts, `unified`."""
    before, after = change.before or {}, change.after or {}
    names = change.names
    diff: "Diff" = {}
    if "" in names:
        diff["exists"] = {"before": change.before is not None, "after": change.after is not None}
        names = sorted(set(before) | set(after)) if change.after is None else names[1:]
    for name in names:
        old, new = before.get(name), after.get(name)
        diff[name] = {"before": old, "after": new}
        if isinstance(old, Content) or isinstance(new, Content):
            text = unified(old if isinstance(old, Content) else None, new if isinstance(new, Content) else None)
            if text is not None:
                diff[name]["unified"] = text
    return diff


def unified(old: "Content | None", new: "Content | None") -> "str | None":
    """Return the unified diff of two contents (None: empty), or None when one is large, not text, or not kept."""
    texts = []
    for content in (old, new):
        if content is not None and content.size > TEXT_LIMIT:
            return None
    for content in (old, new):
        try:
            data = content.data() if content is not None else b""
        except NotKept:
            return None
        if b"\0" in data:
            return None
        texts.append(data.decode("utf-8", "surrogateescape").splitlines(True))
    if len(texts[0]) + len(texts[1]) > DIFF_LINES:
        return None
    return "".join(
        line if line.endswith("\n") else line + "\n\\ No newline at end of file\n" for line in _unified(*texts)
    )


def _unified(old: "list[str]", new: "list[str]") -> "Iterable[str]":
    if old and new:
        import difflib  # it takes milliseconds to load, and most of a host's changes are new files

        return difflib.unified_diff(old, new, "before", "after")
    lines = old or new
    if not lines:
        return []
    span = "1,%d" % len(lines) if len(lines) > 1 else "1"
    where = "@@ -%s +0,0 @@\n" % span if old else "@@ -0,0 +%s @@\n" % span
    sign = "-" if old else "+"
    return ["--- before\n", "+++ after\n", where] + [sign + line for line in lines]


def mismatch(change: "Change", view: "View") -> "str":
    """Say how the host differs from what a call describes."""
    if change.before is None or change.after is None:
        return "it does not exist" if change.before is None else "it exists"
    return _values(change.before, change.after, change.names, view)


def not_converged(after: "Attributes | None", desired: "Attributes | None", names: "list[str]", view: "View") -> "str":
    """Say what is still different after a change that did not hold."""
    if desired is None:
        return "it still exists after it was removed"
    if after is None:
        return "it does not exist after it was created"
    return "the change did not hold: " + _values(after, desired, names, view)


def _values(observed: "Attributes", desired: "Attributes", names: "list[str]", view: "View") -> "str":
    return ", ".join(
        "%s is %s, not %s"
        % (name, _in_words(view.value(name, observed.get(name))), _in_words(view.value(name, desired[name])))
        for name in names
    )


def _in_words(value: "Json") -> "str":
    """Return a value that may be shown as an error names it."""
    if value is None:
        return "nothing"
    if isinstance(value, dict) and "sha256" in value:
        return "%s bytes (%s)" % (value.get("size"), str(value["sha256"])[:12])
    if isinstance(value, dict) and "secret" in value:
        return "(secret)"
    return value if isinstance(value, str) else _sorted_json(value)
