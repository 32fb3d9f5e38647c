"""pkg.* with the real package managers, each in an empty root of its own with a repository that is built here."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sloth.payload.kernel.converge import Outcome
from sloth.payload.kernel.resource import ArgumentError, Failed, Missing
from sloth.payload.lib.command import Completed
from sloth.payload.lib.host import Host
from sloth.payload.modules.pkg import choice, install, remove, update
from sloth.payload.state.store import Store
from tests.support.calls import NoController, execute_call
from tests.support.packages import arch, deb, rpm

pytestmark = pytest.mark.timeout(300)

HOLD = """
import fcntl, os, sys
file = open(sys.argv[1], "w")
if sys.argv[2] != "zypper":  # whose lock is the number in the file
    fcntl.lockf(file, fcntl.LOCK_EX)
file.write(str(os.getpid())); file.flush()
print("held", flush=True)
sys.stdin.readline()
if sys.argv[2] == "pacman":
    os.unlink(sys.argv[1])
"""


class Machine(Host):
    """A Host that counts the commands it runs."""

    def __init__(self, home: Path) -> None:
        Host.__init__(self, NoController(), home=str(home))
        self.commands: list[list[str]] = []

    def run(self, argv: list[str], *args: Any, **given: Any) -> Completed:
        self.commands.append(argv)
        done = Host.run(self, argv, *args, **given)
        assert isinstance(done, Completed)
        return done


class World:
    """One package manager, its root and its repository. `old`: whether its repository holds old versions, too."""

    def __init__(self, name: str, tmp_path: Path) -> None:
        self.name = name
        self.repository = tmp_path / "repository"
        self.repository.mkdir()
        self.root = tmp_path / "root"
        self.kind = {"apt": deb, "dnf": rpm, "zypper": rpm, "pacman": arch}[name]
        self.old = name != "pacman"
        self.release = {"apt": "", "dnf": "-1", "zypper": "-1", "pacman": "-1"}[name]
        self.host = Machine(tmp_path)
        self.store = Store(None)
        self.backend: Any = None

    def open(self) -> None:
        make: dict[str, Callable[[Path, Path], list[str]]] = {
            "apt": deb.root, "dnf": rpm.dnf_root, "zypper": rpm.zypper_root, "pacman": arch.root,
        }  # fmt: skip
        options = make[self.name](self.root, self.repository)
        self.backend = choice.create(self.name, self.host, root=str(self.root), options=options)

    def publish(self, *packages: tuple[str, str], needs: str = "") -> None:
        """Put packages into the repository; the last one needs `needs`."""
        key = {"apt": "Depends", "dnf": "Requires", "zypper": "Requires", "pacman": "depend"}[self.name]
        for name, version in packages:
            fields = {key: needs} if needs and (name, version) == packages[-1] else {}
            self.kind.build(self.repository, name, version, **fields)  # type: ignore[attr-defined]
        self.kind.index(self.repository)  # type: ignore[attr-defined]

    def call(self, verb: str, check: bool = False, **given: Any) -> Outcome:
        self.host.commands = []
        return execute_call("pkg." + verb, on=self.host, store=self.store, check=check, **given)

    def installed(self) -> list[str]:
        packages = self.backend.database().packages
        return sorted(name for name in packages if any(not entry.state for entry in packages[name]))

    def changes(self, text: str) -> list[str]:
        """ "one 1.0, two 2.0 -> gone" as the result says it, with releases."""
        words = [
            word + self.release if word[0].isdigit() else word
            for word in text.replace(",", " ,").split()
        ]  # fmt: skip
        return " ".join(words).replace(" ,", ",").split(", ")


TOOLS = {"apt": deb.TOOLS, "dnf": rpm.DNF_TOOLS, "zypper": rpm.ZYPPER_TOOLS, "pacman": arch.TOOLS}


@pytest.fixture(params=sorted(TOOLS))
def world(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    name = request.param
    missing = [tool for tool in TOOLS[name] if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"{name} cannot be tried without {', '.join(missing)}")
    if os.geteuid() != 0:
        pytest.skip("package managers want root, even for a root of their own")
    monkeypatch.setenv("HOME", str(rpm.home(tmp_path / "home")))
    made = World(name, tmp_path)
    made.publish(("one", "1.0"), ("library", "5.0"), ("two", "3.0"), needs="library")
    made.open()
    for module in (install, remove, update):
        monkeypatch.setattr(module, "choose", lambda host, use=None: made.backend)
    return made


def test_a_package_s_life(world: World) -> None:
    assert world.call("update").values["index_changed"] is True
    assert world.call("update").status == "unchanged", "an index that says nothing new is no change"
    assert world.call("update", cache_valid_time=600).status == "unchanged"
    assert world.host.commands == []

    planned = world.call("install", check=True, name=["one", "two"])
    assert (planned.status, planned.reason) == ("changed", "new")
    assert planned.values["versions"] == {"one": "1.0" + world.release, "two": "3.0" + world.release}
    assert list(world.backend.database().packages) == []

    done = world.call("install", name=["one", "two"])
    assert (done.status, done.reason, done.diff) == ("changed", "new", planned.diff)
    assert sorted(done.values["packages"]) == world.changes("library 5.0, one 1.0, two 3.0")
    streamed = [argv for argv in world.host.commands if {"install", "-S"} & set(argv)]
    assert len(streamed) == 1, "one transaction"

    again = world.call("install", name=["two", "one"])
    assert again.status == "unchanged"
    assert [argv for argv in world.host.commands if argv[0] != "rpm"] == []
    world.call("install", name=["one"])
    assert world.host.commands == [], "the database is read once"

    world.publish(("one", "1.5"))
    done = world.call("install", name="one", state="latest", update_cache=True)
    assert (done.status, done.values["packages"]) == ("changed", world.changes("one 1.0 -> 1.5"))
    assert world.call("install", name="one", state="latest").status == "unchanged"

    world.publish(("one", "1.6"))
    assert world.call("update", upgrade=True).values["packages"] == world.changes("one 1.5 -> 1.6")
    assert world.call("update", upgrade=True).status == "unchanged"

    done = world.call("remove", name="lib*", check=True)
    assert (done.status, done.reason) == ("changed", "new")
    assert "library" in world.backend.database().packages
    if world.name == "pacman":  # it does not take along what depends on it
        world.call("remove", name=["two", "library"])
    else:
        done = world.call("remove", name="lib*", purge=True)
        assert done.values["packages"] == world.changes("library 5.0 -> gone, two 3.0 -> gone")
    assert world.call("remove", name=["two", "library"]).status == "unchanged"
    assert list(world.backend.database().packages) == ["one"]


def test_versions_and_files(world: World) -> None:
    world.publish(("one", "1.4"))
    world.call("update")
    if world.old:
        world.call("install", name="one=1.0")
        assert world.call("install", name="one=1.0").status == "unchanged"
        done = world.call("install", name="one=1.4")  # Ansible issue 74209: dnf stayed at the old version
        assert done.values["packages"] == world.changes("one 1.0 -> 1.4")
        world.call("install", name="one=1.0", allow_downgrade=True)
    pinned = world.call("install", name="one=1.4*")
    assert pinned.values["versions"] == {"one": "1.4" + world.release}
    assert world.call("install", name="one=1.4*").status == "unchanged"
    assert world.call("install", name="one").status == "unchanged"
    if world.old:
        with pytest.raises(Failed) as caught:
            world.call("install", name="one=1.0")
        assert caught.value.hint == "set allow_downgrade = true"
        done = world.call("install", name="one=1.0", allow_downgrade=True)
        assert done.values["packages"] == world.changes("one 1.4 -> 1.0")

    file = str(world.kind.build(world.repository, "local", "7.0"))  # type: ignore[attr-defined]
    done = world.call("install", name=file)
    assert done.values["versions"] == {"local": "7.0" + world.release}
    assert world.call("install", name=file).status == "unchanged"


def test_what_is_not_there(world: World) -> None:
    if world.name in ("apt", "pacman"):  # dnf and zypper fetch an index that is not there
        with pytest.raises(Missing, match="knows no package one") as caught:
            world.call("install", name="one")
        assert "pkg.update" in caught.value.hint
    assert world.call("install", name="one", update_cache=True).status == "changed"
    with pytest.raises(Missing, match="knows no package onne") as caught:
        world.call("install", name=["one", "onne"])
    assert 'did you mean "one"?' in caught.value.hint
    with pytest.raises(Failed) as failed:
        world.call("install", name="one=99")
    assert "one" in failed.value.message
    with pytest.raises(Missing, match="does not exist on the host"):
        world.call("install", name=f"/nowhere/x.{'pkg.tar.gz' if world.name == 'pacman' else world.backend.kind}")


HOSTILE = (
    "one-", "one+", "one/stable", "one:i386-", "one:all-", "o.e", "on.*", "^one$", "one^", "?installed", "~i", "!one",
    "~one", "-one", "+one", "--purge", "@one", "one@edge", "one>0", "one<9", "one>=1*", "one<=1", "one~1",
    "repository/one", "one=1.0-", "one=1.0+", "one=~i", "patch:one", "package:one", "pattern:one", "one-1.0",
    "one-0:1.0-1.noarch", "one.rpm", "one.deb", "https://one.example/one.rpm", "one one", "two-",
    "two+", "/one/", "(one)", "one()",
)  # fmt: skip


@pytest.mark.parametrize("refresh", [False, True])
def test_a_name_is_never_syntax_to_the_tool(world: World, refresh: bool) -> None:
    """Issue 12: `pkg.install{name = "tcsh-", update_cache = true}` removed tcsh."""
    world.call("install", name="one", update_cache=True)
    for name in HOSTILE:
        world.host.commands = []
        with pytest.raises(Failed):
            world.call("install", name=name, update_cache=refresh)
        if not refresh:
            with pytest.raises(Failed):
                world.call("install", name=name, check=True)
        changing = {"install", "remove", "purge", "-S", "-R", "-U"}
        assert [argv for argv in world.host.commands if changing & set(argv)] == [], name
        with contextlib.suppress(Failed):
            assert world.call("remove", name=name).status == "unchanged", name
        assert world.installed() == ["one"], name


def test_only_installed_packages_are_upgraded(world: World) -> None:
    world.call("install", name="one", update_cache=True)
    world.publish(("one", "1.5"), ("two", "3.5"))
    latest = {"state": "latest", "update_cache": True}
    done = world.call("install", name=["one", "two"], only_upgrade=True, **latest)
    assert (done.status, done.values["packages"]) == ("changed", world.changes("one 1.0 -> 1.5"))
    assert world.call("install", name=["one", "two"], only_upgrade=True, state="latest").status == "unchanged"
    assert world.call("install", name="two", only_upgrade=True).status == "unchanged"
    with pytest.raises(Missing, match="knows no package nope"):
        world.call("install", name="nope", only_upgrade=True)
    assert world.installed() == ["one"]

    world.publish(("one", "1.6"))
    done = world.call("install", name="on*", only_upgrade=True, **latest)
    assert done.values["packages"] == world.changes("one 1.5 -> 1.6")
    assert world.call("install", name="tw*", only_upgrade=True, state="latest").status == "unchanged"
    with pytest.raises(Missing, match=r"knows no package nope\*"):
        world.call("install", name="nope*", only_upgrade=True)
    world.publish(("one", "1.7"))
    done = world.call("install", name="*", **latest)
    assert done.values["packages"] == world.changes("one 1.6 -> 1.7")
    assert world.call("install", name="*", state="latest").status == "unchanged"


def test_at_least_a_version(world: World) -> None:
    with pytest.raises(Missing, match="one"):
        world.call("install", name="one>=99", update_cache=True)
    done = world.call("install", name="one>=0.5")
    assert (done.status, done.values["packages"]) == ("changed", world.changes("one 1.0"))
    world.publish(("one", "1.5"))
    assert world.call("install", name="one>=1.0", update_cache=True).status == "unchanged"
    assert world.call("remove", name="one>=1.5").status == "unchanged"
    done = world.call("install", name="one>=1.2", update_cache=True)
    assert done.values["packages"] == world.changes("one 1.0 -> 1.5")
    world.publish(("one", "1.6"))
    done = world.call("install", name="one>=1.2", state="latest", update_cache=True)
    assert done.values["packages"] == world.changes("one 1.5 -> 1.6")
    assert world.call("install", name="one>=1.2", state="latest").status == "unchanged"
    world.call("install", name="library")  # zypper fails when it removes the last package of a root
    assert world.call("remove", name="one>=1.5").status == "changed"


def test_a_pattern_of_versions_means_the_latest_that_the_refreshed_index_has(world: World) -> None:
    world.call("install", name="one=1.*", update_cache=True)
    world.publish(("one", "1.5"), *([("one", "2.0")] if world.old else []))
    assert world.call("install", name="one=1.*").status == "unchanged", "the index is as it was"
    done = world.call("install", name=["one=1.*"], update_cache=True)
    assert done.values["packages"] == world.changes("one 1.0 -> 1.5")
    assert world.call("install", name="one=1.*", update_cache=True).status == "unchanged"


def test_a_pattern_means_all_that_the_index_has(world: World) -> None:
    world.publish(("plug-a", "1.0"), ("plug-b", "1.0"))
    with pytest.raises(ArgumentError, match="every package"):
        world.call("install", name="*")
    with pytest.raises(ArgumentError, match="pattern of names cannot have a version"):
        world.call("install", name="plug-*=1.0")
    done = world.call("install", name=["plug-*", "one"], update_cache=True)
    assert sorted(done.values["versions"]) == ["one", "plug-a", "plug-b"]
    assert world.call("install", name=["plug-*", "one"]).status == "unchanged"
    with pytest.raises(Missing, match=r"knows no package no-\*"):
        world.call("install", name="no-*")
    assert world.call("remove", name="plug-*").status == "changed"
    assert world.installed() == ["one"]


def test_what_nothing_needs_goes_without_a_name(world: World) -> None:
    world.call("install", name=["one", "two"], update_cache=True)  # an empty database is one zypper cannot cache
    assert world.call("remove", autoremove=True).status == "unchanged"
    world.call("remove", name="two")
    planned = world.call("remove", autoremove=True, check=True)
    assert planned.status == "changed"
    assert world.installed() == ["library", "one"]
    done = world.call("remove", autoremove=True)
    assert done.values["packages"] == world.changes("library 5.0 -> gone")
    assert world.call("remove", autoremove=True).status == "unchanged"
    world.call("install", name="two")
    world.call("remove", name="two")
    assert world.call("update", autoremove=True).values["packages"] == world.changes("library 5.0 -> gone")


def test_an_index_is_older_than_its_changed_sources(world: World) -> None:
    if world.name != "apt":
        pytest.skip("the others read their sources from outside of the root")
    sources = world.root / "etc/apt/sources.list"
    more = world.root / "etc/apt/sources.list.d/more.list"
    more.parent.mkdir(exist_ok=True)
    fresh = {"cache_valid_time": 3600}

    def refreshes() -> bool:
        status = world.call("update", check=True, **fresh).status
        world.call("update", **fresh)
        assert world.call("update", check=True, **fresh).status == "unchanged"
        return status == "changed"

    world.call("update")
    assert not refreshes()
    steps: list[Callable[[], object]] = [
        lambda: sources.write_text(sources.read_text() + "# more\n"),
        lambda: more.write_text(""),
        lambda: os.utime(more, (1, 1)),  # as a file has that is moved in with its old time
        more.unlink,
    ]
    for step in steps:
        time.sleep(0.05)
        step()
        assert refreshes()


def test_an_architecture_in_a_name(world: World) -> None:
    if world.name not in ("apt", "dnf", "zypper"):
        pytest.skip("its names have no architecture")
    ends = (":native", ":any", ":all", ":amd64") if world.name == "apt" else (".noarch",)
    foreign = ":sparc" if world.name == "apt" else ".s390x"
    world.call("install", name="two", update_cache=True)  # an empty database is one that zypper cannot cache
    for end in ends:
        assert world.call("install", name="one" + end).status == "changed"
        assert world.call("install", name="one" + end).status == "unchanged"
        assert world.call("install", name="one" + end, state="latest").status == "unchanged"
        assert world.call("install", name="one").status == "unchanged"
        with pytest.raises(Missing):
            world.call("install", name="one" + foreign)
        assert world.call("remove", name="one" + end).status == "changed"
        assert world.installed() == ["library", "two"]


def test_the_cause_of_a_failure_is_its_headline(world: World) -> None:
    world.publish(("needs-it", "1.0"), needs="not-there")
    world.publish(("top", "1.0"), needs="needs-it")
    with pytest.raises(Failed) as caught:
        world.call("install", name="top", update_cache=True)
    assert "not-there" in caught.value.message, caught.value.message
    assert "needs-it" in caught.value.message, caught.value.message


@pytest.fixture
def held(world: World) -> Iterator[tuple[World, subprocess.Popen[str]]]:
    """The world while somebody else has its database."""
    path = {
        "apt": "var/lib/dpkg/lock-frontend", "dnf": "var/lib/rpm/.rpm.lock",
        "zypper": "run/zypp.pid", "pacman": "var/lib/pacman/db.lck",
    }[world.name]  # fmt: skip
    world.call("install", name="one", update_cache=True)
    place = world.root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    words = [sys.executable, "-c", HOLD, str(place), world.name]
    holder = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdin is not None
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    yield world, holder
    if holder.poll() is None:
        holder.communicate()
    for pipe in (holder.stdin, holder.stdout):
        pipe.close()


def test_a_lock_is_waited_for_and_its_holder_named(held: tuple[World, subprocess.Popen[str]]) -> None:
    world, holder = held
    with pytest.raises(Failed, match=f"locked by .*{holder.pid}") as caught:
        world.call("install", name="two", lock_timeout=1)
    assert str(world.root) in caught.value.message
    assert "lock_timeout" in caught.value.hint

    def end() -> None:
        assert holder.stdin is not None
        holder.stdin.write("\n")
        holder.stdin.flush()
        holder.wait()

    go = threading.Timer(0.5, end)
    go.start()
    assert world.call("install", name="two", lock_timeout=60).status == "changed"
    go.join()


def test_a_dependency_that_is_named_is_wanted_for_itself(world: World) -> None:
    """Without the mark, removing what needed it would take it along, though the site names it."""
    world.call("install", name=["one", "two"], update_cache=True)
    if world.name in ("dnf", "zypper"):
        assert world.call("install", name="library").status == "unchanged"
        return
    assert world.call("install", name="librar*", only_upgrade=True).status == "unchanged"
    planned = world.call("install", name="library", check=True)
    done = world.call("install", name=["library", "one"])
    assert (done.status, planned.status, done.values["packages"]) == ("changed", "changed", [])
    assert world.call("install", name=["library", "one"]).status == "unchanged"
    world.call("remove", name="two", autoremove=True)
    assert world.installed() == ["library", "one"]


def test_what_a_removal_takes_along_is_known_before(world: World) -> None:
    world.publish(("top", "1.0"), needs="two")
    world.call("install", name=["one", "top"], update_cache=True)
    assert set(world.backend.removed_with(["library"])) == {"library", "two", "top"}
    assert set(world.backend.removed_with(["top"])) == {"top"}
    assert set(world.backend.removed_with(["one", "two"])) == {"one", "two", "top"}
    assert world.installed() == ["library", "one", "top", "two"], "nothing was removed to find out"


def test_versions_in_removals_and_with_latest(world: World) -> None:
    world.call("install", name=["two", "one=1.0*"], state="latest", update_cache=True)
    assert world.installed() == ["library", "one", "two"]
    assert world.call("remove", name="one=2.0").status == "unchanged"
    assert world.call("remove", name="one=1.*", update_cache=True).status == "changed"
    assert world.installed() == ["library", "two"]
