"""Accounts: made, changed and removed by the system's own tools, compared with what the databases say."""
