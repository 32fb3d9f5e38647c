"""Brings a recorded call back to life, so that its resource can be looked at, restored or removed without the site."""

from sloth.payload.kernel.content import Content
from sloth.payload.kernel.record import Asset
from sloth.payload.kernel.registry import find
from sloth.payload.kernel.resource import Args, ArgumentError, Failed

SEALED = "sealed"  # stands for an argument of which only a keyed hash was kept


class Kept(object):
    """A Host's stand-in for the controller: contents are those that the state file keeps."""

    def __init__(self, store):
        self._store = store

    def asset(self, call, index):
        asset = call.assets[index]
        content = self._store.contents.get(asset.sha256)
        return content or Content(asset.sha256, asset.size, lambda: _not_kept(asset.name))


def _not_kept(name):
    raise Failed("the content of %s is not kept on the host" % (name or "it"))


def recalled(call, host, store):
    """Return (the Call that `call` describes, whether all of its arguments are known).

    call: a dict of name, args and assets, as converge.described() made it. Raises Failed when it cannot be made again.
    """
    if call is None:
        raise Failed("how it was made is not recorded", hint="a run of its site records it")
    try:
        cls = find(call["name"])
    except ArgumentError as error:
        raise Failed("%s is not among the modules" % call["name"], hint=error.hint or "give --modules DIR")
    known = True
    args = {}
    for field in cls.fields:
        value = call["args"].get(field.name, field.default)
        if is_sealed(value):
            known = False
            value = SEALED if field.type in ("str", "any") else field.default
        args[field.name] = value
    made = cls(Args(args), host, [Asset.read(asset) for asset in call.get("assets") or ()])
    made.host.asset = Kept(store).asset
    return made, known


def is_sealed(value):
    """Whether a recorded value is a keyed hash that stands for a secret."""
    return isinstance(value, dict) and list(value) == ["secret"]


def revived(attributes, store):
    """Recorded attributes (dict or None) with their contents; raises Failed for one that was a secret."""
    if attributes is None:
        return None
    return dict((name, _revived(name, value, store)) for name, value in attributes.items())


def _revived(name, value, store):
    if is_sealed(value):
        raise Failed("its former %s is a secret, and was not kept" % name)
    if isinstance(value, dict) and sorted(value) == ["sha256", "size"]:
        kept = store.contents.get(value["sha256"])
        return kept or Content(value["sha256"], value["size"], lambda: _not_kept("it"))
    return value
