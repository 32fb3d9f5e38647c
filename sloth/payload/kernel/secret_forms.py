"""The ways in which a secret may stand in a text: quoted, encoded, and line by line."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterator

LINE = 8  # characters of a line of a longer secret (a private key, say) from which on it is hidden by itself


def secret_forms(value: "str") -> "Iterator[str]":
    """Yield the ways in which `value` may stand in a text."""
    for form in _quoted(value):
        yield form
    raw = value.encode("utf-8", "surrogateescape")
    for form in _base64(raw):
        yield form
        if "+" in form or "/" in form:
            yield form.replace("+", "-").replace("/", "_")
    for safe in ("-._~", "-._~/"):
        plain_bytes = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789" + safe.encode("ascii")
        quoted = "".join(chr(byte) if byte in plain_bytes else "%%%02X" % byte for byte in raw)
        yield quoted
        yield quoted.replace("%20", "+")
    if len(value) >= LINE:  # names of hosts and of headers are written anew
        yield value.lower()
        yield value.upper()
    if "\n" in value:
        lines = value.splitlines()
        long = [line for line in lines if len(line.strip()) >= LINE]
        # A saved plan names forms by their number: what comes new is at the end.
        for line in long + [line for line in lines if line not in long and not _is_short(line)]:
            for form in _quoted(line.strip()):
                yield form
        for form in _short_lines(lines):
            yield form


def _is_short(line: "str") -> "bool":
    """Return whether a line of a longer secret may be any word; letters that JSON escapes make it less likely."""
    return sum(1 if char < "\x7f" else 6 for char in line.strip()) < LINE


def _short_lines(lines: "list[str]") -> "Iterator[str]":
    """Yield two or more short lines of a longer secret as they follow one another in a text or in a diff.

    One alone may be any word. Pairs are for diffs that show some of them only.
    """
    run: "list[str]" = []
    for line in [*lines, "x" * LINE]:
        if _is_short(line):
            run.append(line)
            continue
        for found in [run] + [run[at : at + 2] for at in range(len(run) - 1)]:
            if len(found) > 1 and sum(len(part.strip()) for part in found) >= LINE:
                for between in ("\n", "\n+", "\n-", "\n ", "\r\n", "\r\n+", "\r\n-", "\r\n "):
                    form = between.join(found).strip()
                    yield form
                    yield form.replace("\r", "\\r").replace("\n", "\\n")
        run = []


def _quoted(value: "str") -> "Iterator[str]":
    """Yield `value` as it is, and as error messages and configurations quote it."""
    import json

    yield value
    yield value.strip()
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    # repr() picks its quotes by the whole text, a shell closes and opens them, Lua has %q.
    shown = repr("'\"" + value)[4:-1]
    yield shown
    yield shown.replace("\\'", "'")
    yield value.replace("'", "'\"'\"'")
    yield value.replace("'", "'\\''")
    yield value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\\n").replace("\r", "\\13")
    markup = value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    yield markup
    yield markup.replace('"', "&quot;")
    yield markup.replace('"', "&quot;").replace("'", "&#x27;")


def _base64(raw: "bytes") -> "Iterator[str]":
    """Yield the base64 of a value: alone, in lines as tools write it, and within something longer."""
    import base64

    whole = base64.b64encode(raw).decode("ascii")
    yield whole
    for width in (76, 64):
        if len(whole) > width:
            for start in range(0, len(whole), width):
                if len(whole) - start >= LINE:
                    yield whole[start : start + width]
    for before in range(3):  # bytes of something else in the first group
        size = before + len(raw)
        found = base64.b64encode(b"\0" * before + raw).decode("ascii")[(0, 2, 3)[before] : size * 8 // 6]
        if len(found) >= LINE:
            yield found
