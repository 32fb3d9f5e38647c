"""Which distribution this is: a file of its own, since packages ask only this of all facts."""


def os_release():
    """Return /etc/os-release (or /usr/lib/os-release) as a dict of str."""
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
