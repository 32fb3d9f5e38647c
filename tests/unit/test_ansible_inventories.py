"""Inventories of Ansible: the same hosts, groups and variables as ansible-inventory has recorded for them.

The file tests/inventories/recorded.jsonl is written by hand, where Ansible is: see tests/support/record_inventories.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sloth.cli.parameters import evaluate_variable
from sloth.errors import SlothError
from sloth.inventory import Inventory
from sloth.inventory.connection import NAMES
from sloth.inventory.export import to_toml
from sloth.inventory.templated import Templated
from sloth.playbook.template import evaluate
from tests.support.record_inventories import RECORDED, ours, write

CASES = [json.loads(line) for line in RECORDED.read_text().splitlines()]


def test_enough_is_recorded() -> None:
    assert len(CASES) >= 49
    assert sum(case["expected"] is not None for case in CASES) >= 40


@pytest.mark.parametrize("case", CASES, ids=[f"{n}-{case['sources'][0]}" for n, case in enumerate(CASES)])
def test_same_hosts_groups_and_variables(case: dict[str, Any], tmp_path: Path) -> None:
    write(case["files"], tmp_path)
    if case["expected"] is None:
        with pytest.raises(SlothError):
            ours(tmp_path, case["sources"])
    else:
        assert ours(tmp_path, case["sources"]) == case["expected"]


@pytest.mark.parametrize("case", CASES, ids=[f"{n}-{case['sources'][0]}" for n, case in enumerate(CASES)])
def test_imported_as_toml_they_are_the_same(case: dict[str, Any], tmp_path: Path) -> None:
    if case["expected"] is None:
        pytest.skip("Ansible refuses it")
    write(case["files"], tmp_path)
    names = [source if "," in source else tmp_path / source for source in case["sources"]]
    before = Inventory.read(*names, evaluate=evaluate)
    target = tmp_path / "imported.toml"
    target.write_text(to_toml(before, evaluate_variable))
    after = Inventory.read(target)
    assert set(after.hosts) == set(before.hosts)
    for name, group in after.groups.items():
        assert set(group.hosts) == set(before.groups[name].hosts)
    assert set(before.groups) - {"all", "ungrouped", *before.hosts} == set(after.groups)
    text = target.read_text()
    for name, host in after.hosts.items():
        old = before.hosts[name]
        for setting in ("address", "port", "user", "become", "connection", "proxy_jump", "tags"):
            assert getattr(host, setting) == getattr(old, setting)
        for variable, value in old.vars.items():
            if isinstance(value, Templated) or _has_null(value) or variable.startswith("ansible_"):
                assert variable in host.vars or f"{variable} = " in text or variable in NAMES
            else:
                assert host.vars[variable] == value, (name, variable)
        assert set(host.vars) <= set(old.vars)


def _has_null(value: object) -> bool:
    if isinstance(value, dict):
        return any(map(_has_null, value.values()))
    return value is None or (isinstance(value, list) and any(map(_has_null, value)))
