"""Values as HTML: the templates' environment, in which everything is escaped and nothing acts on a browser."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from urllib.parse import quote, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from sloth.dates import UNKNOWN
from sloth.report.text import fold_names, neutral
from sloth.web.data.times import DAY, HOUR, MINUTE
from sloth.web.diffs import side_by_side
from sloth.web.plain import text

AHEAD = 2.0  # seconds that a clock may differ unseen
LONGEST = 20_000  # characters of one value on a page
HERE = Path(__file__).parent
_UNITS = ((DAY, "d"), (HOUR, "h"), (MINUTE, "min"))
# Not colour alone: every status has a sign and its word.
SIGNS = {
    "changed": "±",
    "unchanged": "=",
    "failed": "✗",
    "unreachable": "⚡",
    "running": "…",
    "interrupted": "■",
    "lost": "?",
    "drift": "≠",
    "clean": "=",
    "skipped": "–",
    "unknown": "?",
    "frozen": "❄",
    "ignored": "✗",
    "rescued": "✗",
    "retried": "↻",
    "orphaned": "○",
    "corrected": "↩",
    "put back": "↩",
    "over": "–",
    "would change": "±",
}
# Section, path, label.
NAVIGATION = (
    ("overview", "/", "Overview"),
    ("runs", "/runs", "Runs"),
    ("hosts", "/hosts", "Hosts"),
    ("drift", "/drift", "Drift"),
    ("resources", "/resources", "Resources"),
    ("shared", "/shared", "Shared"),
    ("plans", "/plans", "Plans"),
)


@cache
def environment(prefix: str = "") -> Environment:
    """Return the environment of the templates; prefix: the path below which the server is."""
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    made.filters |= {
        "when": when,
        "amount": amount,
        "seconds": seconds,
        "status": status,
        "number": number,
        "size": size,
        "shown": shown,
        "hosts": fold_names,
        "segment": segment,
        "sides": side_by_side,
    }
    made.globals |= {"prefix": prefix, "query": query_string, "now": time.time, "navigation": NAVIGATION}
    return made


def load_templates(prefix: str = "") -> None:
    """Compile all templates: else the first page of each kind takes twice as long."""
    templates = environment(prefix)
    for name in templates.list_templates():
        templates.get_template(name)


def _finalize(value: object) -> object:
    """Make a text harmless: controls, escapes and marks of direction are written out. None is nothing."""
    if value is None:
        return ""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return neutral(value if len(value) <= LONGEST else f"{value[:LONGEST]}… ({len(value) - LONGEST} characters more)")


def segment(value: str) -> str:
    """Return a text as one segment of a path. Names with "/" or ".." in them stay in it."""
    return quote(text(value), safe="").replace(".", "%2E" if set(value) == {"."} else ".")


def query_string(values: Mapping[str, object], **changes: object) -> str:
    """Return "?a=b" of values with changes; "" and None leave one out. Without a change of its own, the page is 1."""
    merged = {**values, **changes}
    if "page" not in changes:
        merged.pop("page", None)
    given = {name: text(str(value)) for name, value in merged.items() if value not in (None, "")}
    return "?" + urlencode(given) if given else "?"


def when(at: float | None, is_due: bool = False) -> Markup:
    """Return a time as its age, with the exact time for the browser to show as local.

    is_due: it is to come. Any other one that lies ahead is of a machine whose clock differs from this one's.
    """
    if not at:
        return Markup('<span class="none">never</span>')
    try:
        exact = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
    except (OverflowError, ValueError, OSError):  # a host or a backend may have sent any number
        return Markup('<span class="none">{}</span>').format(UNKNOWN)
    shown = exact.replace("T", " ").replace("Z", " UTC")
    passed = time.time() - at
    text = age(passed) if is_due or passed > -AHEAD else f"{seconds(-passed)} ahead (the clocks differ)"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(exact, shown, text)


def amount(count: int, one: str, more: str = "") -> str:
    """Return a number of things: "1 host", "2 hosts"."""
    return f"{number(count)} {one if count == 1 else more or one + 's'}"


def age(passed: float) -> str:
    """Return how long ago something was, in short."""
    if passed < -AHEAD:
        return "in " + seconds(-passed)
    passed = max(passed, 0)
    for length, unit in _UNITS:
        if passed >= length:
            return f"{int(passed // length)} {unit} ago"
    return f"{int(passed)} s ago"


def seconds(value: float | None) -> str:
    """Return a duration in short."""
    if value is None:
        return ""
    value = max(value, 0.0)  # a clock was set back
    if value < 0.0995:
        return f"{value * 1000:.0f} ms"
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def status(word: str | None) -> Markup:
    """Return a status with its sign; its class is only used when it is one that we know."""
    word = str(word or "")
    known = word.replace(" ", "-") if word in SIGNS else "other"
    sign = Markup('<span class="sign" aria-hidden="true">{}</span>').format(SIGNS.get(word, "·"))
    return Markup('<span class="status {}">{}{}</span>').format(known, sign, neutral(word or "–"))


def number(value: int | None) -> str:
    """Return a whole number with a thin space between thousands, "" for none."""
    return "" if value is None else f"{value:,}".replace(",", "\u2009")


def size(value: int | None) -> str:
    """Return a number of bytes in short."""
    if value is None:
        return ""
    amount = float(value)
    for unit in ("B", "KB", "MB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GB"


def shown(value: object) -> str:
    """Return plain data as text: a text as it is, a secret as that, the rest as JSON."""
    if value is None:
        return "–"
    if isinstance(value, dict) and set(value) == {"secret"}:
        return "(secret)"
    if isinstance(value, dict) and set(value) == {"sha256", "size"}:
        return f"{value['size']} bytes ({str(value['sha256'])[:12]})"
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)


@cache
def asset_tag(name: str) -> str:
    """Return a short hash of a file in static/, so that a browser may keep it for good."""
    import hashlib

    return hashlib.sha256((HERE / "static" / name).read_bytes()).hexdigest()[:12]
