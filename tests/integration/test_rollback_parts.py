"""rollback of what a call did in several parts, of what was pruned, and beside commands."""

from __future__ import annotations

import tarfile

import pytest

from tests.support.home import Home

NOTHING = 'exec.run({cmd = "true", unless = "true"})'
KEYS = (
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGrShxPYuoCAF5bnDKQ1kQmJwxJ8s1cZ0lQJZq3yHcAr alice@example",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEy8Bl4Ns5Jm3oVOEHs3hCLGkCGTvnR5NzZl6Vq2qL9u bob@example",
)
KEYS_LUA = ", ".join(f'"{key}"' for key in KEYS)


def authorized(keys: str, state: str = "present") -> str:
    return (
        f'ssh.authorized_key({{user = facts.user, path = "FILES/f", manage_dir = false, state = "{state}",'
        f" key = {{{keys}}}}})"
    )


def statuses(home: Home, *words: str, status: int = 0) -> list[str]:
    """Take back the newest run and return what became of each change; its check says the same."""
    planned, done = (
        home.json("rollback", "last", "--limit", "web1", *words, how, status=status)["hosts"]["web1"]["changes"]
        for how in ("--check", "--yes")
    )
    found = [row["status"] for row in done]
    assert [row["status"].replace("planned", "done") for row in planned] == found, (planned, done)
    return found


@pytest.mark.parametrize("before", [None, "", "# ours\n", f"{KEYS[0]}\n", f"# ours\n{KEYS[1]}\n# end\n"])
@pytest.mark.parametrize("state", ["present", "absent"])
def test_several_keys_of_one_call_are_taken_back(home: Home, before: str | None, state: str) -> None:
    file = home.files / "f"
    if before is not None:
        file.write_text(before)
        file.chmod(0o600)
    home.site(authorized(KEYS_LUA, state))
    home.run()
    if home.text("f") == before:
        return
    statuses(home)
    assert (home.text("f") or None) == (before or None)


def test_keys_that_another_call_follows_are_taken_back(home: Home) -> None:
    home.site(authorized(KEYS_LUA) + '\nfile.lineinfile({path = "FILES/f", line = "# end"})')
    home.run()
    assert statuses(home) == ["done"] * 3
    assert not home.text("f")


def test_what_was_pruned_comes_back_with_its_directories(home: Home) -> None:
    tree = home.path / "tree"
    (tree / "sub/deep").mkdir(parents=True)
    (tree / "sub/deep/x").write_text("x\n")
    home.site('file.directory({path = "FILES/d", mode = "0750"})\nfile.copy({src = "tree", dest = "FILES/d"})')
    home.run()
    home.site(NOTHING)
    home.run("--prune", "--yes")
    assert list(home.files.iterdir()) == []
    statuses(home)
    assert home.text("d/tree/sub/deep/x") == "x\n"
    assert (home.files / "d").stat().st_mode & 0o777 == 0o750
    assert home.json("drift", "--limit", "web1")["summary"]["drift"] == 0


def test_a_file_whose_directory_is_gone_is_refused_with_the_reason(home: Home) -> None:
    (home.files / "d").mkdir()
    (home.files / "d/x").write_text("theirs\n")
    home.site('file.absent({path = "FILES/d/x"})\nfile.absent({path = "FILES/d"})')
    home.run()
    assert statuses(home, status=1) == ["refused", "refused"]
    shown = home("rollback", "last", "--limit", "web1", "--check", status=1)
    assert f"the directory {home.files}/d does not exist" in shown
    (home.files / "d").mkdir()
    assert "restored" in home("rollback", "last", "--limit", "web1", "--yes")
    assert home.text("d/x") == "theirs\n"


def test_a_change_after_a_command_has_a_reason_why_it_stays(home: Home) -> None:
    home.site('exec.run({cmd = "true"})\nfile.copy({content = "a", dest = "FILES/f"})')
    home.run()
    (home.files / "f").write_text("by hand")
    shown = home("rollback", "last", "--limit", "web1", "--yes", status=1)
    assert "it has changed since: content" in shown
    assert home.text("f") == "by hand"


def test_what_an_archive_has_made_is_no_reason_why_it_stays(home: Home) -> None:
    """`creates` names what the archive has itself, so that a rollback would look no further."""
    (home.path / "d").mkdir()
    (home.path / "d" / "a").write_text("a\n")
    with tarfile.open(home.path / "d.tar", "w") as tar:
        tar.add(home.path / "d", "d")
    home.site('archive.unpack({src = "d.tar", dest = "FILES", creates = "FILES/d/a"})')
    home.run()
    assert home.text("d/a") == "a\n"
    said = home("rollback", "last", "--limit", "web1", "--yes", status=1)
    assert "it has changed since" not in said
    assert "the files that the archive replaced were not kept" in said
