"""Runs a site's tasks over hosts; the only package that knows both Lua and SSH."""
