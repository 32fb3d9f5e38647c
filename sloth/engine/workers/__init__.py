"""Runs whose hosts are worked on by several processes of this machine: see docs/scale.md."""
