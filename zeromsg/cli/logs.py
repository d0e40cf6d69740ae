"""Where the log of `zeromsg run` goes: to stderr, as text or as one JSON object a line.

twistd writes the same lines with `--logger zeromsg.cli.logs.json_to_stdout`.
"""

import datetime
import json
import sys
from typing import TextIO

from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    formatEvent,
    globalLogBeginner,
    textFileLogObserver,
)
from zope.interface import implementer

from zeromsg.service.config import LogSettings


def begin(settings: LogSettings, stream: TextIO) -> None:
    """Send the log to a stream from now on."""
    observer = JsonLines(stream) if settings.format == "json" else textFileLogObserver(stream)
    filtered = FilteringLogObserver(observer, [_levels(settings.level)])
    globalLogBeginner.beginLoggingTo([filtered], redirectStandardIO=False)


def _levels(name: str) -> LogLevelFilterPredicate:
    """Our own loggers know their level; of libraries' chatter only warnings are wanted."""
    ours = LogLevel.levelWithName(name)
    others = ours if name in ("debug", "error") else LogLevel.warn
    levels = LogLevelFilterPredicate(defaultLogLevel=others)
    levels.setLogLevelForNamespace("zeromsg", ours)
    return levels


@implementer(ILogObserver)
class JsonLines:
    """Writes `{"time", "level", "from", "text", ...}` and the event's own plain fields.

    time: ISO 8601 in UTC. failure: the traceback, where there is one.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, event: LogEvent) -> None:
        self._stream.write(json_line(event) + "\n")
        self._stream.flush()


def json_line(event: LogEvent) -> str:
    """An event of Twisted's log as one line of JSON."""
    time = datetime.datetime.fromtimestamp(event.get("log_time", 0.0), datetime.UTC)
    level = event.get("log_level", LogLevel.info)
    values = {
        "time": time.isoformat(timespec="milliseconds"),
        "level": level.name,
        "from": event.get("log_namespace", ""),
        "text": formatEvent(event),
    }
    for name, value in event.items():
        # What Twisted adds has these names; objects are part of the text already.
        named = name.startswith("log_") or name in ("time", "message", "system", "format")
        if not named and isinstance(value, str | int | float | bool | None):
            values.setdefault(name, value)
    failure = event.get("log_failure")
    if failure is not None:
        values["failure"] = failure.getTraceback()
    return json.dumps(values)


def json_to_stdout() -> JsonLines:
    """An observer for `twistd --logger`."""
    return JsonLines(sys.stdout)
