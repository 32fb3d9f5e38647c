"""Environment variables that are set for one call."""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Mapping

    from sloth.payload.kernel.values import Json


class Variables(object):
    """Variables that are set while something runs, and as they were afterwards; for `with`."""

    def __init__(self, values: "Mapping[str, Json]") -> "None":
        self._values = values
        self._former: "dict[str, str | None]" = {}

    def __enter__(self) -> "None":
        for name, value in self._values.items():
            self._former[name] = os.environ.get(name)
            os.environ[name] = str(value)

    def __exit__(
        self, kind: "type[BaseException] | None", error: "BaseException | None", trace: "TracebackType | None"
    ) -> "None":
        for name, value in self._former.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
