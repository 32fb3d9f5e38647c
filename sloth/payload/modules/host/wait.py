"""host.wait: waits until the host can be reached by a new connection."""

from sloth.payload.kernel.resource import Action, ArgumentError, Field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sloth.payload.kernel.values import Arguments, Attributes


class Wait(Action):
    """Wait until a new connection to the host works: after something that has restarted its network, or its first boot.

    The connection that there is, if any, is given up. It changes nothing, and a check does not wait.

    Other than Ansible's `wait_for_connection`: a refused key or an unknown host key is no reason to wait, unless
    the host boots. Needs a connection by SSH.
    """

    name = "host.wait"
    reconnects = True
    only_waits = True
    unknown_hint = "a check does not wait"
    fields = (
        Field("timeout", "float", 600.0, how=True, help="seconds until it must be reachable"),
        Field("delay", "float", 0.0, how=True, help="seconds before the first attempt"),
        Field("sleep", "float", 1.0, how=True, help="seconds between two attempts"),
        Field("connect_timeout", "float", 10.0, how=True, help="seconds for one attempt"),
        Field("test_command", "argv", how=True, help="must succeed, too"),
        Field("msg", "str", how=True, help="the error when the time is over"),
    )
    returns = (Field("elapsed", "int", help="how many seconds it took"),)
    example = 'task({name = "fresh", run = function() host.wait({timeout = 300}) end})'

    @classmethod
    def check_together(cls, values: "Arguments") -> "None":
        if values["timeout"] <= 0 or values["connect_timeout"] <= 0:
            raise ArgumentError("host.wait: timeouts must be more than 0 seconds")

    def identity(self) -> "str":
        return "connection"

    def run(self) -> "Attributes":
        return {"elapsed": 0, "changed": False}
