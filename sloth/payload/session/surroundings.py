"""What holds while one call runs and no longer: its environment variables, and what of it must stay hidden."""

from sloth.payload.kernel.masking import hidden_values
from sloth.payload.kernel.redact import Redactor
from sloth.payload.kernel.variables import Variables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from sloth.payload.kernel.resource import Call
    from sloth.payload.session import messages
    from sloth.payload.state.store import Store


class Surroundings(object):
    """The surroundings of one call; for `with`."""

    def __init__(self, message: "messages.Call", call: "Call", store: "Store") -> "None":
        self._variables = Variables(message.environment)
        self._store = store
        self._redactor = store.redactor
        self._hidden = hidden_values(type(call), call.given()) if message.masked else set()

    def __enter__(self) -> "None":
        self._variables.__enter__()
        if self._hidden:
            self._store.redactor = Redactor(self._redactor.values | self._hidden, self._redactor.key_maker)

    def __exit__(
        self, kind: "type[BaseException] | None", error: "BaseException | None", trace: "TracebackType | None"
    ) -> "None":
        self._store.redactor = self._redactor
        self._variables.__exit__(kind, error, trace)
