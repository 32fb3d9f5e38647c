"""Lazy modules become the real ones when something in them is used, and what is ready before answers the same."""

from __future__ import annotations

import difflib
import inspect
import subprocess
import sys
from functools import partial

import pytest

from sloth.cli import lazy

SCRIPT = """
import sys
before = set(sys.modules)
from sloth.cli import lazy
lazy.install()
made = {name: sys.modules[name] for name in lazy._READY if name not in before}
assert "inspect" in made and all(type(one) is lazy.LazyModule for one in made.values())
import asyncio
assert not {"dis", "tokenize", "_ssl"} & set(sys.modules), "asyncio alone loads none of it"
import threading
import ssl
found, go = [], threading.Barrier(5)
def use():
    go.wait()
    found.append(ssl.create_default_context().__class__ is ssl.SSLContext)
threads = [threading.Thread(target=use) for _ in range(5)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert found == [True] * 5, found
from asyncio import base_events, sslproto
assert base_events.sslproto is sslproto and sslproto.SSLAgainErrors[0] is ssl.SSLWantReadError
from tempfile import mkdtemp
from inspect import getsource, cleandoc
assert cleandoc is sys.modules["inspect"].cleandoc and cleandoc.__module__ == "inspect"
for name, module in made.items():
    lazy.load(module)
    assert type(module) is type(sys) and sys.modules[name] is module and module.__spec__.name == name
    assert module.__file__ and not hasattr(module, "no_such_name"), name
import importlib
assert importlib.reload(made["shlex"]) is made["shlex"]
print("done")
"""


def test_a_lazy_module_becomes_the_real_one() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


@pytest.mark.parametrize("doc", ["", " ", "one line", "  indented ", "a\n  b\n  c", "\ta", "a\n", "\n\n  a\n\n"])
def test_documentation_is_cleaned_as_inspect_does(doc: str) -> None:
    assert lazy._cleandoc(doc) == inspect.cleandoc(doc)


class _Awaitable:
    def __await__(self) -> object:
        return iter(())

    async def method(self) -> None: ...

    def plain(self) -> None: ...


async def _coroutine() -> None: ...


def _generator() -> object:
    yield


def test_coroutines_are_found_as_inspect_finds_them() -> None:
    one = _Awaitable()
    for function in (_coroutine, one.method, one.plain, _generator, len, partial(_coroutine), _Awaitable, one):
        assert lazy._iscoroutinefunction(function) == inspect.iscoroutinefunction(function), function
    running = _coroutine()
    for value in (running, one, _generator(), None, _coroutine):
        assert lazy._isawaitable(value) == inspect.isawaitable(value), value
    running.close()


@pytest.mark.parametrize("word", ["--chekc", "-check", "-f", "--x", "zzz"])
def test_near_words_are_those_of_difflib_but_for_short_options(word: str) -> None:
    words = ["--check", "--file", "-c", "-x"]
    expected = [] if word == "-f" else difflib.get_close_matches(word, words)
    assert lazy._near(word, words) == expected
