"""The only decider: observes, compares, applies, verifies and records, once for every resource there is."""

import hashlib
import time

from sloth.payload.content import TEXT_LIMIT, Content, plain
from sloth.payload.resource import Action, Change, Failed, Missing, Query, difference
from sloth.payload.store import canonical

CHANGED, UNCHANGED = "changed", "unchanged"
DIFF_LINES = 20000  # difflib is quadratic at worst: longer texts are told apart by hash only


class NotConverged(Failed):
    """After the change the host is not as desired."""


class Outcome(object):
    """What became of a call: status, reason, msg, diff, values, before and after (plain data)."""

    def __init__(self, status, reason="", msg="", diff=None, values=None, before=None, after=None):
        self.status = status
        self.reason = reason
        self.msg = msg
        self.diff = diff
        self.values = values or {}
        self.before = before
        self.after = after


def execute(call, store, check=False, about=None):
    """Run any call (Resource, Action, Query) and return its Outcome.

    about: dict with run, site, task, place, who, origin, for the record. Raises Failed (NotConverged), OSError.
    """
    about = about or {}
    if isinstance(call, Query):
        return Outcome(UNCHANGED, values=call.look())
    kind = _act if isinstance(call, Action) else converge
    try:
        outcome = kind(call, store, check, about)
    except Missing as error:
        if not (check and call.host.pending):
            raise
        return _unknown("new", "not known before the run: %s" % error.message)
    except Exception:
        call.host.changed()
        raise
    if outcome.status == CHANGED:
        call.host.pending = check
        call.host.changed()
    return outcome


def converge(resource, store, check, about):
    """Bring one Resource to its fixed point: desired(observe()) == observe()."""
    key = resource.key()
    place = resource.place() if check else None
    predicted = place in resource.host.predicted if place else False
    before = resource.host.predicted[place] if predicted else resource.observe()
    desired = resource.desired(before)
    change = Change(before, desired)
    checksum = _wish(resource, store)
    seal = _Seal(resource, store)
    recorded = store.get(key)
    wish = seal(desired)
    if resource.merged:
        wish, checksum, drifted = _merge(store, key, recorded, wish, change)
    else:
        drifted = recorded is not None and recorded["checksum"] == checksum
    if not change.names:
        reason = "" if recorded else "adopted"
        if not check:
            _record(store, key, checksum, wish, seal(_only(before, wish)), False, about)
        shown = seal(before)
        return Outcome(UNCHANGED, reason, values=resource.result(before), before=shown, after=shown)
    reason = _reason(resource, before, recorded, drifted)
    diff = _diff(change, seal)
    if check:
        if place:
            resource.host.predicted[place] = _predict(place, before, desired, resource.host)
        return Outcome(
            CHANGED, reason, diff=diff, values=resource.result(desired), before=seal(before), after=seal(desired)
        )
    extra = resource.apply(change) or {}
    resource.host.changed()
    after = resource.observe()
    left = difference(after, desired)
    if left:
        raise NotConverged(_not_converged(after, desired, left, seal))
    _record(store, key, checksum, wish, seal(_only(after, wish)), True, about)
    store.remember(
        key, reason, seal(before), seal(after), diff,
        about.get("run"), about.get("site"), about.get("task"), about.get("who"), about.get("origin"),
    )  # fmt: skip
    values = dict(resource.result(after), **extra)
    msg = values.pop("msg", "")
    return Outcome(CHANGED, reason, msg, diff, values, seal(before), seal(after))


def _predict(place, before, desired, host):
    """What observe() would return once `desired` is applied; keeps a content that comes only once."""
    if desired is None:
        return None
    if not place.startswith("/"):
        return dict(before or {}, **desired)
    kind = desired.get("type", "file")
    base = {"type": kind, "mode": "0755" if kind == "directory" else "0644", "owner": host.user, "group": host.group}
    after = dict(base, **dict(before or {}, **desired))
    content = after.get("content")
    if isinstance(content, Content) and content.size <= TEXT_LIMIT:
        content.data()
    return after


def _unknown(reason, msg):
    """A change in a check of which the values are not known."""
    return Outcome(CHANGED, reason, msg, values={"_unknown": True})


def _act(action, store, check, about):
    needless = action.guard()
    if needless:
        return Outcome(UNCHANGED, "", needless, values=action.unrun(needless))
    if check and not action.safe_in_check():
        return _unknown("run", "would run")
    values = action.run()
    if not values.pop("changed", True):
        return Outcome(UNCHANGED, values=values)
    shown = dict((name, values[name]) for name in ("exit_code",) if name in values)
    store.remember(
        action.key(), "run", None, shown, None,
        about.get("run"), about.get("site"), about.get("task"), about.get("who"), about.get("origin"),
    )  # fmt: skip
    return Outcome(CHANGED, "run", values=values)


def _record(store, key, checksum, desired, observed, changed, about):
    store.record(
        key, checksum, desired, observed, changed,
        about.get("run"), about.get("site"), about.get("task"), about.get("place"),
    )  # fmt: skip


def _reason(resource, before, recorded, drifted):
    """Why it differs: recorded (last applied) x observed x desired."""
    if recorded is None:
        return "new" if before is None or resource.partial or resource.removes else "updated"
    return "drift" if drifted else "updated"


def _merge(store, key, recorded, wish, change):
    """What a run's calls ask of one resource together: (wish, its checksum, whether what differs is drift).

    A run's first call of it begins the wish anew, so that what the site no longer names is forgotten; what was asked
    before tells drift from an update, attribute by attribute.
    """
    earlier, merged = store.merged.get(key) or ((recorded or {}).get("desired"), {})
    merged = None if wish is None else dict(merged or {}, **wish)
    store.merged[key] = (earlier, merged)
    if wish is None or earlier is None or change.after is None:
        drifted = recorded is not None and wish == earlier
    else:
        drifted = all(name == "" or (name in earlier and earlier[name] == wish[name]) for name in change.names)
    return merged, hashlib.sha256(canonical(merged).encode("ascii")).hexdigest(), drifted


def _wish(resource, store):
    """The checksum of what the site asks for: SHA-256 of the canonical JSON of arguments and content hashes."""
    asked = {}
    for field in resource.fields:
        value = getattr(resource.args, field.name)
        if field.how or value is None:
            continue
        asked[field.name] = store.keyed_hash(value) if field.secret else value
    assets = [[asset["name"], asset["sha256"], asset["mode"]] for asset in resource.assets]
    wish = canonical({"call": resource.name, "arguments": plain(asked), "assets": assets})
    return hashlib.sha256(wish.encode("ascii")).hexdigest()


class _Seal(object):
    """Attributes as they may be shown and stored: contents by hash, secrets by keyed hash."""

    def __init__(self, resource, store):
        self._secrets = set(field.name for field in resource.fields if field.secret)
        self._store = store

    def __call__(self, attributes):
        if attributes is None:
            return None
        return dict((str(name), self.one(name, value)) for name, value in attributes.items())

    def one(self, name, value):
        if name in self._secrets and value is not None:
            return self._store.keyed_hash(plain(value))
        return plain(value)


def _only(attributes, names):
    if attributes is None or names is None:
        return attributes
    return dict((name, attributes[name]) for name in names if name in attributes)


def _diff(change, seal):
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
            unified = _unified(old, new)
            if unified is not None:
                entry["unified"] = unified
        diff[name] = entry
    return diff


def _unified(old, new):
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
    for line in difflib.unified_diff(texts[0], texts[1], "before", "after"):
        lines.append(line if line.endswith("\n") else line + "\n\\ No newline at end of file\n")
    return "".join(lines)


def _not_converged(after, desired, names, seal):
    if desired is None:
        return "it is still there after it was removed"
    if after is None:
        return "it is not there after it was made"
    return "the change did not hold: " + ", ".join(
        "%s is %s, not %s" % (name, seal.one(name, after.get(name)), seal.one(name, desired[name])) for name in names
    )


def timed(call, store, check, about):
    """execute() and the seconds it took."""
    begin = time.monotonic()
    outcome = execute(call, store, check, about)
    return outcome, time.monotonic() - begin
