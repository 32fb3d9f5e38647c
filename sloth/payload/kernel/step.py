"""One resource on its way through the kernel: what is applied, verified and recorded, part by part."""

from sloth.payload.kernel.content import Content, plain
from sloth.payload.kernel.errors import Failed, NotConverged
from sloth.payload.kernel.hashing import as_utf8, canonical, fingerprint
from sloth.payload.kernel.record import Outcome, RecordedCall
from sloth.payload.kernel.redact import NOTHING, Redacted, View, claimed
from sloth.payload.kernel.resource import Change, difference, secrets_of
from sloth.payload.kernel.status import Reason, Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Collection, Iterable

    from sloth.payload.kernel.record import Context, Record
    from sloth.payload.kernel.redact import Redactor
    from sloth.payload.kernel.resource import Call, Resource
    from sloth.payload.kernel.values import Attributes, Diff, Json
    from sloth.payload.state.store import Store


class Merge(object):
    """What the calls of a run ask of one `merged` resource together."""

    __slots__ = ("calls", "desired", "former")

    def __init__(self, former: "Attributes | None") -> "None":
        """former: the attributes that were desired when the run began."""
        self.former = former
        self.desired: "Redacted" = NOTHING
        self.calls: "list[RecordedCall]" = []


class Step(object):
    """One resource on its way through converge(), with the parts that have records of their own."""

    __slots__ = ("change", "context", "parts", "resource", "store", "view")

    def __init__(self, resource: "Resource", store: "Store", context: "Context", change: "Change") -> "None":
        self.resource = resource
        self.store = store
        self.context = context
        self.change = change
        self.parts = [Part(part, store, context) for part in resource.parts()]
        sensitive = any(part.is_sensitive for part in self.parts)
        self.view = View(resource, store.redactor, sensitive, context.masked)
        if change.names or any(part.record is None for part in self.parts):
            self.view.hide_secrets_of_others(store, [thing for part in self.parts for thing in part.things])
        for part in self.parts:
            part.look(change if part.resource is resource else resource.part_change(part.resource, change), self.view)

    def unchanged(self, check: "bool") -> "Outcome":
        """It is as desired: record that it is."""
        adopted = [part for part in self.parts if part.record is None]
        if not check:
            if adopted:
                keep_contents(self.store, self.view, self.change.after)
            for part in self.parts:
                part.remember(part.before, False, None)
        before = self._whole(self.change.before)
        return Outcome(
            status=Status.UNCHANGED,
            reason=Reason.ADOPTED if adopted else Reason.NONE,
            values=self.resource.result(self.change.before),
            before=before.data,
            after=before.data,
        )

    def apply(self, diff: "Diff") -> "Outcome":
        """Make the change, verify it, and record it."""
        change, view, store = self.change, self.view, self.store
        shown = view.diff(diff)  # before the change, while the old contents can be read
        part_diffs = self._part_diffs(diff, shown)
        # Of what is removed nothing is left, so all of it is kept.
        keep_contents(store, view, change.before, change.names if change.after is not None else None)
        for part in self.parts[1:]:  # a part may begin with what the one before it leaves
            keep_contents(store, view, part.change.before, part.change.names)
        notes = store.guard.note(self) if store.guard is not None else []
        try:
            observed, values = apply_and_verify(self.resource, change, view, store, self.context)
        except Exception:
            if notes and not has_changed(self.resource, change.before):
                store.history.remove(notes)
            raise
        store.history.remove(notes)
        keep_contents(store, view, observed, change.names)
        after = view.attributes(observed)
        for part, (part_diff, part_shown) in zip(self.parts, part_diffs):
            seen = after
            if part.resource is not self.resource:
                seen = view.attributes(self.resource.part_observed(part.resource, part.change, observed))
            part.finish(seen, part_diff, part_shown, view)
        msg = values.pop("msg", "")
        return Outcome(
            status=Status.CHANGED, reason=self.reason(), msg=msg, diff=shown.data, values=values,
            before=self._whole(change.before).data, after=after.data,
        )  # fmt: skip

    def _whole(self, attributes: "Attributes | None") -> "Redacted":
        return self.parts[0].before if self._is_one() else self.view.former(attributes)

    def _is_one(self) -> "bool":
        """Return whether the call is itself what has the record; the only part of a tree with one file is not."""
        return len(self.parts) == 1 and self.parts[0].resource is self.resource

    def _part_diffs(self, diff: "Diff", shown: "Redacted") -> "list[tuple[Diff, Redacted]]":
        """Return how each part differs, and that redacted."""
        if self._is_one():
            return [(diff, shown)]
        from sloth.payload.kernel.diff import differences

        diffs = [differences(part.change) for part in self.parts]
        return [(one, self.view.diff(one)) for one in diffs]

    def reason(self) -> "Reason":
        """Return why it differs: the strongest reason of its parts that do."""
        reasons = [part.reason() for part in self.parts if part.change.names] or [self.parts[0].reason()]
        return next(reason for reason in (Reason.DRIFT, Reason.UPDATED, Reason.NEW) if reason in reasons)


class Part(object):
    """What has one record: everything of it is redacted and encoded once, and kept here."""

    __slots__ = ("before", "call", "calls", "change", "checksum", "context", "desired", "key", "record", "resource",
                 "same_wish", "store", "things")  # fmt: skip

    def __init__(self, resource: "Resource", store: "Store", context: "Context") -> "None":
        self.resource = resource
        self.store = store
        self.context = context
        self.key = store.redactor.key(resource.key())
        self.record: "Record | None" = store.records.get(self.key)
        self.call = recorded_call(resource, store.redactor, context)
        self.calls = [self.call]
        self.checksum = wish(resource, store.redactor)
        self.things = claimed(resource, store.redactor)
        # Whether the site's wish is that of the record: then what differs was changed on the host.
        self.same_wish = self.record is not None and self.record.checksum == self.checksum

    @property
    def is_sensitive(self) -> "bool":
        return self.call.sensitive or (self.record is not None and self.record.is_sensitive)

    def look(self, change: "Change", view: "View") -> "None":
        """Take note of the part's change, and of what it claims."""
        self.change = change
        self.before = view.former(change.before)
        self.desired = view.attributes(change.after)
        for thing in self.things:
            self.store.claims.session[thing] = self.key
        if self.resource.merged:
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
        self.same_wish = self.same_wish and (self.record is None or bool(self.record.checksum))  # see TakeBack._mark()
        self.desired, self.calls, self.checksum = merge.desired, merge.calls, fingerprint(merge.desired.json)

    def reason(self) -> "Reason":
        """Return why it differs: recorded (last applied) x observed x desired."""
        if self.record is None:
            is_new = self.change.before is None or self.resource.partial or self.resource.removes
            return Reason.NEW if is_new else Reason.UPDATED
        return Reason.DRIFT if self.same_wish else Reason.UPDATED

    def finish(self, after: "Redacted", diff: "Diff", shown: "Redacted", view: "View") -> "None":
        """Record the part after its call's change; after: what of it is observed now; diff, shown: how it differed."""
        if not self.resource.merged:
            self.desired = view.attributes(self.change.after)  # apply() may have learned what it really put there
        if not self.change.names:
            self.remember(after, False, None)
            return
        is_whole = not self.resource.partial and ("" in self.change.names or "content" in self.change.names)
        if not self.is_sensitive and (is_whole or self.change.before is None):
            self.store.claims.forget_secrets(self.things)
        is_ours = _is_addition(self.resource, self.change.before, diff)  # of later changes that is not recorded
        self.remember(after, True, self.before if is_ours else None)
        self.store.history.add(
            self.key,
            self.reason(),
            self.before,
            after,
            shown,
            self.context,
            self.call.replace(notify=self.context.notify).json,
            self.record,
        )

    def remember(self, observed: "Redacted", changed: "bool", first: "Redacted | None") -> "None":
        """Write the record and what it claims; other records of the same things are superseded."""
        store = self.store
        needs = [store.redactor.key(as_utf8(thing)) for thing in self.resource.needs()]
        have_changed = store.claims.put(self.key, self.things, needs)
        # Whoever claims a thing supersedes its other records, so while this one is active there are none.
        is_active = self.record is not None and self.record.is_active
        others = [] if is_active and not have_changed else store.claims.others(self.key, self.things)
        first_json = None if first is None else first.json
        if self.record is None and others and self.before.data is not None:
            first_json = self._inherited(others)
        store.records.remember(
            self.key, self.checksum, self.desired, observed.only(self.desired.data), changed, self.context,
            "[%s]" % ",".join(call.json for call in self.calls), first_json, self.record,
        )  # fmt: skip
        for key in others:
            store.records.mark_superseded(key, self.key)

    def _inherited(self, others: "list[str]") -> "str | None":
        """Return what was there before our first change, as the records know that managed the same things till now."""
        for key in others:
            record = self.store.records.get(key)
            if record is not None and set(self.things) & set(self.store.claims.of(key)):
                return record.first_json
        return None


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
    fresh = notify(store, context, store.redactor.key(resource.key()))
    try:
        extra = (apply or resource.apply)(change) or {}
    except Exception:
        if fresh and not has_changed(resource, change.before):
            store.handlers.settle(context.site, fresh)
        raise
    resource.host.changed()
    observed = resource.observe()
    left = difference(observed, change.after)
    if left:
        from sloth.payload.kernel.diff import not_converged

        raise NotConverged(not_converged(observed, change.after, left, view))
    return observed, dict(resource.result(observed), **extra)


def notify(store: "Store", context: "Context", key: "str") -> "list[str]":
    """Remember the handlers that must follow; return those that were not pending already."""
    fresh = store.handlers.notify(context.notify, context, key) if context.notify else []
    if fresh:
        store.commit()
    return fresh


def record_action(
    store: "Store", key: "str", values: "Attributes", context: "Context", call: "RecordedCall | None"
) -> "None":
    """Add an action that was done to the history; of its result values the exit code is kept."""
    shown = store.redactor.redact(dict((name, values[name]) for name in ("exit_code",) if name in values))
    text = None if call is None else call.json
    store.history.add(key, Reason.RUN, NOTHING, shown, NOTHING, context, text, None)


def has_changed(resource: "Resource", before: "Attributes | None") -> "bool":
    """Return whether it is not as `before` any more, or that is not known."""
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


def recorded_call(resource: "Call", redactor: "Redactor", context: "Context") -> "RecordedCall":
    """Return the description of a call that is stored with its record. Secrets in it are keyed hashes."""
    args = resource.given()
    secrets: "Collection[str]" = secrets_of(type(resource))
    if context.masked:
        from sloth.payload.kernel.masking import visible  # few calls are

        secrets = [name for name in args if name in secrets or name not in visible(type(resource))]
    args = dict((name, _recorded(value, name in secrets, redactor)) for name, value in args.items())
    variables = context.environment
    return RecordedCall(
        name=resource.name,
        args=plain(args),
        assets=[asset.replace(pushed=False) for asset in resource.assets],
        sensitive=context.sensitive or context.masked,
        masked=context.masked,
        environment=dict((name, _recorded(variables[name], context.masked, redactor)) for name in variables),
    )


def _recorded(value: "Json", is_secret: "bool", redactor: "Redactor") -> "Json":
    return redactor.keyed_hash(value) if is_secret or redactor.contains(value) else value


def wish(resource: "Resource", redactor: "Redactor") -> "str":
    """Return the checksum of what the site asks for: SHA-256 of the canonical JSON of arguments and content hashes."""
    asked = {}
    for field in resource.fields:
        value = getattr(resource.args, field.name)
        if not field.how and value is not None:
            asked[field.name] = redactor.keyed_hash(value) if field.secret else value
    assets = [[asset.name, asset.sha256, asset.mode] for asset in resource.assets]
    return fingerprint(canonical({"call": resource.name, "arguments": plain(asked), "assets": assets}))
