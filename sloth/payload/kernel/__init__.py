"""The kernel: what resources are, and the one place that decides what happens to them."""
