"""Debian packages, a flat repository of them, and an empty root that the real apt and dpkg can fill."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

TOOLS = ("apt-get", "apt-cache", "dpkg", "dpkg-deb")


def build(directory: Path, name: str, version: str, scripts: dict[str, str] | None = None, **fields: str) -> Path:
    """Build NAME_VERSION.deb in `directory`; fields: of the control file (Depends=...); scripts: postinst and such."""
    tree = directory / f".{name}_{version}"
    (tree / "DEBIAN").mkdir(parents=True)
    control = {
        "Package": name, "Version": version, "Architecture": "all", "Maintainer": "Nobody <nobody@example.invalid>",
        "Description": "for tests", **fields,
    }  # fmt: skip
    (tree / "DEBIAN/control").write_text("".join(f"{key}: {value}\n" for key, value in control.items()))
    (tree / f"etc/{name}.conf").parent.mkdir()
    (tree / f"etc/{name}.conf").write_text(f"version = {version}\n")
    (tree / "DEBIAN/conffiles").write_text(f"/etc/{name}.conf\n")
    for script, text in (scripts or {}).items():
        (tree / "DEBIAN" / script).write_text("#!/bin/sh\n" + text)
        (tree / "DEBIAN" / script).chmod(0o755)
    path = directory / f"{name}_{version}.deb"
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", str(tree), str(path)], check=True, capture_output=True)
    return path


def index(directory: Path) -> None:
    """Write the Packages file of a flat repository: `deb [trusted=yes] file:DIRECTORY ./`."""
    paragraphs = []
    for path in sorted(directory.glob("*.deb")):
        control = subprocess.run(["dpkg-deb", "-f", str(path)], check=True, capture_output=True, text=True).stdout
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        paragraphs.append(f"{control}Filename: ./{path.name}\nSize: {len(data)}\nSHA256: {digest}\n")
    (directory / "Packages").write_text("\n".join(paragraphs))


def root(directory: Path, repository: Path) -> list[str]:
    """Create an empty root whose only source is `repository`, and return the options that apt needs for it."""
    for part in ("etc/apt/apt.conf.d", "etc/apt/preferences.d", "var/lib/dpkg/updates", "var/lib/dpkg/info",
                 "var/lib/apt/lists/partial", "var/cache/apt/archives/partial", "var/log/apt", "tmp"):  # fmt: skip
        (directory / part).mkdir(parents=True)
    (directory / "var/lib/dpkg/status").write_text("")
    (directory / "etc/apt/sources.list").write_text(f"deb [trusted=yes] file:{repository} ./\n")
    words = (
        f"Dir={directory}", f"Dir::State::status={directory}/var/lib/dpkg/status",
        f"DPkg::Options::=--root={directory}", "APT::Sandbox::User=root", "APT::Install-Recommends=no",
        "Dir::Log::Terminal=/dev/null", "APT::Update::Post-Invoke-Success=", "DPkg::Post-Invoke=",
    )  # fmt: skip
    return [part for word in words for part in ("-o", word)]
