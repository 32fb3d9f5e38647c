"""Where shared state lives: one small interface, and a file for each kind of server."""
