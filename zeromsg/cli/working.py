"""Asynchronous work from a command line: the reactor, signals, exit codes."""

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import click
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import (
    ILogObserver,
    LogEvent,
    LogLevel,
    formatEvent,
    globalLogBeginner,
)
from twisted.python.failure import Failure
from zope.interface import provider

from zeromsg.client import Client, Node, NodeUnreachable, OnEvent, connect

INTERRUPTED = 130
"""Exit code of a command that a signal ended before it was done, as shells have it."""

_Result = TypeVar("_Result")


def work(job: Callable[[Any], Coroutine[Any, Any, int]], *, interrupted: int = INTERRUPTED) -> int:
    """Run the reactor until a job is done; returns its exit code, or raises its error.

    job: is given the reactor. Ctrl-C and SIGTERM cancel it; its `finally` may
    await, and the reactor waits for that.
    interrupted: the exit code then.
    """
    # Not above: nobody who only asks for --help should have a reactor installed.
    from twisted.internet import reactor as installed

    reactor: Any = installed
    outcome: list[int | Failure] = []

    def begin() -> None:
        running = Deferred.fromCoroutine(job(reactor))
        running.addBoth(outcome.append)
        running.addCallback(lambda _: stop())
        reactor.addSystemEventTrigger("before", "shutdown", end, running)

    def end(running: Deferred[Any]) -> Deferred[Any]:
        if not outcome:
            running.cancel()
        return running

    def stop() -> None:
        with suppress(ReactorNotRunning):  # a signal came first
            reactor.stop()

    reactor.callWhenRunning(begin)
    reactor.run()
    if not outcome:
        return interrupted
    result = outcome[0]
    if isinstance(result, Failure) and not result.check(CancelledError):
        result.raiseException()
    return interrupted if isinstance(result, Failure) else result


def hush() -> None:
    """Keep the log off the terminal: only what is critical shows, as one line on stderr."""

    @provider(ILogObserver)
    def observe(event: LogEvent) -> None:
        if event.get("log_level") == LogLevel.critical:
            failure = event.get("log_failure")
            more = f": {failure.getErrorMessage()}" if failure is not None else ""
            click.echo(f"{formatEvent(event)}{more}", err=True)

    globalLogBeginner.beginLoggingTo([observe], redirectStandardIO=False)


async def within(reactor: IReactorTime, seconds: float, waiting: Deferred[_Result]) -> _Result:
    """A call's result. Raises NodeUnreachable when the node leaves it unanswered."""

    def time_up(result: Any, seconds: float) -> Any:
        raise NodeUnreachable(f"the node gave no answer within {seconds:g} seconds")

    waiting.addTimeout(seconds, reactor, onTimeoutCancel=time_up)
    return await waiting


async def finish(waiting: Deferred[Any]) -> None:
    """Wait for what must be done in any case, even when cancelled meanwhile.

    Otherwise a second Ctrl-C would leave half of it.
    """
    over = False
    gate: Deferred[None] = Deferred()

    def finished(result: Any) -> None:
        nonlocal over
        over = True
        if not gate.called:
            gate.callback(None)

    waiting.addBoth(finished)
    while not over:
        gate = Deferred()
        with suppress(CancelledError):
            await gate


async def sleep(reactor: IReactorTime, seconds: float) -> None:
    await deferLater(reactor, seconds)


@asynccontextmanager
async def connected(
    reactor: Any, node: Node, site: str, on_event: OnEvent | None = None, key: str | None = None
) -> AsyncIterator[Client]:
    """A client that is closed in the end. key: see `client.connect`."""
    client = await connect(reactor, node, site, on_event, key)
    try:
        yield client
    finally:
        client.close()
        await client.closed
