"""The way through Tor: what its operator is told when a part of it is wrong."""

import random

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

from zeromsg.net.guard import Place
from zeromsg.service.config import Settings, TorSettings
from zeromsg.service.tor_side import PROBE_SECONDS, TorSide
from zeromsg.wire.values import PeerAddress

PEER = PeerAddress("vww6ybal4bd7szmgncyruucpgfkqahzddi37ktceo3ah7ngmcopnpyyd.onion", 26552)


class Stage:
    def __init__(self, folder, **tor):
        self.reactor = MemoryReactorClock()
        self.changes = 0
        rng = random.Random(1)
        settings = Settings(data_dir=folder, tor=TorSettings(mode="on", **tor))
        self.side = TorSide(settings, self.reactor, rng, rng.randbytes, None, self._changed)
        # As if the control connection were there; these tests are of the rest.
        self.side._tor.problem = ""

    def _changed(self):
        self.changes += 1

    @property
    def problem(self):
        return self.side.status()["problem"]

    def answer(self, data=None):
        """What the SOCKS port does with the last connection: refuses it, or says this."""
        factory = self.reactor.tcpClients[-1][2]
        if data is None:
            factory.clientConnectionFailed(None, Failure(ConnectionRefusedError()))
            return
        protocol = factory.buildProtocol(None)
        transport = StringTransport()
        transport.abortConnection = lambda: None
        protocol.makeConnection(transport)
        protocol.dataReceived(data)

    def dial(self):
        dialling = self.side.endpoint(PEER, "face").connect(Factory.forProtocol(Protocol))
        assert isinstance(dialling, Deferred)
        dialling.addErrback(lambda failure: None)


@pytest.fixture
def stage(tmp_path):
    return lambda **tor: Stage(tmp_path, **tor)


def test_a_socks_port_that_nobody_listens_at_stands_in_the_status(stage):
    tor = stage(socks="tcp:127.0.0.1:9999")
    tor.side._ready([Place.parse("127.0.0.1:9050")])
    # Nobody was dialled yet: it is tried for its own sake.
    tor.answer()
    assert "127.0.0.1:9999): look at tor.socks" in tor.problem and tor.changes == 1
    tries = len(tor.reactor.tcpClients)
    tor.reactor.advance(PROBE_SECONDS)
    assert len(tor.reactor.tcpClients) == tries + 1
    tor.answer(b"")
    assert tor.problem == "" and tor.changes == 2


def test_a_socks_port_that_is_none_stands_in_the_status(stage):
    tor = stage(socks="tcp:127.0.0.1:80")
    tor.dial()
    tor.answer(b"HTTP/1.1 400 Bad Request\r\n")
    assert "speaks no SOCKS" in tor.problem
    tor.dial()
    # The way through Tor is good, whatever became of the onion.
    tor.answer(b"\x05\x02" + b"\x01\x00" + b"\x05\xf0\x00\x01" + bytes(6))
    assert tor.problem == ""


def test_a_tor_without_a_socks_port_stands_in_the_status(stage):
    tor = stage()
    tor.side._ready([])
    assert tor.problem == "Tor has no SOCKS port on this machine: set SocksPort there"
    tor.side._ready([Place.parse("127.0.0.1:9050")])
    tor.answer(b"")
    assert tor.problem == ""


def test_what_is_wrong_with_tor_itself_comes_first(stage):
    tor = stage()
    tor.side._ready([])
    tor.side._tor.problem = "Tor closed the control connection"
    assert tor.problem == "Tor closed the control connection"
