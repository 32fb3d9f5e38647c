"""The facts of a host, read from /proc, /etc and the standard library, without subprocesses."""

import os
import sys

from sloth.payload.kernel.resource import Field, Query
from sloth.payload.lib import network
from sloth.payload.lib.os_release import os_release

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sloth.payload.kernel.values import Attributes, JsonObject

_FAMILIES = (
    ("debian", ("debian", "ubuntu", "raspbian", "linuxmint", "kali", "devuan")),
    ("redhat", ("rhel", "fedora", "centos", "rocky", "almalinux", "ol", "amzn")),
    ("suse", ("suse", "opensuse", "sles", "opensuse-leap", "opensuse-tumbleweed")),
    ("arch", ("arch", "manjaro", "endeavouros")),
    ("alpine", ("alpine",)),
    ("gentoo", ("gentoo",)),
)


class Gather(Query):
    """Gather the facts of the host. A site has them as the global `facts`, gathered when the first one is read.

    Reading a fact that does not exist is an error that names the nearest one.
    """

    name = "facts.gather"
    fields = ()
    returns = (
        Field("os_family", help="debian, redhat, suse, arch, alpine, gentoo, or the distribution's own name"),
        Field("distribution", help="the ID of /etc/os-release, such as debian"),
        Field("version", help="the VERSION_ID of /etc/os-release, such as 12"),
        Field("codename", help="the VERSION_CODENAME of /etc/os-release, such as bookworm"),
        Field("kernel", help="the release of the kernel"),
        Field("architecture", help="the architecture of the kernel, such as x86_64"),
        Field("hostname", help="the short host name"),
        Field("fqdn", help="the fully qualified host name, from the name itself or /etc/hosts"),
        Field("cpus", "int", help="the number of processors that the payload may use"),
        Field("memory_mb", "int", help="main memory in MiB"),
        Field("swap_mb", "int", help="swap space in MiB"),
        Field("uptime_seconds", "int", help="seconds since the host was booted"),
        Field(
            "virtualization",
            help="the container or hypervisor, such as docker, lxc, kvm or vmware, or none",
        ),
        Field("selinux", help="enforcing, permissive or disabled"),
        Field("python", help="the version of the Python that runs the payload"),
        Field("python_path", help="the path of that Python"),
        Field("user", help="the account that the payload runs as"),
        Field("home", help="the home directory of that account"),
        Field("init", help="the name of process 1, such as systemd"),
        Field("mounts", "list", help="tables with device, path and type of the mounted devices"),
        Field("interfaces", "list", help="tables with name, up, mac and addresses (such as 10.0.0.1/24)"),
        Field("address", help="the IPv4 address that the host uses to reach the Internet; empty without a route"),
        Field("users", "list", help="tables with name, uid, home and shell of the accounts in /etc/passwd"),
    )
    example = 'task({name = "show", run = function() print(facts.distribution, facts.version) end})'

    def look(self) -> "Attributes":
        release = os_release()
        kernel = os.uname()
        name = release.get("ID", "linux")
        memory = _memory()
        return {
            "os_family": _family([name] + release.get("ID_LIKE", "").split()),
            "distribution": name,
            "version": release.get("VERSION_ID", ""),
            "codename": release.get("VERSION_CODENAME", ""),
            "kernel": kernel.release,
            "architecture": kernel.machine,
            "hostname": kernel.nodename.partition(".")[0],
            "fqdn": _fqdn(kernel.nodename),
            "cpus": len(os.sched_getaffinity(0)),
            "memory_mb": memory.get("MemTotal", 0) // 1024,
            "swap_mb": memory.get("SwapTotal", 0) // 1024,
            "uptime_seconds": int(float((_first_line("/proc/uptime") or "0").split()[0])),
            "virtualization": virtualization(),
            "selinux": _selinux(),
            "python": "%d.%d.%d" % sys.version_info[:3],
            "python_path": sys.executable,
            "user": self.host.user,
            "home": self.host.home,
            "init": _first_line("/proc/1/comm"),
            "mounts": _mounts(),
            "interfaces": network.interfaces(),
            "address": network.source_address(),
            "users": _users(),
        }


def _family(names: "list[str]") -> "str":
    """Return the family of the first of the distribution's names that has one, else its own name."""
    for name in names:
        for family, members in _FAMILIES:
            if name in members or name == family:
                return family
    return names[0]


def _fqdn(nodename: "str") -> "str":
    """Return the canonical name that /etc/hosts has for `nodename`; no name server is queried."""
    if "." in nodename:
        return nodename
    try:
        with open("/etc/hosts", encoding="utf-8", errors="replace") as file:
            for line in file:
                words = line.partition("#")[0].split()
                if nodename in words[1:] and "." in words[1]:
                    return words[1]
    except OSError:
        pass
    return nodename


def _memory() -> "dict[str, int]":
    """Return the sizes in /proc/meminfo, in KiB."""
    sizes = {}
    for line in _lines("/proc/meminfo"):
        words = line.replace(":", " ").split()
        if len(words) > 1 and words[1].isdigit():
            sizes[words[0]] = int(words[1])
    return sizes


_VENDORS = (
    ("kvm", "kvm"), ("qemu", "kvm"), ("amazon ec2", "kvm"), ("google", "kvm"), ("openstack", "kvm"), ("bhyve", "bhyve"),
    ("vmware", "vmware"), ("virtualbox", "virtualbox"), ("innotek", "virtualbox"), ("microsoft", "hyperv"),
    ("xen", "xen"), ("parallels", "parallels"),
)  # fmt: skip


def virtualization() -> "str":
    """Return the container or the hypervisor that the host runs in, "none" without either.

    A container counts before the hypervisor of its host.
    """
    container = _first_line("/run/systemd/container")
    if not container:
        try:
            with open("/proc/1/environ", "rb") as file:
                for entry in file.read().split(b"\0"):
                    if entry.startswith(b"container="):
                        container = entry[10:].decode("utf-8", "replace")
        except OSError:
            pass
    if container:
        return container
    for path, name in (("/.dockerenv", "docker"), ("/run/.containerenv", "podman"), ("/proc/vz", "openvz")):
        if os.path.exists(path):
            return name
    names = " ".join(_first_line("/sys/class/dmi/id/%s" % name) for name in ("sys_vendor", "product_name"))
    for word, name in _VENDORS:
        if word in names.lower():
            return name
    if any(line.startswith("flags") and " hypervisor" in line for line in _lines("/proc/cpuinfo")):
        return "vm"
    return "none"


def _selinux() -> "str":
    mode = _first_line("/sys/fs/selinux/enforce")
    return {"1": "enforcing", "0": "permissive"}.get(mode, "disabled")


def _users() -> "list[JsonObject]":
    users = []
    for line in _lines("/etc/passwd"):
        fields = line.split(":")
        if len(fields) == 7 and fields[2].isdigit():
            users.append({"name": fields[0], "uid": int(fields[2]), "home": fields[5], "shell": fields[6]})
    return users


def _lines(path: "str") -> "list[str]":
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read().splitlines()
    except OSError:
        return []


def _first_line(path: "str") -> "str":
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.readline().strip()
    except OSError:
        return ""


def _mounts() -> "list[JsonObject]":
    mounts = []
    for line in _lines("/proc/self/mounts"):
        words = line.split()
        if len(words) > 2 and words[0].startswith("/"):
            mounts.append({"device": _unescape(words[0]), "path": _unescape(words[1]), "type": words[2]})
    return mounts


def _unescape(text: "str") -> "str":
    """Return a path of /proc/self/mounts with the octal escapes of blanks and backslashes resolved."""
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, char)
    return text
