"""``python -m katops``: the command line, for launchers that start modules."""

from katops.cli import main

main()
