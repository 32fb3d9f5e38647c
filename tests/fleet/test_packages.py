"""What public bug reports of Ansible, Salt and pyinfra describe of packages, tried with apt on a real host."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.packages import deb
from tests.support.running import finished_hosts, results
from tests.support.sites import HOST, Runner, go

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(300)]
__all__ = ["go"]


@pytest.fixture
def offers(go: Runner) -> Path:
    """The only repository of the host; the files in `files` are in no index."""
    directory = go.fleet.roots[HOST] / "srv/reports"
    if not directory.is_dir():
        (directory / "files").mkdir(parents=True)
        native, foreign = {"Architecture": "amd64"}, {"Architecture": "i386"}
        for name, version, fields in (
            ("greeter", "1.0", native), ("greeter", "1.1", native), ("shell-x", "6", native),
            ("foreign", "1.0", foreign), ("elpa-y", "1.0", {"Provides": "yaml-mode"}),
            ("alt-a", "1.0", {"Provides": "alt"}),
            ("alt-b", "1.0", {"Provides": "alt"}), ("epoch", "1:2.0-1", {}), ("epoch", "1:3.0-1", {}),
            ("needs", "1.0", {"Depends": "python3-not-there (>= 9)"}), ("top", "1.0", {"Depends": "needs"}),
        ):  # fmt: skip
            deb.build(directory, name, version, **fields)
        deb.build(directory, "fails", "1.0", {"postinst": "exit 3"})
        for version in ("1.0", "2.0"):
            deb.build(directory / "files", "local", version)
        deb.build(directory / "files", "alien", "1.0", Architecture="i386")
        deb.index(directory)
    (go.fleet.roots[HOST] / "etc/apt/sources.list").write_text("deb [trusted=yes] file:/srv/reports ./\n")
    go.told("pkg.update()")
    return directory


def twice(go: Runner, call: str) -> list[str]:
    return [status for _ in range(2) for _, status, _ in go.told(call)]


CHANGED_ONCE = ["changed", "unchanged"]


@pytest.mark.usefixtures("offers")
def test_the_syntax_of_apt_is_no_name(go: Runner) -> None:
    """Issue 12: `tcsh-` with a refresh removed tcsh."""
    assert twice(go, 'pkg.install("shell-x")') == CHANGED_ONCE
    for name in ("shell-x-", "shell-x+", "shell-x=6-", "shell-x/stable", "shell.x", "^shell-x$"):
        for more in ("", ", update_cache = true"):
            call = f'pkg.install({{ name = "{name}"{more} }})'
            assert {result.status for result in results(go(call))} <= {"failed"}
            assert {result.status for result in results(go(call, check=True))} <= {"failed"} or "update" in more
    assert "ii  shell-x" in go.shell("dpkg -l shell-x")


@pytest.mark.usefixtures("offers")
def test_architectures(go: Runner) -> None:
    """Issue 12 (hello:amd64); Ansible 24673 (a package of another architecture), Salt 68932."""
    assert twice(go, 'pkg.install("greeter:amd64")') == CHANGED_ONCE
    for name in ("greeter", "greeter:native", "greeter:any"):
        assert twice(go, f'pkg.install("{name}")') == ["unchanged"] * 2
    assert "knows no package greeter:i386" in go.error('pkg.install("greeter:i386")')
    go.shell("dpkg --add-architecture i386")
    assert twice(go, 'pkg.install({ name = "foreign:i386", update_cache = true })') == CHANGED_ONCE
    assert twice(go, 'pkg.install({ deb = "/srv/reports/files/alien_1.0.deb" })') == CHANGED_ONCE
    assert twice(go, 'pkg.remove({ "foreign:i386", "alien" })') == CHANGED_ONCE
    go.shell("dpkg --remove-architecture i386")
    assert twice(go, 'pkg.remove("greeter:any")') == CHANGED_ONCE


@pytest.mark.usefixtures("offers")
def test_versions(go: Runner) -> None:
    """Ansible 6885, 13392, 78799 (a version, a pattern), modules-core 5867 (two stars), 327 (an older file)."""
    assert twice(go, 'pkg.install("greeter=1.0")') == CHANGED_ONCE
    assert twice(go, 'pkg.install("greeter=1.*1*")') == CHANGED_ONCE
    assert "allow_downgrade" in str(results(go('pkg.install("greeter=1.0")'))[0].error)
    assert twice(go, 'pkg.install({ name = "greeter=1.0", allow_downgrade = true })') == CHANGED_ONCE
    assert "only 1.1, 1.0" in go.error('pkg.install("greeter=2.*")')
    assert "only 1.1, 1.0" in go.error('pkg.install("greeter=2.*")', check=True)
    assert twice(go, 'pkg.install("epoch=1:2.0-1")') == CHANGED_ONCE
    assert "only 1:3.0-1, 1:2.0-1" in go.error('pkg.install("epoch=2.0-1")')

    file = 'pkg.install({{ deb = "/srv/reports/files/local_{}.deb"{} }})'
    assert twice(go, file.format("2.0", "")) == CHANGED_ONCE
    assert "allow_downgrade" in go.error(file.format("1.0", ""))
    assert twice(go, file.format("1.0", ", allow_downgrade = true")) == CHANGED_ONCE


@pytest.mark.usefixtures("offers")
@pytest.mark.parametrize("given", ["greeter", "greeter=1.0", "greeter>=1.0"])
def test_a_dependency_becomes_wanted_at_the_version_that_it_has(go: Runner, given: str) -> None:
    """The index has a later one, which nobody has asked for."""
    go.told('pkg.install({ name = "greeter=1.0", allow_downgrade = true })')
    go.shell("apt-mark auto greeter")
    diff = {"before": "1.0 (dependency)", "after": "1.0"}
    for check in (True, False):
        assert results(go(f'pkg.install("{given}")', check=check))[0].diff == {"greeter": diff}
    assert go.shell("apt-mark showmanual greeter; dpkg-query -W -f '${Version}' greeter").split() == ["greeter", "1.0"]


@pytest.mark.usefixtures("offers")
def test_virtual_packages(go: Runner) -> None:
    """Ansible 76779 (its provider's version), modules-core 3448 and pyinfra 1026 (always changed)."""
    assert twice(go, 'pkg.install("yaml-mode")') == CHANGED_ONCE
    assert twice(go, 'pkg.install({ name = "yaml-mode", state = "latest" })') == ["unchanged"] * 2
    assert "name one of them: alt-a, alt-b" in go.error('pkg.install("alt")')


@pytest.mark.usefixtures("offers")
def test_failures_say_why(go: Runner) -> None:
    """Salt 26156 and 43988 ("held broken packages"), 30733 (held), 66507 (a script)."""
    assert "needs: Depends: python3-not-there (>= 9) but it is not installable" in go.error('pkg.install("top")')
    assert "fails: installed fails package post-installation script" in go.error('pkg.install("fails")')
    go.told('pkg.remove("fails")')
    go.told('pkg.install({ name = "greeter=1.0", allow_downgrade = true })')
    go.shell("apt-mark hold greeter")
    assert "apt-mark unhold" in go.error('pkg.install("greeter=1.1")')
    go.shell("apt-mark unhold greeter; echo 'no such line' > /etc/apt/sources.list.d/bad.list")
    for call in ("pkg.update()", 'pkg.install("alt-a")'):
        assert "line 1 in source list /etc/apt/sources.list.d/bad.list" in go.error(call)
    go.shell("rm /etc/apt/sources.list.d/bad.list")
    assert "'nosuch' is invalid" in go.error('pkg.install({ name = "alt-a", default_release = "nosuch" })')


@pytest.mark.usefixtures("offers")
@pytest.mark.parametrize(
    ("use", "status"),
    [
        ('print(exec.run({cmd = "cat /etc/elpa-y.conf", read_only = true}).stdout)', "unknown"),
        ('exec.run({cmd = {"/etc/elpa-y.conf"}, read_only = true})', "changed"),
        ('file.lineinfile({path = "/etc/elpa-y.conf", line = "added"})', "changed"),
        ('file.replace({path = "/etc/elpa-y.conf", regexp = "version", replace = "v"})', "changed"),
        ('file.copy({src = "/etc/elpa-y.conf", dest = "/srv/elpa-y.conf", remote_src = true})', "changed"),
        ('file.fetch({src = "/etc/elpa-y.conf", dest = "fetched/"})', "changed"),
        ('systemd.start("elpa-y.service")', "changed"),
    ],
)
def test_a_check_does_not_fail_of_what_a_package_brings(go: Runner, use: str, status: str) -> None:
    go.shell("dpkg --purge elpa-y; rm -f /srv/elpa-y.conf")
    events = go(f'pkg.install("elpa-y") {use}', check=True)
    assert finished_hosts(events)[HOST].status == status, finished_hosts(events)[HOST].error
    assert results(events)[0].status == "changed"
    without = go(use, check=True)
    assert finished_hosts(without)[HOST].status == "failed", "nothing is pending that could bring it"
