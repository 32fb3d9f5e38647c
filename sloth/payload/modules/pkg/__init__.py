"""Packages: what is installed, by the system's own package manager."""
