"""Connections in memory: pairs of transports joined over a fake clock, with latency and loss."""

import random
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import (
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
    TimeoutError,
)
from twisted.internet.interfaces import (
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
    ITransport,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from zeromsg.wire.values import PeerAddress


@attrs.frozen
class Weather:
    """What the network is like.

    latency: seconds one way. loss: share of writes that vanish, 0 to 1. What
    is lost is a whole write, so the stream stays readable: it stands for a
    peer that drops messages, not for TCP.
    """

    latency: float = 0.01
    loss: float = 0.0


@implementer(ITransport)
class MemoryTransport:
    """One end of a connection. Written bytes arrive at the other end later, in order."""

    disconnecting = False

    def __init__(
        self,
        clock: IReactorTime,
        rng: random.Random,
        weather: Weather,
        host: PeerAddress,
        peer: PeerAddress,
    ) -> None:
        self._clock = clock
        self._rng = rng
        self._weather = weather
        self._host = host
        self._peer = peer
        self._other: MemoryTransport | None = None
        self.protocol: IProtocol | None = None
        self.connected = True
        self._paused = False
        self._kept: list[bytes] = []

    def join(self, other: "MemoryTransport") -> None:
        self._other, other._other = other, self

    # ITransport, as far as our protocols use it.

    def write(self, data: bytes) -> None:
        if not self.connected or self.disconnecting:
            return
        if self._weather.loss and self._rng.random() < self._weather.loss:
            return
        self._clock.callLater(self._weather.latency, self._deliver, data)

    def writeSequence(self, data: Any) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """Close once what was written has arrived."""
        if self.connected and not self.disconnecting:
            self.disconnecting = True
            self._clock.callLater(self._weather.latency, self._close, ConnectionDone())

    def abortConnection(self) -> None:
        """Close now; what is under way is lost."""
        if self.connected:
            self._close(ConnectionLost())

    def getPeer(self) -> Any:
        return IPv4Address("TCP", self._peer.host, self._peer.port)

    def getHost(self) -> Any:
        return IPv4Address("TCP", self._host.host, self._host.port)

    def pauseProducing(self) -> None:
        """Keep what arrives until `resumeProducing`."""
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        kept, self._kept = self._kept, []
        for data in kept:
            self._receive(data)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Nothing is ever full here, so nobody is paused."""

    def unregisterProducer(self) -> None:
        """See registerProducer."""

    def setTcpNoDelay(self, enabled: bool) -> None:
        """There is no TCP."""

    # The other end.

    def _deliver(self, data: bytes) -> None:
        if self._other is not None:
            self._other._receive(data)

    def _receive(self, data: bytes) -> None:
        if self._paused:
            self._kept.append(data)
        elif self.connected and self.protocol is not None:
            self.protocol.dataReceived(data)

    def _close(self, reason: Exception) -> None:
        self._end(reason)
        other = self._other
        if other is not None:
            self._clock.callLater(self._weather.latency, other._end, ConnectionDone())

    def _end(self, reason: Exception) -> None:
        if self.connected:
            self.connected = False
            if self.protocol is not None:
                self.protocol.connectionLost(Failure(reason))


Accept = Callable[[PeerAddress], IProtocol | None]
"""A listener: told where a connection comes from, it gives a protocol or refuses."""


@implementer(IStreamClientEndpoint)
@attrs.frozen
class SilentEndpoint:
    """Leads to a firewall that drops everything.

    seconds: until the dialler gives up, as real endpoints do by themselves.
    """

    clock: IReactorTime
    seconds: float

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        waiting: Deferred[IProtocol] = Deferred(lambda _: given_up.cancel())
        given_up = self.clock.callLater(self.seconds, waiting.errback, TimeoutError())
        return waiting


@implementer(IStreamClientEndpoint)
@attrs.frozen
class MemoryEndpoint:
    """Connects to whoever listens at an address when the connection is made."""

    clock: IReactorTime
    rng: random.Random
    weather: Weather
    source: PeerAddress
    target: PeerAddress
    listener: Callable[[PeerAddress], Accept | None]

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        accept = self.listener(self.target)
        accepted = accept(self.source) if accept is not None else None
        if accepted is None:
            return fail(ConnectionRefusedError())
        near = MemoryTransport(self.clock, self.rng, self.weather, self.source, self.target)
        far = MemoryTransport(self.clock, self.rng, self.weather, self.target, self.source)
        near.join(far)
        near.protocol = protocolFactory.buildProtocol(far.getHost())
        far.protocol = accepted
        assert near.protocol is not None
        far.protocol.makeConnection(far)
        near.protocol.makeConnection(near)
        return succeed(near.protocol)
