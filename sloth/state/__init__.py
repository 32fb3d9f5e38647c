"""The controller's own memory: replicas, run records, shared values and locks."""
