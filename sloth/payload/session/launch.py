"""Starts the watchdog so that it outlives the session and all that belongs to it, and lets a boot start it again."""

import os
import subprocess
import sys
import time

from sloth.payload.kernel.errors import Failed
from sloth.payload.lib.detached import detach
from sloth.payload.lib.host import home_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sloth.payload.session.confirmation import Confirmation

START = 20.0  # seconds that the watchdog has to begin
ROOT = os.path.abspath(__file__).rpartition("/sloth/payload/")[0]  # where the payload's modules are
SYSTEMD = "/run/systemd/system"  # is there when the host was booted by it
UNITS = "/etc/systemd/system"
UNIT = "sloth-runner-confirm.service"
WANTS = UNITS + "/multi-user.target.wants"

_SCRIPT = """import sys
sys.path.insert(0, %(root)r)
from sloth.payload import loader
loader.install(%(root)r)
from sloth.payload.session.watchdog import main
main(%(account)r)
"""

_BOOT_UNIT = """# Written by sloth-runner while changes to this host wait for a confirmation; it removes this file.
[Unit]
Description=Takes changes back that were not confirmed
After=local-fs.target network.target

[Service]
Environment=HOME=%(home)s
ExecStart=%(python)s -I -S -E %(script)s
KillMode=process
TimeoutStopSec=60

[Install]
WantedBy=multi-user.target
"""


def launch(confirmation: "Confirmation") -> "None":
    """Start the watchdog, and return when it lives. Raises Failed.

    Root has systemd start it, where there is one: in a session's control group it would be killed with the session
    (KillUserProcesses, or a restart of sshd). Elsewhere it is a process of its own session.
    """
    script = os.path.join(confirmation.directory, "watchdog.py")
    with open(os.open(script, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
        file.write(_SCRIPT % {"root": ROOT, "account": confirmation.account})
    command = [sys.executable, "-I", "-S", "-E", script]
    has_systemd = os.geteuid() == 0 and os.path.isdir(SYSTEMD)
    if has_systemd:
        _write_boot_unit(script)
    if not (has_systemd and _start_unit(command)):
        detach(command)
    end = time.monotonic() + START
    while not confirmation.is_watched():
        if time.monotonic() > end:
            raise Failed("the process that would take the changes back could not be started on the host")
        time.sleep(0.02)


def _start_unit(command: "list[str]") -> "bool":
    """Let systemd start a command as a unit of its own; return whether it did."""
    name = "--unit=sloth-runner-confirm-%d-%d" % (os.getpid(), int(time.time()))
    options = ["--quiet", name, "--property=KillMode=process", "--setenv=HOME=%s" % home_of(0)]
    options.append("--setenv=PATH=%s" % os.environ.get("PATH", ""))
    for more in (["--collect"], []):  # systemd-run has --collect since 236
        try:
            done = subprocess.run(
                ["systemd-run", *options, *more, "--", *command],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=START,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError):
            return False
        if done.returncode == 0:
            return True
    return False


def _write_boot_unit(script: "str") -> "None":
    """Let the next boot start the watchdog. Where that cannot be, the next session of a run takes the changes back."""
    try:
        with open(os.path.join(UNITS, UNIT), "w") as file:
            file.write(_BOOT_UNIT % {"home": home_of(0), "python": sys.executable, "script": script})
        os.makedirs(WANTS, exist_ok=True)
        link = os.path.join(WANTS, UNIT)
        if not os.path.lexists(link):
            os.symlink(os.path.join(UNITS, UNIT), link)
        os.sync()
    except OSError:
        forget_boot_unit()


def forget_boot_unit() -> "None":
    """Let no boot start the watchdog any more."""
    if os.geteuid() != 0:
        return
    for path in (os.path.join(WANTS, UNIT), os.path.join(UNITS, UNIT)):
        try:
            os.unlink(path)
        except OSError:
            pass
