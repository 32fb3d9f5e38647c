"""The edits of a part of a file do what Ansible's do, and touch no other byte."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sloth.payload.kernel.converge import Outcome
from sloth.payload.kernel.registry import find
from sloth.payload.kernel.resource import Args, ArgumentError, Failed
from sloth.payload.lib import files
from sloth.payload.lib.host import Host
from sloth.payload.lib.modes import parse_mode
from sloth.payload.lib.patterns import hoist_flags
from sloth.payload.modules.file.text import has_crlf
from tests.support.calls import NoController, execute_call
from tests.support.paths import ROOT


def run(name: str, check: bool = False, **arguments: Any) -> tuple[Outcome, list[str]]:
    host = Host(NoController())
    return execute_call(name, on=host, check=check, **arguments), host.warnings


def edited(name: str, data: bytes, arguments: dict[str, Any]) -> bytes:
    """What the module itself makes of `data`; nothing is written."""
    from sloth.payload.kernel.content import Content

    cls = find(name)
    call = cls(Args(cls.check({"path": "/nowhere", **arguments})), Host(None))
    now = {"content": Content.of_bytes(data), "mode": "0644", "owner": "root", "group": "root"}
    after = call.desired(now)["content"].data()
    assert isinstance(after, bytes)
    return after


LINE, BLOCK, REPLACE = "file.lineinfile", "file.blockinfile", "file.replace"
BLOCK_X = b"# BEGIN ANSIBLE MANAGED BLOCK\nx\n# END ANSIBLE MANAGED BLOCK\n"
TABLE: list[tuple[str, bytes, dict[str, Any], bytes]] = [
    (LINE, b"", {"line": "a"}, b"a\n"),
    (LINE, b"a", {"line": "b"}, b"a\nb\n"),
    (LINE, b"a", {"line": "a"}, b"a\n"),
    (LINE, b"a\r\nb\n", {"line": "a"}, b"a\nb\n"),  # lines end in both ways: as Ansible does
    (LINE, b"k=1\nk=2\nz\n", {"regexp": "^k=", "line": "k=3"}, b"k=1\nk=3\nz\n"),
    (LINE, b"k=1\nk=2\nz\n", {"regexp": "^k=", "line": "k=3", "firstmatch": True}, b"k=3\nk=2\nz\n"),
    (LINE, b"k=3\nz\n", {"regexp": "^none", "line": "k=3"}, b"k=3\nz\n"),
    (LINE, b"k.1\nkx1\n", {"search_string": "k.", "line": "n"}, b"n\nkx1\n"),
    (LINE, b"s\na\ns\nb\n", {"insertafter": "^s", "line": "n"}, b"s\na\ns\nn\nb\n"),
    (LINE, b"s\na\ns\nb\n", {"insertafter": "^s", "line": "n", "firstmatch": True}, b"s\nn\na\ns\nb\n"),
    (LINE, b"a\ns", {"insertafter": "^s", "line": "n"}, b"a\ns\nn\n"),
    (LINE, b"s\na\ns\nb\n", {"insertbefore": "^s", "line": "n"}, b"s\na\nn\ns\nb\n"),
    (LINE, b"s\na\ns\nb\n", {"insertbefore": "^s", "line": "n", "firstmatch": True}, b"n\ns\na\ns\nb\n"),
    (LINE, b"a\n", {"insertbefore": "^none", "line": "n"}, b"a\nn\n"),
    (LINE, b"a\n", {"insertbefore": "BOF", "line": "n"}, b"n\na\n"),
    (LINE, b"a\n", {"insertafter": "BOF", "line": "n"}, b"n\na\n"),
    (LINE, b"a\nn\n", {"insertbefore": "BOF", "line": "n"}, b"a\nn\n"),
    (LINE, b"r\n", {"regexp": "^none", "insertafter": "^r", "line": "n"}, b"r\nn\n"),
    (LINE, b"a=1\n", {"regexp": "^(a)=.*", "line": r"\1=2", "backrefs": True}, b"a=2\n"),
    (LINE, b"a=1\n", {"regexp": "^(?P<k>a)=.*", "line": r"\g<k>=2", "backrefs": True}, b"a=2\n"),
    (LINE, b"a=1\n", {"regexp": "^(b)=.*", "line": r"\1=2", "backrefs": True}, b"a=1\n"),
    (LINE, b"a\nb\na", {"state": "absent", "line": "a"}, b"b\n"),
    (LINE, b"ax\nb\nxa\n", {"state": "absent", "regexp": "a"}, b"b\n"),
    (LINE, b"a.\nab\n", {"state": "absent", "search_string": "a."}, b"ab\n"),
    (LINE, b"\xff\xfe\nA\n", {"regexp": "^(?i)a", "line": "c"}, b"\xff\xfe\nc\n"),
    (BLOCK, b"", {"block": "x"}, BLOCK_X),
    (BLOCK, b"a", {"block": "x"}, b"a\n" + BLOCK_X),
    (BLOCK, b"a\n" + BLOCK_X.replace(b"x", b"old\nlines") + b"b\n", {"block": "x\n"}, b"a\n" + BLOCK_X + b"b\n"),
    (BLOCK, b"a\n" + BLOCK_X + b"b\n", {"block": "x", "insertbefore": "BOF"}, b"a\n" + BLOCK_X + b"b\n"),
    (BLOCK, b"a\n" + BLOCK_X + b"b\n", {"state": "absent"}, b"a\nb\n"),
    (BLOCK, b"a\n" + BLOCK_X + b"b\n", {"block": ""}, b"a\nb\n"),
    (BLOCK, b"# BEGIN ANSIBLE MANAGED BLOCK\na\n", {"state": "absent"}, b"# BEGIN ANSIBLE MANAGED BLOCK\na\n"),
    (BLOCK, b"a\nb\na\nc\n", {"block": "x", "insertafter": "^a"}, b"a\nb\na\n" + BLOCK_X + b"c\n"),
    (BLOCK, b"a\nb\na\nc\n", {"block": "x", "insertbefore": "^a"}, b"a\nb\n" + BLOCK_X + b"a\nc\n"),
    (BLOCK, b"\xc3\xa9\na\nb\nc\n", {"block": "x", "insertafter": "(?m)a\nb"}, b"\xc3\xa9\na\nb\n" + BLOCK_X + b"c\n"),
    (BLOCK, b"a\nb\n", {"block": "x", "insertbefore": "BOF", "append_newline": True}, BLOCK_X + b"\na\nb\n"),
    (BLOCK, b"a\n", {"block": "x", "prepend_newline": True}, b"a\n\n" + BLOCK_X),
    (BLOCK, b"", {"block": "x", "marker": ";{mark}", "marker_begin": "<", "marker_end": ">"}, b";<\nx\n;>\n"),
    (REPLACE, b"a b\nab\n", {"regexp": "^a", "replace": "c"}, b"c b\ncb\n"),
    (REPLACE, b"ab\n", {"regexp": "(a)(b)", "replace": r"\2\g<1>"}, b"ba\n"),
    (REPLACE, b"ab\n", {"regexp": "b"}, b"a\n"),
    (REPLACE, b"x[x]x", {"regexp": "x", "replace": "y", "after": r"\[", "before": "]"}, b"x[y]x"),
    (REPLACE, b"x[x]x", {"regexp": "x", "replace": "y", "after": r"\["}, b"x[y]y"),
    (REPLACE, b"x[x]x", {"regexp": "x", "replace": "y", "before": "]"}, b"y[y]x"),
    (REPLACE, b"x\n", {"regexp": "x", "replace": "y", "after": "none"}, b"x\n"),
    (REPLACE, b"a\r\n\xff\r\n", {"regexp": "a", "replace": "b"}, b"b\r\n\xff\r\n"),
    (REPLACE, b"\xe9\n", {"regexp": "é", "replace": "e", "encoding": "latin-1"}, b"e\n"),
    (REPLACE, b"Ab\n", {"regexp": "^(?i)aB", "replace": "c"}, b"c\n"),
    # Lines that end with CR LF keep it, and so do new ones.
    (LINE, b"a\r\nb\r\n", {"line": "a"}, b"a\r\nb\r\n"),
    (LINE, b"a\r\nb\r\n", {"line": "c"}, b"a\r\nb\r\nc\r\n"),
    (LINE, b"a\r\nb", {"line": "c"}, b"a\r\nb\r\nc\r\n"),
    (LINE, b"a\r\nb\r\n", {"line": "b\r"}, b"a\r\nb\r\n"),
    (LINE, b"k=1\r\nb\r\n", {"regexp": "^k=1$", "line": "k=2"}, b"k=2\r\nb\r\n"),
    (LINE, b"k=1\r\nb\r\n", {"regexp": "^k=.*\\r", "line": "k=2"}, b"k=2\r\nb\r\n"),
    (LINE, b"k=1\r\n", {"regexp": "^(k)=(.*)$", "line": r"\2=\1", "backrefs": True}, b"1=k\r\n"),
    (LINE, b"a\r\nb\r\n", {"insertafter": "^a$", "line": "n"}, b"a\r\nn\r\nb\r\n"),
    (LINE, b"a\r\nb\r\n", {"state": "absent", "regexp": "^a\r$"}, b"b\r\n"),
    (BLOCK, b"a\r\n", {"block": "x\ny"}, b"a\r\n" + BLOCK_X.replace(b"x", b"x\ny").replace(b"\n", b"\r\n")),
    (
        BLOCK,
        BLOCK_X.replace(b"\n", b"\r\n") + b"b\r\n",
        {"block": "z"},
        BLOCK_X.replace(b"x", b"z").replace(b"\n", b"\r\n") + b"b\r\n",
    ),
    (REPLACE, b"a\r\nb\r\n", {"regexp": "^a.*$", "replace": "x\ny"}, b"x\r\ny\r\nb\r\n"),
    (REPLACE, b"a\r\nb\r\n", {"regexp": "\\r\n", "replace": "\n"}, b"a\nb\n"),
    # A line that is further down is found, with firstmatch too.
    (LINE, b"s\na\nn\n", {"insertafter": "^s", "line": "n", "firstmatch": True}, b"s\na\nn\n"),
    (LINE, b"s\na\nn\n", {"insertbefore": "^a", "line": "n", "firstmatch": True}, b"s\na\nn\n"),
    # What stands between two markers in the wrong order, or below one alone, is the user's.
    (BLOCK, BLOCK_X[:-1], {"block": "x"}, BLOCK_X),
    (
        BLOCK,
        b"# END ANSIBLE MANAGED BLOCK\nmine\n# BEGIN ANSIBLE MANAGED BLOCK\n",
        {"block": "x"},
        b"# END ANSIBLE MANAGED BLOCK\nmine\n# BEGIN ANSIBLE MANAGED BLOCK\n" + BLOCK_X,
    ),
    (
        BLOCK,
        b"# END ANSIBLE MANAGED BLOCK\nmine\n# BEGIN ANSIBLE MANAGED BLOCK\n",
        {"block": "x", "insertbefore": "BOF"},
        BLOCK_X + b"# END ANSIBLE MANAGED BLOCK\nmine\n# BEGIN ANSIBLE MANAGED BLOCK\n",
    ),
    (
        BLOCK,
        b"# BEGIN ANSIBLE MANAGED BLOCK\nmine\n" + BLOCK_X,
        {"state": "absent"},
        b"# BEGIN ANSIBLE MANAGED BLOCK\nmine\n",
    ),
    (BLOCK, b"a", {"state": "absent"}, b"a"),
    (BLOCK, b"a", {"block": ""}, b"a"),
    (BLOCK, b"a\n" + BLOCK_X[:-1], {"state": "absent"}, b"a\n"),
    (BLOCK, b"a\n", {"block": "x", "marker": "# mine"}, b"a\n# mine\nx\n# mine\n"),  # ansible#22668
    (REPLACE, b"A x B x", {"regexp": "x", "replace": "y", "after": "A|B"}, b"A y B y"),
    (REPLACE, b"x A x B x", {"regexp": "x", "replace": "y", "before": "A|B"}, b"y A y B x"),
    (LINE, b"a\nb\n", {"line": "z", "insertafter": ""}, b"a\nb\nz\n"),
    (LINE, b"a\nb\n", {"line": "z", "insertafter": "", "firstmatch": True}, b"a\nb\nz\n"),
    (LINE, b"a\nb\n", {"line": "z", "insertbefore": ""}, b"a\nb\nz\n"),
]


@pytest.mark.parametrize(("name", "before", "arguments", "after"), TABLE)
def test_table(name: str, before: bytes, arguments: dict[str, Any], after: bytes) -> None:
    assert edited(name, before, arguments) == after
    assert edited(name, after, arguments) == after


OLDEST = Path("/root/.pyenv/versions/3.6.15/bin/python")


def test_empty_matches_mean_the_same_under_every_python() -> None:
    """Python 3.6 lost an empty match that follows another one."""
    pythons = [path for path in (OLDEST, Path(sys.executable)) if os.access(path, os.X_OK)]
    script = (
        "import re; from sloth.payload.lib.patterns import substitute as s; print(s(re.compile('x*'), '-', 'abxd'))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for python in pythons:
        assert subprocess.check_output([python, "-c", script], env=environment) == b"('-a-b--d-', 5)\n"


@pytest.mark.parametrize(
    ("pattern", "hoisted"),
    [
        ("(?i)x", "(?i)x"),
        ("^(?i)x", "(?i)^x"),
        ("^(?i)a|^(?m)b", "(?im)^a|^b"),
        (r"\(?i)", r"\(?i)"),
        ("[(?i)]x", "[(?i)]x"),
        ("[](?i)]x", "[](?i)]x"),
        ("a(?i:b)", "a(?i:b)"),
    ],
)
def test_flags_are_hoisted(pattern: str, hoisted: str) -> None:
    assert hoist_flags(pattern) == hoisted
    assert hoist_flags(pattern.encode()) == hoisted.encode()


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        (LINE, {"line": "x", "regexp": "a", "search_string": "a"}, "not both"),
        (LINE, {"line": "x", "insertafter": "a", "insertbefore": "a"}, "not both"),
        (LINE, {}, "line is required"),
        (LINE, {"line": "x", "backrefs": True}, "regexp is required"),
        (LINE, {"state": "absent"}, "one of line"),
        (LINE, {"line": "x", "regexp": "a("}, "position 1"),
        (LINE, {"line": r"\2", "regexp": "(x)", "backrefs": True}, "line refers to"),
        (LINE, {"line": r"\y", "regexp": "(x)", "backrefs": True}, "bad escape"),
        (LINE, {"line": "y", "validate": "true"}, "must contain %s"),
        (LINE, {"line": "y", "validate": "false %s"}, "failed to validate: rc:1"),
        (LINE, {"line": "y", "mode": "u+q"}, "is not a mode"),
        (LINE, {"line": "y", "owner": "no-such-user"}, "no user no-such-user"),
        (BLOCK, {"insertafter": "a", "insertbefore": "a"}, "not both"),
        (BLOCK, {"block": "x", "marker": ""}, "one line that is not empty"),  # ansible#29340
        (BLOCK, {"block": "x", "marker": "a\n{mark}"}, "one line that is not empty"),  # ansible#38417
        (REPLACE, {"regexp": "x", "replace": r"\1"}, "replace refers to"),
        (REPLACE, {"regexp": "x", "encoding": "none"}, "no encoding none"),
    ],
)
def test_refusals_leave_the_file(tmp_path: Path, name: str, arguments: dict[str, Any], said: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x\n")
    with pytest.raises(Failed, match=said):
        run(name, path=str(path), **arguments)
    assert path.read_bytes() == b"x\n"
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_create_makes_the_directory_and_a_check_does_not(tmp_path: Path) -> None:
    path = tmp_path / "a/b"
    assert run(LINE, check=True, path=str(path), line="x", create=True)[0].status == "changed"
    assert not path.parent.exists()
    assert run(LINE, path=str(path), line="x", create=True, mode="0600")[0].msg.startswith("line added")
    assert path.read_bytes() == b"x\n"
    assert path.stat().st_mode & 0o7777 == 0o600


def test_backrefs_without_a_match_make_no_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    outcome, _ = run(LINE, path=str(path), regexp="(a)", line=r"\1", backrefs=True, create=True)
    assert outcome.status == "unchanged"
    assert not path.exists()


def test_backups_are_made_of_changes_only_and_never_shared(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"1\n")
    path.chmod(0o640)
    names = [run(LINE, path=str(path), line=line, backup=True)[0].values.get("backup_file") for line in "223"]
    assert names[1] is None
    assert [Path(str(name)).read_bytes() for name in (names[0], names[2])] == [b"1\n", b"1\n2\n"]
    assert Path(str(names[0])).stat().st_mode & 0o7777 == 0o640


def test_an_edit_that_changes_its_own_result_is_made_and_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"a\n")
    outcome, warnings = run(REPLACE, path=str(path), regexp="a", replace="aa")
    assert outcome.status == "changed"
    assert path.read_bytes() == b"aa\n"
    assert "not idempotent" in "".join(warnings)


def test_a_validated_file_has_its_last_content_and_mode(tmp_path: Path) -> None:
    path = tmp_path / "a file"
    path.write_bytes(b"a\n")
    run(LINE, path=str(path), line="b", validate="grep -qx b %s")
    assert path.read_bytes() == b"a\nb\n"


def test_identities_differ_and_are_short() -> None:
    def identity(**arguments: Any) -> str:
        cls = find(LINE)
        text = cls(Args(cls.check({"path": "/f", **arguments})), Host(None)).identity()
        assert isinstance(text, str)
        return text

    long = "x" * 300
    names = [identity(line="a"), identity(line="b"), identity(line=long + "a"), identity(line=long + "b")]
    assert len(set(names)) == 4
    assert all(len(name) <= 200 for name in names)
    assert identity(line=long) == identity(line=long)


@pytest.mark.parametrize(
    ("text", "old", "directory", "new"),
    [
        ("0644", 0o777, False, 0o644),
        ("u+x,go-r", 0o644, False, 0o700),
        ("a=r", 0o7777, False, 0o444),
        ("g=u", 0o640, False, 0o660),
        ("a+X", 0o644, False, 0o644),
        ("a+X", 0o744, False, 0o755),
        ("a+X", 0o644, True, 0o755),
        ("u+s,g+s,o+t", 0o755, True, 0o7755),
        ("u=rwx,g=rx,o=", 0o000, False, 0o750),
    ],
)
def test_modes(text: str, old: int, directory: bool, new: int) -> None:
    assert parse_mode(text, old, directory) == new


@pytest.mark.parametrize("text", ["100644", "-644", "888", "u", "u+rwz", "rw-r--r--"])
def test_what_is_no_mode(text: str) -> None:
    with pytest.raises(ArgumentError, match="is not a mode"):
        parse_mode(text, 0o644)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small tmpfs")
def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    if subprocess.call(["mount", "-t", "tmpfs", "-o", "size=64k", "sloth-test", str(tmp_path)]) != 0:
        pytest.skip("mount is not allowed here")
    try:
        path = tmp_path / "file"
        path.write_bytes(b"old")
        with pytest.raises(Failed, match=f"no space left on the device that holds {path}"):
            files.replace(str(path), iter([b"x" * 4096] * 64))
        assert path.read_bytes() == b"old"
        assert [one.name for one in tmp_path.iterdir()] == ["file"]
    finally:
        subprocess.check_call(["umount", str(tmp_path)])


CONTENT = st.lists(st.sampled_from([b"a", b"k=1", b"k=2", b"\xff", b"\r", b"\n", b"\n", b" "])).map(b"".join)


# A bare CR at the very end counts as a line's end for Ansible, and so for us: the new line is glued to it.
@settings(deadline=None)
@given(
    CONTENT.filter(lambda data: not data.endswith(b"\r")),
    st.sampled_from([{}, {"regexp": "^k="}, {"insertafter": "a"}, {"insertbefore": "^k", "firstmatch": True}]),
)
def test_a_line_once_put_stays_and_can_be_removed(data: bytes, how: dict[str, Any]) -> None:
    arguments = {"line": "k=9", **how}
    once = edited(LINE, data, arguments)
    assert edited(LINE, once, arguments) == once
    assert b"k=9" in [line.rstrip(b"\r\n") for line in once.split(b"\n")] or once.endswith(b"k=9\n")
    gone = edited(LINE, once, {"state": "absent", "line": "k=9"})
    assert b"k=9" not in [line.rstrip(b"\r\n") for line in gone.split(b"\n")]


@settings(deadline=None)
@given(CONTENT)
def test_what_is_not_asked_for_stays_byte_for_byte(data: bytes) -> None:
    assert edited(REPLACE, data, {"regexp": "NONE", "replace": "x"}) == data
    assert edited(LINE, data, {"state": "absent", "regexp": "NONE"}) == data
    grown = edited(LINE, data, {"line": "new"})
    assert grown.startswith(data)
    assert grown[len(data) :].replace(b"\r\n", b"\n") in (b"new\n", b"\nnew\n")
    assert (b"\r\n" in grown[len(data) :]) == has_crlf(data)


EDITS = st.sampled_from(
    [
        (LINE, {"line": "new"}),
        (LINE, {"regexp": "^k=", "line": "k=3"}),
        (LINE, {"insertafter": "^a", "line": "n"}),
        (BLOCK, {"block": "x\ny"}),
        (REPLACE, {"regexp": "^k=.$", "replace": "k\nk"}),
    ]
)


@settings(deadline=None)
@given(st.lists(st.sampled_from([b"a", b"k=1", b"k=2", b"", b"\xff"]), min_size=2).map(b"\r\n".join), EDITS)
def test_a_file_with_cr_lf_keeps_it(data: bytes, edit: tuple[str, dict[str, Any]]) -> None:
    after = edited(edit[0], data, edit[1])
    assert after.count(b"\n") == after.count(b"\r\n")
    assert after.replace(b"\r\n", b"\n") == edited(edit[0], data.replace(b"\r\n", b"\n"), edit[1])


@settings(deadline=None)
@given(CONTENT.map(lambda data: data + b"\n"))
def test_a_block_comes_and_goes_without_a_trace(data: bytes) -> None:
    with_block = edited(BLOCK, data, {"block": "x\ny"})
    assert with_block.startswith(data)
    assert edited(BLOCK, with_block, {"block": "x\ny"}) == with_block
    assert edited(BLOCK, with_block, {"state": "absent"}) == data
