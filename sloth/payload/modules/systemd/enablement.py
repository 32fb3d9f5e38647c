"""Whether a unit is enabled: what systemd's states of unit files mean for the next boot."""

from sloth.payload.modules.systemd import unit_files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sloth.payload.modules.systemd.systemctl import Manager, UnitStatus

RUNTIME = "runtime"  # enabled, or masked, until the next boot only
STATIC = "static"  # can be neither enabled nor disabled
PARTLY = "partly"  # not all that the [Install] section asks for is enabled


def is_masked(status: "UnitStatus") -> "bool | str":
    """Return True, False or RUNTIME."""
    if status.file_state == "masked-runtime":
        return RUNTIME
    return status.file_state == "masked" or status.load_state == "masked"


def is_enabled(manager: "Manager", status: "UnitStatus", seen: "tuple[str, ...]" = ()) -> "bool | str":
    """Return True, False, RUNTIME, STATIC or PARTLY. `seen`: the units whose Also= settings led here."""
    state = status.file_state
    script = manager.script(status)
    if script:  # systemd knows it as "generated", enabled or not
        return unit_files.is_script_enabled(script)
    if state == "enabled":
        return PARTLY if _missing_links(manager, status) else True
    if state == "enabled-runtime":
        return RUNTIME
    if state == "indirect":
        return _is_enabled_indirectly(manager, status, seen)
    if state in ("static", "generated", "transient", "alias") or (not state and not status.is_missing):
        return STATIC
    # "linked" units are only known to the manager: nothing starts them.
    return False


def _is_enabled_indirectly(manager: "Manager", status: "UnitStatus", seen: "tuple[str, ...]") -> "bool | str":
    """Return whether all units that Also= names are enabled: `systemctl enable` enables those.

    A unit without Also= is "indirect" when a link that its file does not name is an alias of it.
    """
    settings = unit_files.install_section([status.fragment, *status.drop_ins], status.unit)
    if any(settings.get(name) for name in ("WantedBy", "RequiredBy", "UpheldBy", "Alias")):
        return False
    seen += (status.unit,)
    others = [manager.status(unit) for unit in settings.get("Also", ()) if unit not in seen]
    states = [is_enabled(manager, other, seen) for other in others if not other.is_missing]
    states = [state for state in states if state != STATIC]
    if not states:
        return STATIC
    if all(state is True for state in states):
        return True
    return False if all(state is False for state in states) else PARTLY


def _missing_links(manager: "Manager", status: "UnitStatus") -> "list[str]":
    """Return the units that do not start an enabled unit although its [Install] section names them.

    They were added after it was enabled: systemd compares nothing once there is any link.
    """
    settings = unit_files.install_section([status.fragment, *status.drop_ins], status.unit)
    return unit_files.missing_links(settings, status.unit, manager.directories())
