"""The only decider: observes, compares, applies, verifies and records, once for every resource there is."""

import time

from sloth.payload.kernel.errors import Failed, Missing, NotConverged, StoreError
from sloth.payload.kernel.record import Context, Outcome
from sloth.payload.kernel.resource import Action, Change, Query, Resource
from sloth.payload.kernel.status import Reason, Status
from sloth.payload.kernel.step import Step, notify, record_action, recorded_call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from sloth.payload.kernel.foresight import Foresight
    from sloth.payload.kernel.resource import Call
    from sloth.payload.kernel.values import Attributes
    from sloth.payload.lib.host import Host
    from sloth.payload.state.store import Store

__all__ = ("NotConverged", "converge", "execute", "timed")


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
        msg = "not known before the run: %s" % error.message
        if isinstance(call, Action) and call.safe_in_check():  # it changes nothing, whatever it would answer
            return Outcome(status=Status.UNKNOWN, msg=msg, unknown=True)
        if isinstance(call, Resource):
            may_differ = call.wants_nothing()  # it may be so already when it comes
            _note_missing(call, store, may_differ)
            if may_differ:
                return Outcome(status=Status.UNKNOWN, msg=msg, unknown=True)
        return _unknown(Reason.NEW, msg)
    except Exception:
        call.host.changed()
        raise
    if outcome.status is Status.CHANGED:
        call.host.pending = check
        call.host.changed()
    return outcome


def converge(resource: "Resource", store: "Store", check: "bool", context: "Context") -> "Outcome":
    """Bring one Resource to its fixed point: desired(observe()) == observe()."""
    freeze = store.freezes.of(resource.parts()) if store.freezes.any() else None
    if freeze is not None:
        return Outcome(status=Status.FROZEN, msg=store.redactor.text(freeze))
    host = resource.host
    foresight = host.foresight if check else None
    place = None if foresight is None else foresight.place_of(resource)
    is_foreseen = check and resource.foreseeable and resource.key() in host.predicted
    is_predicted = place is not None and place in host.predicted
    known = None
    if foresight is not None and not is_predicted and not is_foreseen:
        known = foresight.known(resource)
        if known.is_unknown:
            return _another_call(resource, store)
    try:
        before = host.predicted[place] if place is not None and is_predicted else resource.observe()
        if is_foreseen:
            before = _overlay(before, host.predicted[resource.key()])
        desired = resource.desired(before)
    except Missing:
        if known is None or not known.is_done:
            raise
        return Outcome(status=Status.UNCHANGED, unknown=True)
    change = Change(before, desired)
    if known is not None:
        left = known.settle(change)
        if left is None:
            return _another_call(resource, store)
        change = left
    step = Step(resource, store, context, change)
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
    _foresight(resource, store).remember(step)
    return Outcome(
        status=Status.CHANGED,
        reason=step.reason(),
        diff=step.view.diff(diff).data,
        values=resource.result(desired),
        before=step.view.former(before).data,
        after=step.view.attributes(desired).data,
    )


def _another_call(resource: "Resource", store: "Store") -> "Outcome":
    """Return what a check says of a call about something that an earlier one would change otherwise."""
    _foresight(resource, store).note_unknown(resource)
    msg = "not known before the run: an earlier call would change it"
    return Outcome(status=Status.UNKNOWN, msg=msg, unknown=True)


def _note_missing(resource: "Resource", store: "Store", may_differ: "bool") -> "None":
    try:
        _foresight(resource, store).note_missing(resource, may_differ)
    except Failed:  # its own things are not known either
        return


def _foresight(resource: "Resource", store: "Store") -> "Foresight":
    host = resource.host
    if host.foresight is None:
        from sloth.payload.kernel.foresight import Foresight  # only a check with changes has some

        host.foresight = Foresight(host, store.redactor)
    return host.foresight


def _overlay(observed: "Attributes | None", planned: "Attributes | None") -> "Attributes | None":
    """Return what a call would observe after those whose changes are `planned`; each observes attributes of its own."""
    if planned is None or observed is None:
        return planned
    return dict(observed, **dict((name, planned[name]) for name in planned if name in observed))


def _unknown(reason: "Reason", msg: "str") -> "Outcome":
    """Return a change in a check of which the values are not known."""
    return Outcome(status=Status.CHANGED, reason=reason, msg=msg, unknown=True)


def _act(action: "Action", store: "Store", check: "bool", context: "Context") -> "Outcome":
    try:
        needless = action.guard()
    except Missing as error:
        if not (check and action.host.pending):
            raise
        return Outcome(status=Status.UNKNOWN, msg="not known before the run: %s" % error.message, unknown=True)
    if needless:
        return Outcome(status=Status.UNCHANGED, msg=needless, values=action.unrun(needless))
    if check and not action.safe_in_check():
        if action.only_waits:
            return Outcome(status=Status.UNKNOWN, msg=action.unknown_hint, unknown=True)
        action.foresee()
        return _unknown(Reason.RUN, action.forecast)
    key = store.redactor.key(action.key())
    # A check writes nothing, so what runs in one (it changes nothing) owes no handler either.
    fresh: "list[str]" = []
    if not check:
        with _FullDisk(store, action.host):
            fresh = notify(store, context, key)
    try:
        values = action.run()
    except Failed as error:
        if check and action.host.pending:  # what it needs may be what an earlier call brings
            raise Missing(error.message, error.hint, error.detail)
        if not check:
            with _FullDisk(store, action.host):
                store.handlers.settle(context.site, fresh)
        raise
    action.host.changed()  # also when it reports that nothing did, which is the site's word
    has_changed = values.pop("changed", True)
    if check or not has_changed:
        if not check:
            with _FullDisk(store, action.host):
                store.handlers.settle(context.site, fresh)
        return Outcome(status=Status.CHANGED if has_changed else Status.UNCHANGED, values=values,
                       reason=Reason.RUN if has_changed else Reason.NONE)  # fmt: skip
    with _FullDisk(store, action.host):
        record_action(store, key, values, context, recorded_call(action, store.redactor, context))
    return Outcome(status=Status.CHANGED, reason=Reason.RUN, values=values)


class _FullDisk(object):
    """Lets an action go on when the state cannot be written, because it may be what frees the disk; for `with`."""

    def __init__(self, store: "Store", host: "Host") -> "None":
        self._store = store
        self._host = host

    def __enter__(self) -> "None":
        pass

    def __exit__(
        self, kind: "type[BaseException] | None", error: "BaseException | None", trace: "TracebackType | None"
    ) -> "bool":
        if not isinstance(error, StoreError) or not error.unwritable:
            return False
        self._store.abandon()
        self._host.warn(unrecorded(error))
        return True


def unrecorded(error: "StoreError") -> "str":
    """Return the warning that an action is not in the history."""
    return "this command is not recorded: %s" % error.message
