"""Brings back one file, directory or link as the history describes it."""

from sloth.payload.kernel.resource import Change, Failed
from sloth.payload.lib import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sloth.payload.kernel.values import Attributes


def restore(path: "str", attributes: "Attributes | None") -> "None":
    """Make what is at `path` match `attributes` (None: nothing is there). Raises Failed, OSError."""
    now = files.look(path, False)
    if attributes is None:
        if now is None:
            return
        with files.Parent(path) as parent:
            if now["type"] == "directory":
                parent.rmdir()
            else:
                parent.unlink()
        return
    kind = attributes.get("type", "file")
    if now is not None and now["type"] != kind:
        if now["type"] not in ("file", "link", "directory"):
            raise Failed("%s is a %s now, and is not replaced" % (path, now["type"]))
        restore(path, None)
        now = None
    if kind == "link":
        if now is None or now["target"] != attributes["target"]:
            with files.Parent(path) as parent:
                parent.put_link(attributes["target"])
    elif kind == "directory":
        if now is None:
            files.make_directories(path)
        for inner, member in (attributes.get("inside") or {}).items():
            _set_attributes(inner, member)
    elif "content" in attributes:
        if files.is_exposed(path):  # whose file it was is not known for sure
            attributes = files.rewritten(attributes) or attributes if "mode" in attributes else attributes
        files.replace(path, attributes["content"].chunks(), attributes.get("mode"), wanted=attributes)
    _set_attributes(path, attributes)


def _set_attributes(path: "str", wanted: "Attributes") -> "None":
    """Set owner, group and mode as they are wanted, of a link its own."""
    permissions: "Attributes" = dict((name, wanted[name]) for name in ("owner", "group", "mode") if name in wanted)
    files.set_attributes(path, Change(files.look(path, False), permissions), False, wanted.get("target"))
