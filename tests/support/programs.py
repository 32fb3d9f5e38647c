"""Sites for tests: one with files and a handler, and random ones for the comparison of lazy and eager runs."""

from __future__ import annotations

from hypothesis import strategies as st

# Five resources and a handler; a first run changes all of them.
SITE = """
task({ name = "files", run = function()
    file.directory({ path = "~/etc" })
    file.copy({ dest = "~/etc/motd", content = "hello " .. host.name .. "\\n", mode = "0640" })
    file.lineinfile({ path = "~/etc/hosts", line = "10.0.0.1 gate", create = true })
    file.blockinfile({ path = "~/etc/hosts", block = "10.0.0.2 a\\n10.0.0.3 b" })
    file.link({ path = "~/motd", src = "etc/motd" })
end, notify = "reload" })
handler({ name = "reload", run = function() exec.run("echo reloaded >> ~/log") end })
"""

PATHS = ("a", "b", "c", "sub/d")

# Each statement is Lua text; HOME stands for the host's home. A path below "sub" fails until the directory is there.
_path = st.sampled_from(PATHS)
_text = st.sampled_from(("x\n", "y\n", "x\ny\n", ""))


def _copy(path: str, text: str) -> str:
    return f'file.copy({{dest = "HOME/{path}", content = {text!r}}})'.replace("'", '"')


_plain = st.one_of(
    st.builds(_copy, _path, _text),
    st.builds(lambda p: f'file.lineinfile({{path = "HOME/{p}", line = "z"}})', _path),
    st.builds(lambda p: f'file.absent({{path = "HOME/{p}"}})', _path),
    st.just('file.directory({path = "HOME/sub"})'),
    st.builds(lambda p: f'exec.run("echo ran >> HOME/{p}")', _path),
    st.just('exec.run("exit 3")'),
    st.just('error("by hand")'),
    st.just("counter = (counter or 0) + 1"),
    st.just('print("counter " .. tostring(counter))'),
)
_reading = st.one_of(
    st.builds(lambda s: f"do local r = {s}; if r.changed then print('changed') else print('same') end end",
              st.builds(_copy, _path, _text)),
    st.builds(lambda s: f"do local r = {s}; last = r end", st.builds(_copy, _path, _text)),
    st.just("if last then print(last.key) end"),
)  # fmt: skip


def _protected(body: list[str]) -> str:
    inner = "\n".join(body)
    return f"do local ok, err = pcall(function()\n{inner}\nend) print(tostring(ok)) print(tostring(err)) end"


_statement = st.one_of(_plain, _reading, st.builds(_protected, st.lists(st.one_of(_plain, _reading), max_size=3)))


@st.composite
def sites(draw: st.DrawFn) -> str:
    """A site of one to three tasks, some of which go on after an error."""
    tasks = []
    for number in range(draw(st.integers(1, 3))):
        body = "\n".join(draw(st.lists(_statement, min_size=1, max_size=6)))
        extra = draw(st.sampled_from(("", ", ignore_errors = true", ", retries = 1, delay = 0", ', notify = "h"')))
        tasks.append(f'task({{name = "t{number}"{extra}, run = function()\n{body}\nend}})')
    tasks.append('handler({name = "h", run = function() exec.run("echo handled >> HOME/a") end})')
    return "\n".join(tasks) + "\n"
