"""The files of a site for workers on other machines: what goes, what stays, and what they find in its place."""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sloth import reading
from sloth.engine.workers import elsewhere, files, relay
from sloth.engine.workers.asking import StoreBegin, StoreEnd, StorePart
from sloth.engine.workers.files import SiteContents, place
from sloth.engine.workers.messages import SiteFiles
from sloth.errors import UsageError


@pytest.fixture
def placed(tmp_path: Path) -> Iterator[Path]:
    """A directory in which files of the site are placed."""
    (tmp_path / "memory").mkdir()
    yield tmp_path / "memory"
    reading.withheld.clear()


def contents(directory: Path, roles: Path = Path("none")) -> SiteContents:
    """What goes to other machines of the site in a directory."""
    site = SimpleNamespace(directories=(directory,), roles=SimpleNamespace(path=(directory / roles,)))
    options = SimpleNamespace(keys=SimpleNamespace(key_file=directory / "key"))
    context: Any = SimpleNamespace(
        site=site, inventory=SimpleNamespace(paths=(directory / "inventory.toml",)), options=options
    )
    return SiteContents(context)


def test_what_of_a_site_goes_to_other_machines(tmp_path: Path, placed: Path) -> None:
    site = tmp_path / "site"
    (site / "files").mkdir(parents=True)
    for name in ("site.sloth", "files/a", "inventory.toml", "key", ".hidden", "files/.env"):
        (site / name).write_text("os.getenv('A')" if name == "files/a" else "secret")
    os.mkfifo(site / "files" / "fifo")
    (site / "files" / "loop").symlink_to(site)
    (site / "files" / "broken").symlink_to("nowhere")
    (site / "files" / "a").chmod(0o750)
    made = contents(site)
    sent = made.message()
    names = {str(Path(path).relative_to(tmp_path)) for path in sent.files}
    assert names == {"site", "site/files", "site/site.sloth", "site/files/a"}
    assert made.variables({"A": "1", "B": "2", "C": "3"}, ["C"]) == {"A": "1", "C": "3"}
    assert not made.needs_other_hosts
    place(sent, placed)
    copy = placed / str(site).lstrip("/") / "files" / "a"
    assert copy.read_text() == "os.getenv('A')"
    assert copy.stat().st_mode & 0o777 == 0o750


@pytest.mark.parametrize("limit", ["LARGEST", "MOST"])
def test_a_site_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    """A site in a home or in /srv would send all that is there."""
    monkeypatch.setattr(files, limit, 3)
    for name in "abcd":
        (tmp_path / name).write_text(name)
    with pytest.raises(UsageError) as caught:
        contents(tmp_path)
    assert caught.value.message.startswith(f"{tmp_path} has more than ")
    assert caught.value.hint == "give the site a directory of its own"


def test_directories_that_links_lead_to_are_there_under_all_their_names(tmp_path: Path, placed: Path) -> None:
    """Roles that share a directory of files, and a site in a directory that is a link, are usual."""
    site = tmp_path / "site"
    for name in ("common/deep", "roles/a", "roles/b"):
        (site / name).mkdir(parents=True)
    (site / "common/deep/x").write_text("x")
    for name in "ab":
        (site / "roles" / name / "files").symlink_to("../../common")
    (site / "common/deep/up").symlink_to("../../roles")  # round in a circle
    (site / "loop").symlink_to("loop")
    (site / "broken").symlink_to("nowhere")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/y").write_text("y")
    (site / "outside").symlink_to(tmp_path / "outside")
    (tmp_path / "linked").symlink_to(site)
    place(contents(site, roles=tmp_path / "linked" / "roles").message(), placed)
    copy = placed / str(site).lstrip("/")
    for name in ("common", "roles/a/files", "roles/b/files", "common/deep/up/a/files"):
        assert (copy / name / "deep/x").read_text() == "x", name
    assert (copy / "outside/y").read_text() == "y"
    assert (copy / "../linked/roles/b/files/deep/x").read_text() == "x"
    for name in ("loop", "broken"):
        assert os.path.lexists(copy / name)
        assert not os.path.exists(copy / name)
    assert all(os.path.realpath(path).startswith(str(placed)) for path in copy.rglob("*"))


def test_what_stays_is_not_missing_without_a_word(tmp_path: Path, placed: Path) -> None:
    """A tree without its hidden files, or without those that cannot be read, would be copied as if it were whole."""
    site = tmp_path / "site"
    for name in ("files/tree", "files/tree/.git", "files/tree/node_modules"):
        (site / name).mkdir(parents=True)
    for name in ("files/tree/.htaccess", "files/tree/.git/x", "files/tree/secrets.vault", "inventory.toml", "secret"):
        (site / name).write_text("unguessable")
    (site / "files/tree/inventory").symlink_to("../../inventory.toml")
    os.mkfifo(site / "files/tree/fifo")
    sent = contents(site).message()
    assert b"unguessable" not in b"".join(data or b"" for name, (_, data) in sent.files.items() if "secret" not in name)
    place(sent, placed)
    copy = placed / str(site).lstrip("/") / "files" / "tree"
    (copy.parent / "alias").symlink_to(copy)
    for name in (".htaccess", ".git", "node_modules", "secrets.vault", "inventory"):
        for path in (copy / name, copy.parent / "alias" / name):
            with pytest.raises(OSError, match="it does not go to workers on other machines"):
                reading.read_file(path)
            assert os.path.exists(path), "it would be looked for elsewhere"
    with pytest.raises(OSError, match="it is not a regular file"):
        reading.open_regular(copy / "fifo")


def test_what_cannot_be_read_is_said_where_it_is_used(
    tmp_path: Path, placed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user may be root, who can read everything; a disk may be broken."""
    (tmp_path / "site/closed").mkdir(parents=True)
    (tmp_path / "site/file").write_text("x")

    def refuse(path: str, *rest: object) -> bytes:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(files, "read_file", refuse)
    listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: refuse(path) if str(path).endswith("closed") else listdir(path))
    place(contents(tmp_path / "site").message(), placed)
    for name in ("file", "closed"):
        with pytest.raises(OSError, match="Permission denied"):
            reading.read_file(placed / str(tmp_path).lstrip("/") / "site" / name)


def test_directories_that_nobody_may_write_do_not_stay_in_memory() -> None:
    """Sites in a Nix store, or in a checkout that is read-only, have such modes, and a worker need not be root."""
    directory = relay.private_directory()
    place(SiteFiles({"/a": (0o555, None), "/a/b": (0o500, None), "/a/b/c": (0o400, b"secret")}, {}, {}), directory)
    is_root = os.geteuid() == 0
    if is_root:
        for path in (directory, *directory.rglob("*")):
            os.chown(path, 65534, 65534)
        os.seteuid(65534)
    try:
        relay.remove(directory)
        assert not directory.exists()
    finally:
        if is_root:
            os.seteuid(0)
        shutil.rmtree(directory, ignore_errors=True)


def test_no_file_is_placed_outside_of_its_directory(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"/a/\.\./\.\./b is not below the directory"):
        place(SiteFiles({"/a/../../b": (0o600, b"x")}, {}, {}), tmp_path / "memory")
    assert not (tmp_path / "b").exists()


def test_variables_that_a_site_names_are_not_those_of_the_worker_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """A site that asks for HOME or SSH_AUTH_SOCK must not change where the worker looks for its keys."""
    monkeypatch.setenv("HOME", "/home/worker")
    monkeypatch.delenv("NEW", raising=False)
    known: Any = SimpleNamespace(hosts=[SimpleNamespace(password_env="PASSWORD"), SimpleNamespace(password_env="")])
    monkeypatch.setenv("PASSWORD", "of the worker")
    libc = ctypes.CDLL(None)
    libc.getenv.restype = ctypes.c_char_p
    try:
        elsewhere.show_variables({"HOME": "/home/run", "NEW": "1", "PASSWORD": "of the run"}, known)
        assert (libc.getenv(b"HOME"), libc.getenv(b"NEW")) == (b"/home/run", b"1"), "what Lua sees"
        assert os.path.expanduser("~") == "/home/worker"
        assert (os.environ.get("NEW"), os.environ["PASSWORD"]) == (None, "of the run")
    finally:
        os.unsetenv("NEW")


def test_a_fetched_file_goes_in_few_parts(tmp_path: Path) -> None:
    """A worker does nothing else until each part is written: with those of 64 KB all its hosts would stand still."""
    asked: list[object] = []

    class Run:
        """The process of the run: it stores what it is sent."""

        def ask_now(self, question: object) -> int:
            asked.append(question)
            return 7

    run: Any = Run()
    sink = elsewhere.RemoteSink(run, tmp_path / "x")
    pieces = [os.urandom(64 * 1024) for _ in range(40)]
    for piece in pieces:
        sink.write(piece)
    sink.finish()
    begin, *parts, end = asked
    assert (begin, end) == (StoreBegin(tmp_path / "x"), StoreEnd(7, True))
    assert b"".join(part.data for part in parts if isinstance(part, StorePart)) == b"".join(pieces)
    assert len(parts) == 3
