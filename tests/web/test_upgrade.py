"""From an HTTP request to a WebSocket, through Twisted's own HTTP channel on a fake clock."""

import txaio
from autobahn.twisted.resource import WebSocketResource
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.web.server import Site as HttpSite

from zeromsg.net.client_protocol import ClientFactory, ClientLimits
from zeromsg.testing.gate import MemoryGate
from zeromsg.testing.plain_client import TEXT, frame, upgrade_text
from zeromsg.web.pages import Pages

SITE = "1" + "a" * 30
KEY = "0" * 64
HTTP_TIMEOUT = 60


class Calls:
    """Routing, as a client's connection sees it: answers pings."""

    def client_opened(self, client):
        pass

    def client_closed(self, client):
        pass

    def called(self, client, call):
        client.respond(call.id, "pong")


class Gate(MemoryGate):
    """With one site."""

    def __init__(self, clients):
        super().__init__()
        self.keys = {SITE: KEY}
        self._clients = clients

    def upgrade(self, site, user, trusted):
        return WebSocketResource(self._clients.for_site(site, user, trusted))


def opened(monkeypatch):
    """A clock, and a transport over which a connection waits for its first request."""
    clock = Clock()
    # autobahn's own timers, its pings among them, rest.
    monkeypatch.setattr(txaio.config, "loop", Clock())
    clients = ClientFactory(clock, Calls(), ClientLimits(message=1000, unsent=1000, clients=1))
    http = HttpSite(Pages(Gate(clients), bytes, clock.seconds), timeout=HTTP_TIMEOUT, reactor=clock)
    channel = http.buildProtocol(None)
    transport = StringTransport()
    transport.protocol = channel
    channel.makeConnection(transport)
    return clock, transport


def test_an_idle_websocket_outlives_the_timeout_of_http(monkeypatch):
    clock, transport = opened(monkeypatch)
    transport.protocol.dataReceived(upgrade_text("127.0.0.1", 43110, KEY, {"User-Agent": "test"}))
    assert transport.value().startswith(b"HTTP/1.1 101 ")
    transport.clear()
    for _ in range(100):
        clock.advance(HTTP_TIMEOUT)
    assert not transport.disconnecting and not transport.disconnected
    transport.protocol.dataReceived(frame(TEXT, b'{"cmd":"ping","id":1}'))
    clock.advance(0)  # what one turn brings is written at its end
    assert b'"result":"pong"' in transport.value()


def test_an_idle_connection_without_a_request_does_not(monkeypatch):
    clock, transport = opened(monkeypatch)
    clock.advance(HTTP_TIMEOUT + 1)
    assert transport.disconnecting or transport.disconnected
