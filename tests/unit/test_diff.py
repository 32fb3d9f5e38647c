"""Diffs of texts: `patch` makes the new text of the old one, and difflib writes them alike."""

from __future__ import annotations

import difflib
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sloth.payload.kernel.content import Content
from sloth.payload.kernel.diff import unified
from tests.support.paths import ROOT

TEXTS = st.lists(st.sampled_from(["a", "b", "", " c", "-", "+ d", "\u00e9"]), max_size=6).map("\n".join)
ENDED = st.tuples(TEXTS, st.sampled_from(["", "\n"])).map("".join)


def of(text: str) -> Content | None:
    return Content.of_bytes(text.encode()) if text else None


@given(ENDED, ENDED)
def test_a_diff_is_as_difflib_writes_it(old: str, new: str) -> None:
    lines = difflib.unified_diff(old.splitlines(True), new.splitlines(True), "before", "after")
    expected = [line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines]
    assert unified(of(old), of(new)) == "".join(expected)


@settings(max_examples=15)
@given(ENDED, ENDED)
@pytest.mark.skipif(not Path("/usr/bin/patch").exists(), reason="there is no patch")
def test_patch_understands_it(tmp_path_factory: pytest.TempPathFactory, old: str, new: str) -> None:
    file = tmp_path_factory.mktemp("patched") / "file"
    file.write_bytes(old.encode())
    subprocess.run(["patch", "-s", str(file)], input=(unified(of(old), of(new)) or "").encode(), check=True)
    assert (file.read_bytes() if file.exists() else b"").decode() == new


def test_new_files_load_no_difflib() -> None:
    code = (
        "import sys; from sloth.payload.kernel.diff import unified; from sloth.payload.kernel.content import Content; "
        "print(unified(None, Content.of_bytes(b'x')), 'difflib' in sys.modules)"
    )
    printed = subprocess.run([sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}"],
                             capture_output=True, text=True, check=True).stdout  # fmt: skip
    assert printed.endswith("+x\n\\ No newline at end of file\n False\n")
