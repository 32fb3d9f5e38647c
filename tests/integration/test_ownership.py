"""What is managed is a thing on the host, not a call in a site: whoever names it, it is neither pruned nor drift."""

from __future__ import annotations

import sqlite3

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.home import Home

KEYS = (
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGrShxPYuoCAF5bnDKQ1kQmJwxJ8s1cZ0lQJZq3yHcAr alice@example",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEy8Bl4Ns5Jm3oVOEHs3hCLGkCGTvnR5NzZl6Vq2qL9u bob@example",
)
LINE = 'file.lineinfile({path = "FILES/f", line = "a = 1", create = true'

# Each describes the same thing twice, in the words of two calls. Both name it, so nothing of it may go.
COPY, TEMPLATE = 'file.copy({content = "x", dest = "FILES/f"})', 'file.template({src = "t.j2", dest = "FILES/f"})'
LINK = 'file.link({src = "/etc/hostname", path = "FILES/f"'
REWRITTEN = {
    "copy, template": (COPY, TEMPLATE),
    "template, copy": (TEMPLATE, COPY),
    "link, copy": (f"{LINK}}})", COPY),
    "copy, link": (COPY, f"{LINK}, force = true}})"),
    "line, line by regexp": (f"{LINE}}})", f'{LINE}, regexp = "^a ="}})'),
    "line by regexp, line": (f'{LINE}, regexp = "^a ="}})', f"{LINE}}})"),
    "copy, line": ('file.copy({content = "a = 1\\n", dest = "FILES/f"})', f"{LINE}}})"),
    "line, copy": (f"{LINE}}})", 'file.copy({content = "a = 1\\n", dest = "FILES/f"})'),
    "block, copy": (
        'file.blockinfile({path = "FILES/f", block = "x", create = true})',
        'file.copy({content = "y", dest = "FILES/f"})',
    ),
    "tree, file": ('file.copy({src = "tree", dest = "FILES/"})', 'file.copy({content = "1", dest = "FILES/tree/one"})'),
    "a key, a list with it": (
        f'ssh.authorized_key({{user = USER, path = "FILES/f", key = "{KEYS[0]}"}})',
        f'ssh.authorized_key({{user = USER, path = "FILES/f", key = {{"{KEYS[1]}", "{KEYS[0]}"}}}})',
    ),
    "a list of keys, one": (
        f'ssh.authorized_key({{user = USER, path = "FILES/f", key = {{"{KEYS[1]}", "{KEYS[0]}"}}}})',
        f'ssh.authorized_key({{user = USER, path = "FILES/f", key = "{KEYS[0]}"}})',
    ),
    "a file of keys, a key": (
        f'file.copy({{content = "{KEYS[0]}\\n", dest = "FILES/f"}})',
        f'ssh.authorized_key({{user = USER, path = "FILES/f", key = "{KEYS[0]}"}})',
    ),
}  # fmt: skip


def write(home: Home, text: str, name: str = "site.sloth") -> None:
    """Write a site with these calls in one task."""
    (home.path / "t.j2").write_text("x\n")
    tree = home.path / "tree"
    tree.mkdir(exist_ok=True)
    for file in ("one", "two"):
        (tree / file).write_text("1")
    home.site(text.replace("USER", "facts.user"), name)


def settle(home: Home, text: str, name: str = "site.sloth") -> None:
    """Run a site with --prune, and expect of it what holds always."""
    write(home, text, name)
    home.run("--prune", "--yes", site=name)
    assert "0 would change" in home.run("--check", site=name), "after a run with --prune, a check finds nothing to do"
    assert "none has drifted" in home("drift", "--limit", "web1", "--exit-code"), "nobody has changed anything"


@pytest.mark.parametrize("name", REWRITTEN)
def test_a_thing_that_the_site_names_otherwise_stays(home: Home, name: str) -> None:
    first, second = REWRITTEN[name]
    settle(home, first)
    settle(home, second)
    assert "orphaned" not in home.run(verb="plan")


def test_a_link_stays_while_something_behind_it_is_managed(home: Home) -> None:
    settle(home, 'file.link({src = "FILES/g", path = "FILES/f"})')
    settle(home, f"{LINE}}})")
    assert (home.files / "f").is_symlink()
    assert home.text("g") == "a = 1\n"
    settle(home, 'exec.run({cmd = "true", unless = "true"})')
    assert not (home.files / "f").is_symlink()


def test_another_site_may_take_a_thing_over_and_drop_it(home: Home) -> None:
    """A owns a file, B takes it over and drops it again: A still asks for it, so it stays."""
    settle(home, 'file.copy({content = "a", dest = "FILES/f"})', "a.sloth")
    settle(home, 'file.template({src = "t.j2", dest = "FILES/f"})', "b.sloth")
    settle(home, 'exec.run({cmd = "true", unless = "true"})', "b.sloth")
    assert home.text("f") == "x\n"
    settle(home, 'file.copy({content = "a", dest = "FILES/f"})', "a.sloth")
    assert home.text("f") == "a"
    settle(home, 'exec.run({cmd = "true", unless = "true"})', "a.sloth")
    assert home.text("f") is None, "nobody asks for it any more, and we have made it"


def test_what_was_taken_over_is_still_ours_to_remove(home: Home) -> None:
    settle(home, 'file.copy({content = "a", dest = "FILES/f"})')
    settle(home, 'file.template({src = "t.j2", dest = "FILES/f"})')
    settle(home, 'exec.run({cmd = "true", unless = "true"})')
    assert home.text("f") is None
    (home.files / "f").write_text("by hand")
    settle(home, 'file.copy({content = "a", dest = "FILES/f"})')
    settle(home, 'file.template({src = "t.j2", dest = "FILES/f"})')
    write(home, 'exec.run({cmd = "true", unless = "true"})')
    assert "existed before" in home.run("--prune", "--yes")
    assert home.text("f") == "x\n", "it was there before us, whoever of us wrote it since"


def test_a_directory_stays_while_something_in_it_is_managed(home: Home) -> None:
    both = 'file.directory({path = "FILES/d"})\nfile.copy({content = "x", dest = "FILES/d/f"})'
    settle(home, both)
    settle(home, 'file.copy({content = "x", dest = "FILES/d/f"})')
    assert home.text("d/f") == "x"
    settle(home, 'exec.run({cmd = "true", unless = "true"})')
    assert not (home.files / "d").exists()


def test_a_file_that_leaves_a_copied_tree_is_pruned(home: Home) -> None:
    tree = 'file.copy({src = "big/", dest = "FILES/t"})'
    source = home.path / "big"
    (source / "sub/deep").mkdir(parents=True)
    for name in ("a", "sub/b", "sub/deep/c"):
        (source / name).write_text(name)
    settle(home, tree)
    assert f"file:copy:{home.files}/t/sub/deep/c" in home.recorded()
    (source / "sub/deep/c").unlink()
    (source / "sub/deep").rmdir()
    settle(home, tree)
    assert not (home.files / "t/sub/deep").exists()
    assert home.text("t/sub/b") == "sub/b"
    (home.files / "t/a").write_text("by hand")
    found = home("drift", "--limit", "web1", "--exit-code", status=3)
    assert "t/a" in found
    assert "t/sub/b" not in found
    home.run()
    settle(home, 'exec.run({cmd = "true", unless = "true"})')
    assert list((home.files / "t").rglob("*")) == []


def test_each_path_of_a_tree_that_is_on_the_host_is_a_thing_of_its_own(home: Home) -> None:
    source = home.path / "there"
    (source / "sub/deep").mkdir(parents=True)
    for name in ("a", "sub/b", "sub/deep/c"):
        (source / name).write_text(name)
    (source / "a").chmod(0o755)
    tree = f'file.copy({{src = "{source}/", dest = "FILES/t", remote_src = true}})'
    settle(home, tree)
    keys = [f"file:copy:{home.files}/t/{name}" for name in ("a", "sub", "sub/b", "sub/deep", "sub/deep/c")]
    assert [key for key in home.recorded() if "/t" in key] == keys
    (source / "sub/deep/c").unlink()
    (source / "sub/deep").rmdir()
    settle(home, tree)
    assert not (home.files / "t/sub/deep").exists()
    (home.files / "t/a").write_text("by hand")
    (home.files / "t/sub").chmod(0o700)
    found = home("drift", "--limit", "web1", "--exit-code", status=3)
    assert "t/a" in found
    assert "t/sub/b" not in found
    home.run()
    home("rollback", home.last_run(), "--yes", "--limit", "web1")
    assert home.text("t/a") == "by hand"
    settle(home, tree)
    settle(home, 'file.copy({content = "x", dest = "FILES/t/sub/b"})')
    assert home.text("t/sub/b") == "x", "what another call claims stays"
    assert not (home.files / "t/a").exists()


def test_a_tree_s_changes_are_rolled_back_path_by_path(home: Home) -> None:
    source = home.path / "big"
    (source / "sub").mkdir(parents=True)
    for name in ("a", "sub/b"):
        (source / name).write_text("1")
    settle(home, 'file.copy({src = "big/", dest = "FILES/t"})')
    (source / "a").write_text("2")
    (source / "new").mkdir()
    (source / "new/c").write_text("2")
    home.run()
    assert home.text("t/a") == "2"
    (change,) = home.json("state", "history", f"file:copy:{home.files}/t/a", "--agent", "web1", "--limit", "1")
    assert "+2" in change["diff"]["content"]["unified"]
    home("rollback", home.last_run(), "--yes", "--limit", "web1")
    assert {str(path.relative_to(home.files)) for path in home.files.rglob("*")} == {"t", "t/a", "t/sub", "t/sub/b"}
    assert home.text("t/a") == "1"


def test_one_file_by_two_paths_is_one_thing(home: Home) -> None:
    (home.files / "real").mkdir()
    (home.files / "alias").symlink_to("real")
    settle(home, 'file.copy({content = "x", dest = "FILES/real/f"})')
    settle(home, 'file.copy({content = "x", dest = "FILES/alias/f"})')
    assert home.text("real/f") == "x"


def test_a_state_without_claims_is_asked_by_its_calls(home: Home) -> None:
    """A state that an older version wrote, or that was imported, knows no claims."""
    settle(home, 'file.copy({content = "x", dest = "FILES/f"})')
    for state in home.path.rglob("web1.db"):
        if "replicas" not in str(state):
            with sqlite3.connect(state) as database:
                database.execute("DELETE FROM claims")
            database.close()
    settle(home, 'file.template({src = "t.j2", dest = "FILES/f"})')
    assert home.text("f") == "x\n"


def test_a_tree_with_one_file_can_be_rolled_back(home: Home) -> None:
    (home.path / "single").mkdir()
    (home.path / "single" / "page").write_text("x")
    settle(home, 'file.directory({path = "FILES/d"})\nfile.copy({src = "single/", dest = "FILES/d"})')
    home("rollback", home.last_run(), "--yes", "--limit", "web1")
    assert not (home.files / "d").exists()


def test_a_rollback_gives_a_thing_back_to_the_site_that_had_it(home: Home) -> None:
    settle(home, 'file.copy({content = "a", dest = "FILES/f"})', "a.sloth")
    settle(home, 'file.template({src = "t.j2", dest = "FILES/f"})', "b.sloth")
    home("rollback", home.last_run(), "--yes", "--limit", "web1")
    assert home.text("f") == "a"
    (home.files / "f").write_text("by hand")
    assert "file:copy" in home("drift", "--limit", "web1", "--exit-code", status=3)


def test_what_two_sites_describe_by_the_same_call_stays_until_both_drop_it(home: Home) -> None:
    """They share one record, and each site's part in it counts, whichever of them ran last."""
    nothing = 'exec.run({cmd = "true", unless = "true"})'
    for first, last in (("a.sloth", "b.sloth"), ("b.sloth", "a.sloth")):
        settle(home, COPY, "a.sloth")
        settle(home, COPY, "b.sloth")
        settle(home, nothing, first)
        assert home.text("f") == "x"
        assert "orphaned" not in home.run(verb="plan", site=last)
        settle(home, nothing, last)
        assert home.text("f") is None


def test_a_line_that_is_also_in_a_managed_block_stays(home: Home) -> None:
    """Removing a line removes each that is equal; a block that holds one would be cut."""
    line = 'file.lineinfile({path = "FILES/f", line = "x", create = true})'
    settle(home, line)
    settle(home, 'file.blockinfile({path = "FILES/f", block = "x"})')
    assert "file:blockinfile" in home.run("--prune", "--yes")
    assert (home.text("f") or "").count("x") == 2
    settle(home, 'file.blockinfile({path = "FILES/f", block = "y"})')
    assert (home.text("f") or "").splitlines()[0].startswith("#"), "now it is ours alone"


_CALLS = st.sampled_from(
    [
        'file.copy({content = "x", dest = "FILES/f"})',
        'file.template({src = "t.j2", dest = "FILES/f"})',
        'file.copy({content = "y", dest = "FILES/g"})',
        'file.lineinfile({path = "FILES/g", line = "y"})',
        'file.directory({path = "FILES/d"})',
        'file.copy({content = "z", dest = "FILES/d/f"})',
        'file.copy({src = "tree", dest = "FILES/"})',
        'file.copy({content = "1", dest = "FILES/tree/one"})',
        'file.absent({path = "FILES/h"})',
        'file.blockinfile({path = "FILES/b", block = "x", create = true})',
        'file.lineinfile({path = "FILES/b", line = "x", create = true})',
        f'ssh.authorized_key({{user = USER, path = "FILES/k", key = "{KEYS[0]}"}})',
        f'ssh.authorized_key({{user = USER, path = "FILES/k", key = {{"{KEYS[1]}", "{KEYS[0]}"}}}})',
    ]
)


def _possible(calls: list[str]) -> list[str]:
    """Calls, each after what it needs."""
    found: list[str] = []
    for call in dict.fromkeys(calls):
        if "FILES/d/f" in call:
            found.append('file.directory({path = "FILES/d"})')
        if '"FILES/tree/one"' in call:
            found.append('file.copy({src = "tree", dest = "FILES/"})')
        if 'path = "FILES/g"' in call:
            found.append('file.copy({content = "y", dest = "FILES/g", force = false})')
        found.append(call)
    return list(dict.fromkeys(found)) or ['exec.run({cmd = "true", unless = "true"})']


@pytest.mark.timeout(300)
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_CALLS, max_size=4), st.lists(_CALLS, max_size=4), st.lists(_CALLS, max_size=3))
def test_whatever_a_site_becomes_nothing_that_is_asked_for_goes(
    tmp_path_factory: pytest.TempPathFactory, first: list[str], second: list[str], other: list[str]
) -> None:
    """After `run v2 --prune` a check of v2 and one of the other site find nothing to do that is not their own doing."""
    home = Home(tmp_path_factory.mktemp("home"))
    write(home, "\n".join(_possible(other)), "other.sloth")
    home.run(site="other.sloth")
    for version in (first, second):
        write(home, "\n".join(_possible(version)))
        home.run()
        converged = "0 would change" in home.run("--check")  # else two of its own calls contradict each other
        before = {path: path.read_bytes() for path in home.files.rglob("*") if path.is_file()}
        home.run("--prune", "--yes")
        if converged:
            assert "0 would change" in home.run("--check")
        wanted = "\n".join([*_possible(version), *_possible(other)])
        for path in before:
            name = str(path.relative_to(home.files))
            asked = f'"FILES/{name}"' in wanted or (name.startswith("tree/") and '"tree"' in wanted)
            if asked and "absent" not in wanted:
                assert path.exists(), f"{name} is asked for and was removed"
