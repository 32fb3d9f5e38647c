"""A saved plan in place of a site: a program whose requests are the calls of the plan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from sloth.engine.calls import UnknownResult
from sloth.engine.plans.invoke import Open, PlannedInvoke
from sloth.engine.plans.recorder import Recorder
from sloth.engine.plans.values import HostPlan, Pause, PlannedCall, PlannedTask, Step
from sloth.errors import SlothError
from sloth.playbook import Done, Error, Hook, Program, Raise, Request, Sleep, Task


class PlannedProgram(Program):
    """The tasks of a host's plan, driven as those of a site are; there is no Lua in it."""

    def __init__(
        self, plan: HostPlan, contents: Open, site: str, recorder: Recorder | None = None, is_look: bool = False
    ) -> None:
        """site: the site's title; recorder: sees what is requested; is_look: leave out what is for other hosts."""
        self._is_look = is_look
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

    def resolve(self, names: Sequence[str], where: str) -> tuple[str, ...]:
        """Return the handlers that names mean: in a plan they are their own."""
        return tuple(names)

    def shrink(self) -> None:
        """Do nothing: there is no runtime that could be smaller."""

    def close(self) -> None:
        """Do nothing: there is no runtime to free."""

    def _begin_steps(self, steps: Sequence[Step], end: Request) -> Request:
        left_out = [step for step in steps if isinstance(step, PlannedCall) and step.is_delegated]
        self._steps = iter([step for step in steps if not (self._is_look and step in left_out)])
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
                (Path(step.directory),), planned=step, contents=self._contents,
            )  # fmt: skip
        if self._recorder is not None:
            self._recorder.requested(self._host, request)
        return request

    def _failed(self, error: SlothError) -> Error:
        return Error(error.message, error.where, "", error, error.hint)
