"""Facts: what a machine says of itself, read from /proc, /etc and the standard library, without subprocesses."""

import os
import platform
import socket
import sys

from sloth.payload.resource import Field, Query

_FAMILIES = (
    ("debian", ("debian", "ubuntu", "raspbian", "linuxmint", "kali", "devuan")),
    ("redhat", ("rhel", "fedora", "centos", "rocky", "almalinux", "ol", "amzn")),
    ("suse", ("suse", "opensuse", "sles", "opensuse-leap", "opensuse-tumbleweed")),
    ("arch", ("arch", "manjaro", "endeavouros")),
    ("alpine", ("alpine",)),
    ("gentoo", ("gentoo",)),
)


class Gather(Query):
    """Look at the machine. In a site it is the global `facts`, gathered once per host when its first field is read."""

    name = "facts.gather"
    fields = ()
    returns = (
        Field("os_family", help="debian, redhat, suse, arch, alpine, gentoo, or the distribution's own name"),
        Field("distribution", help="the ID of /etc/os-release, such as debian"),
        Field("version", help="its VERSION_ID, such as 12"),
        Field("codename", help="its VERSION_CODENAME, such as bookworm"),
        Field("kernel", help="the kernel's release"),
        Field("architecture", help="the machine's architecture, such as x86_64"),
        Field("hostname", help="the short host name"),
        Field("fqdn", help="the full host name, as far as /etc/hosts and the name say"),
        Field("cpus", "int", help="processors that can be used"),
        Field("memory_mb", "int", help="memory in MiB"),
        Field("python", help="version of the Python that runs the payload"),
        Field("user", help="the account that the payload runs as"),
        Field("home", help="its home directory"),
        Field("init", help="the name of process 1, such as systemd"),
        Field("mounts", "list", help="tables with device, path, type of what is mounted from a device"),
        Field("interfaces", "list", help="names of the network interfaces"),
    )
    example = 'task({name = "show", run = function() print(facts.distribution, facts.version) end})'

    def look(self):
        release = os_release()
        kernel = os.uname()
        name = release.get("ID", "linux")
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
            "memory_mb": _memory(),
            "python": platform.python_version(),
            "python_path": sys.executable,
            "user": self.host.user,
            "home": self.host.home,
            "init": _first_line("/proc/1/comm"),
            "mounts": _mounts(),
            "interfaces": _interfaces(),
        }


def os_release():
    """Return /etc/os-release (or /usr/lib/os-release) as a dict of str."""
    values = {}
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                lines = file.read().splitlines()
        except OSError:
            continue
        for line in lines:
            name, equals, value = line.strip().partition("=")
            if equals and not name.startswith("#"):
                values[name] = value.strip("\"'")
        break
    return values


def _family(names):
    for name in names:
        for family, members in _FAMILIES:
            if name in members or name == family:
                return family
    return names[0]


def _fqdn(nodename):
    """The canonical name that /etc/hosts gives our own name; no name server is asked."""
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


def _memory():
    line = _first_line("/proc/meminfo")
    words = line.split()
    return int(words[1]) // 1024 if len(words) > 1 and words[1].isdigit() else 0


def _first_line(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.readline().strip()
    except OSError:
        return ""


def _mounts():
    mounts = []
    try:
        with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError:
        return mounts
    for line in lines:
        words = line.split()
        if len(words) > 2 and words[0].startswith("/"):
            mounts.append({"device": _unescape(words[0]), "path": _unescape(words[1]), "type": words[2]})
    return mounts


def _unescape(text):
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, char)
    return text


def _interfaces():
    try:
        return sorted(name for _, name in socket.if_nameindex())
    except OSError:
        return []
