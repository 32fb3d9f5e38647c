"""Files that a person or a site names are read with bounds."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from sloth.errors import InventoryError, SiteError, UsageError
from sloth.inventory import Inventory
from sloth.inventory.toml_lines import locate
from sloth.inventory.variables import extra_vars
from sloth.playbook import Site
from sloth.reading import read_file


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("/dev/zero", "not a regular file"),
        ("/", "[Dd]irectory"),
        ("a\0b", "NUL"),
        ("x" * 5000, "too long"),
        ("\ud800", "cannot be the name"),
        ("/nosuch", "No such file"),
    ],
)
def test_what_is_no_file_is_an_error_with_words(name: str, expected: str) -> None:
    with pytest.raises(OSError, match=expected) as caught:
        read_file(name)
    assert caught.value.strerror


def test_sizes_and_pipes(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * 1000)
    assert read_file(tmp_path / "f", limit=1000) == b"x" * 1000
    with pytest.raises(OSError, match="larger than"):
        read_file(tmp_path / "f", limit=999)
    with pytest.raises(OSError, match="larger than"):
        read_file("/dev/zero", limit=100_000, pipes=True)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        read_file(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(b"text",))
    writer.start()
    assert read_file(tmp_path / "pipe", pipes=True) == b"text"
    writer.join()


def test_sites_inventories_and_values_that_are_none(tmp_path: Path) -> None:
    for content in (b"\xff = 1", b"a = " + b"[" * 100_000, b"[" * 100_000, b"\0"):
        (tmp_path / "file.toml").write_bytes(content)
        (tmp_path / "file.json").write_bytes(content)
        with pytest.raises(InventoryError):
            Inventory.read(tmp_path / "file.toml")
        for name in ("file.toml", "file.json"):
            with pytest.raises(UsageError):
                extra_vars([], [tmp_path / name])
    assert extra_vars(["a=" + "[" * 100_000], []) == {"a": "[" * 100_000}
    for name in ("/", "a\0b", "x" * 5000):
        with pytest.raises(SiteError):
            Site.read(name)


def test_lines_are_found_in_linear_time() -> None:
    """A row of a nested array, without its end on the same line, took 2^n steps."""
    row = ", ".join(f'"{number}"' for number in range(40))
    source = f"a = [\n  [{row},\n  1],\n]\nb = '''{' ' * 50_000}'''\n" + " " * 50_000 + "c = 1\n"
    assert locate(source)[("a",)] == 1
    assert locate(source)[("b",)] == 5
