"""Benchmarks against other tools. Run them with `python -m bench`."""
