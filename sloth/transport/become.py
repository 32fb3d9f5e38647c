"""How a session becomes another account: by sudo, su or doas, with a password or without."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
from collections.abc import Callable
from dataclasses import field

from sloth.errors import BecomeError, UsageError
from sloth.frozen import frozen
from sloth.inventory import BecomeMethod
from sloth.payload.session import wire

COMMAND = 120.0  # seconds for become_password_command, which may ask its user for something
_SAFE_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]*\$?\Z")  # with "@" for accounts of a domain


@frozen
class Become:
    """The account to become, how, and the password for that (None: none must be wanted).

    sudo and doas want the password of the login account, su that of the account to become.
    """

    account: str
    password: str | None = field(default=None, repr=False)
    method: BecomeMethod = BecomeMethod.SUDO

    def prompt(self) -> str:
        """Return what is printed to stderr when the password is wanted; "" when it must not be."""
        if self.password is None:
            return ""
        return "Password: " if self.method is BecomeMethod.SU else f"sloth-{secrets.token_hex(8)}:"

    def switch(self, prompt: str, python: Callable[[str, str], str]) -> str:
        """Return the shell command that runs the shell command "$0" as the account, with $LC_ALL as its $0.

        It speaks English, since refusals are told apart by their words. It is free of single quotes.
        python(source, arguments): returns the command that runs Python source. Raises UsageError for odd names.
        """
        check_account(self.account)
        rest = '"$0" "$LC_ALL"'
        match self.method:
            case BecomeMethod.SU:
                return f'LC_ALL=C su -s /bin/sh -c "$0" {self.account} "$LC_ALL"'
            case BecomeMethod.DOAS if prompt:
                return python(_DOAS, f"{prompt} {self.account} {rest}")
            case BecomeMethod.DOAS:
                return f"doas -n -u {self.account} sh -c {rest}"
        how = f"-S -p {prompt}" if prompt else "-n"
        return f"LC_ALL=C sudo {how} -H -u {self.account} -- sh -c {rest}"


def check_account(name: str) -> None:
    """Raise UsageError for what is not the name of an account."""
    if not _SAFE_USER.match(name):
        raise UsageError(f"become: {name!r} is not the name of an account")


async def printed_password(command: str) -> str:
    """Return the first line that a shell command of this machine prints. Raises BecomeError."""
    process = await asyncio.create_subprocess_shell(command, stdout=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(COMMAND):
            output, _ = await process.communicate()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise BecomeError(f"become_password_command did not end within {COMMAND:g} seconds") from None
    line = output.partition(b"\n")[0].removesuffix(b"\r").decode("utf-8", "surrogateescape")
    if process.returncode != 0 or not line:
        what = f"ended with exit status {process.returncode}" if process.returncode else "printed nothing"
        raise BecomeError(f"become_password_command {what}", hint=f"it is: {command}")
    return line


# doas reads the password from its terminal and nowhere else, so this gives it one. When it asks, this prints the prompt
# to stderr and reads the password from stdin, as sudo -S does. Arguments: prompt, account, shell command, its $0.
_DOAS = """
import fcntl, os, select, sys, termios, time
if sys.version_info < (3, 6):
    os._exit(75)
master, slave = os.openpty()
child = os.fork()
if not child:
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    try:
        os.execvp("doas", ["doas", "-u", sys.argv[3], "sh", "-c"] + sys.argv[4:])
    except OSError:
        os.write(2, b"doas: not found\\n")
        os._exit(127)
seen = b""
while not os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
    if not select.select([master], [], [], 0.1)[0]:
        continue
    seen += os.read(master, 1024)
    if b"assword:" in seen:
        os.write(2, sys.argv[2].encode())
        password = b""
        while not password.endswith(b"\\n"):
            one = select.select([0], [], [], SILENCE)[0] and os.read(0, 1)
            if not one:
                os._exit(74)
            password += one
        os.write(master, password)
        break
os.close(0)
os.close(1)
status = os.waitpid(child, 0)[1]
os._exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))
""".replace("SILENCE", str(wire.SILENCE))
