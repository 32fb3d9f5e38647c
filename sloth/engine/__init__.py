"""Runs a site's tasks over hosts; the only room that knows both Lua and SSH."""
