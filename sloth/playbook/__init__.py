"""The Lua room: the only place that imports lupa."""
