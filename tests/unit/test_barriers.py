"""Hosts wait for one another as the site asks, and never for ever: properties over generated runs."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace
from types import FrameType
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sloth.engine import barriers, progress
from sloth.engine.barriers import Barriers, order
from sloth.engine.events import SkipKind
from sloth.errors import HostError
from sloth.playbook import Share, Task

_FILES = (barriers.__file__, progress.__file__)


@dataclass
class Case:
    """A generated run. plans: the tasks that each host runs, in its order; failing: (host, task) that fail."""

    tasks: dict[str, Task]
    plans: dict[str, list[str]]
    failing: set[tuple[str, str]]
    forks: int
    delays: list[int]  # turns of the event loop that steps take, used in a circle
    linear: bool = False
    one_order: bool = False


@dataclass
class Outcome:
    ran: set[tuple[str, str]] = field(default_factory=set)
    skipped: dict[tuple[str, str], SkipKind] = field(default_factory=dict)
    stuck: set[str] = field(default_factory=set)


def task(
    name: str, index: int, depends_on: tuple[str, ...] = (), serial: tuple[Share, ...] = (), once: bool = False
) -> Task:
    return Task(name=name, where="s:1", index=index, depends_on=depends_on, serial=serial, run_once=once)


SIZES = st.sampled_from([Share(hosts=1), Share(hosts=2), Share(percent=1), Share(percent=50)])


def batches(sizes: tuple[Share, ...], total: int) -> Iterator[int]:
    """Yield how many hosts have ended a task with several sizes when each of its batches has, without an end."""
    end = 0
    for size in itertools.chain(sizes, itertools.repeat(sizes[-1])):
        end += max(1, size.of(total))
        yield end


@st.composite
def cases(draw: st.DrawFn, failures: bool = True, one_order: bool = False, linear: bool = False) -> Case:
    names = [f"t{number}" for number in range(draw(st.integers(1, 5)))]
    hosts = [f"h{number}" for number in range(draw(st.integers(1, 6)))]
    tasks = {}
    for at, name in enumerate(names):
        tasks[name] = task(
            name,
            at,
            tuple(draw(st.lists(st.sampled_from(names[:at]), unique=True, max_size=2)) if at else ()),
            tuple(draw(st.lists(SIZES, max_size=3))) if draw(st.booleans()) else (),
            draw(st.integers(0, 3)) == 0,
        )
        tasks[name] = replace(
            tasks[name],
            throttle=draw(st.sampled_from([0, 0, 1, 2])),
            max_fail=draw(st.sampled_from([None, None, Share(hosts=0), Share(hosts=1), Share(percent=50)])),
            any_errors_fatal=draw(st.integers(0, 5)) == 0,
        )
    plans = {}
    for host in hosts:
        chosen = draw(st.lists(st.sampled_from(names), unique=True))
        plans[host] = sorted(chosen) if one_order or draw(st.integers(0, 3)) else chosen
    pairs = [(host, name) for host in hosts for name in plans[host]]
    failing = draw(st.sets(st.sampled_from(pairs), max_size=2)) if failures and pairs else set()
    delays = draw(st.lists(st.integers(0, 3), min_size=1, max_size=9))
    return Case(tasks, plans, failing, draw(st.integers(1, 4)), delays, linear, one_order)


class Simulation:
    """Runs a case as the engine does, and checks the rules whenever a host enters a task."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.barriers = Barriers(case.plans, case.linear)
        self.outcome = Outcome()
        self.inside: Counter[str] = Counter()
        self.over: dict[str, set[str]] = {host: set() for host in case.plans}  # tasks that a host has behind it
        self.loaded: set[str] = set()
        self.failures: Counter[str] = Counter()
        self.fatal = False
        self.steps = 0

    async def work(self) -> None:
        self.steps += 1
        for _ in range(self.case.delays[self.steps % len(self.case.delays)]):
            await asyncio.sleep(0)

    def allowed(self, name: str) -> None:
        """Check that a host may enter a task now: by looking at every host."""
        one = self.case.tasks[name]
        total = len(self.case.plans)
        assert not self.fatal
        if self.case.linear and self.case.one_order:
            for earlier in list(self.case.tasks)[: one.index]:
                self.all_are_past(earlier)
        for needed in one.depends_on:
            assert not self.has_failed(needed)
            self.all_are_past(needed)
        if one.run_once:
            assert not any(ran == name for _, ran in self.outcome.ran)
            return
        if one.serial or one.max_fail is not None:
            assert not self.has_failed(name)
        if one.throttle:
            assert self.inside[name] < one.throttle
        if len(one.serial) == 1:
            assert self.inside[name] < max(1, one.serial[0].of(total))
        elif one.serial:
            begun = sum(ran == name for _, ran in self.outcome.ran)
            start = max(
                (end for end in itertools.takewhile(lambda end: end <= begun, batches(one.serial, total))), default=0
            )
            assert begun - self.inside[name] >= start, "the batch before has not ended"

    def all_are_past(self, name: str) -> None:
        """Check that no host may still run a task."""
        for host, plan in self.case.plans.items():
            assert host in self.loaded, "a host whose site is not loaded may have it"
            assert name in self.over[host] or name not in plan

    def has_failed(self, name: str) -> bool:
        """Return whether a task has failed on more hosts than it may."""
        allowed = self.case.tasks[name].max_fail
        return self.failures[name] > (allowed.of(len(self.case.plans)) if allowed is not None else 0)

    async def host(self, host: str, slots: asyncio.Semaphore) -> None:
        @contextlib.asynccontextmanager
        async def pause() -> AsyncIterator[None]:
            slots.release()
            try:
                yield
            finally:
                await slots.acquire()

        async with slots:
            try:
                await self.work()
                self.loaded.add(host)
                plan = self.case.plans[host]
                self.barriers.loaded(host, plan, self.case.tasks if self.case.one_order else plan)
                for name in self.case.plans[host]:
                    skip = await self.barriers.enter(host, self.case.tasks[name], pause)
                    failed = skip is not None and skip.is_failure
                    if skip is not None:
                        self.outcome.skipped[(host, name)] = skip.kind
                    else:
                        self.allowed(name)
                        self.outcome.ran.add((host, name))
                        self.inside[name] += 1
                        await self.work()
                        self.inside[name] -= 1
                        failed = (host, name) in self.case.failing
                    self.failures[name] += failed
                    self.fatal = self.fatal or (failed and self.case.tasks[name].any_errors_fatal)
                    self.over[host].add(name)
                    self.barriers.passed(host, self.case.tasks[name], failed)
                    if failed and (skip is None or skip.ends_host):
                        return
                await self.barriers.join(host, pause)
                if self.case.linear and self.case.one_order and not self.fatal:
                    for name in self.case.tasks:
                        self.all_are_past(name)
                    await self.work()  # the handlers
            except HostError:
                self.outcome.stuck.add(host)
            finally:
                self.over[host].update(self.case.tasks)
                self.loaded.add(host)
                self.barriers.ended(host)

    async def run(self) -> Outcome:
        slots = asyncio.Semaphore(self.case.forks)
        async with asyncio.timeout(20):
            await asyncio.gather(*(self.host(host, slots) for host in self.case.plans))
        return self.outcome


def simulate(case: Case) -> Outcome:
    return asyncio.run(Simulation(case).run())


@given(cases())
@settings(max_examples=300)
def test_the_rules_hold_and_every_host_comes_to_its_end(case: Case) -> None:
    simulate(case)


@given(cases(one_order=True))
@settings(max_examples=200)
def test_hosts_that_run_tasks_in_one_order_are_never_stuck(case: Case) -> None:
    assert simulate(case).stuck == set()


@given(cases(linear=True))
@settings(max_examples=200)
def test_hosts_in_step_come_to_their_end_too(case: Case) -> None:
    simulate(case)


@given(cases(one_order=True, linear=True))
@settings(max_examples=200)
def test_hosts_are_kept_in_step_and_never_stuck(case: Case) -> None:
    assert simulate(case).stuck == set()


def test_a_task_of_few_hosts_keeps_the_others_in_step() -> None:
    """As Ansible's linear strategy: a host for which a task is not meant waits for those that run it."""
    tasks = {"few": task("few", 0), "none": task("none", 1), "other": task("other", 2)}
    case = Case(tasks, {"h0": ["few"], "h1": ["other"]}, set(), 2, [3, 0, 1], linear=True, one_order=True)
    assert simulate(case).ran == {("h0", "few"), ("h1", "other")}


@given(cases(failures=False, one_order=True))
@settings(max_examples=200)
def test_without_failures_everything_runs(case: Case) -> None:
    outcome = simulate(case)
    for host, plan in case.plans.items():
        for name in plan:
            if not case.tasks[name].run_once:
                assert (host, name) in outcome.ran
    for name, one in case.tasks.items():
        if one.run_once and any(name in plan for plan in case.plans.values()):
            assert [ran for _, ran in outcome.ran].count(name) == 1
    assert set(outcome.skipped.values()) <= {SkipKind.ONCE}


def test_a_run_once_task_runs_on_the_first_host_that_has_it() -> None:
    tasks = {"t0": task("t0", 0, once=True)}
    for delays in ([0], [3, 0, 1], [0, 2, 3]):
        case = Case(tasks, {"h0": [], "h1": ["t0"], "h2": ["t0"]}, set(), 3, delays)
        assert simulate(case).ran == {("h1", "t0")}


def test_orders_that_cannot_meet_end_one_host_and_free_the_others() -> None:
    tasks = {
        "a": task("a", 0),
        "b": task("b", 1),
        "after a": task("after a", 2, ("a",)),
        "after b": task("after b", 3, ("b",)),
    }
    plans = {"h0": ["after a", "b"], "h1": ["after b", "a"]}
    outcome = simulate(Case(tasks, plans, set(), 2, [0]))
    assert len(outcome.stuck) == 1
    assert len(outcome.ran) == 2


ONE, THREE = (Share(hosts=1),), (Share(hosts=3),)
CHAIN = {"t0": task("t0", 0), "t1": task("t1", 1, ("t0",)), "t2": task("t2", 2, ("t1",), THREE)}
LAWS = {
    "depends_on": CHAIN,
    "serial": {"t0": task("t0", 0, serial=ONE), "t1": task("t1", 1)},
    "batches": {"t0": task("t0", 0, serial=(Share(hosts=1), Share(hosts=5))), "t1": task("t1", 1)},
    "run_once": {"t0": task("t0", 0, once=True), "t1": task("t1", 1, ("t0",), once=True)},
    "throttle": {"t0": replace(task("t0", 0), throttle=2), "t1": replace(task("t1", 1, ("t0",)), throttle=3)},
    "failing": {"t0": task("t0", 0), "t1": task("t1", 1), "t2": task("t2", 2, ("t0", "t1"), ONE)},
    "max_fail": {
        "t0": replace(task("t0", 0), max_fail=Share(percent=90)),
        "t1": replace(task("t1", 1, ("t0",)), max_fail=Share(hosts=0)),
    },
    "fatal": {"t0": task("t0", 0, serial=THREE), "t1": replace(task("t1", 1, ("t0",)), any_errors_fatal=True)},
}


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("law", LAWS)
def test_the_work_grows_with_the_hosts_not_with_their_square(law: str, linear: bool) -> None:
    """Every call of a function of barriers and progress is counted, since times are not to be trusted.

    Half of the hosts fail in the first task where the law has it, and one in ten of the others in the second.
    """
    calls = {}
    for count in (150, 600):
        names = list(LAWS[law])
        plans = {f"h{number}": names for number in range(count)}
        failing = (
            {(f"h{number}", names[0]) for number in range(0, count, 2)} if law in ("failing", "max_fail") else set()
        )
        failing |= {(f"h{number}", names[1]) for number in range(1, count, 10)} if failing or law == "fatal" else set()
        case = Case(LAWS[law], plans, failing, 50, [0, 1, 2], linear, one_order=True)
        calls[count] = counted(lambda case=case: simulate_quickly(case))  # type: ignore[misc]
    assert calls[600] < 5 * calls[150], calls


def counted(work: Callable[[], object]) -> int:
    """Return how many functions of the barriers were called."""
    calls = 0

    def note(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event == "call" and frame.f_code.co_filename in _FILES

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls


def test_who_waits_for_others_is_not_looked_at_when_hosts_end() -> None:
    """Hosts that fail one after another while all others wait for them: each was a look at all who wait."""
    assert look_count(400) < 5 * look_count(100)


def look_count(count: int) -> int:
    """Return how many functions are called while half of the hosts end, and all others wait for them."""
    tasks = {"t0": task("t0", 0), "t1": task("t1", 1, ("t0",), THREE)}
    hosts = [f"h{number}" for number in range(count)]
    ending, going_on = hosts[: count // 2], hosts[count // 2 :]

    async def run() -> int:
        shared = Barriers(hosts)
        for host in hosts:
            shared.loaded(host, tasks)
        for host in hosts:
            assert await shared.enter(host, tasks["t0"], contextlib.nullcontext) is None

        async def go_on(host: str) -> None:
            assert await shared.enter(host, tasks["t1"], contextlib.nullcontext) is None
            shared.passed(host, tasks["t1"], failed=False)

        for host in going_on:
            shared.passed(host, tasks["t0"], failed=False)
        waiting = [asyncio.create_task(go_on(host)) for host in going_on]
        await asyncio.sleep(0)
        calls = counted(lambda: [shared.ended(host) for host in ending])
        async with asyncio.timeout(60):
            await asyncio.gather(*waiting)
        return calls

    return asyncio.run(run())


def simulate_quickly(case: Case) -> Outcome:
    """As simulate(), without the checks, which look at every host."""
    nothing = {"allowed": mock.Mock(), "all_are_past": mock.Mock()}
    with mock.patch.multiple(Simulation, **nothing):
        return simulate(case)


def test_order_keeps_the_site_s_order_but_for_dependencies() -> None:
    tasks = {"a": task("a", 0, ("c",)), "b": task("b", 1), "c": task("c", 2)}
    assert [one.name for one in order(tasks)] == ["c", "a", "b"]


async def test_a_host_that_is_cancelled_is_not_told_that_it_waits_for_ever() -> None:
    """A worker was lost, and its hosts ended one after the other while the waiting of all of them was cancelled."""
    waited = Barriers(("a", "c"))
    for host in ("a", "c"):
        waited.loaded(host, ("second", "first"))
    entering = asyncio.create_task(
        waited.enter("a", task("second", 1, depends_on=("first",)), contextlib.asynccontextmanager(nothing))
    )
    for _ in range(3):  # until it waits
        await asyncio.sleep(0)
    entering.cancel()
    waited.ended("c")
    with pytest.raises(asyncio.CancelledError):
        await entering


async def nothing() -> AsyncIterator[None]:
    """Let nobody else run meanwhile."""
    yield
