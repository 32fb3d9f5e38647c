"""Finds a site's mistakes without touching a host: in the text of every call, and by loading it for every host."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sloth.engine.barriers import order
from sloth.engine.modules import module_names
from sloth.engine.options import Options
from sloth.errors import SiteError, SlothError, UsageError
from sloth.inventory import Host, Inventory
from sloth.payload.kernel.registry import find
from sloth.payload.kernel.resource import ArgumentError, Call
from sloth.playbook import Done, Error, Fetch, Invoke, Program, Raise, Request, Site, Task, check_syntax
from sloth.suggest import did_you_mean, did_you_mean_or_list


@dataclass(frozen=True)
class Problem:
    """One mistake: where (file:line), what, and what to do."""

    where: str
    message: str
    hint: str = ""


@dataclass
class _Declarations:
    """The tasks of a site, as one host loads it; is_complete: whether all of them are known before a run."""

    tasks: list[Task] = field(default_factory=list)
    is_complete: bool = True

    @property
    def tags(self) -> set[str]:
        return {tag for task in self.tasks for tag in task.tags}


@dataclass(frozen=True)
class _Token:
    kind: str  # "name" "string" "number" "op"
    text: str
    line: int


_TOKEN = re.compile(
    r"""(?P<space>\s+)
    |(?P<comment>--\[(?P<ceq>=*)\[.*?\](?P=ceq)\]|--[^\n]*)
    |(?P<long>\[(?P<eq>=*)\[.*?\](?P=eq)\])
    |(?P<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')
    |(?P<number>0[xX][0-9a-fA-F]+|\d+\.?\d*(?:[eE][+-]?\d+)?)
    |(?P<name>[A-Za-z_]\w*)
    |(?P<op>\.\.\.|\.\.|==|~=|<=|>=|//|::|<<|>>|.)""",
    re.VERBOSE | re.DOTALL,
)


def tokens(source: str) -> list[_Token]:
    """The tokens of Lua source that has already passed the syntax check; comments are left out."""
    found = []
    line = 1
    for match in _TOKEN.finditer(source):
        kind = match.lastgroup or "op"
        for name in ("space", "comment", "long", "string", "number", "name", "op"):
            if match.group(name) is not None:
                kind = name
                break
        if kind not in ("space", "comment"):
            found.append(_Token("string" if kind == "long" else kind, match.group(), line))
        line += match.group().count("\n")
    return found


def scan(source: str, path: str, modules: Mapping[str, Sequence[str]]) -> Iterator[Problem]:
    """Check every `module.verb{...}` in the text, also in code that no host would run."""
    text = tokens(source)
    for at in range(len(text) - 3):
        name, dot, verb = text[at : at + 3]
        if name.text not in modules or name.kind != "name" or dot.text != "." or verb.kind != "name":
            continue
        if at and text[at - 1].text in (".", ":", "local"):
            continue
        where = f"{path}:{name.line}"
        if verb.text not in modules[name.text]:
            yield Problem(where, f"there is no {name.text}.{verb.text}", did_you_mean(verb.text, modules[name.text]))
            continue
        start = at + 3
        if text[start].text == "(":
            start += 1
        if start < len(text) and text[start].text == "{":
            yield from _table(text, start, find(f"{name.text}.{verb.text}"), path)


def _table(text: list[_Token], start: int, cls: type[Call], path: str) -> Iterator[Problem]:
    """Check the names, and the values that are plain literals, of the table constructor at `start`."""
    declared: Sequence[Any] = cls.fields
    fields = {name: field for field in declared for name in (field.name, *field.aliases)}
    named = {field.name: field for field in declared}
    given: set[str] = set()
    literal = True
    depth = 0
    for at in range(start, len(text)):
        token = text[at]
        if token.text in ("{", "(", "[") or token.text in ("function", "do", "then", "repeat"):
            depth += 1
        elif token.text in ("}", ")", "]") or token.text in ("end", "until", "elseif"):
            depth -= 1
            if depth == 0:
                break
        if depth != 1 or token.kind != "name" or at + 1 >= len(text) or text[at + 1].text != "=":
            literal = literal and not (depth == 2 and token.text == "[" and text[at - 1].text in ("{", ",", ";"))
            continue
        if text[at - 1].text not in ("{", ",", ";"):
            continue
        where = f"{path}:{token.line}"
        field = fields.get(token.text)
        if field is None:
            hint = did_you_mean(token.text, fields) or "it takes " + ", ".join(sorted(named))
            yield Problem(where, f"{cls.name} has no argument '{token.text}'", hint)
            continue
        given.add(field.name)
        value = _literal(text, at + 2)
        if value is not None:
            try:
                field.coerce(value)
            except ArgumentError as error:
                yield Problem(where, f"{cls.name}: {error.message}", error.hint)
    if literal and text[start + 1].text != "}":
        for field in declared:
            if field.required and field.name not in given and _all_named(text, start):
                yield Problem(f"{path}:{text[start].line}", f"{cls.name} needs {field.name}", field.help)


def _all_named(text: list[_Token], start: int) -> bool:
    """Whether the constructor's first item is `name = ...` (not a variable that is a table itself)."""
    return text[start + 1].kind == "name" and text[start + 2].text == "="


def _literal(text: list[_Token], at: int) -> Any:
    """The value of a plain literal that ends its item, or None."""
    if at + 1 >= len(text) or text[at + 1].text not in (",", ";", "}"):
        return None
    token = text[at]
    if token.kind == "string":
        if token.text.startswith("["):
            return token.text.strip("[=]\n")
        return re.sub(r"\\(.)", r"\1", token.text[1:-1], flags=re.DOTALL)
    if token.kind == "number":
        return _number(token.text)
    return {"true": True, "false": False}.get(token.text)


def _number(text: str) -> int | float:
    """Return the value of a Lua number: 0644 is decimal, as Ansible's modes are not."""
    if text[:2].lower() == "0x":
        return int(text, 16)
    return int(text) if text.isdecimal() else float(text)


def validate(site: Site, inventory: Inventory, extra: Mapping[str, Any]) -> list[Problem]:
    """Return every mistake found in `site`. Raises SiteError when it is not even Lua."""
    check_syntax(site)
    modules = module_names()
    problems = list(scan(site.source.decode("utf-8", "surrogateescape"), site.path, modules))
    groups = {name: list(group.hosts) for name, group in inventory.groups.items()}
    for host in inventory.hosts.values():
        problems += _load(site, inventory, host, groups, modules, extra)
    return sorted(dict.fromkeys(problems), key=_place)


def preflight(site: Site, inventory: Inventory, hosts: Sequence[Host], options: Options) -> tuple[str, ...]:
    """Return the names of the tasks that the first host will run.

    Raises SiteError for what is seen to be wrong before a run: in the text of calls, in the tasks of the first host;
    and UsageError for a tag that no task has.
    """
    modules = module_names()
    problems = list(scan(site.source.decode("utf-8", "surrogateescape"), site.path, modules))
    groups = {name: list(group.hosts) for name, group in inventory.groups.items()}
    first = _Declarations()
    problems += _load(site, inventory, hosts[0], groups, modules, options.extra, tasks=False, declared=first)
    for problem in sorted(problems, key=_place):
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


def _place(problem: Problem) -> tuple[str, int, str]:
    path, _, line = problem.where.rpartition(":")
    return (path, int(line) if line.isdigit() else 0, problem.message)


def _load(
    site: Site,
    inventory: Inventory,
    host: Host,
    groups: Mapping[str, list[str]],
    modules: Mapping[str, Sequence[str]],
    extra: Mapping[str, Any],
    tasks: bool = True,
    declared: _Declarations | None = None,
) -> Iterator[Problem]:
    """Load the site as for `host`, then (with `tasks`) walk through its tasks with answers that we invent.

    declared: is filled with the tasks.
    """
    program = Program(
        site,
        host={
            "name": host.name,
            "address": host.address,
            "port": host.port,
            "user": host.user,
            "groups": list(host.groups),
        },
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
        yield Problem(site.path, f"depends_on goes round in a circle: {error}")


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
            guessed = guessed or not _plain(request)
            answer = _invented(request)
        request = program.resume(answer)
    return request, guessed


def _plain(request: Request) -> bool:
    return type(request).__name__ in ("Sync", "Output")


def _invented(request: Request) -> object:
    match type(request).__name__:
        case "Fetch":
            assert isinstance(request, Fetch)
            return {
                "changed": True, "failed": False, "status": "changed", "msg": "", "stdout": "", "stderr": "",
                "exit_code": 0, "success": True, "exists": True,
            }  # fmt: skip
        case "Facts":
            return {}
        case "Render" | "Secret":
            return ""
        case "Shared":
            return Raise(SiteError("not known before a run"))
    return None


def _problem(end: Error) -> Problem:
    if end.cause is not None:
        return Problem(end.cause.where or end.where, end.cause.message, end.cause.hint)
    return Problem(end.where, end.message, end.hint)
