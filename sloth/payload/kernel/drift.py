"""Finds drift: observes everything that is recorded and reports what is no longer as it was applied; writes nothing."""

from sloth.payload.kernel.diff import differences
from sloth.payload.kernel.errors import Failed, Missing, StoreError
from sloth.payload.kernel.findings import Drift, DriftStatus
from sloth.payload.kernel.redact import View, holds_mask, is_keyed_hash, view_of
from sloth.payload.kernel.replay import Sealed, replay, revive
from sloth.payload.kernel.resource import Change, Resource, difference
from sloth.payload.kernel.status import DriftBy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Collection, Iterator

    from sloth.payload.kernel.record import Record, RecordedCall
    from sloth.payload.kernel.values import Attributes, Diff
    from sloth.payload.lib.host import Host
    from sloth.payload.state.store import Store


def find_drift(store: "Store", host: "Host", keys: "Collection[str] | None" = None) -> "Iterator[Drift]":
    """Yield a Drift for every record (of `keys`) that differs or cannot be compared; last the number of the others."""
    host.offline = True
    frozen = store.freezes.active()
    clean = 0
    for record in store.records.select():
        # What its site no longer names, and could not be removed, is nobody's: nothing is desired of it.
        if not record.is_active or (keys is not None and record.key not in keys):
            continue
        found = _compare(record, store, host)
        host.warnings = []
        if record.key in frozen:
            found = found.replace(status=DriftStatus.FROZEN, msg=store.freezes.sentence(record.key))
        if found.status is DriftStatus.CLEAN:
            clean += 1
            continue
        yield found.replace(
            key=record.key, site=record.site, task=record.task, place=record.place, run=record.run,
            changed_at=record.changed_at,
        )  # fmt: skip
    yield Drift(status=DriftStatus.CLEAN, count=clean)


def _compare(record: "Record", store: "Store", host: "Host") -> "Drift":
    """Return what each of a record's calls finds, together."""
    found: "Diff" = {}
    is_comparable = True
    calls: "list[RecordedCall | None]" = [*(record.calls or ())] or [None]
    try:
        for call in calls:
            resource, is_known = replay(call, host, store, record.key)
            if not isinstance(resource, Resource) or resource.drift_by is DriftBy.NOTHING:
                continue
            view = view_of(resource, call, store)
            try:
                now = resource.observe()
                if is_known and resource.drift_by is DriftBy.DESIRED:
                    found.update(_applied_and_found(resource.desired(now), now, view))
                elif not resource.partial:
                    found.update(_against_record(record, now, view, store))
                    is_comparable = is_comparable and not _is_hidden(record, now)
                else:
                    is_comparable = False
            except Missing as error:
                return Drift(status=DriftStatus.DRIFT, msg=error.message)
    except StoreError:
        raise
    except Sealed:
        is_comparable = False
    except Failed as error:
        return Drift(status=DriftStatus.UNKNOWN, msg=error.message)
    except OSError as error:
        return Drift(status=DriftStatus.UNKNOWN, msg=str(error))
    except Exception as error:  # a defect of one module must not hide what the others find
        return Drift(status=DriftStatus.UNKNOWN, msg="%s: %s" % (type(error).__name__, error))
    if not is_comparable and not found:
        return Drift(status=DriftStatus.UNKNOWN, msg="it was made with a secret; a check of its site can tell")
    return Drift(status=DriftStatus.DRIFT if found else DriftStatus.CLEAN, diff=found)


def _against_record(record: "Record", now: "Attributes | None", view: "View", store: "Store") -> "Diff":
    """Return what differs from the attributes that were recorded, as far as this call observes them."""
    applied, seen = record.desired, view.attributes(now).data
    if applied is not None and seen is not None:
        applied = dict((name, applied[name]) for name in applied if name in seen and not holds_mask(applied[name]))
    names = difference(seen, applied)
    if not names:
        return {}
    known = applied
    if applied is not None:
        known = dict(
            (name, value) for name, value in applied.items() if not is_keyed_hash(value) and not holds_mask(value)
        )
    diff = _applied_and_found(revive(known, store), now, view)
    for name in names:
        if name and name not in diff and applied is not None:
            diff[name] = {"applied": applied[name], "found": None if seen is None else seen.get(name)}
    return diff


def _is_hidden(record: "Record", now: "Attributes | None") -> "bool":
    """Return whether a secret was hidden in what would have to be compared."""
    return any(name in (now or {}) and holds_mask(value) for name, value in (record.desired or {}).items())


def _applied_and_found(applied: "Attributes | None", now: "Attributes | None", view: "View") -> "Diff":
    """Return how the host differs from what was applied, redacted: attribute -> applied, found, and unified."""
    if now is not None and applied is not None:
        now = dict((name, value) for name, value in now.items() if name in applied)
    shown: "Diff" = {}
    for name, entry in view.diff(differences(Change(applied, now))).data.items():
        shown[name] = {"applied": entry["before"], "found": entry["after"]}
        if "unified" in entry and not view.sensitive:
            shown[name]["unified"] = entry["unified"]
    return shown
