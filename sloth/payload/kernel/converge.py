"""The only decider: observes, compares, applies, verifies and records, once for every resource there is."""

import time

from sloth.payload.kernel.content import TEXT_LIMIT, Content, plain
from sloth.payload.kernel.errors import Failed, Missing, NotConverged
from sloth.payload.kernel.hashing import canonical, fingerprint
from sloth.payload.kernel.record import Context, Outcome, RecordedCall
from sloth.payload.kernel.redact import NOTHING, Redacted, View
from sloth.payload.kernel.resource import Action, Change, Query, Resource, difference
from sloth.payload.kernel.status import Reason, Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Iterable

    from sloth.payload.kernel.record import Record
    from sloth.payload.kernel.redact import Redactor
    from sloth.payload.kernel.resource import Call
    from sloth.payload.kernel.values import Attributes, Diff
    from sloth.payload.lib.host import Host
    from sloth.payload.state.store import Store

__all__ = ("Merge", "NotConverged", "apply_and_verify", "converge", "execute", "keep_contents", "timed")


class Merge(object):
    """What the calls of a run ask of one `merged` resource together."""

    __slots__ = ("calls", "desired", "former")

    def __init__(self, former: "Attributes | None") -> "None":
        """former: the attributes that were desired when the run began."""
        self.former = former
        self.desired: "Redacted" = NOTHING
        self.calls: "list[RecordedCall]" = []


def timed(call: "Call", store: "Store", check: "bool", context: "Context") -> "tuple[Outcome, float]":
    """Return what execute() returns, and the seconds it took."""
    begin = time.monotonic()
    outcome = execute(call, store, check, context)
    return outcome, time.monotonic() - begin


def execute(call: "Call", store: "Store", check: "bool" = False, context: "Context | None" = None) -> "Outcome":
    """Run any call (Resource, Action, Query). Raises Failed (NotConverged among them), OSError, StoreError."""
    context = context or Context()
    if isinstance(call, Query):
        return Outcome(status=Status.UNCHANGED, values=call.look())
    try:
        if isinstance(call, Action):
            outcome = _act(call, store, check, context)
        else:
            assert isinstance(call, Resource)
            outcome = converge(call, store, check, context)
    except Missing as error:
        if not (check and call.host.pending):
            raise
        return _unknown(Reason.NEW, "not known before the run: %s" % error.message)
    except Exception:
        call.host.changed()
        raise
    if outcome.status is Status.CHANGED:
        call.host.pending = check
        call.host.changed()
    return outcome


def converge(resource: "Resource", store: "Store", check: "bool", context: "Context") -> "Outcome":
    """Bring one Resource to its fixed point: desired(observe()) == observe()."""
    host = resource.host
    place = resource.place() if check else None
    is_predicted = place is not None and place in host.predicted
    before = host.predicted[place] if place is not None and is_predicted else resource.observe()
    desired = resource.desired(before)
    change = Change(before, desired)
    step = _Step(resource, store, context, change)
    if not change.names:
        return step.unchanged(check)
    from sloth.payload.kernel.diff import differences, mismatch  # a converged run has no differences

    diff = differences(change)
    if context.adopt:
        raise Failed(
            "the host is not as described: %s" % mismatch(change, step.view), hint="sloth-runner call would change it"
        )
    if not check:
        return step.apply(diff)
    if place is not None:
        host.predicted[place] = _predict(place, before, desired, host)
    return Outcome(
        status=Status.CHANGED,
        reason=step.reason(),
        diff=step.view.diff(diff).data,
        values=resource.result(desired),
        before=step.view.attributes(before).data,
        after=step.view.attributes(desired).data,
    )


class _Step(object):
    """One resource on its way through converge(): everything is redacted and encoded once, and kept here."""

    __slots__ = ("before", "call", "calls", "change", "checksum", "context", "desired", "key", "record", "resource",
                 "same_wish", "store", "view")  # fmt: skip

    def __init__(self, resource: "Resource", store: "Store", context: "Context", change: "Change") -> "None":
        self.resource = resource
        self.store = store
        self.context = context
        self.change = change
        self.key = store.redactor.key(resource.key())
        self.record: "Record | None" = store.records.get(self.key)
        self.call = recorded_call(resource, store.redactor, context.sensitive)
        was_sensitive = self.record is not None and self.record.is_sensitive
        self.view = View(resource, store.redactor, self.call.sensitive or was_sensitive)
        self.before = self.view.attributes(change.before)
        self.desired = self.view.attributes(change.after)
        self.checksum = _checksum(resource, store.redactor)
        self.calls = [self.call]
        # Whether the site's wish is that of the record: then what differs was changed on the host.
        self.same_wish = self.record is not None and self.record.checksum == self.checksum
        if resource.merged:
            self._merge()

    def _merge(self) -> "None":
        """Add this call to what the run's calls ask of the resource together.

        A run's first call begins anew, so that what the site no longer names is forgotten; what was asked before tells
        drift from an update, attribute by attribute.
        """
        merge = self.store.merged.get(self.key)
        if merge is None:
            merge = self.store.merged[self.key] = Merge(self.record.desired if self.record is not None else None)
        wish, former = self.desired, merge.former
        if wish.data is None or merge.desired.data is None:
            merge.calls = [self.call]
        else:
            merge.calls = [call for call in merge.calls if call != self.call] + [self.call]
        merge.desired = wish if wish.data is None else merge.desired.updated(wish)
        if wish.data is None or former is None or self.change.after is None:
            self.same_wish = self.record is not None and wish.data == former
        else:
            names = self.change.names
            self.same_wish = all(not name or (name in former and former[name] == wish.data[name]) for name in names)
        self.desired, self.calls, self.checksum = merge.desired, merge.calls, fingerprint(merge.desired.json)

    def unchanged(self, check: "bool") -> "Outcome":
        """It is as desired: record that it is."""
        if not check:
            if self.record is None:
                keep_contents(self.store, self.view, self.change.after)
            self._record(self.before, False, None)
        return Outcome(
            status=Status.UNCHANGED,
            reason=Reason.NONE if self.record is not None else Reason.ADOPTED,
            values=self.resource.result(self.change.before),
            before=self.before.data,
            after=self.before.data,
        )

    def apply(self, diff: "Diff") -> "Outcome":
        """Make the change, verify it, and record it."""
        change, view, store = self.change, self.view, self.store
        shown = view.diff(diff)  # before the change, while the old contents can be read
        keep_contents(store, view, change.before, change.names)
        observed, values = apply_and_verify(self.resource, change, view, store, self.context)
        if not self.resource.merged:
            self.desired = view.attributes(change.after)  # apply() may have learned what it really put there
        keep_contents(store, view, observed, change.names)
        after = view.attributes(observed)
        is_ours = self.record is None and _is_addition(self.resource, change.before, diff)
        self._record(after, True, self.before if is_ours else None)
        store.history.add(self.key, self.reason(), self.before, after, shown, self.context, self.call.json, self.record)
        msg = values.pop("msg", "")
        return Outcome(
            status=Status.CHANGED, reason=self.reason(), msg=msg, diff=shown.data, values=values,
            before=self.before.data, after=after.data,
        )  # fmt: skip

    def reason(self) -> "Reason":
        """Return why it differs: recorded (last applied) x observed x desired."""
        resource = self.resource
        if self.record is None:
            is_new = self.change.before is None or resource.partial or resource.removes
            return Reason.NEW if is_new else Reason.UPDATED
        return Reason.DRIFT if self.same_wish else Reason.UPDATED

    def _record(self, observed: "Redacted", changed: "bool", first: "Redacted | None") -> "None":
        self.store.records.remember(
            self.key, self.checksum, self.desired, observed.only(self.desired.data), changed, self.context,
            "[%s]" % ",".join(call.json for call in self.calls), first, self.record,
        )  # fmt: skip


def apply_and_verify(
    resource: "Resource",
    change: "Change",
    view: "View",
    store: "Store",
    context: "Context",
    apply: "Callable[[Change], Attributes | None] | None" = None,
) -> "tuple[Attributes | None, Attributes]":
    """Apply `change` and see whether it held; return what is there now, and result values.

    Handlers that must follow the change are durable before it, so that a killed run does not lose them. apply: what
    makes the change, if that is not the resource itself. Raises NotConverged, and what `apply` raises.
    """
    fresh = _notify(store, context, store.redactor.key(resource.key()))
    try:
        extra = (apply or resource.apply)(change) or {}
    except Exception:
        if fresh and not _has_changed(resource, change.before):
            store.handlers.settle(context.site, fresh)
        raise
    resource.host.changed()
    observed = resource.observe()
    left = difference(observed, change.after)
    if left:
        from sloth.payload.kernel.diff import not_converged

        raise NotConverged(not_converged(observed, change.after, left, view))
    return observed, dict(resource.result(observed), **extra)


def _notify(store: "Store", context: "Context", key: "str") -> "list[str]":
    """Remember the handlers that must follow; return those that were not pending already."""
    fresh = store.handlers.notify(context.notify, context, key) if context.notify else []
    if fresh:
        store.commit()
    return fresh


def _has_changed(resource: "Resource", before: "Attributes | None") -> "bool":
    resource.host.changed()
    try:
        now = resource.observe()
    except Exception:  # it is not known, so what must follow a change may be needed
        return True
    return bool(difference(now, before) or difference(before, now))


def keep_contents(
    store: "Store", view: "View", attributes: "Attributes | None", names: "Iterable[str] | None" = None
) -> "None":
    """Keep the contents among `attributes` on the host, so that they can be compared and restored later."""
    if view.sensitive:
        return
    for name, value in (attributes or {}).items():
        if isinstance(value, Content) and (names is None or name in names):
            try:
                store.blobs.keep(value)
            except (Failed, OSError):  # the file was removed meanwhile, or its content comes from elsewhere
                continue


def _is_addition(resource: "Resource", before: "Attributes | None", diff: "Diff") -> "bool":
    """Return whether a first change took nothing away, so that what it created is ours to remove."""
    if not resource.partial or before is None:
        return True
    texts = [entry["unified"] for entry in diff.values() if "unified" in entry]
    lines = [line for text in texts for line in text.splitlines()[2:]]
    return bool(lines) and not any(line.startswith("-") for line in lines)


def recorded_call(resource: "Resource", redactor: "Redactor", sensitive: "bool" = False) -> "RecordedCall":
    """Return the description of a call that is stored with its record. Secrets in it are keyed hashes."""
    args = {}
    for name, value in resource.given().items():
        is_secret = any(field.secret for field in resource.fields if field.name == name)
        args[name] = redactor.keyed_hash(value) if is_secret or redactor.contains(value) else value
    assets = [asset.replace(pushed=False) for asset in resource.assets]
    return RecordedCall(name=resource.name, args=plain(args), assets=assets, sensitive=sensitive)


def _checksum(resource: "Resource", redactor: "Redactor") -> "str":
    """Return the checksum of what the site asks for: SHA-256 of the canonical JSON of arguments and content hashes."""
    asked = {}
    for field in resource.fields:
        value = getattr(resource.args, field.name)
        if not field.how and value is not None:
            asked[field.name] = redactor.keyed_hash(value) if field.secret else value
    assets = [[asset.name, asset.sha256, asset.mode] for asset in resource.assets]
    return fingerprint(canonical({"call": resource.name, "arguments": plain(asked), "assets": assets}))


def _predict(
    place: "str", before: "Attributes | None", desired: "Attributes | None", host: "Host"
) -> "Attributes | None":
    """Return what observe() would return once `desired` is applied; keeps a content that comes only once."""
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


def _unknown(reason: "Reason", msg: "str") -> "Outcome":
    """Return a change in a check of which the values are not known."""
    return Outcome(status=Status.CHANGED, reason=reason, msg=msg, unknown=True)


def _act(action: "Action", store: "Store", check: "bool", context: "Context") -> "Outcome":
    needless = action.guard()
    if needless:
        return Outcome(status=Status.UNCHANGED, msg=needless, values=action.unrun(needless))
    if check and not action.safe_in_check():
        return _unknown(Reason.RUN, "would run")
    key = store.redactor.key(action.key())
    # A check writes nothing, so what runs in one (it changes nothing) owes no handler either.
    fresh = [] if check else _notify(store, context, key)
    try:
        values = action.run()
    except Failed:
        if not check:
            store.handlers.settle(context.site, fresh)
        raise
    has_changed = values.pop("changed", True)
    if check or not has_changed:
        if not check:
            store.handlers.settle(context.site, fresh)
        return Outcome(status=Status.CHANGED if has_changed else Status.UNCHANGED, values=values,
                       reason=Reason.RUN if has_changed else Reason.NONE)  # fmt: skip
    shown = store.redactor.redact(dict((name, values[name]) for name in ("exit_code",) if name in values))
    store.history.add(key, Reason.RUN, NOTHING, shown, NOTHING, context, None, None)
    return Outcome(status=Status.CHANGED, reason=Reason.RUN, values=values)
