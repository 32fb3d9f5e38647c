"""What went wrong with the twins of our modules by Ansible's public issues, tried on a real host."""

from __future__ import annotations

import pytest

from tests.support.sites import Runner, go

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(300)]
__all__ = ["go"]

SLEEP = "[Service]\\nExecStart=/bin/sleep infinity\\n[Install]\\nWantedBy=multi-user.target\\n"


def settles(go: Runner, body: str) -> list[str]:
    """Run a site twice; return the statuses of the first run, and expect the second to change nothing."""
    first = [status for _, status, _ in go.told(body)]
    assert {status for _, status, _ in go.told(body)} == {"unchanged"}
    return first


def test_an_instance_of_a_template_is_enabled_and_started(go: Runner) -> None:
    """ansible 20621, 72702: the template's name was used instead of the instance's."""
    unit = f'systemd.unit({{name = "report@", content = "{SLEEP}"}})\n'
    body = unit + 'systemd.service({name = "report@one", enabled = true, state = "started"})'
    assert settles(go, body) == ["changed", "changed"]
    assert go.shell("systemctl is-active report@one; systemctl is-enabled report@one") == "active\nenabled\n"


def test_a_unit_is_disabled_and_masked_in_one_run(go: Runner) -> None:
    """ansible 68680, 42384: it took two runs, and failed once the unit was masked."""
    go.shell("systemctl unmask -q e2scrub_all.timer; systemctl enable -q e2scrub_all.timer")
    body = 'systemd.disable({name = "e2scrub_all.timer", now = true})\nsystemd.mask("e2scrub_all.timer")'
    assert "changed" in settles(go, body)
    assert go.shell("systemctl is-enabled e2scrub_all.timer || true") == "masked\n"


def test_a_unit_that_cannot_be_masked_is_said_to_be(go: Runner) -> None:
    """ansible 82891: systemctl refuses to mask what is in /etc/systemd/system, and that was a success."""
    go.told(f'systemd.unit({{name = "own-file", content = "{SLEEP}"}})')
    assert "own-file" in go.error('systemd.mask("own-file")')


def test_accounts_settle(go: Runner) -> None:
    """ansible 11575, 13235, 43670, shadow 1202: the primary group among the groups, a day of expiry, a lock."""
    for number, given in enumerate(
        (
            'group = "users", groups = {"users", "adm"}, append = true',
            "expires = 2529881062",
            'expires = "2030-02-28"',
            "password_lock = true",
            'password = "*", password_lock = true',
            "password_expire_max = 90, password_expire_min = 1, password_expire_account_disable = 7",
        )
    ):
        settles(go, f'user.create({{name = "settles{number}", {given}}})')
    assert go.shell("getent shadow settles1").split(":")[7] == str(2529881062 // 86400)
