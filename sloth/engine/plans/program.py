"""A saved plan in place of a site: a program whose requests are the calls of the plan."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from sloth.engine.assets import of_bytes
from sloth.engine.calls import UnknownResult
from sloth.engine.plans.recorder import Recorder
from sloth.engine.plans.references import Resolve, resolve, text_of
from sloth.engine.plans.values import HostPlan, Pause, PlannedAsset, PlannedCall, PlannedTask, Step
from sloth.errors import SlothError
from sloth.frozen import frozen
from sloth.playbook import Done, Error, Hook, Invoke, Program, Raise, Request, Sleep, Task
from sloth.transport import Asset

Open = Callable[[str], Callable[[], Iterator[bytes]]]  # returns what opens the content with a hash


@frozen(eq=False)
class PlannedInvoke(Invoke):
    """Send a call of a plan. planned: the call; contents: what opens the contents of the plan."""

    planned: PlannedCall
    contents: Open

    def arguments(self, secret: Resolve) -> Mapping[str, object]:
        """Return the arguments with the values of their secrets. Raises CallError, StateError."""
        found = resolve(self.planned.args, secret)
        assert isinstance(found, dict)
        return found

    def assets(self, secret: Resolve) -> list[Asset]:
        """Return the call's assets. Raises CallError, StateError."""
        return [self._asset(asset, secret) for asset in self.planned.assets]

    def _asset(self, asset: PlannedAsset, secret: Resolve) -> Asset:
        if asset.dir:
            return Asset(asset.name, mode=asset.mode, dir=True)
        if asset.parts is not None:
            text = text_of(asset.parts, secret)
            return of_bytes(asset.name, text.encode("utf-8", "surrogateescape"), asset.mode)
        return Asset(asset.name, asset.sha256, asset.size, asset.mode, open=self.contents(asset.sha256))


class PlannedProgram(Program):
    """The tasks of a host's plan, driven as those of a site are; there is no Lua in it."""

    def __init__(self, plan: HostPlan, contents: Open, site: str, recorder: Recorder | None = None) -> None:
        """site: the site's title; recorder: sees what is requested."""
        self._contents = contents
        self._title = site
        self._recorder = recorder
        self._host = plan.name
        self._top: Sequence[Step] = ()
        self._by_index: dict[int, PlannedTask] = {}
        self._steps: Iterator[Step] = iter(())
        self._doing: Step | None = None
        self._ending: Request = Done(True)
        tasks: list[Task] = []
        handlers: list[Task] = []
        for planned in (*plan.tasks, *plan.handlers):
            if not planned.task.index:
                self._top = planned.steps
                continue
            key = planned.task.index
            self._by_index[key] = planned
            (handlers if planned.task.handler else tasks).append(planned.task)
        self.tasks, self.handlers = tuple(tasks), tuple(handlers)
        if recorder is not None:
            recorder.watch(plan.name, self)

    def load(self) -> Request:
        return self._begin_steps(self._top, Done(True))

    def start(self, task: Task) -> Request:
        if self._recorder is not None:
            self._recorder.began(self._host, task, None)
        planned = self._by_index[task.index]
        end: Request = Done(True)
        if not planned.is_planned:
            end = Error(
                f"the handler {task.name} was notified, and the plan does not have its calls",
                task.where, "", hint="it stays pending: run the site",
            )  # fmt: skip
        elif planned.unknown:
            why = UnknownResult(f"the rest is not in the plan: {planned.unknown}", where=task.where, host=self._host)
            end = Error(why.message, task.where, "", why)
        return self._begin_steps(planned.steps, end)

    def start_hook(self, task: Task, hook: Hook, argument: str = "") -> Request:
        planned = self._by_index[task.index]
        if hook is Hook.WHEN:
            return Done(not planned.is_skipped)
        if self._recorder is not None:
            self._recorder.began(self._host, task, hook)
        return self._begin_steps(planned.always if hook is Hook.ALWAYS else (), Done(True))

    def resume(self, answer: object) -> Request:
        doing = self._doing
        if isinstance(answer, Raise) and not (isinstance(doing, PlannedCall) and doing.rescued):
            return self._failed(answer.error)
        return self._next()

    def close(self) -> None:
        """Do nothing: there is no runtime to free."""

    def _begin_steps(self, steps: Sequence[Step], end: Request) -> Request:
        self._steps = iter(steps)
        self._ending = end
        return self._next()

    def _next(self) -> Request:
        self._doing = step = next(self._steps, None)
        if step is None:
            return self._ending
        request: Request
        if isinstance(step, Pause):
            request = Sleep(step.seconds, step.where)
        else:
            request = PlannedInvoke(
                step.name, step.args, step.where, step.protected, step.rescued, Path(step.directory),
                planned=step, contents=self._contents,
            )  # fmt: skip
        if self._recorder is not None:
            self._recorder.requested(self._host, request)
        return request

    def _failed(self, error: SlothError) -> Error:
        return Error(error.message, error.where, "", error, error.hint)
