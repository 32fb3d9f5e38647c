"""host.reboot: starts the host again, and goes on when it is back."""

import os

from sloth.payload.kernel.resource import Action, ArgumentError, Failed, Field
from sloth.payload.lib.detached import detach

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sloth.payload.kernel.values import Arguments, Attributes

# The reply must be on its way before the host goes down. $1: what is shown to users; $2: a command of the site's own.
_SCRIPT = """
sleep 2
if [ -n "$2" ]; then exec sh -c "$2"; fi
if [ -d /run/systemd/system ]; then
    systemctl reboot --message="$1" || systemctl reboot
else
    shutdown -r now "$1" || reboot
fi
"""
TOOLS = ("systemctl", "shutdown", "reboot")


class Reboot(Action):
    """Reboot the host, wait until it is back, and go on: the run keeps its lock, and its tasks go on where they were.

    That it has booted is seen by what only a boot changes (the kernel's boot id, and when the first process began, so
    it holds for containers, too): a host that still answers while it goes down is not taken for one that is back. Until
    `timeout` any failure to connect, to log in or to become another account only means that it is not ready.

    Other than Ansible: there is no `boot_time_command`; `pre_delay`, `post_delay` and `timeout` are also known by its
    names. Needs a connection by SSH.
    """

    name = "host.reboot"
    reconnects = True
    forecast = "would reboot"
    fields = (
        Field("timeout", "float", 600.0, how=True, aliases=("reboot_timeout",), help="seconds until it must be back"),
        Field("connect_timeout", "float", 10.0, how=True, help="seconds for one attempt to connect"),
        Field("pre_delay", "float", 0.0, how=True, aliases=("pre_reboot_delay",), help="seconds before the reboot"),
        Field(
            "post_delay", "float", 0.0, how=True, aliases=("post_reboot_delay",), help="seconds to wait once it is back"
        ),
        Field("test_command", "argv", how=True, help="must succeed before it counts as back"),
        Field("reboot_command", "str", how=True, help="reboot by this command of the shell instead"),
        Field("msg", "str", "sloth-runner reboots this host", how=True, help="what its users are shown"),
    )
    returns = (
        Field("rebooted", "bool", help="whether it has booted again"),
        Field("elapsed", "int", help="seconds it took"),
    )
    example = """task({name = "kernel", run = function()
    local kernel = pkg.install("linux-image-amd64")
    if kernel.changed then host.reboot({timeout = 900}) end
    exec.run({cmd = "uname -r", read_only = true})
end})"""

    @classmethod
    def check_together(cls, values: "Arguments") -> "None":
        for name in ("timeout", "connect_timeout"):
            if values[name] <= 0:
                raise ArgumentError("host.reboot: %s must be more than 0 seconds" % name)
        for name in ("pre_delay", "post_delay"):
            if values[name] < 0:
                raise ArgumentError("host.reboot: %s must not be negative" % name)

    def identity(self) -> "str":
        return "reboot"

    def run(self) -> "Attributes":
        command = self.args.reboot_command or ""
        if not command and self.host.uid != 0:
            raise Failed("only root can reboot this host", hint="set become = true on the task or the host")
        if not command and not any(map(self.host.has_tool, TOOLS)):
            raise Failed("this host has none of the commands %s" % ", ".join(TOOLS), hint="give reboot_command")
        os.sync()
        detach(["sh", "-c", _SCRIPT, "sh", self.args.msg, command])
        return {"rebooted": False, "elapsed": 0}
