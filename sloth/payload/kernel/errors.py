"""The exceptions of the payload: what a call, the state file or the wire can fail of; and the one "did you mean"."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterable


class PayloadError(Exception):
    """Base of the payload's own errors: a sentence for the user, and what they can do about it."""

    def __init__(self, message: "str", hint: "str" = "") -> "None":
        Exception.__init__(self, message)
        self.message = message
        self.hint = hint


class Failed(PayloadError):
    """A call cannot do what it was asked to do.

    `detail` holds what a command printed; `numbers` what is known of the call's result all the same, such as exit_code.
    """

    def __init__(
        self, message: "str", hint: "str" = "", detail: "str" = "", numbers: "dict[str, int] | None" = None
    ) -> "None":
        PayloadError.__init__(self, message, hint)
        self.detail = detail
        self.numbers = numbers or {}


class Missing(Failed):
    """Something does not exist that an earlier call of the site may create: a user, a file, a command, a unit.

    In a check, where earlier calls have created nothing, it is no failure: the call's effect is not known.
    """


class NotKept(Failed):
    """A content that was there once is not kept on the host: it was too large, too long ago, or had secrets in it."""


class ArgumentError(Failed):
    """The call's arguments are invalid; nothing was touched."""


class NotConverged(Failed):
    """After the change the host is still not as desired."""


class StoreError(PayloadError):
    """The state file cannot be used.

    `damaged` means that it is no sound database, `unwritable` that its file system is full or read-only.
    """

    def __init__(self, message: "str", hint: "str" = "", damaged: "bool" = False, unwritable: "bool" = False) -> "None":
        PayloadError.__init__(self, message, hint)
        self.damaged = damaged
        self.unwritable = unwritable


class WrongMachine(PayloadError):
    """The run has begun on another machine."""


class NotFound(StoreError):
    """The state does not have what a query names: no such run."""


class Locked(PayloadError):
    """Another run holds the host and did not finish in time; the message names its holder."""


class Disconnected(PayloadError):
    """The controller is no longer connected."""


def nearest(word: "str", known: "Iterable[str]") -> "str":
    """Return the known word nearest to `word`, or "" when none is near."""
    import difflib

    near = difflib.get_close_matches(word, list(known), 1, 0.6)
    return near[0] if near else ""


def did_you_mean(word: "str", known: "Iterable[str]") -> "str":
    """Return 'did you mean "x"?' for the known word nearest to `word`, or ""."""
    near = nearest(word, known)
    return 'did you mean "%s"?' % near if near else ""
