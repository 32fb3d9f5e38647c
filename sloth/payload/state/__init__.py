"""The state file of an account: records, history, handlers and the contents that were replaced."""
