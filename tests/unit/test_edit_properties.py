"""Edits of text files: bytes that we were not asked to touch stay, and a second run changes nothing."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.calls import execute_call

_line = st.sampled_from((b"a", b"b = 1", b"# c", b"", b"\xff\xfe", b"  a", b"x\r"))
# A file that ends in a bare CR is left out: Ansible takes the CR for the end of a line, and so do we.
_file = st.builds(
    lambda lines, end: b"\n".join(lines) + end, st.lists(_line, max_size=6), st.sampled_from((b"", b"\n"))
).filter(lambda data: not data.endswith(b"\r"))


@settings(deadline=None, max_examples=80)
@given(_file, st.sampled_from(("a", "new", "b = 2")))
def test_a_line_is_added_once_and_taken_out_again(before: bytes, line: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "f"
        path.write_bytes(before)
        execute_call("file.lineinfile", path=str(path), line=line)
        after = path.read_bytes()
        assert line.encode() in [part.rstrip(b"\r") for part in after.split(b"\n")]
        assert after == before or after.startswith(before.rstrip(b"\n"))
        assert execute_call("file.lineinfile", path=str(path), line=line).status == "unchanged"
        execute_call("file.lineinfile", path=str(path), line=line, state="absent")
        assert line.encode() not in [part.rstrip(b"\r") for part in path.read_bytes().split(b"\n")]


@settings(deadline=None, max_examples=80)
@given(_file, st.sampled_from(("one", "one\ntwo", "")))
def test_a_block_leaves_what_is_around_it(before: bytes, block: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "f"
        path.write_bytes(before)
        execute_call("file.blockinfile", path=str(path), block=block)
        assert path.read_bytes().startswith(before)
        assert execute_call("file.blockinfile", path=str(path), block=block).status == "unchanged"
        execute_call("file.blockinfile", path=str(path), state="absent")
        assert path.read_bytes().rstrip(b"\r\n") == before.rstrip(b"\r\n")
