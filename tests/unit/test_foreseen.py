"""What a check foresees: later calls see what earlier ones with the same state key would have done."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sloth.payload.kernel.errors import Failed, Missing
from sloth.payload.lib.host import Host
from sloth.payload.modules.hostname import Set as Hostname
from sloth.payload.modules.systemd.systemctl import Manager, UnitStatus
from sloth.payload.modules.timezone import Set as Timezone
from sloth.payload.state.store import Store
from tests.support.calls import NoController, execute_call

Calls = list[tuple[str, dict[str, object]]]
STATUSES = ("changed", "unchanged")


def compare(calls: Calls) -> list[str]:
    """Check all calls and then run them, each time in one session; return the statuses, which must be the same."""
    checked, host = [], Host(NoController())
    for name, arguments in calls:
        checked.append(execute_call(name, on=host, check=True, **arguments).status.value)
    host = Host(NoController())
    done = [execute_call(name, on=host, **arguments).status.value for name, arguments in calls]
    assert checked == done
    return done


def test_a_time_zone_that_is_set_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "zones").mkdir()
    for name in ("A", "B"):
        (tmp_path / "zones" / name).touch()
    (tmp_path / "link").symlink_to("zones/A")
    (tmp_path / "text").write_text("A\n")
    for name in ("zones", "link", "text"):
        monkeypatch.setattr(Timezone, name, str(tmp_path / name))
    calls: Calls = [("timezone.set", {"name": name}) for name in "AABBAA"]
    assert compare(calls) == ["unchanged", "unchanged", "changed", "unchanged", "changed", "unchanged"]


def test_an_entry_of_fstab_that_comes_and_goes(tmp_path: Path) -> None:
    fstab = tmp_path / "fstab"
    fstab.write_text("# none\n")
    there = {"path": "/srv/foreseen", "src": "tmpfs", "fstype": "tmpfs", "state": "configured", "fstab": str(fstab)}
    absent: tuple[str, dict[str, object]] = ("mount.absent", {"path": "/srv/foreseen", "fstab": str(fstab)})
    present: tuple[str, dict[str, object]] = ("mount.present", dict(there))
    other: tuple[str, dict[str, object]] = ("mount.present", {**there, "opts": "size=1m"})
    calls = [absent, present, present, other, present, absent, absent, present]
    assert compare(calls) == [
        "unchanged", "changed", "unchanged", "changed", "changed", "changed", "unchanged", "changed",
    ]  # fmt: skip


def test_a_name_that_is_set_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = {"live": "one"}
    (tmp_path / "hostname").write_text("one\n")
    monkeypatch.setattr(Hostname, "path", str(tmp_path / "hostname"))
    monkeypatch.setattr("socket.gethostname", lambda: name["live"])
    monkeypatch.setattr("socket.sethostname", lambda new: name.update(live=new))
    calls: Calls = [("hostname.set", {"name": name}) for name in ("one", "two", "two", "one")]
    assert compare(calls) == ["unchanged", "changed", "unchanged", "changed"]


@pytest.fixture
def unit(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """One unit, without systemd; tests/fleet/test_checks.py has the same calls with it."""
    now = {"LoadState": "loaded", "ActiveState": "inactive", "UnitFileState": "disabled", "Type": "simple"}

    def systemctl(manager: Manager, words: list[str], unit: str = "") -> str:
        verb = words[0]
        if verb in ("start", "restart", "stop"):
            now["ActiveState"] = "inactive" if verb == "stop" else "active"
        else:
            now["UnitFileState"] = {"enable": "enabled", "mask": "masked"}.get(verb, "disabled")
        return ""

    monkeypatch.setattr(Manager, "status", lambda manager, name: UnitStatus(name, now))
    monkeypatch.setattr(Manager, "directories", lambda manager: [])
    monkeypatch.setattr(Manager, "systemctl", systemctl)
    monkeypatch.setattr(Manager, "start", lambda manager, verb, name, settle: manager.systemctl([verb, name]))
    return now


UNIT_CALLS = [
    ("stop", "unchanged"), ("start", "changed"), ("start", "unchanged"), ("stop", "changed"), ("restart", "changed"),
    ("start", "unchanged"), ("enable", "changed"), ("enable", "unchanged"), ("disable", "changed"), ("stop", "changed"),
    ("reload", "changed"), ("stop", "changed"), ("enable", "changed"), ("mask", "changed"), ("disable", "unchanged"),
    ("unmask", "changed"), ("start", "changed"),
]  # fmt: skip


def test_a_unit_that_would_be_started_can_be_stopped(unit: dict[str, str]) -> None:
    calls: Calls = [("systemd." + verb, {"name": "x"}) for verb, _ in UNIT_CALLS]
    assert compare(calls) == [status for _, status in UNIT_CALLS]


def test_a_unit_that_would_be_stopped_is_not_restarted_if_only_active(unit: dict[str, str]) -> None:
    unit["ActiveState"] = "active"
    restart: tuple[str, dict[str, object]] = ("systemd.restart", {"name": "x", "only_if_active": True})
    calls: Calls = [restart, ("systemd.stop", {"name": "x"}), restart, ("systemd.start", {"name": "x"}), restart]
    assert compare(calls) == ["changed", "changed", "unchanged", "changed", "changed"]


def test_whether_a_unit_that_an_earlier_call_brings_is_active_is_not_known(unit: dict[str, str]) -> None:
    host = Host(NoController())
    unit["LoadState"] = "not-found"
    with pytest.raises(Missing):
        execute_call("systemd.restart", on=host, check=True, name="x", only_if_active=True)
    host.pending = True
    outcomes = [
        execute_call("systemd." + verb, on=host, check=True, name="x", **given)
        for verb, given in (("restart", {"only_if_active": True}), ("start", {}), ("start", {}), ("stop", {}))
    ]
    assert [outcome.status for outcome in outcomes] == ["unknown", "changed", "unchanged", "unknown"]
    assert all(outcome.unknown for outcome in outcomes), "so that a site is told, and reads no values of it"


def test_a_unit_that_runs_to_its_end_is_not_foreseen_as_active(unit: dict[str, str]) -> None:
    unit.update(Type="oneshot", RemainAfterExit="no")
    host = Host(NoController())
    assert execute_call("systemd.restart", on=host, check=True, name="x").status == "changed"
    assert execute_call("systemd.stop", on=host, check=True, name="x").status == "unchanged"


ROUNDS = int(os.environ.get("SLOTH_ATTACK_ROUNDS", "40"))
# Calls about things in one directory, which nobody else knows. "D" stands for it.
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB8Ht8Z3j6yDWPBHQtOp/R9rjWvfMYo3MSA/K6q8D86r"
ARCHIVE = {"src": "D/../archive.tar", "remote_src": True}
PARTS: Calls = [
    *(("sysctl.set", {"name": "kernel.panic", "value": value, "sysctl_set": False, "sysctl_file": "D/" + file})
      for value in (1, 2) for file in "ab"),
    ("sysctl.set", {"name": "kernel.panic", "state": "absent", "sysctl_set": False, "sysctl_file": "D/a"}),
    ("sysctl.set", {"name": "kernel.sysrq", "value": 1, "sysctl_set": False, "sysctl_file": "D/a"}),
    *(("file.link", {"path": "D/" + path, "src": src, "force": True}) for path in ("a", "l") for src in ("x", "y")),
    *(("file.link", {"path": "D/d", "src": src, "force": True}) for src in ("e", "l")),
    *(("file.absent", {"path": "D/" + path}) for path in ("a", "l", "d", "d/a", "e")),
    *(("file.directory", {"path": "D/" + path, "mode": "0755"}) for path in ("d", "e", "d/e")),
    *(("file.directory", {"path": "D/" + path, "mode": "0750"}) for path in ("d", "d/e")),
    ("file.directory", {"path": "D/d", "mode": "u=rwx,go=", "recurse": True}),
    *(("file.lineinfile", {"path": "D/" + path, "line": line, "create": True}) for path in ("a", "d/a")
      for line in "xy"),
    ("file.blockinfile", {"path": "D/a", "block": "kernel.panic = 2", "create": True}),
    ("ssh.known_hosts", {"path": "D/a", "name": "h", "key": "h " + KEY}),
    ("ssh.known_hosts", {"path": "D/d/a", "name": "h", "key": "h " + KEY}),
    ("ssh.known_hosts", {"path": "D/a", "name": "h", "state": "absent"}),
    ("archive.unpack", {**ARCHIVE, "dest": "D/d"}),
    ("archive.unpack", {**ARCHIVE, "dest": "D/e"}),
    ("git.clone", {"repo": "D/../repo", "dest": "D/e"}),
    ("git.clone", {"repo": "D/../repo", "dest": "D/clone"}),
]  # fmt: skip


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an archive and a working copy are made from."""
    path = tmp_path_factory.mktemp("foreseen")
    for name in ("a", "e/x"):
        (path / "packed" / name).parent.mkdir(parents=True, exist_ok=True)
        (path / "packed" / name).write_text(name)
    subprocess.run(["tar", "-C", path / "packed", "-cf", path / "archive.tar", "a", "e/x"], check=True)
    subprocess.run(["git", "init", "-q", path / "repo"], check=True)
    commit = ["-c", "user.name=a", "-c", "user.email=b", "commit", "-q", "--allow-empty", "-m", "x"]
    subprocess.run(["git", "-C", path / "repo", *commit], check=True)
    return path


def _directory(path: str, mode: str, **given: object) -> tuple[str, dict[str, object]]:
    return "file.directory", {"path": path, "mode": mode, **given}


TREE: tuple[str, dict[str, object]] = (
    "file.copy", {"src": "D/../packed/", "dest": "D/t/", "remote_src": True, "directory_mode": "0755"},
)  # fmt: skip
CLOSED = "u=rwx,go="
LINE: tuple[str, dict[str, object]] = ("file.lineinfile", {"path": "D/a", "line": "kernel.panic = 1", "create": True})


@pytest.mark.timeout(120 + ROUNDS)
@settings(max_examples=ROUNDS, suppress_health_check=list(HealthCheck))
@example([PARTS[-2]], [("file.absent", {"path": "D/e"}), PARTS[-2]])  # a working copy that would be gone
@example(  # a whole tree, after something in it
    [_directory("D/d", "0700"), _directory("D/d/e", "0700")],
    [_directory("D/d/e", "0755"), _directory("D/d", CLOSED, recurse=True)],
)
@example([TREE, _directory("D/t/e", "0750")], [_directory("D/t/e", "0755"), TREE])
@example([LINE], [_directory("D/d", "0755"), ("file.lineinfile", {**LINE[1], "line": "x"}), PARTS[2], LINE])
@given(st.lists(st.sampled_from(PARTS), max_size=4), st.lists(st.sampled_from(PARTS), min_size=1, max_size=6))
def test_a_check_foresees_what_its_calls_would_do_or_says_that_it_is_not_known(
    packed: Path, before: Calls, calls: Calls
) -> None:
    with tempfile.TemporaryDirectory(dir=packed) as name:

        def go(some: Calls, check: bool) -> list[str]:
            host, store, said = Host(NoController()), Store(None), []
            for module, template in some:
                given = {
                    field: value.replace("D/", name + "/", 1) if isinstance(value, str) else value
                    for field, value in template.items()
                }
                try:
                    said.append(execute_call(module, on=host, store=store, check=check, **given).status.value)
                except (Failed, OSError) as error:  # nothing follows, as in a task
                    return [*said, f"{module}: {error}"]
            return said

        go(before, check=False)
        checked, done = go(calls, check=True), go(calls, check=False)
        assert len(checked) >= len(done), (checked, done)
        for expected, found in zip(checked, done, strict=False):
            assert expected in (found, "unknown") or found not in STATUSES, (checked, done)


def test_what_was_put_below_a_directory_goes_with_it(tmp_path: Path) -> None:
    line: tuple[str, dict[str, object]] = ("file.lineinfile", {"path": f"{tmp_path}/d/a", "line": "x", "create": True})
    absent: tuple[str, dict[str, object]] = ("file.absent", {"path": f"{tmp_path}/d"})
    host = Host(NoController())
    said = [execute_call(name, on=host, check=True, **given).status.value for name, given in (line, line, absent, line)]
    assert said == ["changed", "unchanged", "changed", "unknown"]


def test_a_link_whose_target_begins_alike_leads_to_another_file(tmp_path: Path) -> None:
    (tmp_path / "ab").symlink_to("a")
    host = Host(NoController())

    def check(value: int, name: str) -> str:
        given = {"name": "kernel.panic", "value": value, "sysctl_set": False, "sysctl_file": str(tmp_path / name)}
        return execute_call("sysctl.set", on=host, check=True, **given).status.value

    assert check(1, "ab") == "changed"
    given = {"path": str(tmp_path / "a"), "src": "x", "force": True}
    assert execute_call("file.link", on=host, check=True, **given).status == "unknown"
    assert check(1, "ab") == "unknown"


def test_a_link_is_known_though_what_it_leads_to_would_change(tmp_path: Path) -> None:
    (tmp_path / "l").symlink_to("a")
    (tmp_path / "a").write_text("")
    host = Host(NoController())
    line = {"path": str(tmp_path / "a"), "line": "x"}
    assert execute_call("file.lineinfile", on=host, check=True, **line).status == "changed"
    link = {"path": str(tmp_path / "l"), "src": "a"}
    assert execute_call("file.link", on=host, check=True, **link).status == "unchanged"
    through = {"name": "kernel.panic", "value": 1, "sysctl_set": False, "sysctl_file": str(tmp_path / "l")}
    assert execute_call("sysctl.set", on=host, check=True, **through).status == "unknown"
