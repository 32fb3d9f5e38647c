"""Makes a recorded call again, so that its resource can be observed, restored or removed without the site."""

from sloth.payload.kernel.content import Content
from sloth.payload.kernel.errors import ArgumentError, Failed, NotKept
from sloth.payload.kernel.redact import holds_mask, is_keyed_hash
from sloth.payload.kernel.registry import find
from sloth.payload.kernel.resource import Args, Field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterator

    from sloth.payload.kernel.record import RecordedCall
    from sloth.payload.kernel.resource import Call
    from sloth.payload.kernel.values import Arguments, Attributes, Json
    from sloth.payload.lib.host import Host
    from sloth.payload.state.store import Store


class Unknown(str):
    """Stands for an argument of which only a keyed hash was kept."""


class Sealed(Failed):
    """It is not known which thing a record describes: that was a secret."""


UNKNOWN = Unknown("sealed")
LOST = "what it is about was a secret, which is not kept"
RUN = "a run of its site knows it"


def replay(call: "RecordedCall | None", host: "Host", store: "Store", key: "str") -> "tuple[Call, bool]":
    """Return (the Call that a record describes, whether all of its arguments are known). Raises Failed, Sealed.

    The contents that the controller shipped are those that the state file keeps. key: that of the record. When it is
    not the replayed call's, what the call is about was a secret, and it would concern something else.
    """
    made, is_known = remake(call, host)
    if not is_known and store.redactor.key(made.key()) != key:
        raise Sealed(LOST, hint=RUN)
    host.asset = lambda call, index: _kept_asset(store, call, index)  # type: ignore[method-assign]  # no controller here
    return made, is_known


def remake(call: "RecordedCall | None", host: "Host") -> "tuple[Call, bool]":
    """Return what replay() does, also where it is about something else than it was, because of a secret in its name.

    Its file is the same all the same. Raises Failed; Sealed, if its path is a secret.
    """
    if call is None:
        raise Failed("how it was made is not recorded", hint="a run of its site records it")
    try:
        cls = find(call.name)
    except ArgumentError:
        raise Failed("%s is not among the modules" % call.name, hint="give --modules DIR")
    is_known = True
    args = {}
    for field in cls.fields:
        value = call.args.get(field.name, field.default)
        if is_keyed_hash(value):
            if field.type == "path" and not field.how:
                raise Sealed(LOST, hint=RUN)
            is_known = False
            value = _stand_in(field)
        args[field.name] = value
    return cls(Args(args), host, call.assets), is_known


def without_unknown(args: "Arguments") -> "Arguments":
    """Return the arguments of a call without those that stand for secrets."""
    return dict((name, value) for name, value in args.items() if not _is_unknown(value))


def _is_unknown(value: "Json") -> "bool":
    return isinstance(value, Unknown) or (isinstance(value, list) and any(isinstance(one, Unknown) for one in value))


def _stand_in(field: "Field") -> "Json":
    if field.type in ("str", "any", "file"):
        return UNKNOWN
    if not field.required:
        return field.default
    return [UNKNOWN]


def revive(attributes: "Attributes | None", store: "Store") -> "Attributes | None":
    """Return recorded attributes with their contents. Raises Failed for one that was a secret."""
    if attributes is None:
        return None
    return dict((name, _revived(name, value, store)) for name, value in attributes.items())


def _revived(name: "str", value: "Json", store: "Store") -> "Json":
    if is_keyed_hash(value) or holds_mask(value):
        raise Failed("its former %s is a secret, and was not kept" % name)
    if isinstance(value, dict) and sorted(value) == ["sha256", "size"]:
        return _kept(store, value["sha256"], value["size"])
    return value


def _kept_asset(store: "Store", call: "Call", index: "int") -> "Content":
    asset = call.assets[index]
    return _kept(store, asset.sha256, asset.size)


def _kept(store: "Store", sha256: "str", size: "int") -> "Content":
    return store.blobs.get(sha256) or Content(sha256, size, _not_kept)


def _not_kept() -> "Iterator[bytes]":
    raise NotKept("its content is not kept on the host")
