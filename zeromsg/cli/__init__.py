"""The command `zeromsg`: thin commands over the service and the client.

Exit codes: 0 done, 1 failed, 2 wrong use. Whatever goes wrong is one sentence
on stderr.
"""

from zeromsg.cli.commands import main

__all__ = ["main"]
