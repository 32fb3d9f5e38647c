"""What modules do on real hosts beyond their contract: failures that must be told, orders that must be kept."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from sloth.engine.events import CallOutput
from tests.support.packages import deb
from tests.support.running import finished_hosts
from tests.support.sites import HOST, Runner, go

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(300)]
__all__ = ["go"]


def unit(name: str, service: str) -> str:
    return f'systemd.unit({{ name = "{name}", content = "[Service]\\n{service}\\n" }})\n'


@pytest.mark.parametrize(
    ("name", "service", "said"),
    [
        ("dies", "ExecStart=/bin/sh -c 'echo I am sad; exit 3'", "I am sad"),
        ("loops", "Restart=always\\nExecStart=/bin/false", "did not stay up"),
        ("never", "Type=notify\\nTimeoutStartSec=1\\nExecStart=/bin/sleep 60", "systemctl start"),
        ("once", "Type=oneshot\\nExecStart=/bin/true", "systemd.restart runs it"),
        ("nothing", "ExecStart=/no/such/program", "status=203/EXEC"),
    ],
)
def test_a_unit_that_does_not_stay_up_is_a_failure(go: Runner, name: str, service: str, said: str) -> None:
    error = go.error(unit(name, service) + f'systemd.start("{name}")')
    assert said in error
    assert "site.sloth:3: systemd.start" in error


def test_a_unit_that_cannot_be_loaded_fails_on_every_run(go: Runner) -> None:
    for _ in range(2):
        assert "cannot load broken.service" in go.error(unit("broken", "Foo"))


def test_masked_and_missing_units(go: Runner) -> None:
    go.told(unit("m", "ExecStart=/bin/sleep 60"))
    go.shell("rm /etc/systemd/system/m.service; systemctl mask m; systemctl daemon-reload")
    assert "unmask it first" in go.error('systemd.start("m")')
    assert "there is no unit nope.service" in go.error('systemd.enable("nope")')
    assert "cannot be the name of a unit" in str(finished_hosts(go('systemd.start("a b")'))[HOST].error)


def test_a_changed_unit_is_read_before_its_restart(go: Runner) -> None:
    body = unit("r", "ExecStart=/bin/sleep 1000") + 'systemd.start("r")'
    go.told(body)
    go.told(body.replace("1000", "2000").replace("systemd.start", "systemd.restart"))
    assert "sleep 2000" in go.shell("cat /proc/$(systemctl show -P MainPID r)/cmdline | tr '\\0' ' '")


def test_all_units_are_asked_for_at_once(go: Runner) -> None:
    names = [f"many{number}" for number in range(30)]
    go.told("".join(unit(name, "ExecStart=/bin/sleep 60") for name in names))
    go.shell(
        'printf \'#!/bin/sh\\necho "$1 $2 $3" >> /root/asked\\nexec /usr/bin/systemctl "$@"\\n\' >'
        " /usr/local/bin/systemctl; chmod +x /usr/local/bin/systemctl"
    )
    try:
        told = go.told("".join(f'systemd.stop("{name}")\n' for name in names))
        asked = go.shell("cat /root/asked").splitlines()
    finally:
        go.shell("rm -f /usr/local/bin/systemctl /root/asked")
    assert told == [("systemd.stop", "unchanged", "adopted")] * 30
    assert len(asked) <= 3, asked  # one for all that wait; more only when calls come late


def test_a_user_s_own_manager(go: Runner) -> None:
    go.shell(
        "mkdir -p /run/user/1000; chown 1000:1000 /run/user/1000; chmod 700 /run/user/1000;"
        " systemd-run -q -p Delegate=yes --unit=um --uid=1000 --setenv=XDG_RUNTIME_DIR=/run/user/1000"
        " --setenv=HOME=/home/deploy /lib/systemd/systemd --user;"
        " while ! test -S /run/user/1000/systemd/private; do sleep 0.1; done"
    )
    body = """
local text = "[Service]\\nExecStart=/bin/sleep 99\\n[Install]\\nWantedBy=default.target\\n"
systemd.unit({ name = "mine", SCOPE, content = text })
systemd.enable({ name = "mine", SCOPE, now = true })"""
    as_root = body.replace("SCOPE", 'scope = "user", user = "deploy"')
    assert [status for _, status, _ in go.told(as_root)] == ["changed", "changed"]
    assert [status for _, status, _ in go.told(as_root)] == ["unchanged", "unchanged"]
    itself = body.replace("SCOPE", 'scope = "user"')
    assert [status for _, status, _ in go.told(itself, user="deploy")] == ["unchanged", "unchanged"]
    assert (
        go.shell("cd /home/deploy/.config; stat -c %U . systemd/user systemd/user/mine.service").split()
        == ["deploy"] * 3
    )
    go.shell("mkdir /srv/trap; mv /home/deploy/.config /home/deploy/.old; ln -s /srv/trap /home/deploy/.config")
    assert "nothing that deploy could have created is followed" in go.error(as_root)
    assert go.shell("ls -A /srv/trap; rm /home/deploy/.config; mv /home/deploy/.old /home/deploy/.config") == ""
    gone = 'systemd.unit({ name = "mine", scope = "user", user = "deploy", state = "absent" })'
    assert [status for _, status, _ in go.told(gone) + go.told(gone)] == ["changed", "unchanged"]


CHAIN = """
group.create({ name = "crew", gid = 4321 })
user.create({ name = "chain", groups = "crew", home = "/srv/homes/chain", shell = "/bin/sh" })
user.modify({ name = "chain", comment = "later" })
ssh.authorized_key({
    user = "chain", key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGrShxPYuoCAF5bnDKQ1kQmJwxJ8s1cZ0lQJZq3yHcAr x",
})
file.copy({ dest = "/srv/homes/note", content = "x", owner = "chain", group = "crew" })
systemd.unit({ name = "chain", content = "[Service]\\nUser=chain\\nExecStart=/bin/sleep 99\\n" })
systemd.start("chain")
file.lineinfile({ path = "~chain/.profile", line = "umask 077", create = true })"""


def test_a_check_on_a_new_host_predicts_what_a_run_does(go: Runner) -> None:
    predicted = go.told(CHAIN, check=True)
    done = go.told(CHAIN)
    assert [(module, status) for module, status, _ in predicted] == [(module, status) for module, status, _ in done]
    assert {status for _, status, _ in go.told(CHAIN)} == {"unchanged"}
    assert go.shell("stat -c '%U:%G %a' /srv/homes/chain/.ssh /srv/homes/note").split("\n")[:2] == [
        "chain:chain 700", "chain:crew 644",
    ]  # fmt: skip


def test_accounts_are_changed_only_where_asked(go: Runner) -> None:
    shadow = "getent shadow acct | cut -d: -f2,8"
    go.told('user.create({ name = "acct", password = "$6$a$b", expires = "2030-01-31", groups = { "adm", "mail" } })')
    assert go.shell(shadow).strip() == "$6$a$b:21945"
    assert (
        go.told('user.create({ name = "acct", password = "$6$x$y", update_password = "on_create" })')[0][1]
        == "unchanged"
    )
    go.told('user.modify({ name = "acct", lock = true })')
    assert go.shell(shadow).strip() == "!$6$a$b:21945"
    go.told('user.modify({ name = "acct", lock = false, expires = "" })')
    assert go.shell(shadow).strip() == "$6$a$b:"
    go.told('user.modify({ name = "acct", groups = { "news" }, append = true })')
    assert set(go.shell("id -nG acct").split()) == {"acct", "adm", "mail", "news"}
    go.told('user.modify({ name = "acct", groups = { "news" }, home = "/home/moved", move_home = true })')
    assert set(go.shell("id -nG acct; ls -d /home/*").split()) >= {"acct", "news", "/home/moved"}
    assert "adm" not in go.shell("id -nG acct").split()
    ages = 'user.modify({ name = "acct", password_expire_max = %d, password_expire_min = 1 })'
    assert [go.told(ages % days)[0][1] for days in (90, 90, -1, -1)] == ["changed", "unchanged"] * 2
    go.told('user.delete({ name = "acct", remove = true })')
    homes = go.shell("ls /home").split()
    assert {"deploy", "ops"} <= set(homes)
    assert not {"acct", "moved"} & set(homes)


def statuses(go: Runner, body: str) -> list[str]:
    """What two runs in a row report of each call."""
    return [status for _ in range(2) for _, status, _ in go.told(body)]


def test_a_home_moves_below_a_missing_parent_or_not_at_all(go: Runner) -> None:
    go.told('user.create({ name = "mover", home = "/home/mover/" })')
    go.shell("echo mine > /home/mover/file; mkdir -p /srv/taken")
    move = 'user.modify({ name = "mover", home = "%s", move_home = true })'
    assert "already exists" in go.error(move % "/srv/taken")
    assert go.shell("getent passwd mover | cut -d: -f6; cat /home/mover/file").split() == ["/home/mover", "mine"]
    assert statuses(go, move % "/srv/new/homes/mover/") == ["changed", "unchanged"]
    assert go.shell("getent passwd mover | cut -d: -f6; cat /srv/new/homes/mover/file; stat -c %U:%a /srv/new/homes"
                    ).split() == ["/srv/new/homes/mover", "mine", "root:755"]  # fmt: skip
    assert "mover" not in go.shell("ls /home").split()
    go.told('user.delete({ name = "mover", remove = true })')
    go.shell("rm -r /srv/taken /srv/new")


def test_no_account_is_left_open_unless_that_is_asked_for(go: Runner) -> None:
    shadow = "getent shadow open | cut -d: -f2"
    for wrong in ('password = ""', 'password = " "', 'password = "!", lock = false', 'password = "!!", lock = false'):
        events = go(f'user.create({{ name = "open", {wrong} }})')
        assert "anybody could log in" in str(finished_hosts(events)[HOST].error), wrong
    assert "open" not in go.shell("cut -d: -f1 /etc/passwd").split()
    assert statuses(go, 'user.create({ name = "open", password = "!" })') == ["changed", "unchanged"]
    assert go.shell(shadow).strip() == "!"
    assert statuses(go, 'user.create({ name = "open", empty_password = true })') == ["changed", "unchanged"]
    assert go.shell(shadow).strip() == ""
    assert statuses(go, 'user.create({ name = "open", password = "$6$a$b" })') == ["changed", "unchanged"]
    assert statuses(go, 'user.create({ name = "open", lock = true })') == ["changed", "unchanged"]
    assert statuses(go, 'user.create({ name = "open", empty_password = true })') == ["changed", "unchanged"]
    assert go.shell(shadow).strip() == ""
    go.told('user.delete({ name = "open", remove = true })')


def test_reports_about_accounts_of_the_twins(go: Runner) -> None:
    # ansible 11575, 6854: the primary group among groups; 43670: locking; 13235: expires; 8 groups by number
    body = """
group.create({ name = "shared", gid = 4400 })
user.create({ name = "twin", group = "shared", groups = { "shared", "adm", "8" }, append = true,
    expires = "1893456000", password_lock = true, password = "$6$a$b" })"""
    assert statuses(go, body) == ["changed", "changed", "unchanged", "unchanged"]
    assert set(go.shell("id -nG twin").split()) == {"shared", "adm", "mail"}
    go.told('user.delete({ name = "twin", remove = true })\ngroup.delete("shared")')


def test_a_key_with_tabs_no_longer_logs_in(go: Runner, tmp_path: Path) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    kind, data, _ = key.with_suffix(".pub").read_text().split()
    go.shell(f"printf 'no-pty\\t{kind}\\t \\t{data}\\ttabs\\n' >> /home/ops/.ssh/authorized_keys")

    def logs_in() -> bool:
        options = ["-F", "none", "-i", str(key), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"]
        options += ["-o", f"UserKnownHostsFile={go.fleet.known_hosts}", f"ops@{go.fleet.addresses[HOST]}", "true"]
        return subprocess.run(["ssh", *options], capture_output=True, timeout=30).returncode == 0

    assert logs_in()
    body = f'ssh.authorized_key({{ user = "ops", key = "{kind} {data}", state = "absent" }})'
    assert statuses(go, body) == ["changed", "unchanged"]
    assert not logs_in()


def test_what_is_written_for_cron_is_what_it_reads(go: Runner) -> None:
    for text in ('say "hi"', 'it\'s "so"', "plain", ""):
        body = f'cron.job({{ name = "V", job = [[{text}]], env = true, user = "deploy" }})'
        assert statuses(go, body) == ["changed", "unchanged"], text
    two = """
cron.job({ name = "a", job = "true", user = "deploy", special_time = "daily" })
cron.job({ name = "b", job = "true", user = "deploy", minute = "*/10" })"""
    assert statuses(go, two) == ["changed", "changed", "unchanged", "unchanged"]  # pyinfra 519, 523, 524
    assert statuses(go, two.replace('"true"', r"[[date +\%F]]")) == ["changed", "changed", "unchanged", "unchanged"]
    go.shell("crontab -u deploy -l | grep -v '^@daily' | crontab -u deploy -")
    assert statuses(go, 'cron.job({ name = "a", state = "absent", user = "deploy" })') == ["changed", "unchanged"]
    assert go.shell("crontab -u deploy -l").splitlines()[1:] == ["#sloth: b", r"*/10 * * * * date +\%F"]
    go.shell("crontab -r -u deploy")
    error = go.error('cron.job({ name = "x", job = "true", cron_file = "example.com" })')
    assert "ignores /etc/cron.d/example.com because of its name" in error
    assert 'cron_file = "example-com"' in error
    env = 'cron.job({ name = "MAILTO", job = "", env = true, cron_file = "jobs" })'  # ansible 83682
    assert statuses(go, env) == ["changed", "unchanged"]
    go.shell("rm /etc/cron.d/jobs")


def test_the_source_of_a_bind_mount_is_followed(go: Runner) -> None:
    go.shell("mkdir -p /srv/a /srv/b; touch /srv/a/in-a /srv/b/in-b")
    body = 'mount.present({ path = "/mnt/bind", src = "/srv/%s", fstype = "none", opts = "bind" })'
    assert statuses(go, body % "a") == ["changed", "unchanged"]
    assert statuses(go, body % "b") == ["changed", "unchanged"]
    assert go.shell("ls /mnt/bind; grep -c /mnt/bind /proc/mounts; grep /mnt/bind /etc/fstab").split("\n") == [
        "in-b", "1", "/srv/b /mnt/bind none bind 0 0", "",
    ]  # fmt: skip
    go.shell("umount /mnt/bind; mount --bind /srv/a /mnt/bind")
    assert statuses(go, body % "b") == ["changed", "unchanged"]
    assert statuses(go, 'mount.absent("/mnt/bind")') == ["changed", "unchanged"]
    assert "does not exist" in go.error(body % "nope")
    assert "bind" not in go.shell("cat /etc/fstab")


def test_a_mount_point_behind_a_link_is_mounted_once(go: Runner) -> None:
    go.shell("mkdir -p /srv/real/deep; ln -sfn /srv/real /srv/link; ln -sfn /srv/real/deep /srv/last")
    for path in ("/srv/link/deep", "/srv/last", "/srv/link/new"):
        body = f'mount.present({{ path = "{path}", src = "tmpfs", fstype = "tmpfs", opts = "size=64k" }})'
        assert statuses(go, body) == ["changed", "unchanged"]
        assert statuses(go, body.replace("64k", "128k")) == ["changed", "unchanged"]
        assert go.shell(f"grep -c /srv/real /proc/mounts; grep -c ' {path} ' /etc/fstab").split() == ["1", "1"]
        assert "size=128k" in go.shell("grep /srv/real /proc/mounts")
        assert statuses(go, f'mount.absent("{path}")') == ["changed", "unchanged"]
        assert go.shell("cat /proc/mounts /etc/fstab | grep /srv/real || true") == ""


def test_restricting_options_are_kept(go: Runner) -> None:  # ansible 30848
    body = 'mount.present({ path = "/mnt/tight", src = "tmpfs", fstype = "tmpfs", opts = "size=64k,nosuid,noexec,ro" })'
    assert statuses(go, body) == ["changed", "unchanged"]
    go.shell("mount -o remount,exec,rw /mnt/tight")
    assert statuses(go, body) == ["changed", "unchanged"]
    assert {"noexec", "ro"} <= set(go.shell("findmnt -no OPTIONS /mnt/tight").strip().split(","))
    loose = body.replace("nosuid,noexec,ro", "noexec,exec,ro,rw")
    assert statuses(go, loose) == ["changed", "unchanged"]
    go.shell("mkdir -p /srv/bound")
    bound = 'mount.present({ path = "/mnt/bound", src = "/srv/bound", fstype = "none", opts = "bind,ro,nodev" })'
    assert statuses(go, bound) == ["changed", "unchanged"]
    assert {"nodev", "ro"} <= set(go.shell("findmnt -no OPTIONS /mnt/bound").strip().split(","))
    # What is in use stays mounted, and stays in fstab (ansible 48313).
    unit_name = "systemd-run -q --unit=keeper --working-directory=/mnt/tight sleep 600"
    go.shell(unit_name)
    assert "busy" in go.error('mount.absent("/mnt/tight")')
    assert "/mnt/tight" in go.shell("cat /etc/fstab")
    go.shell("systemctl stop keeper")
    assert statuses(go, 'mount.absent("/mnt/tight")\nmount.absent("/mnt/bound")') == ["changed"] * 2 + ["unchanged"] * 2


def test_a_home_is_made_below_a_missing_parent(go: Runner) -> None:  # ansible 77260, 82095, 3829
    body = """user.create({ name = "far", home = "/srv/far/away", umask = "077", skeleton = "/no/skeleton" })
user.create({ name = "bare", create_home = false, system = true })"""
    assert statuses(go, body) == ["changed", "changed", "unchanged", "unchanged"]
    assert go.shell("stat -c %U:%a /srv/far /srv/far/away; ls -d /home/bare 2>/dev/null || true").split() == [
        "root:755", "far:700",
    ]  # fmt: skip
    go.shell("rm -r /srv/far/away")
    assert statuses(go, body) == ["changed", "unchanged", "unchanged", "unchanged"]
    go.told('user.delete({ name = "far", remove = true })\nuser.delete("bare")')
    go.shell("rm -r /srv/far")


def test_a_mount_that_fails_leaves_fstab_as_it_was(go: Runner) -> None:  # ansible 59183
    go.shell("printf '# mine\\nproc /proc proc defaults 0 0' > /etc/fstab")
    for body in (
        'mount.present({ path = "/mnt/x", src = "/dev/nope", fstype = "ext4" })',
        'mount.present({ path = "none", src = "/dev/nope", fstype = "swap" })',
    ):
        go.error(body)
        assert go.shell("cat /etc/fstab") == "# mine\nproc /proc proc defaults 0 0"
    swap = 'mount.present({ path = "none", src = "/dev/nope", fstype = "swap", opts = "sw", state = "configured" })'
    assert statuses(go, swap) == ["changed", "unchanged"]
    assert statuses(go, 'mount.absent({ path = "none", src = "/dev/nope" })') == ["changed", "unchanged"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('user.create({ name = "x", uid = 0 })', "the uid 0 belongs to root"),
        ('user.create({ name = "x", groups = { "nope" } })', "there is no group nope"),
        ('user.modify({ name = "nope", shell = "/bin/sh" })', "there is no user nope"),
        ('user.create({ name = "x", lock = false })', "has no password"),
        ('ssh.authorized_key({ user = "nope", key = "ssh-rsa AAAA" })', "there is no user nope"),
        ('group.create({ name = "x", gid = 0 })', "the gid 0 belongs to root"),
        ('timezone.set("Europe/Berlni")', 'did you mean "Europe/Berlin"?'),
        ('mount.present({ path = "/mnt/x", src = "/dev/nope", fstype = "ext4" })', "/dev/nope"),
        ('git.clone({ repo = "/srv/nope.git", dest = "/srv/x" })', "there is no repository /srv/nope.git"),
    ],
)
def test_what_cannot_be_is_told_and_nothing_is_left(go: Runner, body: str, said: str) -> None:
    assert said in go.error(body)
    assert "x" not in go.shell("cut -d: -f1 /etc/passwd /etc/group").split()


@pytest.mark.parametrize(
    "body",
    ['user.create("x")', 'group.create("x")', 'pkg.install("tree")', 'systemd.mask("ssh")', 'hostname.set("x")',
     'user.modify({ name = "ops", password = "x" })'],
)  # fmt: skip
def test_without_privilege_the_way_is_shown(go: Runner, body: str) -> None:
    assert "become" in go.error(body, user="deploy")


def test_a_package_manager_s_lock_is_waited_for(go: Runner) -> None:
    repository = go.fleet.roots[HOST] / "srv/repository"
    repository.mkdir(exist_ok=True)
    deb.build(repository, "sloth-slow", "1.0", {"postinst": "echo words of the package; sleep 1"})
    deb.index(repository)
    (go.fleet.roots[HOST] / "etc/apt/sources.list").write_text("deb [trusted=yes] file:/srv/repository ./\n")
    script = 'import fcntl, time; f = open("/var/lib/dpkg/lock-frontend", "w"); fcntl.lockf(f, 2); time.sleep(600)'
    go.shell(f"systemd-run -q --unit=holder python3 -c '{script}'")
    call = 'pkg.install({{ name = "sloth-slow", update_cache = true, lock_timeout = {} }})'
    error = go.error(call.format(1))
    assert "lock-frontend" in error
    assert "python3" in error
    threading.Timer(1.5, lambda: go.shell("systemctl stop holder")).start()
    begun = time.monotonic()
    events = go(call.format(60))
    assert finished_hosts(events)[HOST].status == "changed", finished_hosts(events)[HOST].error
    assert time.monotonic() - begun < 50
    assert "words of the package" in "".join(event.data for event in events if isinstance(event, CallOutput))


def test_the_command_line_on_real_hosts(go: Runner) -> None:
    (go.directory / "inventory.toml").write_text(go.fleet.inventory())

    def sloth(*words: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "sloth", words[0], "-i", "inventory.toml", *words[1:]]
        return subprocess.run(argv, cwd=go.directory, capture_output=True, text=True, timeout=120)

    done = sloth("facts", "--limit", "host*", "-o", "json", "virtualization", "distribution")
    assert '"virtualization": "systemd-nspawn"' in done.stdout
    done = sloth("exec", "host[1:2]", "--forks", "2", "--become", "cat /etc/debian_version")
    assert done.stdout.startswith("── host1, host2\n12"), done.stdout + done.stderr
    done = sloth("call", "host1", "file.lineinfile", "path=/etc/motd", "line=hi", "--check", "--diff")
    assert "+hi" in done.stdout
    assert done.returncode == 0
