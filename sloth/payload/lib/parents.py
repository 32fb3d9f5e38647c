"""The directories that a path is in: what is in the way of a new thing, and what a new directory inherits."""

import os
import stat

from sloth.payload.kernel.resource import Missing
from sloth.payload.lib.attributes import look
from sloth.payload.lib.modes import umask

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sloth.payload.kernel.values import Attributes
    from sloth.payload.lib.host import Host


def refuse_blocked(host: "Host", path: "str") -> "None":
    """Raise Missing when an absolute path leads through what is no directory, so that nothing can be made there.

    In a check what earlier calls would leave counts.
    """
    nearest, seen = _nearest(host, path)
    if seen is not None and seen["type"] != "directory":
        what = "link that leads nowhere" if seen["type"] == "link" else seen["type"]
        raise Missing("%s is not a directory but a %s" % (nearest, what), hint="it is in the way of %s" % path)


def end_of(host: "Host", path: "str") -> "str":
    """Return where the link at `path` leads; of what is no link, itself."""
    return host.resolve(path) if os.path.islink(path) else path


def new_directory_mode(host: "Host", path: "str") -> "int":
    """Return the mode that a directory gets made at `path`: 0777 less the umask, and set-gid as its parent.

    path: absolute. In a check the directories that earlier calls would make count.
    """
    seen = _nearest(host, path)[1] or {}
    return 0o777 & ~umask() | int(seen.get("mode", "0"), 8) & stat.S_ISGID


def _nearest(host: "Host", path: "str") -> "tuple[str, Attributes | None]":
    """Return the nearest thing above `path` that exists, or would, and what look() says of it; None: not known."""
    while path != "/":
        path = os.path.dirname(path)
        for name in (path, host.canonical(path)):
            if name in host.predicted:
                seen = host.predicted[name]
                break
        else:
            try:
                seen = look(path) or look(path, False)  # of a link that leads nowhere the link
            except OSError:
                return path, None
        if seen is not None:
            return path, seen if "type" in seen else None
    return path, None
