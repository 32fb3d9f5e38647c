"""The web UI in a real browser, over data that real runs made."""
