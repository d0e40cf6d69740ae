"""A node that writes down every attempt to reach something: `watched_node CONFIG REPORT`.

For the leak test. The report has one JSON object a line: `kind` (connect, send,
listen, resolve), `target`, and whether it was `allowed`.
"""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import globalLogBeginner, textFileLogObserver

from zeromsg.log import set_level
from zeromsg.net.guard import Attempt
from zeromsg.service import config
from zeromsg.service.assembly import NodeService


def main(arguments: Sequence[str]) -> None:
    """Run until SIGTERM."""
    from twisted.internet import reactor as installed

    reactor: Any = installed
    settings = config.load(Path(arguments[0]))
    set_level(settings.log.level)
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)
    # Unbuffered, so that nothing is lost however it ends.
    report = os.open(arguments[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def watched(attempt: Attempt) -> None:
        entry = {"kind": attempt.kind, "target": attempt.target, "allowed": attempt.allowed}
        os.write(report, json.dumps(entry).encode() + b"\n")

    service = NodeService(settings, reactor, watched=watched)

    def stopping() -> Deferred[Any]:
        return service.stopService()

    reactor.callWhenRunning(service.startService)
    reactor.addSystemEventTrigger("before", "shutdown", stopping)
    reactor.run()


if __name__ == "__main__":
    main(sys.argv[1:])
