"""Connections through Tor's SOCKS port, as an endpoint.

Names go to Tor as they are, nothing is looked up here. What the other end says
in the same segment as the proxy's reply is handed on. Cancelling closes the
connection to the proxy. Errors are `SocksFailed`, each code told apart.
"""

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import (
    IAddress,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from zeromsg.protocol.socks import Problem, SocksConversation, SocksFailed

PROXY_SECONDS = 5.0
"""What the proxy, on this machine, has to take a connection."""

CONNECT_SECONDS = 30.0
"""What Tor has to reach an onion. Left alone it tries for two minutes, where it holds an
old descriptor in vain; the next try fetches the new one."""


class _Through(Protocol):
    """A connection to the proxy that becomes one to the peer."""

    def __init__(
        self, conversation: SocksConversation, factory: IProtocolFactory, ready: Deferred[IProtocol]
    ) -> None:
        self._conversation = conversation
        self._factory = factory
        self._ready = ready
        self._inner: IProtocol | None = None

    @property
    def _stream(self) -> Any:
        return self.transport

    def connectionMade(self) -> None:
        self._stream.write(self._conversation.begin())

    def dataReceived(self, data: bytes) -> None:
        if self._inner is not None:
            self._inner.dataReceived(data)
            return
        if self._ready.called:
            return
        try:
            out = self._conversation.receive(data)
        except SocksFailed as failed:
            self._fail(failed)
            return
        if out:
            self._stream.write(out)
        if self._conversation.done:
            self._open()

    def _open(self) -> None:
        inner = self._factory.buildProtocol(self._stream.getPeer())
        if inner is None:
            self._fail(SocksFailed(Problem.GENERAL))
            return
        self._inner = inner
        inner.makeConnection(self._stream)
        self._ready.callback(inner)
        rest = self._conversation.rest
        if rest:
            inner.dataReceived(rest)

    def _fail(self, problem: Exception) -> None:
        if not self._ready.called:
            self._ready.errback(problem)
        self._stream.abortConnection()

    def give_up(self) -> None:
        """Close what has not become a connection to the peer."""
        if self._inner is None and self.transport is not None:
            self._stream.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._inner is not None:
            self._inner.connectionLost(reason)
        elif not self._ready.called:
            self._ready.errback(SocksFailed(Problem.CLOSED_EARLY))


class _OneConnection(Factory):
    """Gives the endpoint of the proxy the protocol made for it."""

    noisy = False

    def __init__(self, protocol: _Through) -> None:
        self._protocol = protocol

    def buildProtocol(self, addr: IAddress | None) -> _Through:
        return self._protocol


@implementer(IStreamClientEndpoint)
class SocksEndpoint:
    """A host behind a SOCKS proxy.

    proxy: where the proxy is. user: what keeps these streams apart from others.
    seconds: what the whole may take. told: how it ended, None for well.
    The constructor raises ValueError for a host or name that SOCKS cannot carry.
    """

    def __init__(
        self,
        proxy: IStreamClientEndpoint,
        host: str,
        port: int,
        clock: IReactorTime,
        *,
        user: str = "",
        seconds: float = CONNECT_SECONDS,
        told: Callable[[Problem | None], None] = lambda problem: None,
    ) -> None:
        SocksConversation(host, port, user)
        self._proxy = proxy
        self._target = (host, port, user)
        self._clock = clock
        self._seconds = seconds
        self._told = told

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Fires with the protocol. Fails with SocksFailed, or CancelledError."""
        return Deferred.fromCoroutine(self._connect(protocolFactory)).addCallbacks(
            self._connected, self._failed
        )

    def _connected(self, protocol: IProtocol) -> IProtocol:
        self._told(None)
        return protocol

    def _failed(self, failure: Failure) -> Failure:
        if isinstance(failure.value, SocksFailed):
            self._told(failure.value.problem)
        return failure

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        ready: Deferred[IProtocol] = Deferred()
        through = _Through(SocksConversation(*self._target), factory, ready)
        connecting = self._proxy.connect(_OneConnection(through))
        connecting.addTimeout(PROXY_SECONDS, self._clock)
        try:
            await connecting
        except CancelledError:
            raise
        except (ConnectError, DeferredTimeout, OSError):
            raise SocksFailed(Problem.NO_PROXY) from None
        ready.addTimeout(self._seconds, self._clock)
        try:
            return await ready
        except DeferredTimeout:
            through.give_up()
            raise SocksFailed(Problem.TIMEOUT) from None
        except CancelledError:
            through.give_up()
            raise
