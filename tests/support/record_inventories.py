"""Records what ansible-inventory makes of inventories, for tests/unit/test_ansible_inventories.py.

Run it by hand where Ansible is: `python -m tests.support.record_inventories PATH/TO/ansible-inventory`. It writes
tests/inventories/recorded.jsonl, an object per line: the files, the sources, and what they come to (null: Ansible
refuses them). `--compare N` compares N fresh inventories instead, and writes nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

from sloth.errors import SlothError
from sloth.inventory import Inventory
from sloth.playbook.template import evaluate
from tests.support.ansible_listing import Listing, of_ansible, of_ours
from tests.support.inventory_programs import Files, trees
from tests.support.paths import ROOT

INVENTED = 40
RECORDED = ROOT / "tests" / "inventories" / "recorded.jsonl"
BY_HAND = ROOT / "tests" / "inventories" / "by_hand"


def write(files: Files, directory: Path) -> None:
    """Write the files of a tree; one that begins with `#!` becomes executable."""
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755 if text.startswith("#!") else 0o644)


def ask_ansible(program: str, directory: Path, sources: list[str]) -> Listing | None:
    """Return what ansible-inventory prints; None when it fails, or could not read a source."""
    with tempfile.TemporaryDirectory() as elsewhere:
        options = [word for source in sources for word in ("-i", source if "," in source else str(directory / source))]
        done = subprocess.run(
            [program, "--list", *options],
            capture_output=True, text=True, cwd=elsewhere, stdin=subprocess.DEVNULL, timeout=120,
            env={**os.environ, "HOME": elsewhere, "ANSIBLE_DEPRECATION_WARNINGS": "0",
                 "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "1"},
        )  # fmt: skip
    return of_ansible(json.loads(done.stdout)) if done.returncode == 0 else None


def ours(directory: Path, sources: list[str]) -> Listing:
    """Return what our own reader makes of it. Raises SlothError."""
    names = [source if "," in source else directory / source for source in sources]
    return of_ours(Inventory.read(*names, evaluate=evaluate))


def invented(number: int, start: int) -> list[tuple[Files, list[str]]]:
    """Return invented trees, the same for the same seed."""
    found: list[tuple[Files, list[str]]] = []

    @seed(start)
    @settings(max_examples=number, database=None, phases=[Phase.generate], deadline=None,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(trees())
    def collect(tree: tuple[Files, list[str]]) -> None:
        found.append(tree)

    collect()
    return found[:number]


def by_hand() -> list[tuple[Files, list[str]]]:
    """Return the trees that were made by hand: each is a directory; the file SOURCES names its sources."""
    found = []
    for directory in sorted(path for path in BY_HAND.iterdir() if path.is_dir()):
        files = {
            str(path.relative_to(directory)): path.read_text()
            for path in sorted(directory.rglob("*"))
            if path.is_file()
        }
        found.append((files, files.pop("SOURCES").split()))
    return found


def main() -> None:
    program = sys.argv[1]
    if "--compare" in sys.argv:
        number = int(sys.argv[sys.argv.index("--compare") + 1])
        sys.exit(compare(program, invented(number, os.getpid())))
    lines = []
    for files, sources in [*by_hand(), *invented(INVENTED, 15)]:
        with tempfile.TemporaryDirectory() as name:
            write(files, Path(name))
            expected = ask_ansible(program, Path(name), sources)
        lines.append(json.dumps({"files": files, "sources": sources, "expected": expected}, ensure_ascii=False))
    RECORDED.write_text("\n".join(lines) + "\n")
    sys.exit(0)


def compare(program: str, found: list[tuple[Files, list[str]]]) -> int:
    """Compare inventories, and write where the two differ. Returns the exit status."""
    different = 0
    for files, sources in found:
        with tempfile.TemporaryDirectory() as name:
            write(files, Path(name))
            theirs = ask_ansible(program, Path(name), sources)
            try:
                mine: Listing | str = ours(Path(name), sources)
            except SlothError as error:
                mine = str(error)
        if (theirs is None) != isinstance(mine, str) or (theirs is not None and theirs != mine):
            different += 1
            sys.stdout.write(json.dumps({"files": files, "sources": sources, "theirs": theirs, "ours": mine}) + "\n")
    sys.stdout.write(f"{len(found) - different} of {len(found)} agree\n")
    return 1 if different else 0


if __name__ == "__main__":
    main()
