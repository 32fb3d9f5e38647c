"""Accounts: created, changed and removed by the system's own tools, compared with the account databases."""
