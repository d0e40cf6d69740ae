"""A node with a leak: `leaky_node LEAK CONFIG REPORT`. What the leak test has to find."""

import socket
import sys
from contextlib import suppress
from typing import Any

import attrs
import msgspec
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from twisted.logger import Logger

from zeromsg.net.peer_protocol import PeerProtocol
from zeromsg.routing.site_peers import SitePeers
from zeromsg.service.node import Node
from zeromsg.testing import watched_node
from zeromsg.wire.peer_messages import Envelope
from zeromsg.wire.values import PeerAddress, pack_address

OWN = "203.0.113.77"
"""Stands for the address of this machine, or of another one."""

log = Logger()


def at_start(leak: Any) -> None:
    """Do something when the node starts."""
    start = Node.start

    def leaking(self: Node) -> None:
        from twisted.internet import reactor

        start(self)
        with suppress(Exception):
            leak(reactor)

    Node.start = leaking  # type: ignore[method-assign]


def direct_dial() -> None:
    at_start(lambda reactor: reactor.connectTCP(OWN, 80, Factory()))


def loopback_dial() -> None:
    """To something of this machine that is not Tor."""
    at_start(lambda reactor: reactor.connectTCP("127.0.0.1", 9, Factory()))


def dns() -> None:
    at_start(
        lambda reactor: HostnameEndpoint(reactor, "tracker.invalid", 80).connect(
            Factory.forProtocol(Protocol)
        )
    )


def blocking_dns() -> None:
    at_start(lambda reactor: socket.gethostbyname("tracker.invalid"))


def udp_tracker() -> None:
    def leak(reactor: Any) -> None:
        port = reactor.listenUDP(0, DatagramProtocol(), interface="127.0.0.1")
        port.write(b"announce", (OWN, 6969))

    at_start(leak)


def listener() -> None:
    at_start(lambda reactor: reactor.listenTCP(0, Factory()))


def pex() -> None:
    exchange = SitePeers.exchange

    def leaking(self: SitePeers, *args: Any, **more: Any) -> Any:
        answer = exchange(self, *args, **more)
        answer["peers"].append(pack_address(PeerAddress(OWN, 26552)))
        return answer

    SitePeers.exchange = leaking  # type: ignore[method-assign]


def handshake() -> None:
    honest = Node._onion_handshake

    def leaking(self: Node, *args: Any) -> Any:
        return attrs.evolve(honest(self, *args), target_ip=OWN)

    Node._onion_handshake = leaking  # type: ignore[method-assign]


def trace() -> None:
    def leaking(self: Envelope, address: str) -> Envelope:
        return msgspec.structs.replace(self, trace=(f"{OWN}:26552",))

    Envelope.traced = leaking  # type: ignore[method-assign]


def ip_field() -> None:
    opened = PeerProtocol._opened

    def leaking(self: PeerProtocol, order: Any) -> None:
        opened(self, order)
        self.name = f"{OWN}:26552"

    PeerProtocol._opened = leaking  # type: ignore[method-assign]


def in_the_log() -> None:
    at_start(lambda reactor: log.info("reached at {host}", host=OWN))


LEAKS = {
    leak.__name__: leak
    for leak in (
        direct_dial,
        loopback_dial,
        dns,
        blocking_dns,
        udp_tracker,
        listener,
        pex,
        handshake,
        trace,
        ip_field,
        in_the_log,
    )
}

if __name__ == "__main__":
    LEAKS[sys.argv[1]]()
    watched_node.main(sys.argv[2:])
