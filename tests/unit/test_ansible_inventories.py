"""Inventories of Ansible: the same hosts, groups and variables as ansible-inventory has recorded for them.

The file tests/inventories/recorded.jsonl is written by hand, where Ansible is: see tests/support/record_inventories.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sloth.errors import SlothError
from tests.support.record_inventories import RECORDED, ours, write

CASES = [json.loads(line) for line in RECORDED.read_text().splitlines()]


def test_enough_is_recorded() -> None:
    assert len(CASES) >= 47
    assert sum(case["expected"] is not None for case in CASES) >= 40


@pytest.mark.parametrize("case", CASES, ids=[f"{n}-{case['sources'][0]}" for n, case in enumerate(CASES)])
def test_same_hosts_groups_and_variables(case: dict[str, Any], tmp_path: Path) -> None:
    write(case["files"], tmp_path)
    if case["expected"] is None:
        with pytest.raises(SlothError):
            ours(tmp_path, case["sources"])
    else:
        assert ours(tmp_path, case["sources"]) == case["expected"]
