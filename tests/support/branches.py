"""Percent of branches that were taken, by package: `python -m tests.support.branches engine=60` fails below a floor.

It reads the report that `coverage json -o -` prints. `coverage report` counts lines, too, of which more are covered.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any


def taken(files: Mapping[str, Any], package: str) -> tuple[int, int]:
    """Return how many branches of `sloth/<package>` were taken, and how many there are."""
    found = [entry["summary"] for name, entry in files.items() if name.startswith(f"sloth/{package}/")]
    return sum(one["covered_branches"] for one in found), sum(one["num_branches"] for one in found)


def main(floors: list[str]) -> int:
    """Print a line for each package; return 1 when one is below its floor."""
    files = json.load(sys.stdin)["files"]
    status = 0
    for package, _, floor in (words.partition("=") for words in floors):
        covered, count = taken(files, package)
        percent = 100 * covered / (count or 1)
        is_enough = percent >= float(floor or 0)
        status |= not is_enough
        note = "" if is_enough else f", fewer than {floor} %"
        print(f"{package:<16} {percent:5.1f} % of {count} branches{note}")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
