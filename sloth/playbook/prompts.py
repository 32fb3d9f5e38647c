"""Questions of a site to the user: what `prompt` is given."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sloth.errors import SiteError
from sloth.playbook.requests import Prompt
from sloth.suggest import did_you_mean_or_list

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json, JsonObject

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FORM = 'prompt("version", "Which version?", {default = "1.2"})'
_FLAGS = ("secret", "confirm")
_SETTINGS = ("name", "text", "default", "choices", *_FLAGS)


def read_prompt(settings: JsonObject, where: str) -> Prompt:
    """Return the question. Raises SiteError for what is wrong with it."""
    for setting in settings:
        if setting not in _SETTINGS:
            hint = did_you_mean_or_list(setting, _SETTINGS, "options")
            raise SiteError(f"prompt has no option '{setting}'", hint=hint, where=where)
    name = settings.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        text = "prompt needs the name of a variable, which -e can set, and a question"
        raise SiteError(text, hint=f"such as {_FORM}", where=where)
    text = settings.get("text", name)
    if not isinstance(text, str) or not text.strip():
        raise SiteError(f"prompt {name}: text must be a question", where=where)
    for flag in _FLAGS:
        if not isinstance(settings.get(flag, False), bool):
            raise SiteError(f"prompt {name}: {flag} must be true or false", where=where)
    choices = settings.get("choices", [])
    values = [] if not isinstance(choices, list) else [as_text(choice) for choice in choices]
    if None in values or ("choices" in settings and not values):
        raise SiteError(f"prompt {name}: choices must be a list of texts", where=where)
    allowed = tuple(value for value in values if value is not None)
    default = None if "default" not in settings else as_text(settings["default"])
    if "default" in settings and default is None:
        raise SiteError(f"prompt {name}: default must be a text or a number", where=where)
    if default is not None and allowed and default not in allowed:
        raise SiteError(f"prompt {name}: the default {default} is none of the choices", where=where)
    return Prompt(
        name=name,
        text=text,
        where=where,
        secret=settings.get("secret") is True,
        confirm=settings.get("confirm") is True,
        default=default,
        choices=allowed,
    )


def as_text(value: Json) -> str | None:
    """Return a value as the text that a user would type, None for a list or a table."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, (str, int, float)) else None
