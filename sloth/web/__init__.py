"""The web UI: pages and a JSON API over what the controller remembers, for `sloth-runner web`."""
