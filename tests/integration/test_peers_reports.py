"""Public reports about checks, counts, exit statuses and inventories of this kind of tool, tried on this one."""

from __future__ import annotations

import pytest

from tests.support.home import Home


# ansible/ansible 8753, 6108, 6845: a check invents the result of a command, and takes the wrong branch or fails.
@pytest.mark.parametrize(
    "body",
    [
        'if exec.run({cmd = "false", fail = false}).success then file.copy({content = "x", dest = "FILES/wrong"}) end',
        'if exec.run({cmd = "echo port"}).stdout:find("x") then file.copy({content = "x", dest = "FILES/y"}) end',
        'local r = exec.run({cmd = "exit 3", fail = false}) if r.exit_code ~= 0 then error("not in a check") end',
    ],
)
def test_a_check_invents_no_result(home: Home, body: str) -> None:
    home.site(body)
    document = home.json("plan", "-f", "site.sloth", "--limit", "web1")
    (task,) = document["hosts"]["web1"]["tasks"]
    assert task["status"] == "unknown"
    assert "read_only = true" in task["reason"]
    assert document["summary"]["unknown"] == 1
    assert [result["module"] for result in task["results"]] == ["exec.run"]


# ansible/ansible 24633, 56716: results of copy and template have other fields in a check.
def test_a_result_has_the_same_fields_in_a_check(home: Home) -> None:
    home.site(
        """
        local names = {}
        for name in pairs(file.copy({content = "x", dest = "FILES/x", mode = "0600"})) do names[#names + 1] = name end
        table.sort(names)
        print("fields " .. table.concat(names, " "))
        """
    )
    first, second = (
        [line for line in home.run(verb=verb).splitlines() if "fields" in line] for verb in ("plan", "run")
    )
    assert first == second


# ansible/ansible 83292, 71306: a run whose failures were all rescued on some hosts ends with 2.
def test_a_rescue_on_some_hosts_is_a_success(home: Home) -> None:
    for options in ("", "run_once = true,"):
        home.site('pcall(exec.run, {cmd = "test " .. host.name .. " = web2"})', options=options)
        assert "1 rescued" in home("run", "-f", "site.sloth")


# ansible/ansible 79711: what fails in a rescue counts as rescued.
@pytest.mark.parametrize(
    "body",
    [
        'if not pcall(exec.run, {cmd = "exit 1"}) then exec.run({cmd = "exit 2"}) end',
        'xpcall(function() exec.run({cmd = "exit 1"}) end, print) exec.run({cmd = "exit 2"})',
    ],
)
def test_what_fails_after_a_rescue_is_a_failure(home: Home, body: str) -> None:
    home.site(body)
    shown = home.run(status=1)
    assert "1 failed, 1 rescued in" in shown
    assert "exit code 2" in shown


# ansible/ansible 17983: an error that passes through an `always` is not counted, and the exit status is 0.
def test_an_error_that_is_raised_again_is_a_failure(home: Home) -> None:
    home.site('local ok, why = pcall(exec.run, {cmd = "exit 1"}) print("always") if not ok then error(why, 0) end')
    shown = home.run(status=1)
    assert "always" in shown
    assert "1 failed" in shown


# ansible/ansible 27160: a recap does not show ignored failures, nor why they failed.
def test_an_ignored_failure_is_shown_with_its_reason(home: Home) -> None:
    home.site('exec.run({cmd = "ls /no/such/file"})', options="ignore_errors = true,")
    shown = home.run()
    assert "exit code 2" in shown
    assert "1 ignored" in shown


# ansible/ansible 28069: with several inventories it cannot be seen which file's variable is used.
def test_inventory_list_shows_which_inventory_a_default_comes_from(home: Home) -> None:
    for name in ("a", "b"):
        (home.path / f"{name}.toml").write_text(f'[defaults.vars]\nfoo = "{name}"\n[hosts.{name}1]\n')
    shown = home("inventory", "list", "a1", "--vars", "-i", "a.toml", "-i", "b.toml")
    assert "vars.foo b b.toml:2 (defaults)" in " ".join(shown.split())


# hashicorp/terraform 1355: the exit status of a plan distinguishes no changes, changes and errors.
def test_the_exit_status_of_a_plan(home: Home) -> None:
    home.site('file.copy({content = "x", dest = "FILES/x"})')
    home.run("--exit-code", verb="plan", status=3)
    home.run(verb="plan", status=0)
    home.run()
    home.run("--exit-code", verb="plan", status=0)
    home.site('file.copy({content = "y", dest = "FILES/x"}) error("x")')
    home.run("--exit-code", verb="plan", status=1)
    home.site('file.copy({content = "y", dest = "FILES/x"}) error("x")', options="ignore_errors = true,")
    home.run("--exit-code", verb="plan", status=3)


# Options of an include are dropped silently.
def test_include_passes_values_to_a_file_that_takes_some_and_ignores_none(home: Home) -> None:
    (home.path / "part.sloth").write_text("")
    home.site("", before='include("part.sloth", {tags = "x"})')
    assert "part.sloth takes no values: it does not use `...`" in home.run(status=2)
    (home.path / "part.sloth").write_text("local given = ...\nprint(given.tags)")
    assert "web1: x" in home.run()
