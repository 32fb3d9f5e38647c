"""Evaluates variables of inventories that have Jinja in them, when a template or a site uses them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sloth.errors import CallError
from sloth.inventory.templated import Encrypted, Literal, Templated, is_template
from sloth.playbook import native

if TYPE_CHECKING:
    from collections.abc import Callable

    import jinja2

    from sloth.payload.kernel.values import Json

DEEPEST = 40  # variables that refer to one another
UNNAMED = "the value"  # the name of a variable that the error's reader knows from elsewhere


class Table(dict[str, Any]):
    """A table of variables for templates. What has Jinja in it is evaluated when it is read."""

    def __init__(self, variables: Mapping[str, Json], evaluate: Callable[[str, Json], Json]) -> None:
        super().__init__(variables)
        self._evaluate = evaluate

    def __getitem__(self, name: str) -> Json:
        return self._evaluate(name, super().__getitem__(name))

    def get(self, name: str, default: Json = None) -> Json:
        return self._evaluate(name, super().get(name, default))

    def values(self) -> Any:
        return [self[name] for name in self]

    def items(self) -> Any:
        return [(name, self[name]) for name in self]


class Evaluation:
    """Evaluates the variables of one Jinja environment."""

    def __init__(self, environment: Callable[[], jinja2.Environment]) -> None:
        """environment: returns the one for the texts of variables, a native one, which is made when it is needed."""
        self._new = environment
        self._names: list[str] = []  # of the variables that are being evaluated
        self._compile = lru_cache(maxsize=2000)(self._compiled)

    def variable(self, name: str, value: Json, variables: Mapping[str, Json]) -> Json:
        """Return the value of a variable. Raises CallError for one that cannot be evaluated, with its position.

        As in Ansible, one value keeps its type, also with newlines behind it, as a block of YAML has them; a text keeps
        those newlines.
        """
        if isinstance(value, Encrypted):
            error = value.error(name)
            raise CallError(error.message, hint=error.hint, where=error.where)
        if not isinstance(value, Templated):
            return value
        if name in self._names or len(self._names) >= DEEPEST:
            way = " -> ".join([*self._names[self._names.index(name) if name in self._names else 0 :], name])
            raise CallError(f"variables refer to one another in a circle: {way}", where=value.where)
        self._names.append(name)
        try:
            return self._value(name, value.value, value.where, variables)
        finally:
            self._names.pop()

    def table(self, variables: Mapping[str, Json]) -> Table:
        """Return a table whose variables are evaluated when they are read."""
        return Table(variables, lambda name, value: self.variable(name, value, variables))

    def tables(self, hosts: Mapping[str, Mapping[str, Json]]) -> Mapping[str, Table]:
        """Return such a table for each host."""
        return _Tables(hosts, self.table)

    def _value(self, name: str, value: Json, where: str, variables: Mapping[str, Json]) -> Json:
        match value:
            case dict():
                return {key: self._value(name, item, where, variables) for key, item in value.items()}
            case list():
                return [self._value(name, item, where, variables) for item in value]
            case Encrypted():
                raise CallError(
                    f"{name} is encrypted with ansible-vault", where=value.where, hint=value.error(name).hint
                )
            case Literal():
                return str(value)
            case str() if is_template(value):
                return self._text(name, value, where, variables)
        return value

    def _text(self, name: str, text: str, where: str, variables: Mapping[str, Json]) -> Json:
        from jinja2.exceptions import TemplateError

        try:
            template = self._compile(text)
            found = native.Plain().of(native.join(template.root_render_func(template.new_context(dict(variables)))))
        except CallError as error:
            error.where = error.where or where
            raise
        except TemplateError as error:
            raise self._undefined(name, error, where, variables) from None
        except RecursionError:
            raise CallError(f"the variable {name} refers to others too deeply", where=where) from None
        except Exception as error:  # whatever an expression leads to is its error
            raise CallError(f"{_of(name)}{error or type(error).__name__}", where=where) from None
        return native.keep_newlines(found, native.count_final(text, "\n")) if isinstance(found, str) else found

    def _undefined(self, name: str, error: Exception, where: str, variables: Mapping[str, Json]) -> CallError:
        from sloth.suggest import did_you_mean

        missing = getattr(error, "variable", None)
        hint = ""
        if missing is not None:
            hint = did_you_mean(str(missing), map(str, variables))
            sealed = variables.get("sealed_files")
            if not hint and sealed:
                hint = f"{', '.join(sealed)} may have it, and is encrypted with ansible-vault"
        return CallError(f"{_of(name)}{error}", where=where, hint=hint)

    def _compiled(self, text: str) -> jinja2.Template:
        return self._new().from_string(text)


class _Tables(Mapping[str, Table]):
    """Tables of the variables of hosts, each made when it is read."""

    def __init__(self, hosts: Mapping[str, Mapping[str, Json]], make: Callable[[Mapping[str, Json]], Table]) -> None:
        self._hosts = hosts
        self._make = make

    def __getitem__(self, name: str) -> Table:
        return self._make(self._hosts[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._hosts)

    def __len__(self) -> int:
        return len(self._hosts)


def _of(name: str) -> str:
    """Return how an error about a variable begins."""
    return "" if name == UNNAMED else f"the variable {name}: "


def context_class(evaluation: Evaluation) -> type[jinja2.runtime.Context]:
    """Return the class of contexts in which variables are evaluated when a template reads them."""
    from jinja2.runtime import Context

    class Evaluating(Context):
        def resolve_or_missing(self, key: str) -> Any:
            value = super().resolve_or_missing(key)
            if isinstance(value, (Templated, Encrypted)):
                return evaluation.variable(key, value, self.get_all())
            return value

    return Evaluating
