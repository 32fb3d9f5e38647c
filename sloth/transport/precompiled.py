"""The payload's modules as code of this Python's version, for hosts that have the same: they need not compile them.

A host that has another one compiles what it needs, and so does one for a module that was not sent.
"""

from __future__ import annotations

import marshal
import zlib
from collections.abc import Iterable, Iterator
from opcode import opmap
from types import CodeType

from sloth.payload.loader import pack, unpack

MAIN = "sloth.payload.__main__"
MODULES = "sloth.payload.modules"
# What functions import, and first runs call: all of them, and those with a package.
_LATER = ("sloth.payload.kernel.diff", "sloth.payload.kernel.paging", "sloth.payload.lib.contents")
_LATER_OF = {"pkg": ("backend", "apt", "dpkg")}
_EXTENDED, _NAME, _FROM = (opmap[name] for name in ("EXTENDED_ARG", "IMPORT_NAME", "IMPORT_FROM"))
Code = tuple[bool, bytes]  # whether it is a package, and what marshal makes of its code


class Compiled:
    """The code of a bundle's sources, compiled when a site needs it, and kept from one start to the next.

    has_grown: whether something was compiled.
    """

    def __init__(self, sources: bytes, kept: bytes = b"") -> None:
        """sources: the data of a bundle; kept: what plain() has returned before, for the same ones."""
        self._data = sources
        self._sources: dict[str, tuple[str, bytes]] | None = None  # by module: its path, and its source
        self._codes: dict[str, Code] = {}
        self._imports: dict[str, list[str]] = {}
        if kept:
            self._codes, self._imports = marshal.loads(kept)
        self.has_grown = False

    def plain(self) -> bytes:
        """Return all code that there is by now, to be kept."""
        return marshal.dumps((self._codes, self._imports))

    def select(self, calls: Iterable[str]) -> bytes:
        """Return a code file (see payload/loader.py), compressed, with what the payload and these calls load."""
        needed: set[str] = set()
        waiting = [MAIN, *_LATER]
        for call in calls:
            package = call.partition(".")[0]
            waiting += [f"{MODULES}.{call}", f"{MODULES}.{package}"]
            waiting += [f"{MODULES}.{package}.{name}" for name in _LATER_OF.get(package, ())]
        while waiting:
            name = waiting.pop()
            if name not in needed and self._has(name):
                needed.add(name)
                waiting += self._imports[name]
                if "." in name:
                    waiting.append(name.rpartition(".")[0])
        code = pack({name: self._codes[name] for name in sorted(needed)})
        return zlib.compress(code, 1)  # a tenth more bytes, for near hosts only, in a third of the time

    def _has(self, name: str) -> bool:
        """Return whether there is code of this module, after it was compiled if need be."""
        if name in self._codes:
            return True
        if self._sources is None:
            self._sources = {_module(path): (path, source) for path, source in unpack(self._data).items()}
        path, source = self._sources.get(name, ("", b""))
        if not path:
            return False
        try:
            code = compile(source, path, "exec", 0, dont_inherit=True, optimize=0)
        except (SyntaxError, ValueError):  # hosts say what is wrong with it
            return False
        is_package = path.endswith("/__init__.py")
        self._codes[name] = (is_package, marshal.dumps(code))
        self._imports[name] = sorted(set(_imports(code)))
        self.has_grown = True
        return True


def _module(path: str) -> str:
    return path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")


def _imports(code: CodeType) -> Iterator[str]:
    """Yield the names that a module imports while it is loaded; some may be names in modules, and not modules.

    (ast.parse() takes three times as long as it takes to compile the module.)
    """
    module, argument = "", 0
    for operation, byte in zip(code.co_code[::2], code.co_code[1::2], strict=True):
        argument = argument << 8 | byte
        if operation == _EXTENDED:
            continue
        if operation == _NAME:
            module = code.co_names[argument]
            yield module
        elif operation == _FROM:
            yield f"{module}.{code.co_names[argument]}"
        argument = 0
