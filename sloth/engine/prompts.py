"""The questions of a site to the user, each asked once, before anything is touched."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from sloth.errors import CallError, UsageError
from sloth.payload.kernel.redact import Redactor
from sloth.playbook import Prompt
from sloth.playbook.prompts import as_text
from sloth.suggest import did_you_mean_or_list

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json


class Prompts:
    """Answers the questions of all hosts' programs.

    Attributes:
        answers: by the name of the question.
        secrets: the answers that must not be shown.
        given: what the command line gives.
    """

    def __init__(
        self,
        given: Mapping[str, Json] | None = None,
        texts: Mapping[str, str] | None = None,
        ask: Callable[[Prompt], str | None] | None = None,
    ) -> None:
        """Take what is known before anybody is asked.

        given: the variables of the command line; texts: those that are there as text, which `1.10` as a number is not.
        ask: asks the user, and returns None without a terminal.
        """
        self.answers: dict[str, str] = {}
        self.secrets: set[str] = set()
        self.given = {**(given or {}), **{name: _unquoted(given, name, text) for name, text in (texts or {}).items()}}
        self._ask = ask
        self._missing: list[str] = []

    def answer(self, prompt: Prompt) -> str:
        """Return the answer to a question. Raises UsageError for one given by -e, CallError when it was not asked."""
        if prompt.name not in self.answers:
            if prompt.name in self.given:
                self.answers[prompt.name] = _checked(prompt, self.given[prompt.name])
            elif self._ask is None:
                raise CallError(
                    f"prompt {prompt.name} was not asked before the run: only some hosts, or their facts, lead to it",
                    hint=f"move it to the beginning of the site, or give -e {prompt.name}=VALUE",
                    where=prompt.where,
                )
            else:
                answer = self._ask(prompt)
                if answer is None:
                    self._missing.append(prompt.name)
                    answer = invented(prompt)
                self.answers[prompt.name] = answer
        answer = self.answers[prompt.name]
        if prompt.secret and answer:
            self.secrets.add(answer)
        return answer

    def end(self) -> None:
        """Ask nothing from now on. Raises UsageError when there was no terminal to ask on."""
        self._ask = None
        if self._missing:
            raise UsageError(
                f"there is no terminal to ask for {' and '.join(self._missing)} on",
                hint="give " + " ".join(f"-e {name}=VALUE" for name in self._missing),
            )

    def redact(self, text: str) -> str:
        """Return a text without the secrets that were typed."""
        if not self.secrets:
            return text
        redactor = Redactor()
        redactor.add(sorted(self.secrets))
        return redactor.text(text)


def invented(prompt: Prompt) -> str:
    """Return an answer where nobody is asked."""
    return prompt.default or (prompt.choices or ("",))[0]


def _unquoted(given: Mapping[str, Json] | None, name: str, text: str) -> Json:
    """Return what `-e name=text` means as a text: `1.10` is kept, and `"1.10"` loses its quotes."""
    value = (given or {}).get(name)
    return value if isinstance(value, (str, list, dict)) else text


def _checked(prompt: Prompt, value: Json) -> str:
    text = as_text(value)
    if text is None:
        raise UsageError(f"-e {prompt.name}: {prompt.where} asks for a text, not for a list or a table")
    if prompt.choices and text not in prompt.choices:
        shown = "the value" if prompt.secret else text
        hint = did_you_mean_or_list(text, prompt.choices, "choices")
        raise UsageError(f"-e {prompt.name}: {shown} is not one of the choices of {prompt.where}", hint=hint)
    return text
