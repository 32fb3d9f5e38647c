"""Shows saved plans: to people on a terminal, as Markdown for a merge request, and as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from sloth.dates import local_date
from sloth.engine.plans.references import shown
from sloth.engine.plans.values import HostPlan, Plan, PlannedCall, PlannedTask
from sloth.report.text import diff_lines, hosts, neutral

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Diff, JsonObject

VERSION = 1
LONG = 60  # lines of one difference that Markdown shows
Lines = Iterator[tuple[str, str]]  # and their style


def _day(seconds: float) -> str:
    return local_date(seconds)


def _groups(plan: Plan) -> list[tuple[str, PlannedCall, list[str]]]:
    """Return the changes, those that are alike on several hosts together: task, call, hosts."""
    found: dict[str, tuple[str, PlannedCall, list[str]]] = {}
    for host in plan.hosts.values():
        for task, call in host.changes():
            key = json.dumps([task, call.name, call.subject or call.key, call.where, call.reason, call.msg, call.diff])
            found.setdefault(key, (task, call, []))[2].append(host.name)
    return list(found.values())


def _unknowns(plan: Plan) -> list[tuple[str, str, str, list[str]]]:
    found: dict[tuple[str, str, str], list[str]] = {}
    for host in plan.hosts.values():
        for unknown in host.unknowns():
            found.setdefault(unknown, []).append(host.name)
    return [(*what, names) for what, names in found.items()]


def has_unknowns(plan: Plan, names: Sequence[str]) -> bool:
    """Return whether something on one of these hosts is not known before it is done."""
    return any(plan.hosts[name].unknowns() for name in names)


def count(plan: Plan) -> tuple[int, int, int]:
    """Return how many changes there are, on how many hosts, and how many calls would change nothing."""
    changes = [len(host.changes()) for host in plan.hosts.values()]
    calls = sum(len(list(host.calls())) for host in plan.hosts.values())
    return sum(changes), sum(map(bool, changes)), calls - sum(changes)


def _summary(plan: Plan) -> str:
    changes, on, unchanged = count(plan)
    total = len(plan.hosts)
    return f"{total} host{'s' * (total != 1)}: {changes} would change on {on} of them, {unchanged} unchanged"


def lines(plan: Plan, diff: bool) -> Lines:
    """Yield what a terminal shows."""
    yield f"plan {plan.id}", "bold"
    yield f"  site     {plan.site}", ""
    yield f"  made     {_day(plan.created)} by {plan.who} on {plan.origin}", ""
    yield f"  hosts    {hosts(list(plan.hosts))}", ""
    if plan.unreachable:
        yield f"  left out {hosts(list(plan.unreachable))}: unreachable", "red"
    for _, call, names in _groups(plan):
        why = f" ({call.reason})" if call.reason else ""
        said = f": {call.msg}" if call.msg else ""
        yield f"would change  {call.title}{why}{said}  {hosts(names)}", "yellow"
        for text, style in diff_lines(call.diff or {}) if diff else ():
            yield f"    {text}", style
    for task, where, what, names in _unknowns(plan):
        yield f"unknown       task {task} ({where}): {what}  {hosts(names)}", "magenta"
    for host in plan.hosts.values():
        for key in host.orphans:
            yield f"orphaned      {key}: the site no longer names it; a plan leaves it  {host.name}", "magenta"
    yield _summary(plan), "bold"
    if any(host.unknowns() for host in plan.hosts.values()):
        yield "apply needs --allow-unknown", "magenta"


def markdown(plan: Plan) -> str:
    """Return what a merge request shows."""
    text = [
        f"### Plan of {_code(plan.site)}",
        "",
        f"{_summary(plan)}. Made {_day(plan.created)} by {_text(plan.who)}.",
        "",
    ]
    if plan.unreachable:
        text += [f"**Left out, unreachable:** {_text(hosts(list(plan.unreachable)))}", ""]
    groups = _groups(plan)
    if groups:
        text += ["| would change | why | task | hosts |", "|---|---|---|---|"]
        text += [
            f"| {_code(call.title)} | {_text(call.reason)} | {_text(task)} | {_text(hosts(names))} |"
            for task, call, names in groups
        ]
        text.append("")
    unknowns = _unknowns(plan)
    if unknowns:
        text += ["**Not known before it is done** (`apply` needs `--allow-unknown`):", ""]
        text += [f"- {_text(task)}: {_code(what)} ({_text(hosts(names))})" for task, _, what, names in unknowns]
        text.append("")
    orphans = [(key, host.name) for host in plan.hosts.values() for key in host.orphans]
    if orphans:
        text += ["**Orphaned** (a plan leaves it; `run --prune` removes it):", ""]
        text += [f"- {_code(key)} ({_text(host)})" for key, host in orphans] + [""]
    for _, call, names in groups:
        if call.diff:
            text += _details(call, names, call.diff)
    return "\n".join(text)


def _details(call: PlannedCall, names: Sequence[str], diff: Diff) -> list[str]:
    body = [neutral(line) for line, _ in diff_lines(diff)]
    if len(body) > LONG:
        body = [*body[:LONG], f"... {len(body) - LONG} more lines"]
    fence = "```"
    while any(fence in line for line in body):
        fence += "`"
    head = f"<details><summary>{_html(call.title)} ({_html(hosts(list(names)))})</summary>"
    return [head, "", f"{fence}diff", *body, fence, "", "</details>", ""]


def _html(text: str) -> str:
    return neutral(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\n", " ")


def _text(text: str) -> str:
    """Return text as Markdown shows it in a table: nothing in it is markup."""
    return "".join("\\" + char if char in "\\`*_{}[]#|~@" else char for char in _html(text))


def _code(text: str) -> str:
    """Return text as code, also in a table."""
    flat = neutral(text).replace("\n", " ").replace("|", "\\|")
    fence = "`"
    while fence in flat:
        fence += "`"
    pad = " " if flat.startswith("`") or flat.endswith("`") else ""
    return f"{fence}{pad}{flat}{pad}{fence}"


def document(plan: Plan) -> JsonObject:
    """Return it for programs."""
    changes, on, unchanged = count(plan)
    return {
        "version": VERSION,
        "id": plan.id,
        "site": plan.site,
        "created": plan.created,
        "by": plan.who,
        "origin": plan.origin,
        "sloth_runner": plan.version,
        "summary": {"hosts": len(plan.hosts), "changed": changes, "changed_hosts": on, "unchanged": unchanged},
        "unreachable": list(plan.unreachable),
        "hosts": {host.name: _host(host) for host in plan.hosts.values()},
    }


def _host(host: HostPlan) -> JsonObject:
    unknowns = [{"task": task, "where": where, "what": what} for task, where, what in host.unknowns()]
    return {
        "address": host.address,
        "tasks": [_task(task) for task in (*host.tasks, *host.handlers) if task.is_planned],
        "unknown": unknowns,
        "orphans": list(host.orphans),
    }


def _task(task: PlannedTask) -> JsonObject:
    return {
        "name": task.task.name,
        "handler": task.task.handler,
        "status": task.status.value,
        "calls": [
            {
                "module": call.name,
                "key": call.key,
                "where": call.where,
                "args": shown(call.args),
                "assets": [
                    {"name": one.name, "sha256": one.sha256 or None, "size": one.size or None, "dir": one.dir}
                    for one in call.assets
                ],
                "status": call.status.value,
                "reason": call.reason,
                "msg": call.msg,
                "diff": call.diff,
                "before": call.before,
                "after": call.after,
                "unknown": call.unknown,
            }
            for call in task.calls
        ],
    }
