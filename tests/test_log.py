"""The level decides what is written, whoever writes the log."""

import pytest
from twisted.logger import Logger, LogLevel, globalLogPublisher

from zeromsg.log import debugging, leveled, set_level


@pytest.fixture
def written():
    events = []
    globalLogPublisher.addObserver(events.append)
    yield events
    globalLogPublisher.removeObserver(events.append)
    set_level("info")


@pytest.mark.parametrize("level", ["debug", "info", "warn", "error"])
def test_what_is_below_the_level_is_not_written(written, level):
    set_level(level)
    log = Logger(namespace="zeromsg.tests", observer=leveled)
    levels = [LogLevel.debug, LogLevel.info, LogLevel.warn, LogLevel.error]
    for each in levels:
        log.emit(each, "text")
    least = LogLevel.levelWithName(level)
    ours = [event["log_level"] for event in written if event["log_namespace"] == "zeromsg.tests"]
    assert ours == [each for each in levels if each >= least]
    assert debugging() is (LogLevel.debug in ours)
