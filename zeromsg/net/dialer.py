"""Peer addresses to Twisted endpoints."""

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import ConnectError, ConnectingCancelledError, DNSLookupError
from twisted.internet.interfaces import IReactorTCP, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol

from zeromsg.errors import Unreachable
from zeromsg.wire.values import PeerAddress

CONNECT_SECONDS = 10
CHECK_SECONDS = 5.0
"""What a peer's port has to open when the peer asks us to try it."""

DIAL_ERRORS = (
    ConnectError,
    ConnectingCancelledError,
    DNSLookupError,
    DeferredTimeout,
    OSError,
    ValueError,
)
"""What can become of a connection attempt."""


class Dialer:
    """Where connections to peers begin.

    source: the host to connect from, for nodes that listen on one address of
    many: others file a peer under the address it comes from. None lets the
    system choose.
    """

    def __init__(self, reactor: IReactorTCP, source: str | None) -> None:
        self._reactor = reactor
        self._source = source

    def endpoint_for(self, address: PeerAddress) -> IStreamClientEndpoint:
        """Raises Unreachable for a kind of address that this node has no way to."""
        if address.kind == "ipv4":
            return TCP4ClientEndpoint(
                self._reactor, address.host, address.port, CONNECT_SECONDS, self._bind(":")
            )
        if address.kind == "ipv6":
            return TCP6ClientEndpoint(
                self._reactor, address.host, address.port, CONNECT_SECONDS, self._bind(".")
            )
        raise Unreachable("this node has no Tor to reach onions with")

    def _bind(self, foreign: str) -> tuple[str, int] | None:
        """The source, unless it is of the other family: IPv6 has colons, IPv4 dots."""
        if self._source is None or foreign in self._source:
            return None
        return (self._source, 0)


async def can_connect(
    connector: Callable[[PeerAddress], IStreamClientEndpoint],
    address: PeerAddress,
    clock: IReactorTime,
) -> bool:
    """Whether something listens at an address."""
    try:
        connecting = connector(address).connect(Factory.forProtocol(Protocol))
        connecting.addTimeout(CHECK_SECONDS, clock)
        knocked: Any = await connecting
    except (Unreachable, *DIAL_ERRORS):
        return False
    knocked.transport.loseConnection()
    return True
