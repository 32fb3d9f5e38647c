"""Installs Python on hosts that have none, by plain commands of the shell."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from enum import StrEnum

from sloth.engine.sessions import Purpose, Sessions
from sloth.errors import HostError, SlothError, Unreachable
from sloth.frozen import frozen
from sloth.inventory import Host
from sloth.passwords import Passwords
from sloth.state.storage import Storage
from sloth.transport import exit_errors
from sloth.transport.python_setup import python_setup_script

TIME = 900.0  # seconds for a host to install it
MARK = "sloth-bootstrap:"


class Setup(StrEnum):
    """What became of a host."""

    PRESENT = "present"  # it has a Python that can be used
    INSTALLED = "installed"
    PLANNED = "planned"  # a check would install it
    FAILED = "failed"
    UNREACHABLE = "unreachable"


@frozen
class Outcome:
    """What became of one host. detail: the interpreter, the package manager, or the error."""

    host: str
    status: Setup
    detail: str = ""


async def set_up_python(
    hosts: Sequence[Host],
    passwords: Passwords,
    forks: int,
    check: bool,
    report: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Install Python where there is none that can be used; check: only report where. report: called for each host."""
    memory = Storage().memory()
    sessions = Sessions(Purpose(run="", passwords=passwords), memory, hosts)
    slots = asyncio.Semaphore(forks)

    async def one(host: Host) -> Outcome:
        async with slots:
            outcome = await _set_up(sessions, host, check)
        report(outcome)
        return outcome

    try:
        return list(await asyncio.gather(*map(one, hosts)))
    finally:
        memory.close()
        await sessions.close()


async def _set_up(sessions: Sessions, host: Host, check: bool) -> Outcome:
    try:
        status, output, printed = await sessions.shell(host, python_setup_script(host.python, check), TIME)
    except Unreachable as error:
        return Outcome(host.name, Setup.UNREACHABLE, str(error))
    except (HostError, SlothError) as error:
        return Outcome(host.name, Setup.FAILED, str(error))
    text = output.decode("utf-8", "replace")
    for line in text.splitlines():  # a login shell may print something of its own before
        before, found, rest = line.partition(MARK)
        word, _, detail = rest.partition(":")
        if found and not before and word in set(Setup):
            last = printed.strip().splitlines()[-1:] if word == Setup.FAILED else []
            return Outcome(host.name, Setup(word), "; ".join([detail.strip(), *last]))
    return Outcome(host.name, Setup.FAILED, str(exit_errors.explain(host.name, status, printed or text, False, None)))
