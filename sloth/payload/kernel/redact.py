"""Hides the values of secrets, by value, in whatever is shown or stored."""

MASK = "********"
SHORTEST = 4  # characters; a shorter value would garble every text, so it is hidden only where it stands alone
LINE = 8  # characters of a line of a longer secret (a private key, say) from which on it is hidden by itself


class Mask(object):
    """Knows the values of secrets. Also finds them in base64, quoted for JSON or a URL, and line by line."""

    def __init__(self, values=()):
        self._values = set()
        self._pattern = None
        self.add(values)

    def add(self, values):
        """Hide these values (iterable of str), too; an empty one hides nothing."""
        fresh = set(value for value in values if value) - self._values
        if fresh:
            import re

            self._values |= fresh
            forms = set(form for value in self._values for form in _forms(value) if len(form) >= SHORTEST)
            longest_first = sorted(forms, key=lambda form: (-len(form), form))
            self._pattern = re.compile("|".join(re.escape(form) for form in longest_first)) if forms else None

    def __bool__(self):
        return bool(self._values)

    def text(self, text):
        """Return `text` (str) without the secrets in it."""
        if text in self._values:
            return MASK
        return self._pattern.sub(MASK, text) if self._pattern else text

    def data(self, value):
        """Return plain data (dicts, lists, scalars) without the secrets in its texts and names."""
        if not self._values:
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return dict((self.data(key), self.data(item)) for key, item in value.items())
        if isinstance(value, (list, tuple)):
            return [self.data(item) for item in value]
        return value

    def holds(self, value):
        """Whether plain data has a secret in it."""
        return bool(self._values) and self.data(value) != (list(value) if isinstance(value, tuple) else value)


def _forms(value):
    """The ways in which `value` may stand in a text."""
    import base64
    import json

    raw = value.encode("utf-8", "surrogateescape")
    quoted = "".join(chr(byte) if chr(byte).isalnum() or chr(byte) in "-._~" else "%%%02X" % byte for byte in raw)
    forms = [value, value.strip(), base64.b64encode(raw).decode("ascii"), quoted]
    forms += [json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]]
    if "\n" in value:
        forms += [line.strip() for line in value.splitlines() if len(line.strip()) >= LINE]
    return forms
