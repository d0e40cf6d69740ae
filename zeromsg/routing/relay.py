"""Handing a broadcast to the peers of its site."""

import random
from collections.abc import Callable, Collection

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from zeromsg.errors import Unreachable
from zeromsg.interfaces import Answer, IPeerLink
from zeromsg.policy.ballot import Verdict
from zeromsg.routing.blame import Blame, Passed
from zeromsg.routing.deadlines import Deadlines
from zeromsg.routing.keeping import Keeping
from zeromsg.routing.site_peers import SitePeers
from zeromsg.wire.names import PEER_BROADCAST, UNHEARD, WANT_VERDICT
from zeromsg.wire.packing import pack
from zeromsg.wire.peer_messages import Envelope
from zeromsg.wire.values import PeerAddress

_TRIES = 3
"""How often a message is sent to a neighbour that wants us to hear its verdicts first."""

PROBE_SECONDS = 6.0
"""What one neighbour has to judge a doubtful message before the others get it all the same."""


class Relay:
    """Sends envelopes on; the parameters are packed once for all peers.

    push_own: what this node's own clients say goes through Tor alone.
    """

    def __init__(
        self,
        site_peers: SitePeers,
        keeping: Keeping,
        rng: random.Random,
        blame: Blame,
        deadlines: Deadlines,
        push_own: bool = False,
    ) -> None:
        self._site_peers = site_peers
        self._keeping = keeping
        self._rng = rng
        self._blame = blame
        self._deadlines = deadlines
        self._push_own = push_own

    def takes_own(self, link: IPeerLink) -> bool:
        """Whether a message of this node's own clients may go this way."""
        return bool(link.face) or not self._push_own

    def takes_own_to(self, address: PeerAddress) -> bool:
        """The same for somebody who would have to be dialled."""
        return address.kind == "onion" or not self._push_own

    def spread(self, site: str, envelope: Envelope) -> int:
        """A message of our own to every connected peer of the site; returns how many."""
        links = [link for link in self._site_peers.members(site) if self.takes_own(link)]
        if not links:
            return 0
        packed = pack(envelope.to_wire())
        return sum(self._send(site, link, packed) for link in links)

    def pass_on(
        self,
        envelope: Envelope,
        passed: Passed,
        holders: Collection[IPeerLink],
        relayed: Callable[[Envelope, int], None],
    ) -> None:
        """A peer's message to the peers of its site that do not have it and would want it.

        What comes from where neighbours objected lately goes to one of them
        first, and to the others unless it is rejected there.
        holders: who has it; more may come to have it while it waits.
        relayed: told how many it went to, each time.
        """
        links = self._wanting(passed, holders)
        self._blame.passing(envelope.hash, passed)
        judging = [link for link in links if link.extension]
        if not self._blame.is_doubtful(passed) or not judging or len(links) == 1:
            self._hand_out(envelope, passed, links, relayed)
            return
        first = self._rng.choice(self._blame.who_judges(judging) or judging)
        waiting = self._deadlines.add(PROBE_SECONDS, lambda: answered(None))

        def answered(verdict: Verdict | None) -> None:
            waiting.cancel()
            passed.answered = None
            # Then even those may get it that would be sent nothing doubtful.
            passed.vouched = verdict is Verdict.ACCEPT
            if verdict is not Verdict.REJECT and verdict is not Verdict.IGNORE:
                others = [link for link in self._wanting(passed, holders) if link is not first]
                self._hand_out(envelope, passed, others, relayed)

        passed.answered = answered
        passed.waiting.add(first)
        probe = pack({**envelope.to_wire(), WANT_VERDICT: True})
        self._send(passed.site, first, probe, passed)
        relayed(envelope, 1)

    def _wanting(self, passed: Passed, holders: Collection[IPeerLink]) -> list[IPeerLink]:
        return [
            link
            for link in self._site_peers.members(passed.site)
            if link not in holders and self._blame.wanted_by(passed, link)
        ]

    def _hand_out(
        self,
        envelope: Envelope,
        passed: Passed,
        links: list[IPeerLink],
        relayed: Callable[[Envelope, int], None],
    ) -> None:
        if links:
            packed = pack(envelope.to_wire())
            for link in links:
                if link.extension:
                    passed.waiting.add(link)
                self._send(passed.site, link, packed, passed)
            relayed(envelope, len(links))

    def reach_further(self, site: str, envelope: Envelope, count: int) -> None:
        """Dial up to `count` peers of the site that are not connected, and send it to them."""
        packed = pack(envelope.to_wire())
        for address in self.unconnected(site, count):
            dialled = self.dial(address, site)
            dialled.addCallbacks(self._dialled, _unreachable, callbackArgs=(site, packed))

    def _dialled(self, link: IPeerLink, site: str, packed: bytes) -> None:
        self._send(site, link, packed)

    def unconnected(self, site: str, count: int) -> list[PeerAddress]:
        """At most `count` known peers of the site to dial for a message of our own."""
        return self._keeping.unconnected(site, count, onions=self._push_own)

    def dial(self, address: PeerAddress, site: str) -> Deferred[IPeerLink]:
        """A link to one of these. Fails with Unreachable."""
        return self._keeping.dial(address, site)

    def _send(
        self,
        site: str,
        link: IPeerLink,
        packed: bytes,
        passed: Passed | None = None,
        tries: int = _TRIES,
    ) -> bool:
        """Whether it is on its way. passed: what it is, unless it is our own."""
        answered: Deferred[Answer] = self._site_peers.send(site, link, PEER_BROADCAST, packed)
        # It has failed already where too much is under way.
        taken = not answered.called
        answered.addCallbacks(
            self._answered, _unreachable, callbackArgs=(site, link, packed, passed, tries - 1)
        )
        return taken

    def _answered(
        self,
        answer: Answer,
        site: str,
        link: IPeerLink,
        packed: bytes,
        passed: Passed | None,
        tries: int,
    ) -> None:
        # Its verdicts came before this answer; so now we know whether to send it again.
        if (
            tries
            and answer.get("warning") == UNHEARD
            and (passed is None or self._blame.wanted_by(passed, link))
        ):
            self._send(site, link, packed, passed, tries)


def _unreachable(failure: Failure) -> None:
    # A broadcast is not repeated: other peers carry it.
    failure.trap(Unreachable)
