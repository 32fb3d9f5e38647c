"""`sloth-runner init`: makes a directory with a small site that runs, its inventory and its tests."""

from __future__ import annotations

from pathlib import Path

import click

from sloth.errors import UsageError

TEMPLATE = Path(__file__).parent / "new_site"


@click.command()
@click.argument("directory", metavar="[DIR]", default=".", type=click.Path(file_okay=False))
def init(directory: str) -> None:
    """Create a directory with a site, an inventory and tests, ready to run.

    Without DIR, the files are created here. Nothing that exists is overwritten.
    """
    base = Path(directory)
    files = [path.relative_to(TEMPLATE) for path in sorted(TEMPLATE.rglob("*")) if _belongs(path)]
    existing = [str(base / path) for path in files if (base / path).exists()]
    if existing:
        raise UsageError(f"{existing[0]} exists already", hint="name a new directory: sloth-runner init DIR")
    for path in files:
        target = base / path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as file:
                file.write((TEMPLATE / path).read_bytes())
        except OSError as error:
            raise UsageError(f"{target} cannot be created: {error.strerror}") from error
        click.echo(f"created {target}")
    here = "" if base == Path() else f"cd {directory}\n  "
    click.echo(
        f"\nTry it:\n  {here}sloth-runner run --check -f site.sloth\n  sloth-runner run -f site.sloth\n"
        "  python3 -m unittest discover tests"
    )


def _belongs(path: Path) -> bool:
    return path.is_file() and path.suffix != ".pyc"
