"""Templates: Jinja2 as Ansible sets it up, strict about the undefined, its errors with file and line."""

from __future__ import annotations

import base64
import json
import posixpath
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sloth.errors import CallError

_MAY_NEED_FACTS = re.compile(r"facts|include|import|extends")


class Renderer:
    """Renders the templates of one run; each file is compiled once for all hosts."""

    def __init__(self, directories: Sequence[Path]) -> None:
        """directories: where templates are looked for, in this order."""
        self._directories = tuple(directories)
        self._environments: dict[tuple[tuple[str, Any], ...], Any] = {}
        self._facts: dict[str, bool] = {}

    def file(self, name: str) -> Path:
        """The path of a template. Raises CallError when it is not there."""
        path = Path(name).expanduser()
        places = [path] if path.is_absolute() else [directory / path for directory in self._directories]
        for place in places:
            if place.is_file():
                return place
        raise CallError(
            f"there is no template {name}", hint="looked for " + " and ".join(str(place) for place in places)
        )

    def needs_facts(self, name: str) -> bool:
        """Whether the template, or one that it includes, may read `facts`."""
        path = str(self.file(name))
        if path not in self._facts:
            self._facts[path] = self._looks_at_facts(path, set())
        return self._facts[path]

    def _looks_at_facts(self, path: str, seen: set[str]) -> bool:
        from jinja2 import meta
        from jinja2.exceptions import TemplateError

        if path in seen:
            return False
        seen.add(path)
        try:
            text = Path(path).read_text(encoding="utf-8")
            if not _MAY_NEED_FACTS.search(text):
                return False  # most templates: the parser is not needed to tell
            tree = self._environment({}).parse(text)
        except (TemplateError, OSError, UnicodeDecodeError):
            return False  # rendering it says what is wrong
        if "facts" in meta.find_undeclared_variables(tree):
            return True
        for other in meta.find_referenced_templates(tree):
            if other is None:
                return True  # a name that is only known when it is rendered
            try:
                if self._looks_at_facts(self._resolve(other, path), seen):
                    return True
            except CallError:
                continue
        return False

    def _resolve(self, name: str, parent: str) -> str:
        beside = Path(parent).parent / name
        return str(beside) if beside.is_file() else str(self.file(name))

    def render(self, name: str, variables: Mapping[str, Any], options: Mapping[str, Any] | None = None) -> str:
        """Return the rendered text. Raises CallError with the template's file and line."""
        from jinja2.exceptions import TemplateError, TemplateSyntaxError

        path = str(self.file(name))
        try:
            return str(self._environment(options or {}).get_template(path).render(variables))
        except TemplateSyntaxError as error:
            raise CallError(error.message or "bad syntax", where=f"{error.filename or path}:{error.lineno}") from None
        except UnicodeDecodeError as error:
            raise CallError(f"the template is not UTF-8 (byte {error.start})", where=path) from None
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
            raise self._explain(error, path, variables) from None

    def _explain(self, error: Exception, path: str, variables: Mapping[str, Any]) -> CallError:
        """The error with the innermost line that lies in a template."""
        where, trace = path, error.__traceback__
        while trace is not None:
            name = trace.tb_frame.f_code.co_filename
            if Path(name).is_file() and not name.endswith(".py"):
                where = f"{name}:{trace.tb_lineno}"
            trace = trace.tb_next
        unknown = re.match(r"'(\w+)' is undefined", str(error))
        hint = ""
        if unknown:
            import difflib

            near = difflib.get_close_matches(unknown[1], list(variables), 1, 0.6)
            hint = f'did you mean "{near[0]}"?' if near else "set it in the inventory's vars, or with -e"
        return CallError(str(error) or type(error).__name__, hint=hint, where=where)

    def _environment(self, options: Mapping[str, Any]) -> Any:
        """The Jinja2 environment for these options (Ansible's names and defaults)."""
        import jinja2
        from jinja2.sandbox import SandboxedEnvironment

        key = tuple(sorted(options.items()))
        if key in self._environments:
            return self._environments[key]
        renderer = self

        class Environment(SandboxedEnvironment):
            """Includes are looked for beside the template that includes them, first."""

            def join_path(self, template: str, parent: str) -> str:
                return renderer._resolve(template, parent)

        def load(name: str) -> tuple[str, str, Any]:
            path = Path(name)
            if not path.is_file():
                raise jinja2.TemplateNotFound(name)
            return path.read_text(encoding="utf-8"), name, lambda: True

        settings = {"trim_blocks": True, "keep_trailing_newline": True, "newline_sequence": "\n", **options}
        environment = Environment(
            loader=jinja2.FunctionLoader(load), undefined=jinja2.StrictUndefined, cache_size=400, **settings
        )
        environment.filters.update(FILTERS)
        self._environments[key] = environment
        return environment


def _bool(value: Any) -> bool:
    return value.strip().lower() in ("yes", "on", "1", "true") if isinstance(value, str) else bool(value)


def _mandatory(value: Any) -> Any:
    from jinja2 import Undefined
    from jinja2.exceptions import UndefinedError

    if isinstance(value, Undefined):
        raise UndefinedError(f"'{value._undefined_name}' is mandatory, and undefined")
    return value


def _regex_replace(value: str, pattern: str, replacement: str = "") -> str:
    return re.sub(pattern, replacement, str(value))


def _regex_search(value: str, pattern: str) -> str:
    found = re.search(pattern, str(value))
    return found.group() if found else ""


# What people know from Ansible and Jinja2 itself lacks.
FILTERS: dict[str, Any] = {
    "to_json": lambda value: json.dumps(value),
    "to_nice_json": lambda value, indent=4: json.dumps(value, indent=indent, sort_keys=True),
    "from_json": json.loads,
    "b64encode": lambda value: base64.b64encode(str(value).encode()).decode("ascii"),
    "b64decode": lambda value: base64.b64decode(value).decode(),
    "quote": lambda value: shlex.quote(str(value)),
    "basename": lambda value: posixpath.basename(str(value)),
    "dirname": lambda value: posixpath.dirname(str(value)),
    "regex_replace": _regex_replace,
    "regex_search": _regex_search,
    "bool": _bool,
    "mandatory": _mandatory,
}
