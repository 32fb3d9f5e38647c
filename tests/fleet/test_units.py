"""What "enabled" and "masked" mean for every kind of unit file that systemd knows, on a real host."""

from __future__ import annotations

import pytest

from sloth.engine.events import Event
from tests.support.running import finished_hosts, results
from tests.support.sites import HOST, Runner, go

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(300)]
__all__ = ["go"]

RUN = "[Service]\\nExecStart=/bin/sleep 1000\\n"
INSTALL = "[Install]\\nWantedBy=multi-user.target\\n"
SOCKET = "[Socket]\\nListenStream=/run/i\\n[Install]\\nWantedBy=sockets.target\\n"
SCRIPT = (
    "#!/bin/sh\\n### BEGIN INIT INFO\\n# Provides: NAME\\n# Required-Start: $remote_fs\\n# Required-Stop:\\n"
    "# Default-Start: 2 3 4 5\\n# Default-Stop: 0 1 6\\n### END INIT INFO\\nexit 0\\n"
)


def write(path: str, text: str) -> str:
    return f"mkdir -p $(dirname {path}); printf %b '{text}' > {path}; systemctl daemon-reload; "


def script(name: str) -> str:
    path = f"/etc/init.d/{name}"
    return f"printf %b '{SCRIPT.replace('NAME', name)}' > {path}; chmod +x {path}; "


def statuses(go: Runner, *calls: str) -> list[str]:
    return [status for call in calls for _, status, _ in go.told(call)]


def warnings(events: list[Event]) -> str:
    assert finished_hosts(events)[HOST].status in ("changed", "unchanged"), finished_hosts(events)[HOST].error
    return "\n".join(line for result in results(events) for line in result.warnings)


UNITS = "/etc/systemd/system"


@pytest.mark.parametrize(
    ("name", "prepare", "starts_at_boot"),
    [
        # A script of System V: systemd calls its unit "generated", enabled or not.
        ("sysv", script("sysv") + "systemctl daemon-reload", "ls /etc/rc2.d/S*sysv"),
        # systemd has not seen this one yet.
        ("fresh", script("fresh"), "ls /etc/rc2.d/S*fresh"),
        # Linked from elsewhere: known, and started by nothing.
        ("linked", write("/opt/linked.service", RUN + INSTALL) + "systemctl link /opt/linked.service",
         "systemctl is-enabled linked | grep -x enabled"),
        ("link-rt", write("/opt/link-rt.service", RUN + INSTALL) + "systemctl link --runtime /opt/link-rt.service",
         "systemctl is-enabled link-rt | grep -x enabled"),
        ("till-boot", write(f"{UNITS}/till-boot.service", RUN + INSTALL) + "systemctl enable --runtime till-boot",
         f"ls {UNITS}/multi-user.target.wants/till-boot.service"),
        ("indirect", write(f"{UNITS}/indirect.socket", SOCKET)
         + write(f"{UNITS}/indirect.service", RUN + "[Install]\\nAlso=%N.socket\\n"),
         f"ls {UNITS}/sockets.target.wants/indirect.socket"),
        # An alias is unknown to systemd until its unit is enabled.
        ("other-name", write(f"{UNITS}/own-name.service", RUN + INSTALL + "Alias=other-name.service\\n"),
         f"ls {UNITS}/multi-user.target.wants/own-name.service"),
        # Not even a link by which it is wanted: another name is all that enabling adds.
        ("only-alias", write(f"{UNITS}/only-alias.service", RUN + "[Install]\\nAlias=only-other.service\\n"),
         f"ls {UNITS}/only-other.service"),
        ("template@", write(f"{UNITS}/template@.service", RUN + INSTALL + "DefaultInstance=one\\n"),
         f"ls {UNITS}/multi-user.target.wants/template@one.service"),
    ],
)  # fmt: skip
def test_enabled_means_that_it_starts_at_boot(go: Runner, name: str, prepare: str, starts_at_boot: str) -> None:
    go.shell(prepare)
    enable, disable = f'systemd.enable("{name}")', f'systemd.disable("{name}")'
    assert [status for _, status, _ in go.told(enable, check=True)] == ["changed"]
    assert statuses(go, enable, enable) == ["changed", "unchanged"]
    go.shell(starts_at_boot)
    assert statuses(go, disable, disable) == ["changed", "unchanged"]
    go.shell(f"! {starts_at_boot}")
    assert statuses(go, enable) == ["changed"]


def test_a_changed_install_section_is_applied(go: Runner) -> None:
    """Ansible issue 59813: any link makes systemd call a unit enabled."""
    unit = f"{UNITS}/moved.service"
    for wanted, text in (
        ("multi-user.target", RUN + INSTALL),
        ("graphical.target", RUN + INSTALL.replace("multi-user", "graphical")),
    ):
        go.shell(write(unit, text))
        assert statuses(go, 'systemd.enable("moved")', 'systemd.enable("moved")') == ["changed", "unchanged"]
        assert go.shell(f"ls -d {UNITS}/*.wants/moved.service").split() == [f"{UNITS}/{wanted}.wants/moved.service"]
    go.shell(write(f"{unit}.d/boot.conf", "[Install]\\nWantedBy=\\nWantedBy=timers.target\\n"))
    assert statuses(go, 'systemd.enable("moved")', 'systemd.enable("moved")') == ["changed", "unchanged"]
    assert go.shell(f"ls -d {UNITS}/*.wants/moved.service").split() == [f"{UNITS}/timers.target.wants/moved.service"]


def test_until_the_next_boot_is_neither_enabled_nor_disabled(go: Runner) -> None:
    go.shell(write(f"{UNITS}/rt.service", RUN + INSTALL) + "systemctl enable --runtime rt")
    assert statuses(go, 'systemd.disable("rt")', 'systemd.disable("rt")') == ["changed", "unchanged"]
    assert go.shell("systemctl is-enabled rt || true").strip() == "disabled"
    go.shell("systemctl unmask -q e2scrub_all.timer; systemctl mask --runtime e2scrub_all.timer")
    mask, unmask = 'systemd.mask("e2scrub_all.timer")', 'systemd.unmask("e2scrub_all.timer")'
    assert "is masked" in go.error('systemd.start("e2scrub_all.timer")')
    assert statuses(go, mask, mask, unmask, unmask) == ["changed", "unchanged", "changed", "unchanged"]
    go.shell("systemctl mask --runtime e2scrub_all.timer")
    assert statuses(go, unmask, unmask) == ["changed", "unchanged"]


@pytest.mark.parametrize(
    ("name", "prepare"),
    [("dbus", "true"), ("trans", "systemd-run -q --unit=trans sleep 1000"), ("init.scope", "true")],
)
def test_what_cannot_be_enabled_is_left_with_a_warning(go: Runner, name: str, prepare: str) -> None:
    go.shell(prepare)
    assert f"{name.partition('.')[0]}" in warnings(go(f'systemd.enable("{name}")'))
    assert statuses(go, f'systemd.enable("{name}")', f'systemd.disable("{name}")') == ["unchanged"] * 2


def test_a_template_without_an_instance_is_refused(go: Runner) -> None:
    go.shell(write(f"{UNITS}/empty@.service", RUN + INSTALL))
    assert "name an instance" in str(finished_hosts(go('systemd.enable("empty@")'))[HOST].error)
    assert statuses(go, 'systemd.enable("empty@a")', 'systemd.enable("empty@a")') == ["changed", "unchanged"]


def test_settings_that_systemd_refuses_or_ignores_are_reported(go: Runner) -> None:
    go.shell(write(f"{UNITS}/bad.service", "[Service]\\nExecStrat=/bin/true\\n" + INSTALL))
    for status in ("changed", "unchanged"):
        events = go('systemd.enable("bad")')
        assert [result.status for result in results(events)] == [status]
        assert "Unknown key" in warnings(events)
        assert "has no ExecStart" in warnings(events)
    assert "has no ExecStart" in go.error('systemd.start("bad")')

    typing = 'systemd.unit({ name = "typo", content = "[Service]\\nExecStart=/bin/sleep 9\\nRestart=alwyas\\n" })'
    assert "ignoring: alwyas" in warnings(go(typing))
    dropin = 'systemd.unit({ name = "typo", dropin = "a.conf", content = "[Service]\\nRestrt=no\\n" })'
    assert "Restrt" in warnings(go(dropin))
    nowhere = RUN + "[Install]\\nWantedBy=multi-usr.target\\n"
    go.shell(write(f"{UNITS}/nowhere.service", nowhere))
    assert "non-existent unit multi-usr.target" in warnings(go('systemd.enable("nowhere")'))
