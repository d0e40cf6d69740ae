"""Names of hosts to addresses: the one place where this node looks a name up.

Only the operator's own words are looked up, never what a stranger said. A name
that leads to this machine or into its network is refused unless the network is
a private one: who controls a tracker's name could have us knock there.
"""

from collections.abc import Sequence
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IReactorTime,
    IResolutionReceiver,
)
from zope.interface import implementer

from zeromsg.errors import Unreachable
from zeromsg.wire.values import PeerAddress

RESOLVE_SECONDS = 10.0
ADDRESSES_LIMIT = 8
"""Addresses of a name that are considered."""


@implementer(IResolutionReceiver)
class _Receiver:
    """Collects what a look-up brings."""

    def __init__(self) -> None:
        self.done: Deferred[Sequence[str]] = Deferred()
        self._hosts: dict[str, None] = {}

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """Look-ups that take too long are left alone: threads cannot be stopped."""

    def addressResolved(self, address: IAddress) -> None:
        if isinstance(address, IPv4Address | IPv6Address):
            self._hosts[address.host] = None

    def resolutionComplete(self) -> None:
        if not self.done.called:
            self.done.callback(list(self._hosts))


class Resolver:
    """Looks names up.

    names: the reactor's resolver; None where no name may be looked up (Tor).
    allow_private: whether names may lead to loopback and private addresses.
    """

    def __init__(
        self, names: IHostnameResolver | None, clock: IReactorTime, allow_private: bool
    ) -> None:
        self._names = names
        self._clock = clock
        self._allow_private = allow_private

    async def addresses(self, host: str, port: int) -> list[PeerAddress]:
        """The addresses of a host, IPv4 first; at least one. Raises Unreachable.

        An address is its own, private or not: whoever configured it meant it.
        """
        try:
            return [PeerAddress(host, port)]
        except ValueError:
            pass
        found = [_address(text, port) for text in await self._look_up(host)]
        known = [address for address in found if address is not None]
        allowed = [address for address in known if self._allow_private or not address.is_private]
        if known and not allowed:
            raise Unreachable(f"{host} is an address of a private network")
        if not allowed:
            raise Unreachable(f"{host} has no address")
        return sorted(allowed[:ADDRESSES_LIMIT], key=lambda address: address.kind)

    async def _look_up(self, host: str) -> Sequence[str]:
        if self._names is None:
            raise Unreachable("names of hosts are not looked up in this mode")
        receiver = _Receiver()
        receiver.done.addTimeout(RESOLVE_SECONDS, self._clock)
        self._names.resolveHostName(receiver, host)
        try:
            return await receiver.done
        except DeferredTimeout:
            raise Unreachable(f"looking {host} up takes too long") from None


def _address(host: Any, port: int) -> PeerAddress | None:
    try:
        return PeerAddress.parse(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    except ValueError:
        return None  # with a zone, for instance
