"""Arch's packages, a repository of them, and an empty root that the real pacman can fill."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

TOOLS = ("pacman", "repo-add", "bsdtar", "vercmp")


def build(directory: Path, name: str, version: str, **fields: str) -> Path:
    """Build NAME-VERSION-1-any.pkg.tar.gz in `directory`; fields: further lines of .PKGINFO (depend=...)."""
    work = directory / f".{name}-{version}"
    work.mkdir()
    lines = {"pkgname": name, "pkgver": f"{version}-1", "pkgdesc": "for tests", "arch": "any", **fields}
    (work / ".PKGINFO").write_text("".join(f"{key} = {value}\n" for key, value in lines.items()))
    path = directory / f"{name}-{version}-1-any.pkg.tar.gz"
    subprocess.run(["bsdtar", "-czf", str(path), "-C", str(work), ".PKGINFO"], check=True)
    return path


def index(directory: Path) -> None:
    """Create the repository's database. Of several versions of a package it holds the one built last."""
    for old in directory.glob("test.*"):
        old.unlink()
    packages = sorted(directory.glob("*.pkg.tar.gz"), key=lambda path: path.stat().st_mtime_ns)
    command = ["repo-add", "--quiet", str(directory / "test.db.tar.gz"), *map(str, packages)]
    subprocess.run(command, check=True, capture_output=True)
    # pacman reads a database again only when it is newer by a second.
    when = int(time.time()) + len(packages)
    os.utime(directory / "test.db.tar.gz", (when, when))


def root(directory: Path, repository: Path) -> list[str]:
    """Create an empty root, and return the options for pacman to fill it from `repository` alone."""
    for part in ("etc/pacman.d/hooks", "var/lib/pacman", "var/cache/pacman/pkg", "var/log", "gnupg"):
        (directory / part).mkdir(parents=True)
    (directory / "etc/pacman.conf").write_text(
        f"[options]\nArchitecture = auto\nSigLevel = Never\n[test]\nServer = file://{repository}\n"
    )
    return [
        "--root", str(directory), "--config", str(directory / "etc/pacman.conf"),
        "--cachedir", str(directory / "var/cache/pacman/pkg"), "--hookdir", str(directory / "etc/pacman.d/hooks"),
        "--gpgdir", str(directory / "gnupg"),
    ]  # fmt: skip
