"""Read /etc/os-release. It is apart from the facts because package managers need nothing else of them."""


def os_release() -> "dict[str, str]":
    """Return the settings of /etc/os-release (or /usr/lib/os-release), unquoted; {} when the host has neither."""
    values = {}
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                lines = file.read().splitlines()
        except OSError:
            continue
        for line in lines:
            name, equals, value = line.strip().partition("=")
            if equals and not name.startswith("#"):
                values[name] = value.strip("\"'")
        break
    return values
