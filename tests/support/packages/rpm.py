"""RPM packages, a repository of them, and empty roots that the real dnf and zypper can fill."""

from __future__ import annotations

import subprocess
from pathlib import Path

DNF_TOOLS = ("dnf", "rpm", "rpmbuild", "createrepo_c")
ZYPPER_TOOLS = ("zypper", "rpm", "rpmbuild", "createrepo_c")
SPEC = """Name: {name}
Version: {version}
Release: 1
Summary: for tests
License: none
BuildArch: noarch
{fields}
%description
for tests
%files
"""


def build(directory: Path, name: str, version: str, **fields: str) -> Path:
    """Build NAME-VERSION-1.rpm in `directory`; fields: further tags of the spec file (Requires=...)."""
    work = directory / ".build"
    work.mkdir(exist_ok=True)
    spec = work / f"{name}-{version}.spec"
    tags = "".join(f"{key}: {value}\n" for key, value in fields.items())
    spec.write_text(SPEC.format(name=name, version=version, fields=tags))
    macros = {"_topdir": work, "_rpmdir": directory, "_rpmfilename": "%%{NAME}-%%{VERSION}-%%{RELEASE}.rpm"}
    defines = [word for key, value in macros.items() for word in ("--define", f"{key} {value}")]
    subprocess.run(["rpmbuild", "-bb", "--quiet", *defines, str(spec)], check=True, capture_output=True)
    return directory / f"{name}-{version}-1.rpm"


def index(directory: Path) -> None:
    """Create the repository's index."""
    subprocess.run(["createrepo_c", "--quiet", str(directory)], check=True, capture_output=True)


def home(directory: Path) -> Path:
    """Create a home directory that makes Debian's rpm keep its database where Fedora and SUSE do."""
    directory.mkdir()
    (directory / ".rpmmacros").write_text("%_dbpath /var/lib/rpm\n")
    return directory


def dnf_root(directory: Path, repository: Path) -> list[str]:
    """Create an empty root, and return the options for dnf to fill it from `repository` alone."""
    (directory / "etc").mkdir(parents=True)
    for part in ("var/cache/dnf", "var/log"):
        (directory / part).mkdir(parents=True)
    (directory / "etc/test.repo").write_text(f"[test]\nname=test\nbaseurl=file://{repository}\ngpgcheck=0\n")
    (directory / "etc/dnf.conf").write_text("[main]\ngpgcheck=0\nplugins=0\nmetadata_expire=3600\n")
    settings = {"reposdir": "etc", "cachedir": "var/cache/dnf", "persistdir": "var/lib/dnf", "logdir": "var/log"}
    return [
        f"--installroot={directory}", "--releasever=1", f"--config={directory}/etc/dnf.conf",
        *(f"--setopt={name}={directory}/{place}" for name, place in settings.items()),
    ]  # fmt: skip


def zypper_root(directory: Path, repository: Path) -> list[str]:
    """Create an empty root, and return the options for zypper to fill it from `repository` alone."""
    (directory / "etc/zypp/repos.d").mkdir(parents=True)
    (directory / "etc/zypp/repos.d/test.repo").write_text(
        f"[test]\nname=test\nenabled=1\nautorefresh=0\nbaseurl=dir://{repository}\ngpgcheck=0\n"
    )
    return ["--root", str(directory)]
