"""What can become of a call, and why: the enumerations that both ends, the state file and reports share."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from enum import Enum
    from typing import Iterator
else:
    # What Enum would do here, without the module `enum`: loading it, and making these classes with it, takes a
    # twentieth of a payload's start.
    class WordType(type):
        """Makes a member of each word in the body of a class."""

        def __new__(cls, name: "str", bases: "tuple[type, ...]", namespace: "dict[str, object]") -> "WordType":
            made = type.__new__(cls, name, bases, namespace)
            made._members = {}
            for key, value in namespace.items():
                if key.isupper() and isinstance(value, str):
                    member = str.__new__(made, value)
                    member.name, member.value = key, value
                    made._members[value] = member
                    setattr(made, key, member)
            return made

        def __call__(cls, value: "str") -> "Word":
            try:
                return cls._members[value]
            except (KeyError, TypeError):
                raise ValueError("%r is not a valid %s" % (value, cls.__name__))

        def __iter__(cls) -> "Iterator[Word]":
            return iter(cls._members.values())

        def __len__(cls) -> "int":
            return len(cls._members)

    class Enum(metaclass=WordType):
        """The base of an enumeration; a member is the only object with its word."""

        def __reduce__(self) -> "tuple[type, tuple[str]]":
            return type(self), (self.value,)

        def __copy__(self) -> "Enum":
            return self


class Word(str, Enum):
    """An enumeration whose members are their words: they compare, format and travel as plain text."""

    def __repr__(self) -> "str":
        return "<%s.%s: %r>" % (type(self).__name__, self.name, self.value)

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
