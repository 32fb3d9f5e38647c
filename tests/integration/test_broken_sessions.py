"""Sessions that cannot start fail their task; a lost connection is retried where nothing can happen twice."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from unittest import mock

import pytest

from sloth.engine.events import Event, HostPhase, PhaseKind, TaskFinished, TaskStarted
from sloth.engine.options import Options
from sloth.engine.run import Run
from sloth.inventory import Inventory
from sloth.playbook import Site
from sloth.state.backends.sqlite import SQLite
from sloth.state.memory import Memory
from sloth.state.shared import Shared
from sloth.transport.loopback import LoopbackFleet
from tests.support.running import finished_hosts, results, run_local, run_site

needs_sudo = pytest.mark.skipif(shutil.which("sudo") is None or os.geteuid() != 0, reason="needs root and sudo")


def tasks(events: list[Event]) -> dict[str, TaskFinished]:
    """Return how each task ended, by name."""
    return {event.task: event for event in events if isinstance(event, TaskFinished)}


def attempts(events: list[Event]) -> int:
    """Return how many times a task was tried again."""
    return sum(isinstance(event, HostPhase) and event.phase.kind is PhaseKind.RETRYING for event in events)


# Sessions that cannot start

NOBODY = """
task({ name = "as nobody that exists", become = "nosuch", OPTIONS run = function()
    BODY
end })
task({ name = "after", run = function() file.copy({ dest = "~/after", content = "x" }) end })
"""


def as_nosuch(options: str = "", body: str = 'file.copy({ dest = "~/a", content = "x" })') -> str:
    return NOBODY.replace("OPTIONS", options).replace("BODY", body)


@needs_sudo
async def test_it_fails_its_task(tmp_path: Path) -> None:
    events = await run_local(as_nosuch(), tmp_path)
    end = finished_hosts(events)["local"]
    assert end.status == "failed"
    assert tasks(events)["as nobody that exists"].status == "failed"
    assert end.error is not None
    assert ":3: the account nosuch, which is to be become, does not exist; hint: check become" in end.error
    assert "after" not in tasks(events)


@needs_sudo
async def test_the_task_may_ignore_it(tmp_path: Path) -> None:
    events = await run_local(as_nosuch("ignore_errors = true,"), tmp_path)
    assert finished_hosts(events)["local"].status == "changed"
    ended = tasks(events)["as nobody that exists"]
    assert (ended.status, ended.ignored) == ("failed", True)
    assert tasks(events)["after"].status == "changed"
    for options in (Options(check=True), Options(prune=True)):
        events = await run_local(as_nosuch("ignore_errors = true,"), tmp_path, options)
        assert finished_hosts(events)["local"].status in ("changed", "unchanged"), options


@needs_sudo
async def test_the_task_may_catch_it(tmp_path: Path) -> None:
    body = 'local ok, why = pcall(file.copy, { dest = "~/a", content = "x" }) assert(not ok) print(why)'
    events = await run_local(as_nosuch(body=body), tmp_path)
    assert finished_hosts(events)["local"].status == "changed"


@needs_sudo
async def test_it_is_tried_again(tmp_path: Path) -> None:
    events = await run_local(as_nosuch("retries = 2, delay = 0,"), tmp_path)
    assert attempts(events) == 2
    assert finished_hosts(events)["local"].status == "failed"


@needs_sudo
async def test_in_a_check_a_planned_account_is_unknown(tmp_path: Path) -> None:
    site = 'task({ name = "user", run = function() user.create({ name = "nosuch" }) end })' + as_nosuch()
    events = await run_local(site, tmp_path, Options(check=True))
    ended = tasks(events)
    assert [ended[name].status for name in ("user", "as nobody that exists", "after")] == [
        "changed", "unknown", "changed",
    ]  # fmt: skip
    assert finished_hosts(events)["local"].status == "unknown"
    events = await run_local(as_nosuch(), tmp_path, Options(check=True))
    assert tasks(events)["as nobody that exists"].status == "failed", "nothing plans this one"


async def test_a_host_without_a_python_fails_its_first_task(servers: LoopbackFleet, tmp_path: Path) -> None:
    text = servers.inventory_toml().replace("[defaults]", '[defaults]\npython = "/nonexistent/python"')
    (tmp_path / "p.toml").write_text(text)
    site = tmp_path / "site.sloth"
    site.write_text('task({ name = "t", run = function() exec.run("true") end })')
    events = await run_site(site, Inventory.read(tmp_path / "p.toml"), tmp_path / "controller", None, "web1")
    assert tasks(events)["t"].status == "failed"
    assert "no usable Python" in str(finished_hosts(events)["web1"].error)


# Connections that are lost


class Lossy:
    """Runs a site on web1 and breaks its connection."""

    def __init__(self, servers: LoopbackFleet, directory: Path) -> None:
        self.servers = servers
        self.home = servers.homes["web1"]
        self.rest = 1.0  # seconds for commands of a lost session to end
        self._directory = directory
        (directory / "inventory.toml").write_text(servers.inventory_toml())

    async def run(self, source: str, on_event: Callable[[Event], None], options: Options | None = None) -> list[Event]:
        """Run the site; on_event is called with each event."""
        site = self._directory / "site.sloth"
        site.write_text(source)
        inventory = Inventory.read(self._directory / "inventory.toml")
        events: list[Event] = []

        def emit(event: Event) -> None:
            events.append(event)
            on_event(event)

        controller = self._directory / "controller"
        memory = Memory(controller)
        try:
            shared = Shared(SQLite(controller / "shared.db"))
            hosts = inventory.select("web1")
            await Run(Site.read(str(site)), inventory, hosts, options or Options(), emit, memory, shared).run()
            await asyncio.sleep(self.rest)
        finally:
            memory.close()
        return events

    def cut_once(self, delay: float) -> Callable[[Event], None]:
        """Return an on_event that cuts the connection once, `delay` seconds after the task `t` has started."""
        left = ["t"]

        def on_event(event: Event) -> None:
            if isinstance(event, TaskStarted) and event.task in left:
                left.remove(event.task)
                asyncio.get_running_loop().call_later(delay, self.servers.cut, "web1")

        return on_event


@pytest.fixture
def lossy(servers: LoopbackFleet, tmp_path: Path) -> Lossy:
    return Lossy(servers, tmp_path)


@pytest.fixture
async def slow_web() -> AsyncIterator[str]:
    """A web server whose first answer takes long."""
    served: list[int] = []

    serving: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        served.append(1)
        try:
            await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(3 if len(served) == 1 else 0)
            writer.write(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi")
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    server.close()
    await asyncio.gather(*(task for task in serving if task is not None))


FIRST = 'task({ name = "first", run = function() file.copy({ dest = "~/first", content = "1" }) end })\n'
LAST = '\ntask({ name = "last", run = function() file.copy({ dest = "~/last", content = "1" }) end })'


async def test_a_resource_is_applied_over_a_new_connection(lossy: Lossy, slow_web: str) -> None:
    call = f'http.download({{ url = "{slow_web}", dest = "~/d" }})'
    site = f'{FIRST}task({{ name = "t", retries = 1, delay = 0, run = function() {call} end }}){LAST}'
    events = await lossy.run(site, lossy.cut_once(1.5))
    assert finished_hosts(events)["web1"].error is None
    assert attempts(events) == 1
    assert (lossy.home / "d").read_text() == "hi"
    assert (lossy.home / "last").exists()
    assert not any(event for event in events if type(event).__name__ == "OrphansFound")


async def test_a_resource_is_made_again_once_without_retries(lossy: Lossy, slow_web: str) -> None:
    call = f'http.download({{ url = "{slow_web}", dest = "~/d" }})'
    site = f"""handler({{ name = "h", run = function() file.copy({{ dest = "~/h", content = "h" }}) end }})
task({{ name = "t", notify = "h", run = function() file.copy({{ dest = "~/c", content = "c" }}) {call} end }}){LAST}"""
    events = await lossy.run(site, lossy.cut_once(1.5))
    assert finished_hosts(events)["web1"].status == "changed", finished_hosts(events)["web1"].error
    assert (lossy.home / "d").read_text() == "hi"
    assert (lossy.home / "last").exists()
    assert (lossy.home / "h").exists()  # the change that was made before the connection was lost counts


async def test_whether_an_action_was_done_is_unknown(lossy: Lossy) -> None:
    body = 'file.copy({ dest = "~/c", content = "c" }) exec.run("sleep 3")'
    events = await lossy.run(f'task({{ name = "t", run = function() {body} end }}){LAST}', lossy.cut_once(1.5))
    ended = finished_hosts(events)["web1"]
    assert ended.status == "unreachable"
    assert "whether exec.run sleep 3 was done is not known; hint: look at the host" in str(ended.error)
    assert [(r.module, r.status) for r in results(events)] == [("file.copy", "changed"), ("exec.run", "unknown")]
    assert not (lossy.home / "last").exists()


@pytest.mark.parametrize(
    ("cmd", "retried"),
    [
        ('exec.run("echo ran >> ~/ran; sleep 3")', False),
        (
            'exec.run({ cmd = "echo ran >> ~/ran", creates = "/" }) exec.run({ cmd = "sleep 2", read_only = true })',
            True,
        ),
        ('exec.run("echo ran >> ~/ran") exec.run({ cmd = "sleep 3", read_only = true })', False),
        ('pcall(exec.run, "echo ran >> ~/ran; false") exec.run({ cmd = "sleep 3", read_only = true })', False),
        ('file.copy({ dest = "~/c", content = "c" }) exec.run({ cmd = "sleep 2", read_only = true })', True),
    ],
)
async def test_an_action_that_may_have_run_is_not_run_again(lossy: Lossy, cmd: str, retried: bool) -> None:
    lossy.rest = 2.0
    site = f'task({{ name = "t", retries = 3, delay = 0, run = function() {cmd} end }}){LAST}'
    events = await lossy.run(site, lossy.cut_once(1.5))
    assert attempts(events) == (1 if retried else 0)
    assert finished_hosts(events)["web1"].status == ("changed" if retried else "unreachable")
    ran = (lossy.home / "ran").read_text() if (lossy.home / "ran").exists() else ""
    assert ran == ("ran\n" if ">> ~/ran" in cmd and not retried else "")


async def test_a_host_that_is_away_for_a_while(lossy: Lossy) -> None:
    async def restart() -> None:
        await lossy.servers.stop("web1")
        await asyncio.sleep(1)
        await lossy.servers.start("web1")

    restarting: list[asyncio.Task[None]] = []

    def on_event(event: Event) -> None:
        if isinstance(event, TaskFinished) and event.task == "first":
            restarting.append(asyncio.create_task(restart()))

    calls = 'file.copy({ dest = "~/c" .. i, content = "c" }) exec.run({ cmd = "sleep 0.3", read_only = true })'
    body = f"for i = 1, 3 do {calls} end"
    site = f'{FIRST}task({{ name = "t", retries = 20, delay = 0.2, run = function() {body} end }}){LAST}'
    events = await lossy.run(site, on_event)
    await asyncio.gather(*restarting)
    assert finished_hosts(events)["web1"].error is None
    assert attempts(events) > 1
    assert (lossy.home / "last").exists()


async def test_an_action_that_was_not_sent_is_run_over_a_new_connection(lossy: Lossy) -> None:
    def on_event(event: Event) -> None:
        if isinstance(event, TaskFinished) and event.task == "first":
            lossy.servers.cut("web1")

    wait = 'task({ name = "wait", retries = 1, delay = 1, ignore_errors = true, run = function() error("") end })\n'
    site = f'{FIRST}{wait}task({{ name = "t", retries = 1, run = function() exec.run("echo ran >> ~/ran") end }})'
    events = await lossy.run(site, on_event)
    assert finished_hosts(events)["web1"].error is None
    assert (lossy.home / "ran").read_text() == "ran\n"


async def test_a_run_that_lost_a_session_prunes_nothing(lossy: Lossy, slow_web: str) -> None:
    await lossy.run(FIRST + LAST, lambda event: None)
    call = f'http.download({{ url = "{slow_web}", dest = "~/d" }})'
    site = f'{FIRST}task({{ name = "t", retries = 1, delay = 0, run = function() {call} end }})'
    with mock.patch("sloth.engine.prune.Pruning.agreed", return_value=True):
        await lossy.run(site, lossy.cut_once(1.5), Options(prune=True))
    assert (lossy.home / "first").exists()
    assert (lossy.home / "last").exists(), "it is an orphan, but who knows"


# What answers at a host's address later


Exchange = Callable[[Lossy, Path, str], None]
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@pytest.fixture
def other_machine() -> Exchange:
    """Return what lets new payloads of a host run on another machine, or on the same with another "id" or "boot"."""
    if os.geteuid() != 0 or not Path("/etc/machine-id").exists():
        pytest.skip("needs root and /etc/machine-id")

    def exchange(lossy: Lossy, directory: Path, what: str) -> None:
        (directory / "id").write_text("0123456789abcdef" * 2 + "\n")
        (directory / "boot").write_text("01234567-89ab-cdef-0123-456789abcdef\n")
        (directory / "state").mkdir(mode=0o700)
        mounts = {"id": "/etc/machine-id", "boot": BOOT_ID, "state": lossy.home / ".sloth-runner"}
        enter = "".join(f"mount --bind {directory}/{name} {mounts[name]} && " for name in what.split())
        lossy.servers.shell = ("unshare", "-m", "/bin/sh", "-c", enter + 'exec /bin/sh -c "$1"', "sh")

    return exchange


LOST = """
task({ name = "first", run = function() file.copy({ dest = "~/first", content = "x" }) end })
task({ name = "t", retries = 5, delay = 0.2, run = function()
    exec.run({ cmd = "sleep 3", read_only = true })
    file.copy({ dest = "~/last", content = "x" })
end })
"""


@pytest.mark.parametrize("what", ["id boot state", "id boot", "id", "boot state"])
async def test_after_a_lost_link_a_run_goes_on_only_on_the_machine_on_which_it_began(
    lossy: Lossy, tmp_path: Path, other_machine: Exchange, what: str
) -> None:
    """A machine may get another id (of a cloned image, say), and may boot again; its state knows the run."""

    def cut() -> None:
        other_machine(lossy, tmp_path, what)
        lossy.servers.cut("web1")

    def on_event(event: Event) -> None:
        if isinstance(event, TaskStarted) and event.task == "t":
            asyncio.get_running_loop().call_later(1.0, cut)

    events = await lossy.run(LOST, on_event)
    error = finished_hosts(events)["web1"].error or ""
    is_other = what == "id boot state"
    assert ("another machine answers than the one on which this run began" in error) is is_other, error
    assert (lossy.home / "first").exists()
    assert (lossy.home / "last").exists() is not is_other


@pytest.mark.parametrize("call", ['host.reboot({ timeout = 15, reboot_command = "true" })', "host.wait({ delay = 1 })"])
async def test_another_machine_that_answers_after_a_reboot_is_left_alone_at_once(
    lossy: Lossy, tmp_path: Path, other_machine: Exchange, call: str
) -> None:
    def on_event(event: Event) -> None:
        if isinstance(event, TaskStarted) and event.task == "t":
            other_machine(lossy, tmp_path, "id boot state")

    body = f'{call} file.copy({{ dest = "~/wrong", content = "x" }})'
    events = await lossy.run(f'{FIRST}task({{ name = "t", run = function() {body} end }})', on_event)
    error = finished_hosts(events)["web1"].error or ""
    assert "another machine answers than the one on which this run began: nothing was done there" in error
    assert "not back within" not in error
    assert "not reachable within" not in error
    assert "hint: look at its address" in str(finished_hosts(events)["web1"]), finished_hosts(events)["web1"]
    assert not (lossy.home / "wrong").exists()


@pytest.mark.parametrize("call", ['host.reboot({ timeout = 60, reboot_command = "true" })', "host.wait({ delay = 1 })"])
async def test_another_host_key_after_a_reboot_ends_the_wait_at_once(lossy: Lossy, call: str) -> None:
    import asyncssh

    async def exchange() -> None:
        await lossy.servers.stop("web1")
        lossy.servers.host_key = asyncssh.generate_private_key("ssh-ed25519")
        await lossy.servers.start("web1")

    exchanging: list[asyncio.Task[None]] = []

    def on_event(event: Event) -> None:
        is_gone = isinstance(event, HostPhase) and event.phase.call.startswith("host.reboot")
        if is_gone or (isinstance(event, TaskStarted) and event.task == "t" and "wait" in call):
            exchanging.append(asyncio.create_task(exchange()))

    begun = asyncio.get_running_loop().time()
    body = f'{call} file.copy({{ dest = "~/wrong", content = "x" }})'
    events = await lossy.run(f'{FIRST}task({{ name = "t", run = function() {body} end }})', on_event)
    await asyncio.gather(*exchanging)
    error = finished_hosts(events)["web1"].error or ""
    assert "key" in error, error
    assert finished_hosts(events)["web1"].status in ("failed", "unreachable")
    assert not (lossy.home / "wrong").exists()
    assert asyncio.get_running_loop().time() - begun < 50
