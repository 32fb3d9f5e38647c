"""Finds a site's mistakes without touching a host: in the text of every call, and by loading it for every host."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sloth.engine.barriers import order
from sloth.engine.context import lua_host
from sloth.engine.modules import fact_names, module_names
from sloth.engine.options import Options
from sloth.engine.scan import Problem, scan
from sloth.errors import SiteError, SlothError, UsageError
from sloth.inventory import Host, Inventory
from sloth.payload.kernel.registry import find
from sloth.payload.kernel.resource import ArgumentError
from sloth.playbook import (
    Done,
    Error,
    Facts,
    Fetch,
    Invoke,
    Output,
    Program,
    Raise,
    Render,
    Request,
    Secret,
    Shared,
    Site,
    Sync,
    Task,
    check_syntax,
)
from sloth.suggest import did_you_mean_or_list

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json

__all__ = ["Problem", "preflight", "validate"]


@dataclass
class _Declarations:
    """The tasks of a site, as one host loads it; is_complete: whether all of them are known before a run."""

    tasks: list[Task] = field(default_factory=list)
    is_complete: bool = True

    @property
    def tags(self) -> set[str]:
        return {tag for task in self.tasks for tag in task.tags}


def validate(site: Site, inventory: Inventory, extra: Mapping[str, Json]) -> list[Problem]:
    """Return every mistake found in `site`. Raises SiteError when it is not even Lua."""
    check_syntax(site)
    modules = module_names()
    problems = list(_scan(site, modules))
    groups = {name: list(group.hosts) for name, group in inventory.groups.items()}
    for host in inventory.hosts.values():
        problems += _load(site, inventory, host, groups, modules, extra)
    return sorted(dict.fromkeys(problems), key=_position)


def preflight(site: Site, inventory: Inventory, hosts: Sequence[Host], options: Options) -> tuple[str, ...]:
    """Return the names of the tasks that the first host will run.

    Raises SiteError for what is seen to be wrong before a run: in the text of calls, in the tasks of the first host;
    and UsageError for a tag that no task has.
    """
    modules = module_names()
    problems = list(_scan(site, modules))
    groups = {name: list(group.hosts) for name, group in inventory.groups.items()}
    first = _Declarations()
    problems += _load(site, inventory, hosts[0], groups, modules, options.extra, tasks=False, declared=first)
    for problem in sorted(problems, key=_position):
        more = f" ({len(problems) - 1} more: see sloth-runner validate)" if len(problems) > 1 else ""
        raise SiteError(problem.message + more, hint=problem.hint, where=problem.where)
    wanted = {*options.tags, *options.skip_tags} - {"always", "never"}
    known = first.tags
    is_complete = first.is_complete
    for host in hosts[1:]:  # a site may declare other tasks for other hosts
        if wanted <= known or not is_complete:
            break
        more_tasks = _Declarations()
        list(_load(site, inventory, host, groups, modules, options.extra, tasks=False, declared=more_tasks))
        known, is_complete = known | more_tasks.tags, more_tasks.is_complete
    if is_complete and not wanted <= known:
        unknown = sorted(wanted - known)[0]
        raise UsageError(f'no task has the tag "{unknown}"', hint=did_you_mean_or_list(unknown, sorted(known), "tags"))
    return tuple(
        task.name
        for task in first.tasks
        if options.selects(task.tags) and (not task.hosts or inventory.contains(task.hosts, hosts[0], task.where))
    )


def _scan(site: Site, modules: Mapping[str, Sequence[str]]) -> Iterator[Problem]:
    for file in site.files:
        facts = fact_names() if b"facts" in file.source else ()
        yield from scan(file.source.decode("utf-8", "surrogateescape"), file.path, modules, facts)


def _position(problem: Problem) -> tuple[str, int, str]:
    path, _, line = problem.where.rpartition(":")
    return (path, int(line) if line.isdigit() else 0, problem.message)


def _load(
    site: Site,
    inventory: Inventory,
    host: Host,
    groups: Mapping[str, list[str]],
    modules: Mapping[str, Sequence[str]],
    extra: Mapping[str, Json],
    tasks: bool = True,
    declared: _Declarations | None = None,
) -> Iterator[Problem]:
    """Load the site as for `host`, then (with `tasks`) walk through its tasks with invented answers.

    declared: is filled with the tasks.
    """
    program = Program(
        site,
        host=lua_host(host),
        groups=groups,
        vars={**host.vars, **extra},
        modules=modules,
        check=True,
    )
    try:
        problems: list[Problem] = []
        end, guessed = _walk(program, program.load(), problems)
        yield from problems
        if declared is not None:
            declared.tasks = list(program.tasks)
            declared.is_complete = not guessed and not isinstance(end, Error)
        if isinstance(end, Error):
            if not guessed:
                yield _problem(end)
            return
        yield from _declared(site, inventory, program.tasks)
        for task in (*program.tasks, *program.handlers) if tasks else ():
            problems = []
            end, guessed = _walk(program, program.start(task), problems)
            yield from problems
            if isinstance(end, Error) and not guessed:
                yield _problem(end)
    finally:
        program.close()


def _declared(site: Site, inventory: Inventory, tasks: Sequence[Task]) -> Iterator[Problem]:
    for task in tasks:
        try:
            if task.hosts:
                inventory.select(task.hosts, task.where)
        except SlothError as error:
            yield Problem(task.where, error.message, error.hint)
    try:
        order({task.name: task for task in tasks})
    except ValueError as error:
        yield Problem(site.title, f"depends_on has a cycle: {error}")


def _walk(program: Program, request: Request, problems: list[Problem]) -> tuple[Done | Error, bool]:
    """Drive the program with invented answers; return its end and whether any was invented.

    An error after an invented answer may be the answer's fault, so it proves nothing; wrong arguments always do.
    """
    guessed = False
    while not isinstance(request, (Done, Error)):
        answer: object = None
        if isinstance(request, Invoke):
            answer = 0
            try:
                find(request.name).check(request.args)
            except ArgumentError as error:
                problems.append(Problem(request.where, error.message, error.hint))
        else:
            guessed = guessed or not isinstance(request, (Sync, Output))
            answer = _invented(request)
        request = program.resume(answer)
    return request, guessed


def _invented(request: Request) -> object:
    """Return an answer that lets a program go on as it would after a successful call."""
    match request:
        case Fetch():
            return {
                "changed": True, "failed": False, "status": "changed", "msg": "", "stdout": "", "stderr": "",
                "exit_code": 0, "success": True, "exists": True,
            }  # fmt: skip
        case Facts():
            return {}
        case Render() | Secret():
            return ""
        case Shared():
            return Raise(SiteError("not known before a run"))
    return None


def _problem(end: Error) -> Problem:
    if end.cause is not None:
        return Problem(end.cause.where or end.where, end.cause.message, end.cause.hint)
    return Problem(end.where, end.message, end.hint)
