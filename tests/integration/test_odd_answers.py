"""Hosts that answer what no payload of ours would, at one place: what the run says of it, and what it goes on with."""

from __future__ import annotations

from pathlib import Path

import pytest

from sloth.engine.events import CallOutput, Event, Log
from sloth.engine.options import Options
from tests.support.edited_host import Rule, edited_hosts
from tests.support.running import finished_hosts, printed, results, run_site

pytestmark = pytest.mark.timeout(120)


async def run(
    tmp_path: Path, source: str, options: Options | None = None, hosts: str = "all", **rules: list[Rule]
) -> list[Event]:
    """Run site text over hosts with these rules."""
    inventory = edited_hosts(tmp_path, **rules)
    site = tmp_path / "site.sloth"
    site.write_text(source)
    return await run_site(site, inventory, tmp_path / "controller", options, hosts)


def error_of(events: list[Event], host: str = "web1") -> str:
    return finished_hosts(events)[host].error or ""


COPY = 'task({ name = "t", run = function() file.copy({ dest = "~/x", content = "x" }) end })'


async def test_a_call_that_was_skipped_for_no_reason_is_an_error(tmp_path: Path) -> None:
    events = await run(tmp_path, COPY, web1=[({"t": "reply"}, {"set": {"status": "skipped"}})])
    assert "web1 skipped file.copy ~/x for no reason" in error_of(events)


async def test_a_file_that_nobody_has_asked_for_is_refused(tmp_path: Path) -> None:
    events = await run(tmp_path, COPY, web1=[({"t": "reply"}, {"blob": "evil"})])
    assert "web1 sends a file that was not requested" in error_of(events)
    delegated = COPY.replace('name = "t"', 'name = "t", hosts = "web1", delegate_to = "web2"')
    events = await run(tmp_path, delegated, web1=[], web2=[({"t": "reply", "session": 1}, {"blob": "evil"})])
    assert "web2 sends a file that was not requested" in error_of(events)


async def test_facts_that_a_host_cannot_gather_fail_what_needs_them(tmp_path: Path) -> None:
    broken: Rule = ({"t": "reply"}, {"set": {"status": "failed", "error": "no /proc", "hint": "mount it"}})
    site = 'task({ name = "t", run = function() log.info(facts.hostname) end })' + COPY.replace('"t"', '"u"')
    events = await run(tmp_path, site, web1=[broken])
    assert "facts on web1: no /proc; hint: mount it" in error_of(events)
    assert printed(events) == []


async def test_what_a_host_has_taken_back_after_an_earlier_run_is_said_once(tmp_path: Path) -> None:
    row = {"key": "file:copy:/etc/x", "status": "done", "msg": ""}
    reverted = [
        {"run": "earlier", "task": "ssh", "why": "nobody confirmed it", "rows": [row], "error": ""},
        {"run": "older", "task": "net", "why": "it was cut off", "error": "no space",
         "rows": [row, {**row, "key": "file:copy:/etc/y", "status": "failed", "msg": "read-only"}]},
    ]  # fmt: skip
    site = f"{COPY}\nflush_handlers()\n" + COPY.replace('"t"', '"u"')
    events = await run(tmp_path, site, web1=[({"t": "ready"}, {"set": {"reverted": reverted}})])
    said = [event.text for event in events if isinstance(event, Log)]
    assert said == [
        "the host took back what task ssh of run earlier had changed (nobody confirmed it): file:copy:/etc/x",
        "the host took back what task net of run older had changed (it was cut off): file:copy:/etc/x, "
        "file:copy:/etc/y; not taken back: file:copy:/etc/y: read-only; no space",
    ]
    assert finished_hosts(events)["web1"].status == "changed"


async def test_an_orphan_that_cannot_be_removed_fails_the_host(tmp_path: Path) -> None:
    both = COPY.replace(
        "end })", 'file.copy({ dest = "~/y", content = "y" }) file.copy({ dest = "~/z", content = "z" }) end })'
    )
    await run(tmp_path, both, web1=[])
    home = tmp_path / "web1"
    rows = [
        {"key": f"file:copy:{home}/y", "status": "failed", "msg": "it is busy"},
        {"key": f"file:copy:{home}/z", "status": "done", "msg": ""},
    ]
    planned = [{**row, "status": "planned"} for row in rows]
    (tmp_path / "web1.rules.sessions").unlink()
    events = await run(
        tmp_path, COPY, Options(prune=True),
        web1=[({"t": "rows", "id": 2}, {"set": {"rows": planned}}), ({"t": "rows", "id": 3}, {"set": {"rows": rows}})],
    )  # fmt: skip
    assert error_of(events) == "not everything that the site no longer names could be removed"
    assert [(result.key, result.status) for result in results(events)][-2:] == [
        (f"file:copy:{home}/y", "failed"),
        (f"file:copy:{home}/z", "changed"),
    ]


OWED = """
handler({ name = "h", run = function() print("h") end })
task({ name = "t", hosts = "web1", notify = "h", OPTIONS run = function()
    exec.run({ cmd = "true", read_only = true, changed_when = true })
    print("after")
end })
"""


@pytest.mark.parametrize("is_delegated", [False, True])
async def test_a_handler_that_a_host_cannot_note_is_a_failure(tmp_path: Path, is_delegated: bool) -> None:
    """The change is one by the site's own word, and the host is lost when it is to remember that."""
    lost: list[Rule] = [({"t": "rows"}, {"end": True})]
    options = 'delegate_to = "web2",' if is_delegated else ""
    events = await run(
        tmp_path, OWED.replace("OPTIONS", options), web1=[] if is_delegated else lost, web2=lost if is_delegated else []
    )
    ended = finished_hosts(events)["web1"]
    assert "after" not in printed(events)
    assert ended.status == ("failed" if is_delegated else "unreachable")
    assert ("exec.run true on web2 (for web1): " in str(ended.error)) is is_delegated


async def test_a_delegate_that_does_not_say_goodbye_fails_the_run_and_says_why(tmp_path: Path) -> None:
    delegated = COPY.replace('name = "t"', 'name = "t", hosts = "web1", delegate_to = "web2"')
    events = await run(tmp_path, delegated, hosts="web1", web1=[], web2=[({"t": "bye"}, {"end": True})])
    (said,) = (event.text for event in events if isinstance(event, Log))
    assert said.startswith("what was delegated to it may not be recorded: the payload on web2 ended")
    assert finished_hosts(events)["web1"].status == "changed"


async def test_another_session_follows_a_delegates_that_broke_and_output_is_of_its_host(tmp_path: Path) -> None:
    site = """
task({ name = "t", hosts = "web1", delegate_to = "web3", ignore_errors = true, run = function()
    file.copy({ dest = "~/x", content = "x" })
end })
task({ name = "u", hosts = "web*", depends_on = "t", delegate_to = "web3", serial = 1, run = function()
    exec.run("echo shown for " .. host.name)
    exec.run({ cmd = "echo hidden", sensitive = true })
end })
"""
    broken: list[Rule] = [({"t": "reply", "session": 1}, {"blob": "evil"})]
    events = await run(tmp_path, site, hosts="web1,web2", web1=[], web2=[], web3=broken)
    shown = [(event.host, event.data) for event in events if isinstance(event, CallOutput)]
    assert shown == [("web1", "shown for web1\n"), ("web2", "shown for web2\n")]
    assert {end.status for end in finished_hosts(events).values()} == {"changed"}


async def test_a_call_that_a_host_never_ends_is_given_up(tmp_path: Path) -> None:
    """It has been told to end it, and had some seconds for that."""
    site = COPY.replace('name = "t"', 'name = "t", timeout = 1')
    events = await run(tmp_path, site, web1=[({"t": "reply"}, {"drop": True})])
    assert "file.copy ~/x on web1: task t did not end within 1 seconds" in error_of(events)
    assert finished_hosts(events)["web1"].status == "failed"


async def test_a_call_that_has_not_begun_is_given_up_and_others_keep_the_delegate(tmp_path: Path) -> None:
    site = """
task({ name = "long", hosts = "web1", delegate_to = "web3", run = function()
    exec.run("touch MARK; sleep 8")
    exec.run("true")
end })
task({ name = "wait", hosts = "web2", run = function()
    exec.run("until test -e MARK; do sleep 0.1; done")
end })
task({ name = "t", hosts = "web2", delegate_to = "web3", timeout = 1, run = function() exec.run("touch MARK2") end })
""".replace("MARK", str(tmp_path / "mark"))
    events = await run(tmp_path, site, hosts="web1,web2", web1=[], web2=[], web3=[])
    assert "on web3 (for web2): task t did not end within 1 seconds" in error_of(events, "web2")
    assert finished_hosts(events)["web1"].status == "changed"
    assert not (tmp_path / "mark2").exists()


async def test_a_host_that_is_lost_in_a_task_with_confirm_takes_all_back(tmp_path: Path) -> None:
    lost: list[Rule] = [({"t": "reply", "session": 1, "key": f"file:copy:{tmp_path}/web1/y"}, {"end": True})]
    site = COPY.replace('name = "t"', 'name = "t", confirm = 20').replace(
        "end })", 'file.copy({ dest = "~/y", content = "y" }) end })'
    )
    events = await run(tmp_path, site, web1=lost)
    assert "task t was not confirmed, and its changes were taken back: " in error_of(events)
    assert [result.reason for result in results(events)][-2:] == ["reverted", "reverted"]
    assert not (tmp_path / "web1" / "x").exists()
    assert not (tmp_path / "web1" / "y").exists()
