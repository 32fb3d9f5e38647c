"""What can become of a call, and why: the enumerations that both ends, the state file and reports share."""

import enum


class Word(str, enum.Enum):
    """An enumeration whose members are their words: they compare, format and travel as plain text."""

    def __str__(self) -> "str":
        return str(self.value)

    def __format__(self, spec: "str") -> "str":
        return format(str(self.value), spec)


class Status(Word):
    """The result of a call or task; UNREACHABLE is a host's only."""

    CHANGED = "changed"
    UNCHANGED = "unchanged"
    SKIPPED = "skipped"
    FAILED = "failed"
    UNKNOWN = "unknown"
    UNREACHABLE = "unreachable"
    FROZEN = "frozen"  # somebody has asked that it be left alone


class Reason(Word):
    """Why something changed (DESIGN.md, section 3)."""

    NONE = ""
    NEW = "new"  # never recorded, and absent
    ADOPTED = "adopted"  # never recorded, and already as desired: unchanged, but recorded from now on
    UPDATED = "updated"  # the site changed
    DRIFT = "drift"  # the host changed
    RUN = "run"  # an action was done
    ROLLBACK = "rollback"  # a run was taken back
    REVERTED = "reverted"  # a task was taken back that nobody confirmed
    PRUNED = "pruned"  # the site no longer names it
    SUPERSEDED = "superseded"  # another call manages the thing now; nothing was changed on the host


class FailureKind(Word):
    """Why a session cannot go on."""

    CRASH = "crash"
    LOCKED = "locked"
    MACHINE = "machine"  # it is another one than that on which the run began
    PROTOCOL = "protocol"
    STATE = "state"


class DriftBy(Word):
    """How a resource's drift is found without its site."""

    DESIRED = "desired"  # by comparing observe() with desired(), computed from the recorded arguments
    RECORD = "record"  # by comparing observe() with the recorded attributes: desired() would query the network
    NOTHING = "nothing"  # it leaves nothing on the host
