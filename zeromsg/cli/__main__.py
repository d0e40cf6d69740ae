"""`python -m zeromsg.cli` is `zeromsg`."""

from zeromsg.cli import main

main(prog_name="zeromsg")
