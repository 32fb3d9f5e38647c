"""Finds a site's mistakes without touching a host: in the text of every call, and by loading it for every host."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING

from sloth.engine.assets import find_file, with_inner
from sloth.engine.barriers import order
from sloth.engine.context import lua_host
from sloth.engine.delegates import LOCAL, find_delegate
from sloth.engine.modules import fact_names, module_names
from sloth.engine.options import Options
from sloth.engine.prompts import Prompts
from sloth.engine.scan import Problem, literal_sources, scan
from sloth.engine.walk import Walk
from sloth.errors import CallError, SiteError, SlothError, UsageError
from sloth.frozen import frozen, mutable
from sloth.inventory import Host, Inventory
from sloth.playbook import (
    Done,
    Error,
    Hook,
    Program,
    Site,
    Task,
    check_syntax,
)
from sloth.playbook.group_names import GroupNames
from sloth.playbook.template import find_template
from sloth.suggest import did_you_mean_or_list

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json

__all__ = ["Problem", "missing_sources", "preflight", "validate"]


@mutable
class _Declarations:
    """The tasks of a site, as one host loads it; is_complete: whether all of them are known before a run."""

    tasks: list[Task] = field(default_factory=list)
    handlers: set[str] = field(default_factory=set)  # and what they listen to
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
        names = list(dict.fromkeys(task.name for task in declared.tasks))  # of several hosts
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
    problems = list(missing_sources(site, modules)) if sources else []
    groups = GroupNames({name: group.hosts for name, group in inventory.groups.items()})
    all_declared = []
    for host in inventory.hosts.values():
        all_declared.append(_Declarations())
        problems += _load(site, inventory, host, groups, modules, extra, all_declared[-1])
    handlers: set[str] | None = {name for one in all_declared for name in one.handlers}
    if not all(one.is_complete for one in all_declared):
        handlers = None
    problems += _scan(site, modules, inventory, handlers)
    return sorted(dict.fromkeys(problems), key=_position)


def preflight(site: Site, inventory: Inventory, hosts: Sequence[Host], options: Options) -> tuple[str, ...]:
    """Return the names of the tasks that the first host will run; ask the site's questions to the user.

    Raises SiteError for what is seen to be wrong before a run: in the text of calls, in the tasks of the first host;
    and UsageError for a tag or name that no task has.
    """
    modules = module_names()
    problems = list(_scan(site, modules, inventory))
    groups = GroupNames({name: group.hosts for name, group in inventory.groups.items()})
    first = _Declarations()
    prompts = options.prompts

    def load(host: Host, declared: _Declarations) -> list[Problem]:
        found = _load(site, inventory, host, groups, modules, options.extra, declared, False, prompts)
        return list(found)

    problems += load(hosts[0], first)
    if prompts.answers or any(b"prompt" in file.source for file in site.files):
        for host in hosts[1:]:  # a site may have other questions for other hosts
            load(host, _Declarations())
    prompts.end()
    for problem in sorted(problems, key=_position):
        more = f" ({len(problems) - 1} more: see sloth-runner validate)" if len(problems) > 1 else ""
        raise SiteError(prompts.redact(problem.message) + more, hint=prompts.redact(problem.hint), where=problem.where)
    wanted = _Wanted(frozenset(options.start_at.values()), frozenset({*options.tags, *options.skip_tags}))
    known = first
    for host in hosts[1:]:  # a site may declare other tasks for other hosts
        if not known.is_complete or wanted.missing(known) is None:
            break
        more_tasks = _Declarations()
        load(host, more_tasks)
        known = _Declarations(known.tasks + more_tasks.tasks, is_complete=more_tasks.is_complete)
    missing = wanted.missing(known) if known.is_complete else None
    if missing is not None:
        raise missing
    return tuple(task.name for task in first.tasks if _is_selected(task, inventory, hosts[0], options))


def plans(site: Site, inventory: Inventory, hosts: Sequence[Host], options: Options) -> dict[str, list[Task]]:
    """Return the tasks that each host would run, in order, as far as that is known before the run.

    What `when` says is not known then. Raises SiteError when the site cannot be loaded.
    """
    modules = module_names()
    groups = GroupNames({name: group.hosts for name, group in inventory.groups.items()})
    found: dict[str, list[Task]] = {}
    for host in hosts:
        declared = _Declarations()
        for problem in _load(site, inventory, host, groups, modules, options.extra, declared, False, options.prompts):
            raise SiteError(problem.message, hint=problem.hint, where=problem.where)
        ordered = options.from_start(host.name, order({task.name: task for task in declared.tasks}))
        found[host.name] = [task for task in ordered if _is_selected(task, inventory, host, options)]
    return found


def _is_selected(task: Task, inventory: Inventory, host: Host, options: Options) -> bool:
    if task.is_flush:
        return False  # it is no task of the site's own
    return options.selects(task.tags) and (not task.hosts or inventory.contains(task.hosts, host, task.where))


def _scan(
    site: Site, modules: Mapping[str, Sequence[str]], inventory: Inventory, handlers: Collection[str] | None = None
) -> Iterator[Problem]:
    """Yield the mistakes in the text of a site. handlers: what calls may notify, None where that is not known."""
    names: dict[str, Collection[str]] = {"delegate_to": [*inventory.hosts, LOCAL]}
    if handlers is not None:
        names["notify"] = handlers
    for file in site.files:
        facts = fact_names() if b"facts" in file.source else ()
        yield from scan(file.source.decode("utf-8", "surrogateescape"), file.path, modules, facts, names)


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
    groups: GroupNames,
    modules: Mapping[str, Sequence[str]],
    extra: Mapping[str, Json],
    declared: _Declarations,
    tasks: bool = True,
    prompts: Prompts | None = None,
) -> Iterator[Problem]:
    """Load the site as for `host`, then (with `tasks`) walk through its tasks with invented answers.

    declared: is filled with the tasks. prompts: answers the site's questions; None: invented answers do.
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
        walk = Walk(program, inventory, extra, prompts)
        end = walk.through(program.load())
        yield from walk.problems
        declared.tasks = list(program.tasks)
        declared.handlers = {name for handler in program.handlers for name in (handler.name, *handler.listen)}
        declared.is_complete = not walk.guessed and not isinstance(end, Error)
        if isinstance(end, Error):
            if not walk.guessed:
                yield _problem(end)
            return
        yield from _declared(site, inventory, [*program.tasks, *program.handlers])
        # What must not be in a task with `confirm` is reported before a run, too.
        yield from _walk_tasks(program, walk, inventory, host, only_confirmed=not tasks)
    finally:
        program.close()


def _walk_tasks(
    program: Program, walk: Walk, inventory: Inventory, host: Host, only_confirmed: bool
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
        if task.is_flush:
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
            if task.delegate_to:
                find_delegate(inventory, task.delegate_to, task.where)
        except SlothError as error:
            yield Problem(task.where, error.message, error.hint)
    try:
        order({task.name: task for task in tasks if not task.handler})
    except ValueError as error:
        yield Problem(site.title, f"depends_on has a cycle: {error}")


def _problem(end: Error) -> Problem:
    if end.cause is not None:
        return Problem(end.cause.where or end.where, end.cause.message, end.cause.hint)
    return Problem(end.where, end.message, end.hint)
