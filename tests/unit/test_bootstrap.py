"""How a payload is started, on this machine: becoming an account, directories, noise, and what never answers.

sudo and su are scripts that ask as the real ones do (those are used on the fleet, by test_become.py).
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sloth.errors import BecomeError, BootstrapError, HostError, ProtocolError, UsageError
from sloth.inventory import BecomeMethod
from sloth.payload.session import messages, wire
from sloth.transport import Bootstrap, Session
from sloth.transport.become import Become, printed_password
from sloth.transport.bundle import build
from sloth.transport.connection import STDERR_KEPT, NoFurtherSession
from sloth.transport.local import LocalConnection, LocalProcess
from sloth.transport.python_setup import python_setup_script
from sloth.transport.stage1 import make_directory, shell

# Asks as sudo -S does: prints the prompt that it is given to stderr, and reads a line; "secret" is right.
SUDO = """#!/bin/sh
ask() {
    printf %s "$1" >&2
    read -r given
    [ "$given" = secret ] || { echo "Sorry, try again." >&2; ask "$1"; }
}
while [ "$1" != -- ]; do
    case $1 in
    -p) ask "$2" ;;
    -u) echo "$2" >"$0.account" ;;
    esac
    shift
done
shift
exec "$@"
"""
SU = """#!/bin/sh
printf "Password: " >&2
read -r given
[ "$given" = secret ] || { echo "su: Authentication failure" >&2; exit 1; }
while [ "$1" != -c ]; do shift; done
echo "$3" >"$0.account"
exec /bin/sh -c "$2" "$4"
"""
MARK = f"printf '{''.join(f'{chr(92)}{byte:03o}' for byte in wire.MARK)}'"  # the shell command that prints it


class Machine:
    """This machine, with programs of its own first in the PATH."""

    def __init__(self, directory: Path) -> None:
        self.programs = directory / "programs"
        self.programs.mkdir()
        self.connection = LocalConnection()

    def program(self, name: str, text: str) -> str:
        path = self.programs / name
        path.write_text(text)
        path.chmod(0o755)
        return str(path)

    def bootstrap(self, become: Become | None = None, python: str | None = None, limit: float = 30.0) -> Bootstrap:
        """A start that takes `limit` seconds at most; to a host that is believed to have the payload."""
        return Bootstrap("web1", build(), known=True, python=python, become=become, timeout=limit)

    async def shell(self, script: str, become: Become | None = None, limit: float = 30.0) -> str:
        """What a script prints to stdout."""
        starter = self.bootstrap(become, limit=limit)
        try:
            status, output, printed = await starter.shell(self.connection, script)
        finally:
            starter.kill()
        assert status == 0, printed
        return output.decode()

    def session(self, starter: Bootstrap) -> Session:
        return Session(self.connection, starter, messages.Hello(v=messages.VERSION, agent="web1"))

    async def ready(self, starter: Bootstrap) -> messages.Ready | HostError:
        """How the start of a session ends."""
        opened = self.session(starter)
        try:
            await opened.open()
            return await opened.ready
        except HostError as error:
            return error
        finally:
            await opened.abort()


@pytest.fixture
async def booted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Machine]:
    found = Machine(tmp_path)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PATH", f"{found.programs}:{os.environ['PATH']}")
    yield found
    await found.connection.close()


METHODS = pytest.mark.parametrize(("method", "program"), [(BecomeMethod.SUDO, SUDO), (BecomeMethod.SU, SU)])


@METHODS
async def test_the_password_is_given_when_it_is_asked_for(booted: Machine, method: BecomeMethod, program: str) -> None:
    path = booted.program(method.value, program)
    become = Become("deploy", "secret", method)
    assert await booted.shell("echo here", become) == "here\n"
    assert Path(f"{path}.account").read_text() == "deploy\n"
    assert isinstance(await booted.ready(booted.bootstrap(become)), messages.Ready)


@pytest.mark.parametrize("method", [BecomeMethod.SUDO, BecomeMethod.SU])
async def test_a_lecture_before_the_prompt_hides_it_not(booted: Machine, method: BecomeMethod) -> None:
    """Only the last of what is printed to stderr is kept."""
    program = {BecomeMethod.SUDO: SUDO, BecomeMethod.SU: SU}[method]
    lecture = f"yes lecture | head -c {3 * STDERR_KEPT} >&2; sleep 0.1\n"
    booted.program(method.value, program.replace("#!/bin/sh\n", "#!/bin/sh\n" + lecture))
    assert await booted.shell("echo here", Become("deploy", "secret", method)) == "here\n"
    error = await booted.ready(booted.bootstrap(Become("deploy", "wrong", method)))
    assert isinstance(error, BecomeError)
    assert "does not accept the become password" in error.message


@METHODS
async def test_a_wrong_password_is_given_once(booted: Machine, method: BecomeMethod, program: str) -> None:
    """Several attempts could lock the account."""
    booted.program(method.value, program.replace("read -r given", 'read -r given; echo >>"$0.asked"'))
    become = Become("deploy", "wrong", method)
    error = await booted.ready(booted.bootstrap(become))
    assert isinstance(error, BecomeError), error
    assert error.message == f"web1: {method} does not accept the become password"
    assert "type it again" in error.hint
    assert (booted.programs / f"{method.value}.asked").read_text() == "\n"


async def test_a_password_that_is_not_asked_for_is_not_given(booted: Machine) -> None:
    """With NOPASSWD it would be the first line that the command reads."""
    booted.program("sudo", SUDO.replace('-p) ask "$2" ;;', ""))
    become = Become("deploy", "secret")
    assert await booted.shell("echo here", become) == "here\n"
    assert isinstance(await booted.ready(booted.bootstrap(become)), messages.Ready)


@pytest.mark.parametrize("program", ["printf 'Passwort: ' >&2", 'printf "$3" >&2; read -r x; printf "Code: " >&2'])
async def test_a_question_that_nobody_understands_has_a_deadline(booted: Machine, program: str) -> None:
    booted.program("sudo", f"#!/bin/sh\n{program}\nexec sleep 600\n")
    with pytest.raises(BecomeError) as caught:
        await booted.shell("echo here", Become("deploy", "secret"), limit=0.4)
    assert caught.value.message.startswith("web1: no response from sudo within 0.4 seconds; it printed: ")
    assert caught.value.message.endswith(("Passwort:", "Code:"))
    assert "passprompt_override" in caught.value.hint


@pytest.mark.parametrize(
    ("program", "password", "message", "hint"),
    [
        ("sudo: echo sudo: a password is required >&2; exit 1", None, "sudo requires a password", "--ask-become-pass"),
        ("su: echo su: Authentication failure >&2; exit 1", None, "su requires a password", "it is that of deploy"),
        (f"su: {SU}", "wrong", "su does not accept the become password", "it is that of deploy"),
        ("doas: echo doas: Operation not permitted >&2; exit 1", None, "the account may not become", "doas.conf"),
    ],
    ids=["sudo", "su", "password", "doas"],
)
async def test_why_a_script_may_not_run_is_told(
    booted: Machine, program: str, password: str | None, message: str, hint: str
) -> None:
    """It is what installs Python, so the first that many users see."""
    name, _, text = program.partition(": ")
    booted.program(name, text if text.startswith("#!") else f"#!/bin/sh\n{text}\n")
    with pytest.raises(BecomeError) as caught:
        await booted.shell("echo here", Become("deploy", password, BecomeMethod(name)))
    assert caught.value.message.startswith(f"web1: {message}")
    assert hint in caught.value.hint


async def test_a_script_that_fails_after_it_has_printed_tells_it_itself(booted: Machine) -> None:
    answer = await booted.bootstrap().shell(booted.connection, "echo here; echo why >&2; exit 3")
    assert answer == (3, b"here\n", "why\n")
    with pytest.raises(BootstrapError, match="exit status 3: why"):
        await booted.shell("echo why >&2; exit 3")


async def test_a_script_that_prints_without_end(booted: Machine) -> None:
    with pytest.raises(ProtocolError, match="web1 prints too much"):
        await booted.shell("while :; do echo yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy; done")


async def test_a_login_shell_that_prints_without_end(booted: Machine) -> None:
    python = booted.program("python", "#!/bin/sh\nexec yes welcome\n")
    error = await booted.ready(booted.bootstrap(python=python))
    assert isinstance(error, ProtocolError)
    assert error.message.startswith("web1 prints too much before the payload starts: b'welcome")
    assert "start-up files" in error.hint


async def test_a_payload_that_is_never_ready_has_a_deadline(booted: Machine) -> None:
    python = booted.program("python", f"#!/bin/sh\n{MARK}; echo OK; exec sleep 600\n")
    error = await booted.ready(booted.bootstrap(python=python, limit=0.2))
    assert isinstance(error, BootstrapError)
    assert error.message == "web1: the payload was not ready within 0.4 seconds"


# The first call says that the account has no directory, the second one is what root runs, the third is left alone.
WITHOUT_HOME = """#!/bin/sh
echo "$#" >>"$0.calls"
case $(wc -l <"$0.calls") in
1) MARK; echo HOME; exit 78 ;;
2) ROOT ;;
*) exec PYTHON "$@" ;;
esac
"""


@pytest.mark.parametrize("root", ["seq 100000", "exit 1"])
async def test_an_account_without_a_home_gets_a_directory_or_makes_one(booted: Machine, root: str) -> None:
    """Whatever root's attempt comes to, the account then may use a directory that anybody can make."""
    text = WITHOUT_HOME.replace("MARK", MARK).replace("ROOT", root).replace("PYTHON", sys.executable)
    python = booted.program("python", text)
    assert isinstance(await booted.ready(booted.bootstrap(python=python)), messages.Ready)
    first, made, *later = map(int, Path(f"{python}.calls").read_text().split())
    assert (made, later) == (first, [first + 1] * 2), "one that looks for the payload, and one that gets it"


class Busy(LocalConnection):
    """Refuses commands for a while, as an sshd with MaxSessions 1 that has not cleaned up after the one before."""

    def __init__(self, refusals: int) -> None:
        super().__init__()
        self._refusals = refusals
        self.started = 0

    async def start(self, command: str) -> LocalProcess:
        self.started += 1
        if 1 < self.started <= 1 + self._refusals:
            raise NoFurtherSession("web1 refuses a further session", hint="see MaxSessions")
        return await super().start(command)


@pytest.mark.parametrize(("refusals", "is_ready"), [(1, True), (3, True), (4, False)])
async def test_a_host_that_allows_one_session_is_given_time(booted: Machine, refusals: int, is_ready: bool) -> None:
    booted.connection = Busy(refusals)
    starter = booted.bootstrap()  # it has no payload, so that it must be started a second time
    answer = await booted.ready(starter)
    assert isinstance(answer, messages.Ready if is_ready else NoFurtherSession)
    assert starter.uploaded == is_ready


async def test_a_session_that_could_not_start_can_be_ended(booted: Machine) -> None:
    starter = booted.bootstrap(Become("no account"))
    opened = booted.session(starter)
    with pytest.raises(UsageError, match="'no account' is not the name of an account"):
        await opened.open()
    await opened.abort()
    assert opened.end is not None


@pytest.mark.parametrize("is_enabled", [True, False])
def test_making_a_bundle_leaves_the_garbage_collector_as_it_was(is_enabled: bool) -> None:
    """The command line runs without it: see cli.command_line()."""
    if not is_enabled:
        gc.disable()
    try:
        build()
        assert gc.isenabled() == is_enabled
    finally:
        gc.enable()


def test_scripts_for_hosts_without_a_python() -> None:
    """They hold no single quote, and no name that a shell would read."""
    assert shell("id", None) == "sh -c 'id'"
    line = shell("id", Become("deploy", None, BecomeMethod.DOAS), "")
    assert line == """sh -c 'doas -n -u deploy sh -c "$0" "$LC_ALL"' 'id'"""
    assert "for p in /opt/python;" in python_setup_script("/opt/python", True)
    for python in ("/opt/py thon", "$(id)", "python;id", "a'b"):
        with pytest.raises(UsageError, match="is not the plain path of an interpreter"):
            python_setup_script(python, False)
    for account in ("a b", "$(id)"):
        with pytest.raises(UsageError, match="is not the name of an account"):
            make_directory(None, Become(account))


@pytest.mark.parametrize("become", [None, Become("deploy")])
def test_who_makes_the_directory_of_an_account(become: Become | None) -> None:
    """Root does, or the account that logs in, which may be root."""
    line = make_directory("python3", become)
    assert ("sudo -n -H -u root" in line) == (become is not None)
    assert line.count("deploy") == (1 if become else 0)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("printf 'one\\ntwo\\n'", "one"),
        ("printf 'one\\r\\n'", "one"),
        ("printf one", "one"),
        ("printf ' one \\n'", " one "),
        ("printf '\\377\\n'", "\udcff"),
    ],
)
async def test_the_password_that_a_command_prints(command: str, expected: str) -> None:
    assert await printed_password(command) == expected


@pytest.mark.parametrize(
    ("command", "what"), [("echo one; exit 3", "ended with exit status 3"), ("echo", "printed nothing")]
)
async def test_a_password_command_that_fails(command: str, what: str) -> None:
    with pytest.raises(BecomeError) as caught:
        await printed_password(command)
    assert caught.value.message == f"become_password_command {what}"
    assert caught.value.hint == f"it is: {command}"
