"""Real hosts for tests: Debian machines booted by systemd-nspawn."""
