"""Choose the package manager of a host."""

from sloth.payload.kernel.resource import Failed, Missing
from sloth.payload.lib.os_release import os_release
from sloth.payload.modules.pkg.names import MANAGERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Sequence

    from sloth.payload.lib.host import Host
    from sloth.payload.modules.pkg.backend import Backend

_OF_DISTRIBUTION = {
    "debian": "apt", "ubuntu": "apt", "fedora": "dnf", "rhel": "dnf", "centos": "dnf", "amzn": "dnf",
    "suse": "zypper", "opensuse": "zypper", "sles": "zypper", "arch": "pacman", "alpine": "apk",
}  # fmt: skip


def choose(host: "Host", use: "str | None" = None) -> "Backend":
    """Return the package manager `use`, or that of the distribution; raise Failed when the host has none."""
    return host.once("pkg.backend %s" % use, lambda: _choose(host, use), "for good")


def _choose(host: "Host", use: "str | None") -> "Backend":
    release = os_release()
    distributions = [release.get("ID", "")] + release.get("ID_LIKE", "").split()
    likely = [_OF_DISTRIBUTION[word] for word in distributions if word in _OF_DISTRIBUTION]
    for name in [use] if use else likely + list(MANAGERS):
        backend = create(name, host)
        if backend.is_available():
            return backend
    if use:
        raise Missing("this host has no %s" % create(use, host).tool, hint="leave out use, or name another")
    raise Failed("this host has none of the package managers %s" % ", ".join(MANAGERS))


def create(name: "str", host: "Host", root: "str" = "", options: "Sequence[str]" = ()) -> "Backend":
    """Return the package manager called `name`, such as "apt"."""
    module = "dnf" if name == "yum" else name
    found = __import__("sloth.payload.modules.pkg.%s" % module, fromlist=("BACKEND",))
    backend: "Backend" = found.BACKEND(host, root, options, "yum" if name == "yum" else "")
    return backend
