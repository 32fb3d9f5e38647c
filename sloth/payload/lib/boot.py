"""Which machine and which boot of it this is, also in a container; and when a process began."""

from sloth.payload.kernel.hashing import sha256

TYPE_CHECKING = False

BOOT_ID = "/proc/sys/kernel/random/boot_id"
MACHINE_ID = "/etc/machine-id"


def machine_identity() -> "str":
    """Return a text about the machine and its boot, for is_same_machine(). The machine's id cannot be told from it."""
    try:
        with open(MACHINE_ID, "rb") as file:
            found = file.read(100).strip()
    except OSError:
        found = b""
    return "%s/%s" % (_hidden(found) if len(found) == 32 else "", _hidden(boot_identity().encode("ascii")))


def is_same_machine(one: "str", other: "str") -> "bool":
    """Return whether two machine_identity() may be of one machine: its id may be set anew, and it may boot again."""
    return any(not a or not b or a == b for a, b in zip(one.split("/"), other.split("/")))


def _hidden(text: "bytes") -> "str":
    return sha256(b"sloth-runner " + text).hexdigest()[:32]


def boot_identity() -> "str":
    """Return a text that differs after the host has booted again, and only then.

    A container shares the kernel's boot id with its machine and all that run there. What its own boot changes is when
    its first process began, which the kernel counts in ticks since the machine's boot: no clock that is set changes it.
    """
    try:
        with open(BOOT_ID, "rb") as file:
            boot = file.read().strip().decode("ascii")
    except OSError:
        boot = ""
    return "%s/%s" % (boot, process_start(1))


def process_start(pid: "int") -> "str":
    """Return when a process began, in ticks since the machine's boot; "" when it does not run."""
    try:
        with open("/proc/%d/stat" % pid, "rb") as file:
            # The name of the command may contain anything, parentheses and spaces, too.
            words = file.read().rpartition(b")")[2].split()
        return "" if words[0] in (b"Z", b"X") else words[19].decode("ascii")
    except (OSError, IndexError):
        return ""
