"""Turns a run's events into what people and machines read."""
