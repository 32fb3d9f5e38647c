"""Tests of the backends, with real servers."""
