"""Jinja2's environment, with Ansible's settings, filters and tests: in a sandbox, and strict about undefined names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from sloth.playbook import native
from sloth.playbook.filters import FILTERS, TESTS, undefined_error
from sloth.playbook.host_variables import FACTS, OneHost
from sloth.playbook.templated import Evaluation, context_class

if TYPE_CHECKING:
    import jinja2
    from jinja2.compiler import Frame
    from jinja2.sandbox import SandboxedEnvironment

    from sloth.payload.kernel.values import Json

MOST_BITS = 100_000  # of an integer
MOST_REPEATED = 16_000_000
NATIVE = "native"  # beside the settings of Jinja2: expressions keep their values
Resolve = Callable[[str, str], str]
Load = Callable[[str], tuple[str, str, Callable[[], bool]]]


def new_environment(
    options: Mapping[str, Json], load: Load, resolve: Resolve, evaluation: Evaluation
) -> SandboxedEnvironment:
    """Return Jinja2's environment.

    options: Jinja2's settings, and NATIVE. load: returns a template's source for its path; resolve: returns the path of
    the template that one names; evaluation: evaluates variables of the inventory that have Jinja in them.
    """
    import jinja2
    from jinja2 import nodes
    from jinja2.nativetypes import NativeCodeGenerator
    from jinja2.sandbox import SandboxedEnvironment

    class Environment(SandboxedEnvironment):
        """Looks for an included template beside the one that includes it first."""

        intercepted_binops = frozenset(("*", "**"))

        def call_binop(self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any) -> Any:
            check_operation(operator, left, right)
            return super().call_binop(context, operator, left, right)

        def join_path(self, template: str, parent: str) -> str:
            return resolve(template, parent)

    class Undefined(jinja2.StrictUndefined):
        """Raises an UndefinedError that has the name as data: `variable`, and `known` names if it is of a table."""

        __slots__ = ()

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            of = self._undefined_obj
            if isinstance(of, OneHost) and self._undefined_name == FACTS and of.failure:
                self._undefined_exception = partial(_return_first, of.failure)  # type: ignore[assignment]
            elif of is jinja2.utils.missing:
                self._undefined_exception = partial(undefined_error, self._undefined_name)  # type: ignore[assignment]
            elif isinstance(of, Mapping):
                self._undefined_exception = partial(undefined_error, self._undefined_name, known=list(of))  # type: ignore[assignment]

        def __getattr__(self, name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            return self  # as with Ansible: `a.b.c | default(1)` needs no `a`

        def __getitem__(self, name: object) -> Any:
            return self

    class CodeGenerator(NativeCodeGenerator):
        """Keeps constants, too, which Jinja2 would join to texts when it compiles."""

        def _output_child_to_const(self, node: nodes.Expr, frame: Frame, finalize: object) -> Any:
            if not isinstance(node, nodes.TemplateData):
                raise nodes.Impossible
            return node.as_const(frame.eval_ctx)

    class NativeEnvironment(Environment):
        """Keeps what an expression is, instead of its text."""

        code_generator_class = CodeGenerator
        concat = staticmethod(native.join)

    settings: dict[str, Any] = {"trim_blocks": True, "newline_sequence": "\n", **options}
    is_native = settings.pop(NATIVE, False)
    environment = (NativeEnvironment if is_native else Environment)(
        loader=jinja2.FunctionLoader(load),
        undefined=Undefined,
        finalize=None if is_native else _finalize,
        cache_size=400,
        **settings,
    )
    environment.context_class = context_class(evaluation)
    environment.filters.update(FILTERS)
    environment.tests.update(TESTS)
    environment.globals["ansible_managed"] = "Ansible managed"  # as Ansible has it, for templates of its roles
    return environment


def _return_first(error: Exception, message: str | None = None) -> Exception:
    return error


def check_operation(operator: str, left: Any, right: Any) -> None:
    """Raise ValueError for a repetition or a power of a size that nobody needs: no signal interrupts these."""
    if isinstance(left, int) and isinstance(right, int):
        if operator == "*":
            bits = left.bit_length() + right.bit_length()
        else:
            bits = left.bit_length() * max(0, right) if abs(left) > 1 else 0
        if bits > MOST_BITS:
            raise ValueError(f"{operator}: the result would have more than {MOST_BITS} bits")
        return
    for one, times in ((left, right), (right, left)):
        if operator == "*" and isinstance(times, int) and isinstance(one, (str, bytes, list, tuple)):
            if len(one) * times > MOST_REPEATED:
                raise ValueError(f"*: the result would have more than {MOST_REPEATED} elements or characters")
            return


def _finalize(value: Json) -> Json:
    """Return what an expression writes: nothing for null, as with Ansible."""
    return "" if value is None else value
