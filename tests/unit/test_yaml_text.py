"""Hostile YAML: what PyYAML does not catch itself is an error with file and line, too."""

from __future__ import annotations

import pytest

from sloth.errors import InventoryError
from sloth.inventory.yaml_text import load_yaml
from sloth.playbook.filters import FILTERS

# Public reports about PyYAML -> a part of our error.
HOSTILE = {
    "!!float": "is not of the type !!float",
    "!!int ''": "is not of the type !!int",
    "!!bool foo": "is not of the type !!bool",
    "!!timestamp x": "is not of the type !!timestamp",
    "!!int abc": "is not a value",
    "0b_": "is not a value",
    "9:" + "5:" * 300 + "1.0": "is not a value",
    "9" + ":5" * 20000: "too long for a number",
    "9" * 5000: "is not a value",
    "0x" + "f" * 100_000: "too long for a number",
    "!!python/object/apply:os.system ['id']": "python/object/apply:os.system is not known",
    "!!python/object:os.x {a: 1}": "python/object:os.x is not known",
    "!!python/name:os.system": "python/name",
    "!!python/module:os ''": "python/module",
    "!mine [1]": "!mine is not known",
    "[" * 90_000: "nested",
    "\n" + "\n".join(" " * level + "-" for level in range(1500)): "nest",
    "2001-99-99": "is not a value",
}


@pytest.mark.parametrize("text", list(HOSTILE))
def test_hostile_values_are_errors_with_words(text: str) -> None:
    with pytest.raises(InventoryError, match=HOSTILE[text]) as caught:
        load_yaml("a: " + text, "file.yml")
    assert caught.value.where.startswith("file.yml")
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("text", [text for text in HOSTILE if "apply" in text or len(text) < 20 or "-" in text])
def test_the_filter_from_yaml_refuses_them(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        FILTERS["from_yaml"]("a: " + text)
    assert len(str(caught.value)) < 500
    assert "string index" not in str(caught.value)


def test_collections_and_long_numbers_that_are_right() -> None:
    text = "a: !!omap [x: 1]\nb: !!map {x: 1}\nc: !!seq [1]\nd: 0x" + "f" * 1000 + "\n"
    assert load_yaml(text, "f") == {"a": [{"x": 1}], "b": {"x": 1}, "c": [1], "d": 16**1000 - 1}
