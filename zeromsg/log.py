"""The node's log level, for every logger of this package.

Twisted's own observers write every level, so what is below the level stops
here, whoever writes the log. Addresses are logged at debug; message text, keys
and certificates never.
"""

from twisted.logger import (
    FilteringLogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogPublisher,
)

_levels = LogLevelFilterPredicate(defaultLogLevel=LogLevel.info)

leveled = FilteringLogObserver(globalLogPublisher, [_levels])
"""Observer for `Logger(observer=leveled)`."""


def debugging() -> bool:
    """Whether debug lines are written. For where each message of a flood would make one:
    the line costs a tenth of a refusal, even if it is thrown away."""
    return _levels.defaultLogLevel is LogLevel.debug


def set_level(name: str) -> None:
    """name: debug, info, warn or error."""
    _levels.defaultLogLevel = LogLevel.levelWithName(name)
    _levels.clearLogLevels()  # which goes back to the default
