"""Which peers take part in which site, and how they learn that we do.

A ZeroNet node sends a site's messages only to those that asked it something
about the site, so each new connection is introduced with a `pex` for every
site, and again every twenty minutes. Asking for a site that the other does
not hold costs ban points there, so we stop after a few refusals by nodes that
are not zeromsg.
"""

from collections import OrderedDict
from collections.abc import Coroutine, Iterable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from zeromsg.errors import TheirMistake, Unreachable
from zeromsg.interfaces import IPeerLink, ISites
from zeromsg.log import leveled
from zeromsg.wire.names import PEX, UNKNOWN_COMMAND
from zeromsg.wire.peer_messages import octets
from zeromsg.wire.values import PeerAddress, pack_address, unpack_address, unpack_onion

INTRODUCTION_SECONDS = 20 * 60.0
REFUSALS = 3
"""Unknown sites asked of one ZeroNet node: five points each there, and it sleeps above twenty."""

KNOWN_LIMIT = 200
"""Addresses remembered for each site."""

PEX_LIMIT = 50
"""Addresses taken from one message."""

DEAF_SECONDS = 24 * 3600.0
DEAF_LIMIT = 10_000

_KINDS = (
    ("peers", unpack_address),
    ("peers_ipv6", unpack_address),
    ("peers_onion", unpack_onion),
)


class SitePeers:
    """Membership of links in sites; addresses of further peers; who knows no peer messages."""

    _log = Logger(observer=leveled)

    def __init__(self, sites: ISites, clock: IReactorTime) -> None:
        self._sites = sites
        self._clock = clock
        self._members: dict[str, dict[IPeerLink, None]] = {}
        self._known: dict[str, OrderedDict[PeerAddress, None]] = {}
        self._deaf: OrderedDict[str, float] = OrderedDict()
        self._links: dict[IPeerLink, Deferred[None]] = {}
        self._again = LoopingCall(self._introduce_all)
        self._again.clock = clock

    def start(self) -> None:
        self._again.start(INTRODUCTION_SECONDS, now=False)

    def stop(self) -> None:
        if self._again.running:
            self._again.stop()
        for introduction in list(self._links.values()):
            introduction.cancel()

    def members(self, site: str) -> list[IPeerLink]:
        """Links of peers that take part in the site and may know peer messages."""
        return [link for link in self._members.get(site, ()) if not self._is_deaf(link)]

    def takes_part(self, site: str, link: IPeerLink) -> bool:
        return link in self._members.get(site, ())

    def joined(self, site: str, link: IPeerLink) -> None:
        """The peer showed that it takes part in the site."""
        if link in self._members.get(site, ()):
            return
        if link in self._links:
            self._members.setdefault(site, {})[link] = None
            if link.address is not None:
                self._remember(site, link.address)

    def opened(self, link: IPeerLink) -> None:
        self._links[link] = self._run(link, self._introduce(link))

    def closed(self, link: IPeerLink) -> None:
        introduction = self._links.pop(link, None)
        if introduction is not None:
            introduction.cancel()
        for members in self._members.values():
            members.pop(link, None)

    def _run(self, link: IPeerLink, work: Coroutine[Any, Any, Any]) -> Deferred[None]:
        running = Deferred.fromCoroutine(work)
        running.addErrback(self._failed, link)
        return running

    def _failed(self, failure: Failure, link: IPeerLink) -> None:
        if failure.check(TheirMistake):
            link.drop(str(failure.value))
        elif not failure.check(CancelledError):
            self._log.failure("introduction failed", failure)

    def left(self, site: str) -> None:
        """A site is held no more."""
        self._members.pop(site, None)
        self._known.pop(site, None)

    def introduce(self, site: str) -> None:
        """Tell every peer of a site that is new here, but those that know."""
        for link in list(self._links):
            if not self.takes_part(site, link):
                self._run(link, self._introduce_one(link, site))

    def _introduce_all(self) -> None:
        for link, earlier in list(self._links.items()):
            if earlier.called:
                self._links[link] = self._run(link, self._introduce(link))

    async def _introduce(self, link: IPeerLink) -> None:
        refusals = 0
        for site in self._sites.addresses():
            if not await self._introduce_one(link, site):
                refusals += 1
            if refusals >= REFUSALS and not link.extension:
                self._log.debug("{peer} holds few of our sites", peer=link.name)
                return

    async def _introduce_one(self, link: IPeerLink, site: str) -> bool:
        """Whether the peer knows the site."""
        peers: list[bytes] = []
        try:
            answer = await link.ask(PEX, {"site": site, "peers": peers, "need": 5})
        except Unreachable:
            return True
        if "error" in answer:
            return False
        self.joined(site, link)
        self.learn(site, answer)
        return True

    def learn(self, site: str, message: Any) -> None:
        """Addresses out of a pex request or answer. Raises TheirMistake on malformed ones."""
        for key, unpack in _KINDS:
            packed = message.get(key)
            if packed is None:
                continue
            if not isinstance(packed, list):
                raise TheirMistake(f"{key} is no list")
            for item in packed[:PEX_LIMIT]:
                try:
                    address = unpack(octets(item, key, 64))
                except TheirMistake as mistake:
                    if mistake.points:
                        raise
                    # An onion with a wrong checksum: ZeroNet nodes pass those on unseen.
                    continue
                # Whoever names a private address could make us knock at our own network.
                if address.port and not address.is_private:
                    self._remember(site, address)

    def _remember(self, site: str, address: PeerAddress) -> None:
        known = self._known.setdefault(site, OrderedDict())
        known[address] = None
        known.move_to_end(address)
        if len(known) > KNOWN_LIMIT:
            known.popitem(last=False)

    def known(self, site: str) -> list[PeerAddress]:
        """Addresses of the site's peers, those heard of last first."""
        return list(reversed(self._known.get(site, OrderedDict())))

    def exchange(self, site: str, link: IPeerLink, need: int) -> dict[str, list[bytes]]:
        """Packed addresses of the site's peers for a pex answer."""
        answer: dict[str, list[bytes]] = {"peers": [], "peers_ipv6": [], "peers_onion": []}
        keys = {"ipv4": "peers", "ipv6": "peers_ipv6", "onion": "peers_onion"}
        connected = (member.address for member in self._members.get(site, ()))
        wanted = self._presentable([*connected, *self.known(site)], link)
        for address in list(wanted)[: min(need, PEX_LIMIT)]:
            answer[keys[address.kind]].append(pack_address(address))
        return answer

    @staticmethod
    def _presentable(
        addresses: Iterable[PeerAddress | None], asker: IPeerLink
    ) -> dict[PeerAddress, None]:
        return {
            address: None
            for address in addresses
            if address is not None and not address.is_private and address != asker.address
        }

    def heard(self, link: IPeerLink, answer: Any) -> None:
        """Look at the answer to a peer message: nodes without the plugin do not know it."""
        error = answer.get("error")
        if isinstance(error, str) and error.startswith(UNKNOWN_COMMAND):
            self._deaf[link.name] = self._clock.seconds() + DEAF_SECONDS
            if len(self._deaf) > DEAF_LIMIT:
                self._deaf.popitem(last=False)

    def understands(self, link: IPeerLink) -> None:
        """The peer sent a peer message itself."""
        self._deaf.pop(link.name, None)

    def _is_deaf(self, link: IPeerLink) -> bool:
        return bool(self._deaf) and self._deaf.get(link.name, 0.0) > self._clock.seconds()

    def capable(self, link: IPeerLink) -> bool:
        """Whether peer messages may be sent to it."""
        return not self._is_deaf(link)
