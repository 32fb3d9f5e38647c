"""New files, directories and links: what is in their way, and what they get from the directory they are made in."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Any

import pytest

from sloth.payload.kernel.resource import Failed
from sloth.payload.lib.host import Host
from sloth.payload.state.store import Store
from tests.support.calls import NoController, execute_call


def test_a_symbolic_mode_of_a_new_directory_keeps_the_set_gid_bit_that_it_inherits(tmp_path: Path) -> None:
    """As with chmod: "u=rwX" does not mean that the group of a shared directory ends here."""
    os.umask(0o022)
    tmp_path.chmod(0o2775)
    copied = tmp_path / "copied"
    calls: list[tuple[str, dict[str, Any]]] = [
        ("file.directory", {"path": f"{tmp_path}/a/b", "mode": "u=rwX,o="}),
        ("file.directory", {"path": f"{tmp_path}/c", "mode": "g-s"}),
        ("file.directory", {"path": f"{tmp_path}/d", "mode": "0750"}),
    ]
    (tmp_path / "source").mkdir()
    calls.append(
        ("file.copy", {"src": f"{tmp_path}/source/", "dest": str(copied), "remote_src": True, "directory_mode": "o="})
    )
    for status in ("changed", "unchanged"):
        for name, arguments in calls:
            assert execute_call(name, **arguments).status == status
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "a/b", "c", "d", "copied")]
    assert modes == [0o2755, 0o2750, 0o755, 0o750, 0o2750]


def test_a_check_foresees_the_set_gid_bit_of_a_directory_that_an_earlier_call_would_make(tmp_path: Path) -> None:
    os.umask(0o022)
    host, store = Host(NoController()), Store(None)
    execute_call("file.directory", on=host, store=store, check=True, path=f"{tmp_path}/a", mode="2755")
    outcome = execute_call("file.directory", on=host, store=store, check=True, path=f"{tmp_path}/a/b", mode="o=")
    assert outcome.after["mode"] == "2750"


def test_a_private_directory_of_a_tree_on_the_host_stays_private(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "keys").mkdir(parents=True)
    (source / "keys/key").write_text("secret")
    (source / "sealed").mkdir()
    (source / "sealed/x").write_text("x")
    for name, bits in (("keys", 0o700), ("sealed", 0o500), (".", 0o750)):
        (source / name).chmod(bits)
    (tmp_path / "there").mkdir(mode=0o755)

    def modes(directory: str) -> list[int]:
        return [(tmp_path / directory / name).stat().st_mode & 0o7777 for name in (".", "keys", "sealed")]

    for dest in ("new", "there"):
        for status in ("changed", "unchanged"):
            given: dict[str, Any] = {"src": f"{source}/", "dest": f"{tmp_path}/{dest}", "remote_src": True}
            assert execute_call("file.copy", **given).status == status
    assert modes("new") == [0o750, 0o700, 0o500]
    assert modes("there") == [0o755, 0o700, 0o500]  # one that exists keeps its own
    (tmp_path / "new/keys").chmod(0o711)
    assert execute_call("file.copy", **{**given, "dest": f"{tmp_path}/new"}).status == "unchanged"
    given = {"src": f"{source}/", "dest": f"{tmp_path}/other", "remote_src": True, "directory_mode": "0711"}
    execute_call("file.copy", **given)
    assert modes("other") == [0o711] * 3
    for name in ("source", "new", "there"):
        (tmp_path / name / "sealed").chmod(0o700)


@pytest.mark.parametrize("in_the_way", ["file", "fifo", "dangling"])
@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("file.directory", {"path": "WAY/sub/new"}),
        ("file.copy", {"content": "x", "dest": "WAY/new"}),
        ("file.copy", {"src": "TREE", "dest": "WAY", "remote_src": True}),
        ("file.link", {"path": "WAY/new", "src": "x", "force": True}),
        ("file.lineinfile", {"path": "WAY/sub/new", "line": "x", "create": True}),
        ("file.blockinfile", {"path": "WAY/sub/new", "block": "x", "create": True}),
    ],
)
def test_a_check_sees_what_is_in_the_way(tmp_path: Path, in_the_way: str, name: str, given: dict[str, Any]) -> None:
    way = tmp_path / "way"
    {"file": way.touch, "fifo": lambda: os.mkfifo(way), "dangling": lambda: way.symlink_to("nowhere")}[in_the_way]()
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/x").write_text("x")
    places = {"WAY": str(way), "TREE": str(tmp_path / "tree")}
    words = {key: re.sub("WAY|TREE", lambda found: places[found.group()], value) if isinstance(value, str) else value
             for key, value in given.items()}  # fmt: skip
    for check in (True, False):
        with pytest.raises(Failed, match=f"{way} is not a directory but a ") as caught:
            execute_call(name, check=check, **words)
        assert "in the way of" in caught.value.hint
    host, store = Host(NoController()), Store(None)  # it is not, when an earlier call would remove it
    execute_call("file.absent", on=host, store=store, check=True, path=str(way))
    execute_call("file.directory", on=host, store=store, check=True, path=str(way))
    assert execute_call(name, on=host, store=store, check=True, **words).status in ("changed", "unknown")


def test_a_check_of_a_link_sees_what_it_cannot_replace_or_link_to(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").write_text("x")
    (tmp_path / "file").write_text("x")
    for check in (True, False):
        with pytest.raises(Failed, match="not empty"):
            execute_call("file.link", check=check, path=f"{tmp_path}/full", src="file", force=True)
        with pytest.raises(Failed, match="no hard links"):
            execute_call("file.link", check=check, path=f"{tmp_path}/new", src=f"{tmp_path}/full", hard=True)
    assert (tmp_path / "full/x").read_text() == "x"
