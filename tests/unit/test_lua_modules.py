"""The modules of a site: as if they were tables of functions, though each function is made when it is read first."""

from __future__ import annotations

from pathlib import Path

import pytest

from sloth.playbook import Done, Error, Invoke, Limits, Output, Program, Site

MODULES = {"file": ["copy", "link", "line"], "service": ["started"], "host": ["wait", "wait_for"]}


def printed(tmp_path: Path, body: str) -> list[str]:
    """Return what a site prints and calls; an error ends it and is the last line."""
    path = tmp_path / "site.sloth"
    path.write_text(body)
    program = Program(Site.read(str(path)), host={"name": "web1"}, groups={}, vars={}, modules=MODULES)
    lines = []
    request = program.load()
    while not isinstance(request, (Done, Error)):
        if isinstance(request, Output):
            lines.append(request.text.replace("\t", " "))
        if isinstance(request, Invoke):
            lines.append(request.name)
        request = program.resume(None)
    if isinstance(request, Error):
        lines.append(f"{request.message}; {request.hint}")
    return lines


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("file.copy({}) file['link']({}) host.wait({}) wait_for({})",
         ["file.copy", "file.link", "host.wait", "host.wait_for"]),
        ("print(file.copy == file.copy, file.copy == file.link, type(file.line))", ["true false function"]),
        ("local n = 0 for _, f in pairs(file) do n = n + (type(f) == 'function' and 1 or 0) end print(n)", ["3"]),
        ("local n, k = 0, nil repeat k = next(file, k); n = n + 1 until k == nil print(n)", ["4"]),
        ("file.copy({}) local n = 0 for name in pairs(file) do n = n + 1 end print(n)", ["file.copy", "3"]),
        ("print(type(rawget(file, 'copy')), rawget(file, 'nothing'))", ["function nil"]),
        ("local t = {'copy'} table.sort(t, function() return file.copy end) local f = file.copy f({})", ["file.copy"]),
        # A site may change what is there.
        ("file.copy = function() print('mine') end file.copy() file.link({})", ["mine", "file.link"]),
        ("file.more = 3 print(file.more, type(file.copy))", ["3 function"]),
        ("file.copy = nil print(rawget(file, 'copy') == nil)", ["true"]),
        # What is misspelt, whether or not others were read.
        ("file.coppy({})", ["there is no file.coppy; did you mean \"copy\"?"]),
        ("file.link({}) file.coppy({})", ["file.link", "there is no file.coppy; did you mean \"copy\"?"]),
        ("print(file['copy link'])", ["there is no file.copy link; did you mean \"link\"?"]),
        ("print(file[''])", ["there is no file.; known are copy, line, link"]),
        ("print((pcall(function() return file[1] end)))", ["false"]),
        # A loop's variable that hides a module.
        ("for _, file in ipairs({'a'}) do file.copy({name = file}) end", ["file.copy"]),
    ],
)  # fmt: skip
def test_modules_are_tables_of_functions(tmp_path: Path, body: str, expected: list[str]) -> None:
    assert printed(tmp_path, body) == expected


def test_a_program_is_small_until_it_calls(tmp_path: Path) -> None:
    sizes = []
    for verbs in (10, 2000):
        path = tmp_path / "site.sloth"
        path.write_text("file.v0({})")
        modules = {"file": [f"v{number}" for number in range(verbs)]}
        program = Program(
            Site.read(str(path)), host={"name": "a"}, groups={}, vars={}, modules=modules, limits=Limits()
        )
        program.load()
        sizes.append(program._runtime.get_memory_used(total=True))
    assert sizes[1] - sizes[0] < 2000 * 20  # a function takes more than 100 bytes


def test_modules_keep_their_metatable(tmp_path: Path) -> None:
    lines = printed(tmp_path, "print(getmetatable(file)) setmetatable(file, {})")
    assert lines[0] == "module"
    assert "protected metatable" in lines[1]
