"""Carrying a peerSend between two peers that cannot dial one another, over a neighbour of both.

A peer with a closed port is known to its neighbours alone, by its end of the
connection. Whoever learnt that name (of the neighbour, by `pex`, or from the
trace of a broadcast) asks a neighbour to hand a message on: `peerCarry`. The
neighbour checks it as it would a message to itself, gives it to the peer as an
ordinary peerSend, and gives the reply back the way the question came. It goes
over one neighbour and no further. Hash and signature are those of the author;
the one who carries can hold back or delay, and alter only what nobody signed.

Only zeromsg nodes that say so in their handshake are asked.
"""

from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from zeromsg.errors import TheirMistake, Unreachable
from zeromsg.interfaces import Answer, IPeerLink, IPeers, ISites
from zeromsg.policy.faces import speaks_of
from zeromsg.policy.fanout import choose
from zeromsg.policy.rate import Buckets, Frequency
from zeromsg.policy.recorder import Stopwatch
from zeromsg.policy.site_state import Recent
from zeromsg.policy.validation import Rejected, no_rules, validate
from zeromsg.routing.blame import Blame, Passed
from zeromsg.routing.deadlines import Deadlines
from zeromsg.routing.site_peers import SitePeers
from zeromsg.wire.names import (
    ALREADY_RECEIVED,
    CARRIED,
    CARRY,
    PEER_CARRY,
    PEER_SEND,
    THANKS,
    UNKNOWN_SITE,
)
from zeromsg.wire.packing import pack
from zeromsg.wire.peer_messages import Body, Envelope, parse_body, parse_envelope, text

CARRIED_LIMIT = 1000
"""Questions carried whose reply is still given back."""

CARRIED_SECONDS = 600.0
BURST = 20
PER_SECOND = 0.5
"""What is carried for one neighbour at once, and after that."""

ASKED_LIMIT = 4
"""Neighbours that are asked to carry one message."""

ANSWER_SECONDS = 5.0
"""What the peer has to take it before the neighbour is told that it is under way."""


@attrs.frozen
class _Carried:
    """A question under way: whose it is, and who alone may answer it."""

    asker: IPeerLink
    target: IPeerLink
    until: float


class Carrying:
    """Both ends of `peerCarry`, and who is between them.

    enabled: whether this node carries for others (`peers.relay_sends`).
    """

    def __init__(
        self,
        *,
        sites: ISites,
        site_peers: SitePeers,
        peers: IPeers,
        blame: Blame,
        deadlines: Deadlines,
        clock: IReactorTime,
        wall: Callable[[], float],
        raw_limit: int,
        enabled: bool,
    ) -> None:
        self._sites = sites
        self._rates: dict[str, Frequency] = {}
        self._site_peers = site_peers
        self._peers = peers
        self._blame = blame
        self._deadlines = deadlines
        self._clock = clock
        self._wall = wall
        self._raw_limit = raw_limit
        self._enabled = enabled
        self._carried: Recent[_Carried] = Recent(CARRIED_LIMIT)
        self._brought = Buckets(BURST, PER_SECOND)
        self._taken = Buckets(BURST, PER_SECOND)

    # Having something carried.

    def knows(self, site: str, name: str) -> bool:
        """Whether a neighbour is connected to the peer of that name."""
        return bool(self._site_peers.neighbours.links(site, name))

    async def carry(
        self, site: str, name: str, envelope: Envelope, asking: Callable[[str], None]
    ) -> None:
        """Let a neighbour hand a question to a peer. Raises Unreachable when none does.

        asking: told the name of each neighbour before it is asked, as the reply
        will come from there.
        """
        params = {"to": name, **envelope.to_wire()}
        for link in self._carriers(site, name):
            asking(link.name)
            try:
                answer = await link.ask(PEER_CARRY, params)
            except Unreachable:
                continue
            if "error" not in answer:
                return
        raise Unreachable("no neighbour is connected to it")

    def _carriers(self, site: str, name: str) -> list[IPeerLink]:
        """Those that named the peer; then a few that might know it."""
        first = self._site_peers.neighbours.links(site, name)
        others = [
            link
            for link in self._site_peers.members(site)
            if CARRY in link.features and link not in first
        ]
        return [*first, *choose(others, (), ASKED_LIMIT, self._site_peers.rng)][:ASKED_LIMIT]

    # Carrying for others.

    def requested(self, link: IPeerLink, req_id: Any, params: Mapping[Any, Any]) -> None:
        """A neighbour's `peerCarry`. It is always answered, at the latest after five seconds."""
        refusal = self._take(link, req_id, params)
        if refusal is not None:
            link.respond(req_id, {"error": refusal.text})
            self._blame.charge(link.identity, refusal.points, f"refused by {refusal.check}")

    def _take(self, link: IPeerLink, req_id: Any, params: Mapping[Any, Any]) -> Rejected | None:
        now = self._clock.seconds()
        if not self._enabled:
            return _refused("This node carries nothing")
        if not self._brought.allows(link.identity, now):
            return _refused("Too many messages to carry")
        self._brought.spoke(link.identity, now)
        try:
            name = text(params.get("to"), "to", 100)
            envelope = parse_envelope(params, self._raw_limit)
            body = parse_body(envelope.raw)
        except TheirMistake as mistake:
            return Rejected("envelope", mistake.points, str(mistake), False)
        if body.broadcast or body.to is not None:
            return _refused("Only questions to one peer are carried")
        signer = self._checked(link, envelope, body)
        if isinstance(signer, Rejected):
            return signer
        target = self._target(body.site, name, link)
        if target is None:
            return _refused(f"no-peer: Could not find peer {name}")
        if self._carried.get(envelope.hash) is not None:
            link.respond(req_id, {"warning": ALREADY_RECEIVED})
            return None
        self._carried.put(envelope.hash, _Carried(link, target, now + CARRIED_SECONDS))
        self._hand_over(link, req_id, envelope, Passed(body.site, link, signer, False), target)
        return None

    def _checked(self, link: IPeerLink, envelope: Envelope, body: Body) -> str | Rejected:
        """The signer of a message that this node would take itself, or why it would not."""
        site = self._sites.get(body.site)
        if site is None or not speaks_of(link.face, body.site):
            return _refused(UNKNOWN_SITE)
        if site.rules is None:
            return no_rules(body.site)
        verdict = validate(
            envelope,
            body,
            site.rules,
            self._rates.setdefault(body.site, Frequency()),
            link.identity,
            self._clock.seconds(),
            self._wall(),
            Stopwatch(perf_counter),
        )
        return verdict if isinstance(verdict, Rejected) else verdict.signed_by

    def _target(self, site: str, name: str, asker: IPeerLink) -> IPeerLink | None:
        link = self._peers.named(name, site)
        if link is None or link is asker or not self._site_peers.takes_part(site, link):
            return None
        return None if self._site_peers.speaking.deaf(link) else link

    def _hand_over(
        self, link: IPeerLink, req_id: Any, envelope: Envelope, passed: Passed, target: IPeerLink
    ) -> None:
        params = envelope.to_wire()
        if target.extension:
            # What its clients say of the message is the asker's affair, and flows back to it.
            params[CARRIED] = True
            passed.waiting.add(target)
            self._blame.passing(envelope.hash, passed)

        answered = False

        def respond(body: Answer) -> None:
            nonlocal answered
            if not answered:
                answered = True
                waiting.cancel()
                link.respond(req_id, body)

        waiting = self._deadlines.add(ANSWER_SECONDS, lambda: respond({"ok": THANKS}))
        sent = self._site_peers.send(passed.site, target, PEER_SEND, pack(params))
        sent.addCallbacks(
            lambda answer: respond(_said(answer)),
            lambda failure: respond(_unreachable(failure)),
        )

    def replied(self, link: IPeerLink, to: str, envelope: Envelope) -> None:
        """A reply that this node did not ask for: give it to whose question it answers."""
        carried = self._carried.get(to)
        if carried is None or carried.target is not link:
            return
        if self._clock.seconds() > carried.until:
            return
        self._carried.put(to, attrs.evolve(carried, until=float("-inf")))
        sent = self._site_peers.speaking.send(carried.asker, PEER_SEND, pack(envelope.to_wire()))
        sent.addErrback(lambda failure: failure.trap(Unreachable) and None)

    # Being brought something.

    def brought(self, link: IPeerLink, params: Mapping[Any, Any]) -> bool:
        """Whether a peerSend is another's, so that the neighbour cannot be blamed for it.

        Only so many of one neighbour are taken for that; it answers for the rest.
        """
        now = self._clock.seconds()
        if params.get(CARRIED) is not True or CARRY not in link.features:
            return False
        if not self._taken.allows(link.identity, now):
            return False
        self._taken.spoke(link.identity, now)
        return True


def _refused(sentence: str) -> Rejected:
    """What costs nothing."""
    return Rejected("carry", 0, sentence, final=False)


def _said(answer: Answer) -> Answer:
    error = answer.get("error")
    return {"ok": THANKS} if error is None else {"error": str(error)[:500]}


def _unreachable(failure: Failure) -> Answer:
    failure.trap(Unreachable)
    return {"error": "no-peer: Connection error"}
