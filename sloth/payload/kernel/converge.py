"""The only decider: observes, compares, applies, verifies and records, once for every resource there is."""

import json
import time

from sloth.payload.kernel.content import TEXT_LIMIT, Content, plain
from sloth.payload.kernel.diff import Seal, difference_of, not_converged, not_so
from sloth.payload.kernel.hashing import sha256
from sloth.payload.kernel.resource import Action, Change, Failed, Missing, Query, difference
from sloth.payload.state.store import canonical

CHANGED, UNCHANGED = "changed", "unchanged"


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
    key = store.sealed_key(resource.key())
    place = resource.place() if check else None
    predicted = place in resource.host.predicted if place else False
    before = resource.host.predicted[place] if predicted else resource.observe()
    desired = resource.desired(before)
    change = Change(before, desired)
    checksum = _wish(resource, store)
    recorded = store.look_up(key)
    asked = described(resource, store, about.get("sealed"))
    seal = Seal(
        resource, store, asked["sealed"] or (recorded is not None and '"sealed":true' in (recorded["calls"] or ""))
    )
    wish = seal(desired)
    calls = [asked]
    if resource.merged:
        wish, checksum, calls, drifted = _merge(store, key, recorded, wish, asked, change)
    else:
        drifted = recorded is not None and recorded["checksum"] == checksum
    if not change.names:
        reason = "" if recorded else "adopted"
        if not check:
            if not recorded:
                _keep(store, seal, desired)
            _record(store, key, checksum, wish, seal(_only(before, wish)), False, about, calls)
        shown = seal(before)
        return Outcome(UNCHANGED, reason, values=resource.result(before), before=shown, after=shown)
    reason = _reason(resource, before, recorded, drifted)
    diff = difference_of(change, seal)
    if about.get("adopt"):
        raise Failed("it is not so: %s" % not_so(change, seal), hint="sloth-runner call makes it so")
    if check:
        if place:
            resource.host.predicted[place] = _predict(place, before, desired, resource.host)
        return Outcome(
            CHANGED, reason, diff=diff, values=resource.result(desired), before=seal(before), after=seal(desired)
        )
    _keep(store, seal, before, change.names)
    after, values = make(resource, change, seal, store, about)
    if not resource.merged:
        wish = seal(desired)  # apply() may have learned what it really put there
    _keep(store, seal, after, change.names)
    made = None if recorded or not _is_addition(resource, before, diff) else (seal(before),)
    _record(store, key, checksum, wish, seal(_only(after, wish)), True, about, calls, made)
    store.remember(key, reason, seal(before), seal(after), diff, about, asked, recorded)
    msg = values.pop("msg", "")
    return Outcome(CHANGED, reason, msg, diff, values, seal(before), seal(after))


def make(resource, change, seal, store, about):
    """Apply `change` and look whether it held; return (what is there now, result values).

    What must follow the change (handlers) is durable before it, so that a killed run does not lose it.
    Raises NotConverged, and what apply() raises.
    """
    fresh = _notify(store, about, store.sealed_key(resource.key()))
    try:
        extra = resource.apply(change) or {}
    except Exception:
        if fresh and not _has_changed(resource, change.before):
            store.settle(about.get("site"), fresh)
        raise
    resource.host.changed()
    after = resource.observe()
    left = difference(after, change.after)
    if left:
        raise NotConverged(not_converged(after, change.after, left, seal))
    return after, dict(resource.result(after), **extra)


def _notify(store, about, key):
    names = about.get("notify") or ()
    fresh = store.notify(names, about, key) if names else []
    if fresh:
        store.commit()
    return fresh


def _has_changed(resource, before):
    resource.host.changed()
    try:
        now = resource.observe()
    except Exception:  # it cannot be told, so what must follow a change may be needed
        return True
    return bool(difference(now, before) or difference(before, now))


def _keep(store, seal, attributes, names=None):
    """Keep the contents among `attributes` on the host, so that what was written can be compared and taken back."""
    for name, value in (attributes or {}).items():
        if isinstance(value, Content) and not seal.sealed and (names is None or name in names):
            try:
                store.contents.keep(value)
            except (Failed, OSError):  # it went away, or comes from elsewhere: then it is not kept
                continue


def _is_addition(resource, before, diff):
    """Whether a first change took nothing away, so that what it made is ours to remove."""
    if not resource.partial or before is None:
        return True
    unified = [entry.get("unified") for entry in diff.values() if "unified" in entry]
    lines = [line for text in unified for line in text.splitlines()[2:]]
    return bool(lines) and not any(line.startswith("-") for line in lines)


def described(resource, store, sealed=False):
    """What is asked, as it is stored: a dict of name, args, assets and sealed (whether it has secrets in it).

    Arguments that are secrets, or hold one, are there as keyed hashes.
    """
    args = {}
    for field in resource.fields:
        value = getattr(resource.args, field.name)
        if value is None or value == field.default:
            continue
        args[field.name] = store.keyed_hash(value) if field.secret or store.mask.holds(value) else value
    assets = [asset.replace(pushed=False).plain() for asset in resource.assets]
    return {"name": resource.name, "args": plain(args), "assets": assets, "sealed": bool(sealed)}


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
    key = store.sealed_key(action.key())
    fresh = _notify(store, about, key)
    try:
        values = action.run()
    except Failed:
        store.settle(about.get("site"), fresh)
        raise
    if not values.pop("changed", True):
        store.settle(about.get("site"), fresh)
        return Outcome(UNCHANGED, values=values)
    shown = dict((name, values[name]) for name in ("exit_code",) if name in values)
    store.remember(key, "run", None, shown, None, about)
    return Outcome(CHANGED, "run", values=values)


def _record(store, key, checksum, desired, observed, changed, about, calls, made=None):
    store.record(
        key, checksum, desired, observed, changed,
        about.get("run"), about.get("site"), about.get("task"), about.get("place"), calls, made,
    )  # fmt: skip


def _reason(resource, before, recorded, drifted):
    """Why it differs: recorded (last applied) x observed x desired."""
    if recorded is None:
        return "new" if before is None or resource.partial or resource.removes else "updated"
    return "drift" if drifted else "updated"


def _merge(store, key, recorded, wish, asked, change):
    """What a run's calls ask of one resource together: (wish, its checksum, the calls, whether what differs is drift).

    A run's first call of it begins the wish anew, so that what the site no longer names is forgotten; what was asked
    before tells drift from an update, attribute by attribute.
    """
    former = json.loads(recorded["desired"] or "null") if recorded else None
    earlier, merged, calls = store.merged.get(key) or (former, {}, [])
    calls = [asked] if wish is None or merged is None else [call for call in calls if call != asked] + [asked]
    merged = None if wish is None else dict(merged or {}, **wish)
    store.merged[key] = (earlier, merged, calls)
    if wish is None or earlier is None or change.after is None:
        drifted = recorded is not None and wish == earlier
    else:
        drifted = all(name == "" or (name in earlier and earlier[name] == wish[name]) for name in change.names)
    return merged, sha256(canonical(merged).encode("ascii")).hexdigest(), calls, drifted


def _wish(resource, store):
    """The checksum of what the site asks for: SHA-256 of the canonical JSON of arguments and content hashes."""
    asked = {}
    for field in resource.fields:
        value = getattr(resource.args, field.name)
        if field.how or value is None:
            continue
        asked[field.name] = store.keyed_hash(value) if field.secret else value
    assets = [[asset.name, asset.sha256, asset.mode] for asset in resource.assets]
    wish = canonical({"call": resource.name, "arguments": plain(asked), "assets": assets})
    return sha256(wish.encode("ascii")).hexdigest()


def _only(attributes, names):
    if attributes is None or names is None:
        return attributes
    return dict((name, attributes[name]) for name in names if name in attributes)


def timed(call, store, check, about):
    """execute() and the seconds it took."""
    begin = time.monotonic()
    outcome = execute(call, store, check, about)
    return outcome, time.monotonic() - begin
