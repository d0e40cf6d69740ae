"""All kinds of trackers behind one interface, and the one place that refuses a kind.

In Tor's only mode nothing may leave by UDP, no name may be looked up and no
tracker be asked from this machine's own address: `direct=False` leaves just
zero:// trackers, over the links that the node makes through Tor.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.web.client import BrowserLikePolicyForHTTPS

from zeromsg.errors import Unreachable
from zeromsg.interfaces import Entropy
from zeromsg.net.resolving import Resolver
from zeromsg.net.tracker_http import HttpAnnouncer
from zeromsg.net.tracker_udp import UdpAnnouncer
from zeromsg.net.tracker_zero import LinkTo, SignOnion, ZeroAnnouncer
from zeromsg.wire.trackers import Announcement, Found, Tracker, TrackerKind
from zeromsg.wire.values import PeerAddress


class IAnnouncer(Protocol):
    """Asks trackers of one kind."""

    async def announce(self, tracker: Tracker, announcement: Announcement) -> Found:
        """Raises Unreachable, TheirMistake."""


class Trackers:
    """Trackers of every kind (`interfaces.ITrackers`).

    announcers: who asks which kind; kinds without one are refused.
    refusal: why those are.
    """

    def __init__(self, announcers: Mapping[TrackerKind, IAnnouncer], refusal: str) -> None:
        self._announcers = announcers
        self._refusal = refusal

    def refusal(self, tracker: Tracker) -> str:
        return "" if tracker.kind in self._announcers else self._refusal

    async def announce(self, tracker: Tracker, announcement: Announcement) -> Found:
        announcer = self._announcers.get(tracker.kind)
        if announcer is None:
            raise Unreachable(self._refusal)
        return await announcer.announce(tracker, announcement)


def all_trackers(
    *,
    reactor: Any,
    clock: IReactorTime,
    connector: Callable[[PeerAddress], IStreamClientEndpoint],
    link_to: LinkTo,
    sign_onion: SignOnion,
    peer_id: str,
    entropy: Entropy,
    interface: str,
    allow_private: bool,
    direct: bool,
) -> Trackers:
    """Trackers as a node asks them.

    reactor: for UDP and names; not touched unless `direct`.
    interface: the address UDP is sent from, "" lets the system choose.
    direct: False where Tor is the only way out.
    """
    names = reactor.nameResolver if direct else None
    resolver = Resolver(names, clock, allow_private)
    zero = ZeroAnnouncer(link_to=link_to, resolver=resolver, sign_onion=sign_onion)
    if not direct:
        return Trackers({"zero": zero}, "this node asks such trackers only without Tor")
    http = HttpAnnouncer(
        connector=connector,
        resolver=resolver,
        trust=BrowserLikePolicyForHTTPS(),
        clock=clock,
        peer_id=peer_id,
    )
    udp = UdpAnnouncer(
        reactor=reactor,
        resolver=resolver,
        clock=clock,
        peer_id=peer_id,
        entropy=entropy,
        interface=interface,
    )
    return Trackers({"zero": zero, "http": http, "https": http, "udp": udp}, "")
