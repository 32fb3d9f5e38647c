"""sloth-runner: agentless configuration of Linux fleets."""

__version__ = "0.1.0"
