"""`python -m sloth` is `sloth-runner`."""

from sloth.cli import command_line

command_line()
