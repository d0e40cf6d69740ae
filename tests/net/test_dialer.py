"""Where connections to peers begin, and from which host."""

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionRefusedError, DNSLookupError, TimeoutError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock

from zeromsg.errors import Unreachable
from zeromsg.net.dialer import CHECK_SECONDS, CONNECT_SECONDS, Dialer, can_connect
from zeromsg.wire.values import PeerAddress

ONION = "duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad.onion"


@pytest.fixture
def reactor():
    return MemoryReactorClock()


def dialled(reactor, source, target):
    """What the reactor is asked for: host, port, timeout, source."""
    endpoint = Dialer(reactor, source).endpoint_for(PeerAddress.parse(target))
    endpoint.connect(Factory.forProtocol(Protocol)).addErrback(lambda failure: None)
    ((host, port, _, timeout, bind),) = reactor.tcpClients
    return host, port, timeout, bind


@pytest.mark.parametrize(
    ("source", "target", "host", "bind"),
    [
        (None, "203.0.113.9:7", "203.0.113.9", None),
        ("127.0.0.2", "203.0.113.9:7", "203.0.113.9", ("127.0.0.2", 0)),
        (None, "[2001:db8::1]:7", "2001:db8::1", None),
        ("::1", "[2001:db8::1]:7", "2001:db8::1", ("::1", 0)),
        # A source of the other family says nothing about this one.
        ("::1", "203.0.113.9:7", "203.0.113.9", None),
        ("127.0.0.2", "[2001:db8::1]:7", "2001:db8::1", None),
    ],
)
def test_addresses_become_connections(reactor, source, target, host, bind):
    assert dialled(reactor, source, target) == (host, 7, CONNECT_SECONDS, bind)


def test_nothing_is_resolved(reactor):
    """Peer addresses are numbers; the reactor is not asked for names."""
    dialled(reactor, None, "203.0.113.9:7")
    assert not hasattr(reactor, "lookups") or reactor.lookups == {}


def test_onions_need_tor(reactor):
    with pytest.raises(Unreachable, match="Tor"):
        Dialer(reactor, None).endpoint_for(PeerAddress.parse(f"{ONION}:80"))


# can_connect


class Endpoint:
    def __init__(self, answer):
        self._answer = answer

    def connect(self, factory):
        return self._answer(factory)


class Knocked:
    def __init__(self):
        self.closed = False

    def loseConnection(self):
        self.closed = True


def result_of(clock, answer):
    found = []
    address = PeerAddress("203.0.113.9", 7)
    work = can_connect(lambda target: Endpoint(answer), address, clock)
    Deferred.fromCoroutine(work).addCallback(found.append)
    return found


def test_an_open_port_is_knocked_at_and_left(clock):
    transport = Knocked()

    def answer(factory):
        protocol = factory.buildProtocol(None)
        protocol.transport = transport
        return succeed(protocol)

    assert result_of(clock, answer) == [True]
    assert transport.closed


@pytest.mark.parametrize(
    "problem",
    [ConnectionRefusedError(), TimeoutError(), DNSLookupError(), OSError(), Unreachable()],
)
def test_a_closed_port(clock, problem):
    assert result_of(clock, lambda factory: fail(problem)) == [False]


def test_a_port_that_is_silent(clock):
    found = result_of(clock, lambda factory: Deferred())
    clock.advance(CHECK_SECONDS - 0.1)
    assert found == []
    clock.advance(0.2)
    assert found == [False]


def test_an_address_that_cannot_be_dialled(clock):
    def connector(target):
        raise Unreachable("no way")

    found = []
    work = can_connect(connector, PeerAddress("203.0.113.9", 7), clock)
    Deferred.fromCoroutine(work).addCallback(found.append)
    assert found == [False]


def test_checks_end_before_a_peer_loses_patience():
    """A request has to be answered within ten seconds."""
    assert CHECK_SECONDS < 10
