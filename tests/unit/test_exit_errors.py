"""What a session that ends by itself is reported as: what happened, and what to do about it."""

from __future__ import annotations

import pytest

from sloth.errors import BecomeError, BootstrapError, ConnectionLost, HostError, LockedError
from sloth.inventory import BecomeMethod
from sloth.payload.session.messages import LockHolder
from sloth.transport import exit_errors
from sloth.transport.become import Become

SUDO, SU, DOAS = BecomeMethod.SUDO, BecomeMethod.SU, BecomeMethod.DOAS


def refused(method: BecomeMethod, printed: str, status: int | None = 1, password: str | None = None) -> HostError:
    """The error of a session that was to become "deploy" and printed this."""
    return exit_errors.explain("web1", status, printed, False, Become("deploy", password, method))


# What the programs print, word for word: sudo 1.9, sudo-rs 0.2, su of util-linux, shadow and busybox, OpenDoas 6.8.
@pytest.mark.parametrize(
    ("method", "printed", "message", "hint"),
    [
        (SUDO, "sudo: a password is required", "sudo requires a password", "--ask-become-pass"),
        (SUDO, "sudo: a terminal is required to read the password", "sudo requires a password", "NOPASSWD"),
        (SUDO, "sudo: interactive authentication is required", "sudo refuses: sudo: interactive", "the account"),
        (SUDO, "sudo: 1 incorrect password attempt", "sudo does not accept the become password", "type it again"),
        (SUDO, "sudo-rs: 3 incorrect authentication attempts", "sudo does not accept the become", "type it again"),
        (SUDO, "sudo: no password was provided", "sudo does not accept the become password", "type it again"),
        (SUDO, "ann is not in the sudoers file.\nsudo: sorry", "the account may not use sudo", "add it to sudoers"),
        (
            SUDO,
            "Sorry, user ann is not allowed to execute '/bin/sh -c x' as deploy on web1.\nsudo: sorry",
            "the account may not become that user by sudo",
            "check sudoers",
        ),
        (SUDO, "sudo: sorry, you must have a tty to run sudo", "sudo on the host requires a terminal", "requiretty"),
        (SUDO, "sudo: /etc/sudo.conf is owned by uid 7, should be 0", "sudo refuses: sudo: /etc/sudo.conf", "config"),
        (SU, "su: must be run from a terminal", "su on the host requires a terminal", "use sudo or doas"),
        (SU, "Password: su: Permission denied", "the account may not use su", "the group wheel"),
        (SU, "su: Authentication failure", "su requires a password", "it is that of deploy"),
        (SU, "su: cannot set groups: Operation not permitted", "su refuses: su: cannot set groups", "configuration"),
        (DOAS, "doas: Authentication required", "doas requires a password", "nopass"),
        (DOAS, "doas: a tty is required", "doas requires a password", "--ask-become-pass"),
        (DOAS, "doas: Authentication failed", "doas does not accept the become password", "type it again"),
        (DOAS, "doas: Authorization failed", "doas does not accept the become password", "type it again"),
        (DOAS, "doas: Operation not permitted", "the account may not become that user by doas", "/etc/doas.conf"),
        (DOAS, "doas: doas is not enabled, /etc/doas.conf: No such file", "doas is not set up", "/etc/doas.conf"),
        (DOAS, "doas: syntax error at line 3", "doas refuses: doas: syntax error at line 3", "configuration"),
    ],
)
def test_each_refusal_says_what_to_do(method: BecomeMethod, printed: str, message: str, hint: str) -> None:
    error = refused(method, printed)
    assert isinstance(error, BecomeError), error
    assert error.message.startswith(f"web1: {message}"), error.message
    assert hint in error.hint
    assert not error.is_missing


@pytest.mark.parametrize(
    ("method", "printed"),
    [
        (SUDO, "sudo: unknown user deploy\nsudo: error initializing audit plugin"),
        (SUDO, "sudo: unknown user: deploy"),
        (SUDO, "sudo: Unbekannter Benutzer: deploy"),
        (SUDO, "sudo-rs: user 'deploy' not found"),
        (SU, "su: user deploy does not exist or the user entry does not contain all the required fields"),
        (SU, "su: unknown user deploy"),
        (SU, "No directory\nsu: No passwd entry for user 'deploy'"),
        (DOAS, "doas: unknown user"),
    ],
)
def test_an_account_that_does_not_exist(method: BecomeMethod, printed: str) -> None:
    """A call before it may make the account, so that a check does not call this a failure."""
    error = refused(method, printed)
    assert error.message == "web1: the account deploy, which is to be become, does not exist"
    assert isinstance(error, BecomeError)
    assert error.is_missing
    # What a command that was run prints with another status says nothing about the account.
    assert "does not exist" not in refused(method, printed, status=3).message.replace(printed.strip(), "")


def test_su_names_whose_password_is_wanted() -> None:
    """The others want that of the account that logs in."""
    error = refused(SU, "Password: su: Authentication failure", password="x")
    assert error.message == "web1: su does not accept the become password"
    assert error.hint == "type it again; it is that of deploy"
    assert exit_errors.wrong_password("web1", Become("deploy")).hint.endswith("the login account's own")


@pytest.mark.parametrize("method", list(BecomeMethod))
def test_a_tool_that_is_not_installed(method: BecomeMethod) -> None:
    error = refused(method, f"sh: 1: {method.value}: not found", status=127)
    assert error.message == f"web1: {method.value} was not found on the host"
    assert f"install {method.value}, or set become_method" in error.hint
    assert isinstance(error, BecomeError)
    assert error.is_missing


def test_words_of_another_program_are_no_refusal() -> None:
    """They are told as they are: the login shell's start-up files may print anything."""
    error = refused(SUDO, "profile: permission denied\nbash: a password is required", status=2)
    assert isinstance(error, BootstrapError)
    assert not isinstance(error, BecomeError)
    assert error.message.endswith("exit status 2: profile: permission denied\nbash: a password is required")
    lost = refused(SUDO, "sudo: something new", status=None)
    assert isinstance(lost, ConnectionLost)
    assert lost.message == "the connection to web1 was lost: sudo: something new"


@pytest.mark.parametrize(
    ("status", "begun", "kind", "message", "hint"),
    [
        (None, True, ConnectionLost, "the connection to web1 was lost", "what was done on the host is kept; run again"),
        (-9, True, ConnectionLost, "the payload on web1 was ended by signal 9", "run again"),
        (-15, False, ConnectionLost, "the payload on web1 was ended by signal 15", "run again"),
        (1, True, ConnectionLost, "the payload on web1 ended with exit status 1", "run again"),
        (1, False, BootstrapError, "the payload did not start on web1: exit status 1", ""),
    ],
)
@pytest.mark.parametrize("printed", ["", "Killed\n"])
def test_how_a_payload_ended(
    status: int | None, begun: bool, kind: type[HostError], message: str, hint: str, printed: str
) -> None:
    error = exit_errors.explain("web1", status, printed, begun)
    assert type(error) is kind
    assert error.message == message + (": Killed" if printed else "")
    assert error.hint == hint


@pytest.mark.parametrize(
    ("tried", "what"),
    [("", "none was found"), (" python3 /usr/bin/python3", "python3, /usr/bin/python3 cannot be used (too old, or")],
)
def test_a_host_without_a_python(tried: str, what: str) -> None:
    error = exit_errors.explain("web1", 127, f"motd\n{exit_errors.NO_PYTHON}{tried}\n", False)
    assert error.message.startswith(f"web1 has no usable Python: {what}")
    assert "sloth-runner bootstrap installs python3" in error.hint


def test_who_holds_the_lock_of_a_host() -> None:
    holder = LockHolder(run="r7", who="ann", origin="desk", pid=4711, since=1_000_000_000)
    error = exit_errors.locked("web1", holder)
    assert isinstance(error, LockedError)
    assert error.message.startswith("web1 is locked by ann from desk (run r7, process 4711) since 2001-09-")
    assert exit_errors.locked("web1", LockHolder()).message == "web1 is locked by another run"
    assert "--lock-wait" in error.hint
