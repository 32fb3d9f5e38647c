"""The passwords that a user types once for all hosts."""

from __future__ import annotations

from dataclasses import field

from sloth.frozen import frozen


@frozen
class Passwords:
    """What the user has typed, for all hosts. None: nothing.

    login: for SSH; become: for sudo, su or doas.
    """

    login: str | None = field(default=None, repr=False)
    become: str | None = field(default=None, repr=False)
