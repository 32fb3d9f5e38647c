"""Finds a site's mistakes without touching a host: in the text of every call, and by loading it for every host."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sloth.engine.assets import find_file, with_inner
from sloth.engine.barriers import order
from sloth.engine.context import lua_host
from sloth.engine.modules import fact_names, module_names
from sloth.engine.options import Options
from sloth.engine.planned_handlers import ELSEWHERE, NOT_CONFIRMED, cannot_be_taken_back
from sloth.engine.scan import Problem, literal_sources, scan
from sloth.errors import CallError, SiteError, SlothError, UsageError
from sloth.frozen import frozen
from sloth.inventory import Host, Inventory
from sloth.payload.kernel.registry import find
from sloth.payload.kernel.resource import ArgumentError
from sloth.playbook import (
    Done,
    Error,
    Facts,
    Fetch,
    Hook,
    HostFacts,
    HostVars,
    Invoke,
    Output,
    Program,
    Raise,
    Render,
    Request,
    Secret,
    Shared,
    Site,
    Sleep,
    Sync,
    Task,
    Turn,
    Variable,
    check_syntax,
)
from sloth.playbook.template import find_template
from sloth.suggest import did_you_mean_or_list

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json

__all__ = ["Problem", "missing_sources", "preflight", "validate"]


@dataclass
class _Declarations:
    """The tasks of a site, as one host loads it; is_complete: whether all of them are known before a run."""

    tasks: list[Task] = field(default_factory=list)
    is_complete: bool = True

    @property
    def tags(self) -> set[str]:
        return {tag for task in self.tasks for tag in task.tags}


@frozen
class _Wanted:
    """What the options of a run name of a site: tasks, and tags besides those that every site has."""

    tasks: frozenset[str]
    tags: frozenset[str]

    def missing(self, declared: _Declarations) -> UsageError | None:
        """Return the error for a name that no task has."""
        names = [task.name for task in declared.tasks]
        for name in sorted(self.tasks.difference(names)):
            return UsageError(f'no task has the name "{name}"', hint=did_you_mean_or_list(name, names, "tasks"))
        tags = declared.tags
        for tag in sorted(self.tags - tags - {"always", "never"}):
            return UsageError(f'no task has the tag "{tag}"', hint=did_you_mean_or_list(tag, sorted(tags), "tags"))
        return None


def validate(site: Site, inventory: Inventory, extra: Mapping[str, Json], sources: bool = False) -> list[Problem]:
    """Return every mistake found in `site`; sources: missing files of it, too. Raises SiteError when it is no Lua."""
    check_syntax(site)
    modules = module_names()
    problems = list(_scan(site, modules))
    problems += missing_sources(site, modules) if sources else ()
    groups = {name: list(group.hosts) for name, group in inventory.groups.items()}
    for host in inventory.hosts.values():
        problems += _load(site, inventory, host, groups, modules, extra)
    return sorted(dict.fromkeys(problems), key=_position)


def preflight(site: Site, inventory: Inventory, hosts: Sequence[Host], options: Options) -> tuple[str, ...]:
    """Return the names of the tasks that the first host will run.

    Raises SiteError for what is seen to be wrong before a run: in the text of calls, in the tasks of the first host;
    and UsageError for a tag or name that no task has.
    """
    modules = module_names()
    problems = list(_scan(site, modules))
    groups = {name: list(group.hosts) for name, group in inventory.groups.items()}
    first = _Declarations()
    problems += _load(site, inventory, hosts[0], groups, modules, options.extra, tasks=False, declared=first)
    for problem in sorted(problems, key=_position):
        more = f" ({len(problems) - 1} more: see sloth-runner validate)" if len(problems) > 1 else ""
        raise SiteError(problem.message + more, hint=problem.hint, where=problem.where)
    wanted = _Wanted(frozenset(options.start_at.values()), frozenset({*options.tags, *options.skip_tags}))
    known = first
    for host in hosts[1:]:  # a site may declare other tasks for other hosts
        if not known.is_complete or wanted.missing(known) is None:
            break
        more_tasks = _Declarations()
        list(_load(site, inventory, host, groups, modules, options.extra, tasks=False, declared=more_tasks))
        known = _Declarations(known.tasks + more_tasks.tasks, more_tasks.is_complete)
    missing = wanted.missing(known) if known.is_complete else None
    if missing is not None:
        raise missing
    return tuple(task.name for task in first.tasks if _is_selected(task, inventory, hosts[0], options))


def plans(site: Site, inventory: Inventory, hosts: Sequence[Host], options: Options) -> dict[str, list[Task]]:
    """Return the tasks that each host would run, in order, as far as that is known before the run.

    What `when` says is not known then. Raises SiteError when the site cannot be loaded.
    """
    modules = module_names()
    groups = {name: list(group.hosts) for name, group in inventory.groups.items()}
    found: dict[str, list[Task]] = {}
    for host in hosts:
        declared = _Declarations()
        for problem in _load(site, inventory, host, groups, modules, options.extra, tasks=False, declared=declared):
            raise SiteError(problem.message, hint=problem.hint, where=problem.where)
        ordered = options.from_start(host.name, order({task.name: task for task in declared.tasks}))
        found[host.name] = [task for task in ordered if _is_selected(task, inventory, host, options)]
    return found


def _is_selected(task: Task, inventory: Inventory, host: Host, options: Options) -> bool:
    return options.selects(task.tags) and (not task.hosts or inventory.contains(task.hosts, host, task.where))


def _scan(site: Site, modules: Mapping[str, Sequence[str]]) -> Iterator[Problem]:
    for file in site.files:
        facts = fact_names() if b"facts" in file.source else ()
        yield from scan(file.source.decode("utf-8", "surrogateescape"), file.path, modules, facts)


def missing_sources(site: Site, modules: Mapping[str, Sequence[str]]) -> Iterator[Problem]:
    """Yield the literal `src` files and templates that do not exist beside the site.

    Nothing is certain where files are fetched to the controller, or failures ignored.
    """
    for file in site.files:
        for literal in literal_sources(file.source.decode("utf-8", "surrogateescape"), file.path, modules):
            try:
                if literal.is_template:
                    find_template(literal.src, with_inner([file.directory], "templates"))
                else:
                    find_file(literal.src, [file.directory])
            except CallError as error:
                yield Problem(literal.where, f"{literal.name}: {error.message}", error.hint)


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
        walk = _Walk(program)
        end = walk.through(program.load())
        yield from walk.problems
        if declared is not None:
            declared.tasks = list(program.tasks)
            declared.is_complete = not walk.guessed and not isinstance(end, Error)
        if isinstance(end, Error):
            if not walk.guessed:
                yield _problem(end)
            return
        yield from _declared(site, inventory, program.tasks)
        # What must not be in a task with `confirm` is reported before a run, too.
        yield from _walk_tasks(program, walk, inventory, host, only_confirmed=not tasks)
    finally:
        program.close()


def _walk_tasks(
    program: Program, walk: _Walk, inventory: Inventory, host: Host, only_confirmed: bool
) -> Iterator[Problem]:
    """Walk through the tasks that the host will run, in their order, and the handlers."""
    if only_confirmed and all(task.confirm is None for task in program.tasks):
        return
    try:
        tasks = order({task.name: task for task in program.tasks})
    except ValueError:
        return  # _declared() reports the cycle
    for task in (*tasks, *program.handlers):
        if not _runs_on(task, inventory, host) or (only_confirmed and task.confirm is None):
            continue
        if Hook.WHEN in task.hooks:
            end: Done | Error = walk.through(program.start_hook(task, Hook.WHEN))
            if isinstance(end, Done) and not end.value and not walk.guessed:
                continue
        # Whether these run, and whether it matters, is not known.
        is_certain = not (task.ignore_errors or task.run_once or "never" in task.tags or task.retries)
        walk.problems.clear()
        walk.must_confirm = task.confirm is not None
        end = walk.through(program.start(task))
        walk.must_confirm = False
        if is_certain:
            yield from walk.problems
            if isinstance(end, Error) and not walk.guessed:
                yield _problem(end)
        for hook in (Hook.ON_FAILURE, Hook.ALWAYS):
            if hook in task.hooks:
                walk.problems.clear()
                walk.through(program.start_hook(task, hook))
                yield from walk.problems


def _runs_on(task: Task, inventory: Inventory, host: Host) -> bool:
    try:
        return not task.hosts or inventory.contains(task.hosts, host, task.where)
    except SlothError:
        return False  # _declared() reports it


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


class _Walk:
    """Drives a program with invented answers.

    guessed: whether any was invented so far. What follows may be the answer's fault, so it proves nothing; later tasks
    may read what earlier ones have made of it. problems: wrong arguments, and missing files. must_confirm: the task has
    `confirm`, so it must not do what cannot be taken back.
    """

    def __init__(self, program: Program) -> None:
        self._program = program
        self.guessed = False
        self.must_confirm = False
        self.problems: list[Problem] = []

    def through(self, request: Request) -> Done | Error:
        """Go on to the end of the program."""
        while not isinstance(request, (Done, Error)):
            request = self._program.resume(self._answer(request))
        return request

    def _answer(self, request: Request) -> object:
        if isinstance(request, Invoke):
            return self._invoke(request)
        if isinstance(request, Render) and not self.guessed:
            try:
                find_template(request.source, with_inner(request.sources, "templates"))
            except CallError as error:
                error.where = error.where or request.where
                return Raise(error)
        self.guessed = self.guessed or not isinstance(request, (Sync, Output, Turn, Sleep))
        return _invented(request)

    def _invoke(self, request: Invoke) -> object:
        try:
            cls = find(request.name)
            args = cls.check(request.args)
            if self.must_confirm and cannot_be_taken_back(cls, args):
                self.problems.append(Problem(request.where, f"{request.name}: {NOT_CONFIRMED}", ELSEWHERE))
        except ArgumentError as error:
            if request.protected:
                return Raise(CallError(error.message, hint=error.hint, where=request.where))
            if not self.guessed:
                self.problems.append(Problem(request.where, error.message, error.hint))
        return 0


def _invented(request: Request) -> object:
    """Return an answer that lets a program go on as it would after a successful call."""
    match request:
        case Fetch():
            return {
                "changed": True, "failed": False, "status": "changed", "msg": "", "stdout": "", "stderr": "",
                "exit_code": 0, "success": True, "exists": True,
            }  # fmt: skip
        case Facts() | HostVars() | HostFacts():
            return {}
        case Render() | Secret() | Variable():
            return ""
        case Shared():
            return Raise(SiteError("not known before a run"))
    return None


def _problem(end: Error) -> Problem:
    if end.cause is not None:
        return Problem(end.cause.where or end.where, end.cause.message, end.cause.hint)
    return Problem(end.where, end.message, end.hint)
