"""Unit files on disk, for what systemctl does not report: [Install] sections, and the units that an alias means."""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sloth.payload.lib.host import Host

_SYSTEM = (
    "/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system",
    "/lib/systemd/system",
)  # fmt: skip
_USER = ("/etc/systemd/user", "/run/systemd/user", "/usr/local/lib/systemd/user", "/usr/lib/systemd/user")
# Directories of the links by which the runlevels of System V start a script; systemd reads the same ones.
_RUNLEVELS = ("/etc/rc%s.d", "/etc/rc.d/rc%s.d")
_SCRIPTS = ("/etc/init.d", "/etc/rc.d/init.d")


def directories(host: "Host", scope: "str", user: "str | None") -> "list[str]":
    """Return the directories in which a manager finds unit files, the most important one first."""
    if scope == "system":
        return list(_SYSTEM)
    return [host.expand("~%s/.config/systemd/user" % (user or "")), *_USER]


def find(name: "str", where: "list[str]") -> "str":
    """Return the path of the unit file `name` in the first of the directories that has it, or ""."""
    paths = (os.path.join(directory, name) for directory in where)
    return next((path for path in paths if os.path.lexists(path)), "")


def find_alias(name: "str", where: "list[str]") -> "str":
    """Return the unit whose file has `name` among its Alias= settings, or "".

    Until the unit is enabled nothing else connects the two names.
    """
    suffix = name[name.rindex(".") :]
    for directory in where:
        try:
            others = sorted(os.listdir(directory))
        except OSError:
            continue
        for other in others:
            if other.endswith(suffix) and name in install_section([os.path.join(directory, other)]).get("Alias", ()):
                return other
    return ""


def install_section(paths: "list[str]", unit: "str" = "") -> "dict[str, list[str]]":
    """Return the settings of the [Install] sections of a unit file and its drop-ins, each a list of words.

    Later files add to a setting, and an empty value resets it. unit: the name for specifiers such as %i, by default
    that of the first file.
    """
    settings: "dict[str, list[str]]" = {}
    for path in paths:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                text = file.read()
        except OSError:
            continue
        is_inside = False
        for line in text.replace("\\\n", " ").splitlines() if "[Install]" in text else ():
            line = line.strip()
            if line.startswith("["):
                is_inside = line == "[Install]"
            elif is_inside and line and line[0] not in "#;":
                name, _, value = line.partition("=")
                words = [_expand(word, unit or os.path.basename(paths[0])) for word in value.split()]
                settings[name.strip()] = settings.get(name.strip(), []) + words if words else []
    return settings


def missing_links(settings: "dict[str, list[str]]", unit: "str", where: "list[str]") -> "list[str]":
    """Return the units that should start `unit` by its [Install] section, and have no link to it."""
    missing = []
    for setting, suffix in (("WantedBy", "wants"), ("RequiredBy", "requires"), ("UpheldBy", "upholds")):
        for other in settings.get(setting, ()):
            link = "%s.%s/%s" % (other, suffix, unit)
            if "%" not in other and not find(link, where):
                missing.append(other)
    return missing


def _expand(word: "str", unit: "str") -> "str":
    """Return a word of a unit file with the specifiers resolved that concern the unit's own name."""
    if "%" not in word:
        return word
    name = unit.rpartition(".")[0]
    prefix, _, instance = name.partition("@")
    for specifier, value in (("%n", unit), ("%N", name), ("%p", prefix), ("%i", instance)):
        word = word.replace(specifier, value)
    return word


def script(unit: "str") -> "str":
    """Return the path of the System V script for which `unit` would be generated, or ""."""
    name, _, suffix = unit.rpartition(".")
    if suffix != "service":
        return ""
    paths = ("%s/%s" % (directory, name) for directory in _SCRIPTS)
    return next((path for path in paths if os.path.isfile(path) and os.access(path, os.X_OK)), "")


def is_script(path: "str") -> "bool":
    """Return whether a unit's SourcePath is a System V script."""
    return os.path.dirname(path) in _SCRIPTS


def is_script_enabled(path: "str") -> "bool":
    """Return whether a runlevel starts the System V script at `path`."""
    from glob import glob

    links = "/S[0-9][0-9]" + os.path.basename(path)
    return any(glob(directory % "[2345S]" + links) for directory in _RUNLEVELS)
