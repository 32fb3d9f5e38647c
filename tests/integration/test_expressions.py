"""Python's regular expressions and Jinja in Lua, and other hosts in templates."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from sloth.engine.options import Options
from sloth.inventory import Inventory
from sloth.transport.loopback import LoopbackFleet
from tests.support.command import sloth
from tests.support.home import Home
from tests.support.running import failure, finished_hosts, printed, run_local, run_site


async def said(body: str, home: Path, options: Options | None = None) -> list[str]:
    """Return what a task whose function is `body` prints."""
    home.mkdir(exist_ok=True)
    events = await run_local(f'task({{ name = "t", run = function()\n{body}\nend }})', home, options)
    assert finished_hosts(events)["local"].error is None
    return printed(events)


# Regular expressions


async def test_matches_in_lua(tmp_path: Path) -> None:
    lines = await said(
        r"""
local m = re.search([[(?P<major>\d+)\.(\d+)(-rc)?]], "version é 12.34 of it")
print(m[0], m[1], m[2], m[3], m.named.major, m.first, m.last, string.sub("version é 12.34 of it", m.first, m.last))
print(re.match("b", "abc"), re.fullmatch("b.", "bc")[0], re.search("B", "abc", re.I)[0], re.match("$", "").last)
print(re.findall([[\w+]], "a bc d"), re.findall("(a)(b)?", "aab"), re.split(",", "a,b,c", { maxsplit = 1 }))
print(re.sub([[(\w)-(\w)]], [[\2-\1]], "a-b c-d"), re.sub("a", "b", "aAa", { count = 2, flags = re.I }))
print(re.sub("[a-z]+", function(m) return m[0] ~= "no" and string.upper(m[0]) or nil end, "yes no é yes"))
for m in re.finditer([[(\w)=(\d)]], "a=1 b=2") do print(m[1], m[2], m.first) end
print(re.escape("a.b"), re.search(re.escape("1+1"), "1+1=2")[0], re.search([[^b$]], "a\nb", re.M | re.I)[0])
print(re.search("[\u{e9}]", "caf\u{e9}")[0], re.search(".", "\xff\xfe")[0] == "\xff", re.sub(".", "x", "\xffé"))
print(pcall(re.search, 5, 15), (re.match(1, 15))[0])
""",
        tmp_path / "home",
    )
    assert lines == [
        "12.34\t12\t34\tnil\t12\t12\t16\t12.34",
        "nil\tbc\tb\t0",
        '{"a", "bc", "d"}\t{{"a", ""}, {"a", "b"}}\t{"a", "b,c"}',
        "b-a d-c\tbba",
        "YES no é YES",
        "a\t1\t1",
        "b\t2\t5",
        "a\\.b\t1+1\tb",
        "é\ttrue\txx",
        "true\t1",
    ]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("re.search('(', 'x')", "the regular expression is not valid: missing ), unterminated subpattern"),
        ("re.search('a')", "re.search takes an expression and a text, not a nil"),
        ("re.search('a', exec.run({cmd = 'true', read_only = true}))", "name one of its fields, such as .stdout"),
        ("re.sub('a', 'b', 'c', re.I)", "and a table such as {count = 1, flags = re.I}"),
        ("re.sub('a', 'b', 'c', {flag = re.I})", "re.sub: flag = 2 is not valid"),
        ("re.search('a', 'b', {count = 1})", "re.search: count = 1 is not valid"),
        ("re.sub('a', [[\\1]], 'a')", "invalid group reference 1"),
        ("re.sub('a', function() return {} end, 'a')", "the function returned a table, not a text"),
        ("re.findal('a', 'a')", 'hint: did you mean "findall"?'),
        ("re:search('a', 'a')", "must be written with a dot"),
        ("re.search('a', 'b', 128)", "the flags of a regular expression are"),
    ],
)
async def test_what_is_wrong_names_its_line(tmp_path: Path, source: str, message: str) -> None:
    error = await failure("\n\n" + source, tmp_path / "home")
    assert "site.sloth:3" in error
    assert message in error


async def test_long_texts_are_matched_elsewhere(tmp_path: Path) -> None:
    lines = await said(
        """
local text = string.rep("a", 100000) .. "\\xffé1"
local m = re.search([[(\\d)$]], text)
print(m[1], m.first == #text, re.sub("a+", "b", text) == "b\\xffé1", #re.findall("a", text), re.match("x", text))
print(pcall(re.search, "(", text))
""",
        tmp_path / "home",
    )
    assert lines[0] == "1\ttrue\ttrue\t100000\tnil"
    assert "the regular expression is not valid" in lines[1]


async def test_a_catastrophic_expression_ends_the_site_and_nothing_else(
    servers: LoopbackFleet, inventory: Inventory, tmp_path: Path
) -> None:
    site = tmp_path / "site.sloth"
    site.write_text(f"""
task({{ name = "t", run = function()
    if host.name == "web1" then
        while true do pcall(re.search, "(a+)+$", string.rep("a", 40) .. "b") end
    end
    file.copy({{ content = "x", dest = "{tmp_path}/" .. host.name }})
end }})
""")
    begun = time.monotonic()
    events = await run_site(site, inventory, tmp_path / "controller")
    assert time.monotonic() - begun < 90
    error = finished_hosts(events)["web1"].error or ""
    assert "site.sloth:4: matching the regular expression did not end within 3 seconds" in error
    assert (tmp_path / "web2").read_text() == (tmp_path / "db1").read_text() == "x"


def test_validation_knows_the_results(home: Home) -> None:
    """What a site decides by an expression is decided before the run, too."""
    (home.path / "site.sloth").write_text(
        "local run = function() file.copy({ nope = 1 }) end\n"
        'if re.match([[web\\d]], host.name) then task({ name = "t", run = run }) end\n'
        'local n = re.search("x", "y")\nif n then undefined() end\n'
    )
    done = sloth(home.path, "validate", "-f", "site.sloth")
    assert done.returncode == 2
    assert "site.sloth:1: file.copy has no argument 'nope'" in done.stdout, done.stdout
    assert "undefined" not in done.stdout


# Jinja


async def test_expressions_return_values(tmp_path: Path) -> None:
    extra = {"version": "1.10", "zero": "007", "ports": [80, 443], "on": True, "user": {"name": "ann"}, "n": 3}
    lines = await said(
        """
local function show(text, given)
    local value = jinja(text, given)
    print(text, math.type(value) or type(value), value)
end
show("{{ n + 1 }}")
show("{{ n / 2 }}")
show("{{ ports }}")
show("{{ ports | map('string') | join('-') }}")
show("{{ ports | map('string') }}")
show("{{ user.name }}")
show("{{ version }}")
show("{{ zero }}")
show("{{ on and n == 3 }}")
show("{{ none }}")
show("{{ '[1, 2]' }}")
show("{{ n }}{{ n }}")
show("n = {{ n }}")
show("{{ given }}", { given = { a = { 1, 2 } } })
show("{% if on %}{{ user }}{% endif %}")
show("plain")
show("{{ host.name }} {{ groups.all | default('no') }}")
show("{{ {80: 'http'} }}")
print(jinja("{{ facts.cpus }}") == facts.cpus, jinja("{{ ports }}")[2] + 1, jinja("{{ vars.n }}"))
""",
        tmp_path / "home",
        Options(extra=extra),
    )
    assert [line.split("\t", 1)[1] for line in lines[:-1]] == [
        "integer\t4",
        "float\t1.5",
        "table\t{80, 443}",
        "string\t80-443",
        'table\t{"80", "443"}',
        "string\tann",
        "string\t1.10",
        "string\t007",
        "boolean\ttrue",
        "nil\tnil",
        "string\t[1, 2]",
        "string\t33",
        "string\tn = 3",
        "table\t{a = {1, 2}}",
        'table\t{name = "ann"}',
        "string\tplain",
        "string\tlocal no",
        'table\t{["80"] = "http"}',
    ]
    assert lines[-1] == "true\t444\t3"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("jinja('{{ nope }}')", "'nope' is undefined"),
        ("jinja('{{ 1/0 }}')", "division by zero"),
        ("jinja('{{ a')", "unexpected end of template"),
        ("jinja(5)", "jinja takes a text such as"),
        ("jinja('{{ [].append }}')", "which is no data: is it to be called?"),
        ("jinja('{{ secret(\"nope\") }}')", "there is no secret nope"),
        ("jinja('{{ \"\".__class__.__mro__ }}')", "unsafe"),
        ("jinja('{% set a = [] %}{% set _ = a.append(a) %}{{ a }}')", "nested too deeply, or contains itself"),
        (
            "jinja('{% set n = namespace(a=[1]) %}{% for i in range(40) %}{% set n.a = [n.a, n.a] %}{% endfor %}'"
            " .. '{{ n.a }}')",
            "the value has more than 1000000 parts",
        ),
        (
            'jinja(\'{{ range(100000) | map("string") | map("center", 1000) | list }}\')',
            "more than 16000000 characters",
        ),
        ('jinja(\'{{ "a" | regex_replace("(", "") }}\')', "the regular expression is not valid"),
    ],
)
async def test_expressions_that_are_wrong(tmp_path: Path, source: str, message: str) -> None:
    error = await failure("\n\n" + source, tmp_path / "home")
    assert "site.sloth:3" in error, error
    assert message in error


async def test_secrets_in_expressions_are_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLOTH_SECRET_TOKEN", "hunter2-canary")
    lines = await said(
        """
local t = jinja("{{ {'token': secret('token')} }}")
print(t.token, #t.token)
""",
        tmp_path / "home",
    )
    assert "hunter2" not in lines[0]
    assert lines[0].endswith("\t14")


# Other hosts in templates


HOSTS_FILE = """
{% for name in groups.web + ['db1'] %}
{{ hostvars[name].host.name }} {{ hostvars[name].port | default('none') }} \
{{ hostvars[name].facts.kernel | default('not known') }}
{% endfor %}
"""


async def test_templates_know_other_hosts(servers: LoopbackFleet, inventory: Inventory, tmp_path: Path) -> None:
    path = tmp_path / "inventory.toml"
    path.write_text(path.read_text() + "\n[groups.db]\nhosts = ['db1']\n[groups.db.vars]\nport = 5432\n")
    (tmp_path / "hosts.j2").write_text(HOSTS_FILE)
    (tmp_path / "own.j2").write_text("{{ hostvars[host.name].facts == facts }} {{ hostvars | length }}")
    site = tmp_path / "site.sloth"
    site.write_text(f"""
task({{ name = "t", hosts = "web1", run = function()
    file.template({{ src = "hosts.j2", dest = "{tmp_path}/made" }})
    print(template("own.j2"), jinja("{{{{ hostvars.db1.facts.cpus }}}}") == facts.cpus)
    print(pcall(jinja, "{{{{ hostvars.web2.facts.cpus }}}}"))
    print(pcall(jinja, "{{{{ hostvars.db2.port }}}}"))
    print(jinja("{{{{ hostvars.db2 is defined }}}}"), jinja("{{{{ hostvars.web2.facts is defined }}}}"))
    print(pcall(jinja, "{{{{ hostvars.db1.prot }}}}"))
end }})
""")
    await servers.stop("web2")
    events = await run_site(site, Inventory.read(path), tmp_path / "controller", None, ["web1", "db1"])
    assert finished_hosts(events)["web1"].error is None
    kernel = (tmp_path / "made").read_text().split()[2]
    assert (tmp_path / "made").read_text().split("\n")[1:-1] == [
        f"web1 none {kernel}",
        "web2 none not known",
        f"db1 5432 {kernel}",
    ]
    own, outside, unknown, tested, misspelt = printed(events, "web1")
    assert own == "True 3\ttrue"
    assert "the facts of web2 are not known: it is not among the hosts of this run" in outside
    assert 'did you mean "db1"' in unknown
    assert tested == "false\tfalse"
    assert 'did you mean "port"' in misspelt


async def test_a_template_without_other_hosts_costs_no_facts(
    servers: LoopbackFleet, inventory: Inventory, tmp_path: Path
) -> None:
    (tmp_path / "t.j2").write_text("{{ hostvars.web2.host.name }}")
    site = tmp_path / "site.sloth"
    site.write_text('task({ name = "t", hosts = "web1", run = function() print(template("t.j2")) end })')
    await servers.stop("web2")
    events = await run_site(site, inventory, tmp_path / "controller", None, ["web1", "web2"])
    assert printed(events, "web1") == ["web2"]
