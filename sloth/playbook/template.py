"""Templates: Jinja2 with Ansible's settings. Undefined variables are errors; errors name the template's line."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sloth.errors import CallError
from sloth.inventory.templated import Templated
from sloth.playbook import native
from sloth.playbook.environment import NATIVE, new_environment
from sloth.playbook.templated import UNNAMED, Evaluation
from sloth.reading import expanduser, is_withheld, missing_hint, of_site, read_file
from sloth.suggest import did_you_mean

if TYPE_CHECKING:
    from jinja2 import Template
    from jinja2.sandbox import SandboxedEnvironment

    from sloth.payload.kernel.values import Json, JsonObject

_EXPRESSION = "<expression>"  # as the file of a text that is in none
_KEPT = 200  # compiled expressions
_BEGINNINGS = (
    ("block_start_string", "{%"),
    ("variable_start_string", "{{"),
    ("comment_start_string", "{#"),
)
_MAY_NEED_MORE = re.compile(r"facts|hostvars|include|import|extends")
COSTLY = frozenset(("facts", "hostvars"))  # variables that are not passed to a template without need


HEADER = "#jinja2:"
_SETTINGS = (
    "trim_blocks", "lstrip_blocks", "newline_sequence", "keep_trailing_newline", "block_start_string",
    "block_end_string", "variable_start_string", "variable_end_string", "comment_start_string", "comment_end_string",
    "line_statement_prefix", "line_comment_prefix",
)  # fmt: skip


class Renderer:
    """Renders the templates of one run. Each file is compiled once for all hosts."""

    def __init__(self, directories: Sequence[Path]) -> None:
        """directories: where to look for templates, in this order."""
        self._directories = tuple(directories)
        self._environments: dict[tuple[tuple[str, Json], ...], SandboxedEnvironment] = {}
        self._expressions: dict[str, Template] = {}
        self._needs: dict[str, frozenset[str]] = {}
        self._final_newlines: dict[str, int] = {}  # by path, of every template that was loaded
        self._evaluation = Evaluation(lambda: self._environment({NATIVE: True}))

    def file(self, name: str) -> Path:
        """Return the path of a template. Raises CallError when it is not found."""
        return find_template(name, self._directories)

    def needs(self, name: str) -> frozenset[str]:
        """Return which of `facts` and `hostvars` the template, or one that it includes, may read."""
        path = str(self.file(name))
        if path not in self._needs:
            try:
                self._needs[path] = self.needs_of(read_text(path), path, set())
            except CallError:
                return frozenset()  # render() raises the error
        return self._needs[path]

    def needs_of(self, text: str, path: str, seen: set[str]) -> frozenset[str]:
        """Return which of `facts` and `hostvars` a text may read. path: of its file; seen: those that are known."""
        from jinja2 import meta
        from jinja2.exceptions import TemplateError

        if path in seen or not may_need_more(text):
            return frozenset()  # most templates: no need to parse them
        seen.add(path)
        try:
            tree = self._environment({}).parse(text)
        except (TemplateError, RecursionError, MemoryError):
            return frozenset()  # render() raises the error
        found = COSTLY & meta.find_undeclared_variables(tree)
        for other in meta.find_referenced_templates(tree):
            if other is None:
                return COSTLY  # the name is an expression: any template may be included
            try:
                included = self._resolve(other, path)
                found |= self.needs_of(read_text(included), included, seen)
            except CallError:
                continue
        return found

    def _resolve(self, name: str, parent: str) -> str:
        beside = Path(parent).parent / name
        return str(beside) if beside.is_file() else str(self.file(name))

    def expression(self, source: str, variables: JsonObject, where: str) -> Json:
        """Return what a text with expressions is: the value of one expression alone, else a text. Raises CallError.

        where: the position of the call in the site.
        """
        from jinja2.exceptions import TemplateSyntaxError

        environment = self._environment({NATIVE: True, "keep_trailing_newline": True})
        try:
            template = self._expressions.get(source)
            if template is None:
                if len(self._expressions) >= _KEPT:
                    self._expressions.clear()
                parent = str(self._directories[0] / "-")  # beside which an included template is looked for
                code = environment.compile(source, name=parent, filename=_EXPRESSION)
                template = environment.template_class.from_code(environment, code, environment.make_globals(None))
                self._expressions[source] = template
            context = template.new_context(self._readable(variables))
            return native.Plain().of(native.join(template.root_render_func(context)))
        except TemplateSyntaxError as error:
            line = f" (line {error.lineno} of the text)" if error.lineno > 1 else ""
            place = where if error.filename in (None, _EXPRESSION) else _place(str(error.filename), error.lineno)
            raise CallError((error.message or "bad syntax") + line, where=place) from None
        except CallError as error:
            error.where = error.where or where
            raise
        except Exception as error:  # whatever an expression leads to is its error
            explained = _explain(error, where, variables)
            if explained.where.startswith(_EXPRESSION):
                explained.where = where
            raise explained from None

    def render(self, name: str, variables: JsonObject, options: Mapping[str, Json] | None = None) -> str:
        """Return the rendered text. Raises CallError with the template's file and line.

        options: Jinja2's settings, by the names that Ansible has for them. As in Ansible, the text ends with at least
        as many newlines as the template does: Jinja2 removes the last one, trim_blocks one after a block.
        """
        from jinja2.exceptions import TemplateSyntaxError

        path = str(self.file(name))
        source, header = read_template(path)
        settings = {**(options or {}), **header}
        if not header and is_plain(source, settings):
            return source
        environment = self._environment(settings)
        try:
            text = environment.get_template(path).render(self._readable(variables))
        except TemplateSyntaxError as error:
            raise CallError(error.message or "bad syntax", where=_place(error.filename or path, error.lineno)) from None
        except CallError as error:
            error.where = error.where or place_of(error, path)
            raise
        except Exception as error:  # whatever a template leads to is the template's error
            raise _explain(error, path, variables) from None
        return native.keep_newlines(text, self._final_newlines[path], environment.newline_sequence)

    def evaluate(self, name: str, value: Json, variables: JsonObject) -> Json:
        """Return the value of a variable that has Jinja in it. Raises CallError with its position."""
        return self._evaluation.variable(name, value, self._readable(variables))

    def host_tables(self, hosts: Mapping[str, Mapping[str, Json]]) -> Mapping[str, Mapping[str, Json]]:
        """Return the variables of hosts for a template: they are evaluated when they are read."""
        return self._evaluation.tables(hosts)

    def _readable(self, variables: JsonObject) -> JsonObject:
        """Return variables for a template: in the table `vars`, too, they are evaluated when they are read."""
        table = variables.get("vars")
        if isinstance(table, dict) and any(isinstance(value, Templated) for value in table.values()):
            return {**variables, "vars": self._evaluation.table({**variables, **table})}
        return variables

    def _environment(self, options: Mapping[str, Json]) -> SandboxedEnvironment:
        """Return the environment for these options."""
        key = tuple(sorted(options.items()))
        if key not in self._environments:
            self._environments[key] = new_environment(options, self._load, self._resolve, self._evaluation)
        return self._environments[key]

    def _load(self, name: str) -> tuple[str, str, Callable[[], bool]]:
        from jinja2 import TemplateNotFound

        if not os.path.isfile(name):
            raise TemplateNotFound(name)
        source = _without_header(read_text(name))
        self._final_newlines[name] = native.count_final(source, "\n")
        return source, name, lambda: True


def evaluate(value: Templated, variables: JsonObject) -> Json:
    """Return the value of a variable of an inventory in this process, as its connection settings need it."""
    renderer = Renderer([])
    if "hostvars" in variables:
        variables = {**variables, "hostvars": renderer.host_tables(variables["hostvars"])}
    return renderer.evaluate(UNNAMED, value, variables)


def find_template(name: str, directories: Sequence[Path]) -> Path:
    """Return the path of a template. Raises CallError when it is not found."""
    try:
        path = expanduser(name)
    except RuntimeError:
        path = Path(name)  # a "~user" that does not exist
    candidates = [of_site(path)] if path.is_absolute() else [directory / path for directory in directories]
    for candidate in candidates:
        if os.path.isfile(candidate) or is_withheld(candidate):  # False also for a name that cannot be one
            return candidate
    raise CallError(f"template {name} not found", hint=missing_hint("searched " + " and ".join(map(str, candidates))))


def read_text(path: str) -> str:
    """Return the text of a template, its line ends as they are. Raises CallError."""
    try:
        return read_file(path).decode("utf-8")
    except OSError as error:
        raise CallError(f"the template cannot be read: {error.strerror}", where=path) from error
    except UnicodeDecodeError as error:
        raise CallError(f"the template is not UTF-8 (byte {error.start})", where=path) from None


def may_need_more(text: str) -> bool:
    """Return whether a text has a word that may lead to facts or to other hosts."""
    return _MAY_NEED_MORE.search(text) is not None


def read_template(path: str) -> tuple[str, dict[str, Json]]:
    """Return the text of a template, and the settings in a line before it, which is no part of it. Raises CallError."""
    text = read_text(path)
    return _without_header(text), _read_header(text, path)


def is_plain(text: str, settings: Mapping[str, Json] | None = None) -> bool:
    """Return whether nothing in a text makes it a template: it is written as it is, with its line ends.

    As in Ansible, a line with settings makes it one: they may be about its lines.
    """
    return not any(str((settings or {}).get(name, usual)) in text for name, usual in _BEGINNINGS)


def _read_header(text: str, path: str) -> dict[str, Json]:
    """Return the settings in the first line of a template, as Ansible reads them: `#jinja2: trim_blocks: False`."""
    line = text.partition("\n")[0]
    if not line.startswith(HEADER):
        return {}
    found: dict[str, Json] = {}
    for pair in line.removeprefix(HEADER).strip().split(","):
        name, colon, value = pair.partition(":")
        if not colon or name.strip() not in _SETTINGS:
            raise CallError(f"{pair.strip()!r} is not a setting of a template", where=f"{path}:1")
        try:
            found[name.strip()] = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError):
            raise CallError(f"{value.strip()!r} is not a value, such as True", where=f"{path}:1") from None
    return found


def _without_header(source: str) -> str:
    return source.partition("\n")[2] if source.startswith(HEADER) else source


def _place(path: str, line: int) -> str:
    """Return where an error is; Jinja2 does not see the line with settings at the beginning of a file."""
    try:
        with Path(path).open(encoding="utf-8", errors="replace") as file:
            line += file.read(len(HEADER)) == HEADER
    except OSError:
        pass
    return f"{path}:{line}"


def place_of(error: BaseException, path: str) -> str:
    """Return the innermost line of an error that lies in a template."""
    where, trace = path, error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        template = trace.tb_frame.f_globals.get("__jinja_template__")
        if template is not None and hasattr(template, "get_corresponding_lineno"):
            where = _place(str(template.filename), template.get_corresponding_lineno(trace.tb_lineno))
        elif os.path.isfile(code.co_filename) and not code.co_filename.endswith(".py"):
            where = _place(code.co_filename, trace.tb_lineno)
        trace = trace.tb_next
    return where


def _explain(error: Exception, path: str, variables: Mapping[str, Json]) -> CallError:
    """Return the error with the innermost line that lies in a template."""
    where = place_of(error, path)
    hint = ""
    variable, known = getattr(error, "variable", None), getattr(error, "known", None)
    if isinstance(variable, str) and known is not None:
        hint = did_you_mean(variable, map(str, known))
    elif variable is not None:
        hint = did_you_mean(variable, variables) or "set it in the inventory's vars, or with -e"
    return CallError(_sentence(error), hint=hint, where=where)


def _sentence(error: Exception) -> str:
    """Return what went wrong, also where Python's own text names the thing alone."""
    from jinja2.exceptions import TemplateNotFound

    match error:
        case TemplateNotFound():
            return f"template {error.name} not found"
        case RecursionError():
            return "templates, macros or blocks call one another too deeply"
        case MemoryError():
            return "rendering needs too much memory"
        case re.error():
            return f"the regular expression is not valid: {error}"
    return str(error) or type(error).__name__
