"""Dates for people. A time may come from a host or a backend, and so be any number."""

from __future__ import annotations

import time

UNKNOWN = "an unknown time"


def local_date(at: float, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """Return an epoch time as a date of this machine's zone; UNKNOWN for what is no date."""
    try:
        return time.strftime(form, time.localtime(at))
    except (OverflowError, ValueError, OSError):
        return UNKNOWN
