"""`python -m sloth` is `sloth-runner`."""

from sloth.cli import main

main()
