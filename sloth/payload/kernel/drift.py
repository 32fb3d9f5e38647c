"""Looks at everything that is recorded and says what is no longer as it was applied; writes nothing."""

from sloth.payload.kernel.diff import Seal, difference_of
from sloth.payload.kernel.replay import is_sealed, recalled, revived
from sloth.payload.kernel.resource import Change, DriftBy, Failed, Missing, Resource, difference
from sloth.payload.state.store import StoreError

DRIFT, CLEAN, UNKNOWN = "drift", "clean", "unknown"


def survey(store, host, keys=None):
    """Yield a dict for every record (of `keys`) that differs, or of which it cannot be told, and one for the rest.

    A difference: key, status "drift", diff (attribute -> applied, found, and unified for texts), msg, site, task,
    place, run, changed_at. One that cannot be told: status "unknown" and msg. Last: {"status": "clean", "count": int}.
    """
    host.offline = True
    clean = 0
    for record in store.list():
        if keys is not None and record["key"] not in keys:
            continue
        status, diff, msg = _look(record, store, host)
        host.warnings = []
        if status == CLEAN:
            clean += 1
            continue
        about = dict((name, record[name]) for name in ("key", "site", "task", "place", "run", "changed_at"))
        yield dict(about, status=status, diff=diff, msg=msg)
    yield {"status": CLEAN, "count": clean}


def _look(record, store, host):
    """(status, diff, msg) of one record: what each of its calls finds, together."""
    found, told = {}, True
    try:
        for call in record["calls"] or (None,):
            resource, known = recalled(call, host, store)
            if not isinstance(resource, Resource) or resource.drift_by is DriftBy.NOTHING:
                continue
            seal = Seal(resource, store, call["sealed"])
            try:
                now = resource.observe()
                if known and resource.drift_by is DriftBy.DESIRED:
                    found.update(_applied_and_found(resource.desired(now), now, seal))
                elif not resource.partial:
                    found.update(_by_record(record, resource, now, seal, store))
                else:
                    told = False
            except Missing as error:
                return DRIFT, {}, error.message
    except (Failed, OSError) as error:
        return UNKNOWN, {}, getattr(error, "message", "") or str(error)
    except StoreError:
        raise
    except Exception as error:  # a defect of one module must not hide what the others find
        return UNKNOWN, {}, "%s: %s" % (type(error).__name__, error)
    if not told and not found:
        return UNKNOWN, {}, "it was made with a secret; a check of its site can tell"
    return (DRIFT if found else CLEAN), found, ""


def _by_record(record, resource, now, seal, store):
    """What differs from the attributes that were recorded, as far as this call observes them."""
    wish, seen = record["desired"], seal(now)
    if wish is not None and seen is not None:
        wish = dict((name, value) for name, value in wish.items() if name in seen)
    if not difference(seen, wish):
        return {}
    shown = wish
    if wish is not None:
        shown = dict((name, value) for name, value in wish.items() if not is_sealed(value))
    diff = _applied_and_found(revived(shown, store), now, seal)
    for name in difference(seen, wish):
        if name and name not in diff:
            diff[name] = {"applied": wish[name], "found": None if seen is None else seen.get(name)}
    return diff


def _applied_and_found(wish, now, seal):
    """How what is there differs from `wish`, in the words of a survey."""
    if now is not None and wish is not None:
        now = dict((name, value) for name, value in now.items() if name in wish)
    shown = {}
    for name, entry in difference_of(Change(wish, now), seal).items():
        shown[name] = {"applied": entry["before"], "found": entry["after"]}
        if "unified" in entry and not seal.sealed:
            shown[name]["unified"] = entry["unified"]
    return shown
