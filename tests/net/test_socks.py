"""The SOCKS endpoint, against a scripted proxy in memory."""

import random

import pytest
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from zeromsg.net.socks import CONNECT_SECONDS, PROXY_SECONDS, SocksEndpoint
from zeromsg.protocol.socks import Problem, SocksFailed
from zeromsg.testing.transports import MemoryEndpoint, Weather
from zeromsg.wire.values import PeerAddress

ONION = "b" * 56 + ".onion"
OPENED = b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"


class Proxy(Protocol):
    """Answers what it is told to; remembers all it heard."""

    def __init__(self, answers: list[bytes], close: bool = False) -> None:
        self.answers = answers
        self.close = close
        self.heard = b""
        self.lost = False

    def dataReceived(self, data: bytes) -> None:
        self.heard += data
        if self.answers:
            self.transport.write(self.answers.pop(0))
        elif self.close:
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure) -> None:
        self.lost = True


class Peer(Protocol):
    """What is connected through the proxy."""

    def __init__(self) -> None:
        self.received = b""
        self.reason: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure) -> None:
        self.reason = reason


class Stage:
    def __init__(self, proxy: Proxy, user: str = "") -> None:
        self.clock = Clock()
        self.proxy = proxy
        here, there = PeerAddress("127.0.0.1", 1000), PeerAddress("127.0.0.1", 9050)
        near = MemoryEndpoint(
            self.clock,
            random.Random(1),
            Weather(),
            here,
            there,
            lambda target: lambda source: proxy,
        )
        self.endpoint = SocksEndpoint(near, ONION, 26552, self.clock, user=user)
        self.result: list[object] = []

    def connect(self, factory: Factory | None = None) -> "Deferred[object]":
        connecting = self.endpoint.connect(factory or Factory.forProtocol(Peer))
        connecting.addBoth(self.result.append)
        for _ in range(10):
            self.clock.advance(0.01)
        return connecting

    def problem(self) -> Problem:
        (failure,) = self.result
        assert isinstance(failure, Failure)
        assert isinstance(failure.value, SocksFailed), failure
        return failure.value.problem


def test_the_greeting_of_a_server_that_speaks_first_arrives() -> None:
    stage = Stage(Proxy([b"\x05\x02", b"\x01\x00", OPENED + b"hello"]), user="face")
    stage.connect()
    (peer,) = stage.result
    assert isinstance(peer, Peer)
    assert peer.received == b"hello"
    assert ONION.encode() in stage.proxy.heard
    stage.proxy.transport.write(b", peer")
    stage.clock.advance(0.1)
    assert peer.received == b"hello, peer"
    stage.proxy.transport.loseConnection()
    stage.clock.advance(0.1)
    stage.clock.advance(0.1)
    assert peer.reason is not None and peer.reason.check(ConnectionDone)


def test_a_refusal_closes_the_connection_to_the_proxy() -> None:
    stage = Stage(Proxy([b"\x05\x00", b"\x05\xf0\x00\x01" + bytes(6)]))
    stage.connect()
    assert stage.problem() is Problem.NO_DESCRIPTOR
    assert stage.proxy.lost


def test_a_proxy_that_closes_midway() -> None:
    stage = Stage(Proxy([b"\x05\x00"], close=True))
    stage.connect()
    assert stage.problem() is Problem.CLOSED_EARLY


def test_a_silent_proxy_is_given_up_on() -> None:
    stage = Stage(Proxy([]))
    stage.connect()
    assert stage.result == []
    stage.clock.advance(CONNECT_SECONDS)
    assert stage.problem() is Problem.TIMEOUT
    stage.clock.advance(0.1)
    assert stage.proxy.lost


def test_cancelling_leaves_nothing_open() -> None:
    stage = Stage(Proxy([b"\x05\x00"]))
    stage.connect().cancel()
    stage.clock.advance(0.1)
    assert stage.proxy.lost
    (failure,) = stage.result
    assert isinstance(failure, Failure)


def test_a_factory_that_wants_nobody() -> None:
    class Nobody(Factory):
        def buildProtocol(self, addr: object) -> None:
            return None

    stage = Stage(Proxy([b"\x05\x00", OPENED]))
    stage.connect(Nobody())
    assert stage.problem() is Problem.GENERAL
    stage.clock.advance(0.1)
    assert stage.proxy.lost


@implementer(IStreamClientEndpoint)
class Broken:
    """A proxy that is not there, or never takes the connection."""

    def __init__(self, silent: bool) -> None:
        self.silent = silent

    def connect(self, factory: IProtocolFactory) -> "Deferred[object]":
        return Deferred() if self.silent else fail(ConnectionRefusedError())


@pytest.mark.parametrize("silent", [False, True])
def test_without_a_proxy_nothing_is_said_of_the_peer(silent: bool) -> None:
    clock = Clock()
    results: list[Failure] = []
    endpoint = SocksEndpoint(Broken(silent), ONION, 1, clock)
    endpoint.connect(Factory.forProtocol(Peer)).addErrback(results.append)
    clock.advance(PROXY_SECONDS)
    assert results[0].value.problem is Problem.NO_PROXY
    assert results[0].value.ours


def test_a_host_that_socks_cannot_carry_is_refused_at_once() -> None:
    with pytest.raises(ValueError):
        SocksEndpoint(Broken(True), "x" * 300, 1, Clock())
