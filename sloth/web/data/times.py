"""Spans of time that several pages speak of, in seconds."""

MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR
