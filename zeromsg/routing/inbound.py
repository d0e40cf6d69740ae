"""Peer messages that arrive: checks, clients, verdict, relay.

The path of a message, cheapest step first: envelope and hash, duplicate,
`raw`, site and rules, the rules' checks; then an answer to the neighbour, the
event to the site's clients, their verdict, the relay.
"""

from collections.abc import Callable, Mapping
from typing import Any

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from zeromsg.errors import TheirMistake
from zeromsg.interfaces import IClient, IPeerLink, ISites
from zeromsg.log import leveled
from zeromsg.policy.ballot import Verdict
from zeromsg.policy.rules import Rules
from zeromsg.policy.scoring import Scoring
from zeromsg.policy.seen import Met, Seen
from zeromsg.policy.site_state import Recent, SiteState
from zeromsg.policy.validation import Accepted, Rejected, no_rules, validate
from zeromsg.routing.delivery import Delivery, receive_event
from zeromsg.routing.relay import Relay
from zeromsg.routing.replies import Replies
from zeromsg.routing.site_peers import SitePeers
from zeromsg.wire.names import ALREADY_RECEIVED, THANKS, UNKNOWN_SITE
from zeromsg.wire.peer_messages import Body, Envelope, parse_body, parse_envelope

INVALID_POINTS = 10
"""What `peerInvalid` of the clients costs."""

_HOLDERS = 10_000


@attrs.frozen
class Origin:
    """Who sent a message: the name clients know, "self" for our own clients."""

    name: str


@attrs.define
class Counters:
    """Messages by what became of them."""

    received: int = 0
    accepted: int = 0
    duplicates: int = 0
    relayed: int = 0
    refused: dict[str, int] = attrs.field(factory=dict)


@attrs.frozen
class _Arrival:
    """One message on its way through the checks."""

    link: IPeerLink
    req_id: Any
    envelope: Envelope
    broadcast: bool


class Inbound:
    """Handles peerBroadcast and peerSend requests of peers."""

    _log = Logger(observer=leveled)

    def __init__(
        self,
        *,
        sites: ISites,
        states: Callable[[str], SiteState[Origin]],
        seen: Seen,
        scoring: Scoring,
        delivery: Delivery,
        replies: Replies,
        relay: Relay,
        site_peers: SitePeers,
        clock: IReactorTime,
        wall: Callable[[], float],
        raw_limit: int,
        ban: Callable[[str], None],
    ) -> None:
        self._sites = sites
        self._states = states
        self._seen = seen
        self._scoring = scoring
        self._delivery = delivery
        self._replies = replies
        self._relay = relay
        self._site_peers = site_peers
        self._clock = clock
        self._wall = wall
        self._raw_limit = raw_limit
        self._ban = ban
        # Who sent a copy of a message that waits for its verdict, and needs none back.
        self._holders: Recent[set[IPeerLink]] = Recent(_HOLDERS)
        self.counters = Counters()

    def arrived(
        self, link: IPeerLink, req_id: Any, params: Mapping[Any, Any], broadcast: bool
    ) -> None:
        """Handle one request; it is answered before this returns."""
        self.counters.received += 1
        try:
            envelope = parse_envelope(params, self._raw_limit)
        except TheirMistake as mistake:
            self._refuse(link, req_id, Rejected("envelope", mistake.points, str(mistake), False))
            return
        met = self._seen.get(envelope.digest)
        if met is not None and not (met is Met.UNSIGNED and envelope.signature):
            self._met_again(link, req_id, envelope)
            return
        arrival = _Arrival(link, req_id, envelope, broadcast)
        try:
            body = parse_body(envelope.raw)
        except TheirMistake as mistake:
            self._reject(arrival, Rejected("raw", mistake.points, str(mistake), final=True))
            return
        self._judge(arrival, body)

    def _met_again(self, link: IPeerLink, req_id: Any, envelope: Envelope) -> None:
        self.counters.duplicates += 1
        link.respond(req_id, {"warning": ALREADY_RECEIVED})
        if self._delivery.waiting:
            holders = self._holders.get(envelope.hash)
            if holders is not None:
                holders.add(link)

    def _judge(self, arrival: _Arrival, body: Body) -> None:
        if body.broadcast is not None and body.broadcast is not arrival.broadcast:
            # A question must not spread, nor a broadcast be taken for a question:
            # it would count as seen, and its relay be stopped.
            meant = "" if body.broadcast else "not "
            text = f"This message was {meant}meant to be broadcast"
            self._reject(arrival, Rejected("kind", 7, text, final=False))
            return
        site = self._sites.get(body.site)
        if site is None:
            self._reject(arrival, Rejected("site", 0, UNKNOWN_SITE, final=False))
            return
        rules = site.rules
        if rules is None:
            self._reject(arrival, no_rules(body.site))
            return
        link = arrival.link
        if self._is_banned(arrival.envelope):
            self._count_refused("banned")
            # No error: whoever passes it on cannot know, and ZeroNet nodes count errors.
            link.respond(arrival.req_id, {"warning": "The signer is banned here"})
            return
        verdict = validate(
            arrival.envelope,
            body,
            rules,
            self._states(body.site).frequency,
            link.identity,
            self._clock.seconds(),
        )
        if isinstance(verdict, Rejected):
            self._reject(arrival, verdict)
        else:
            self._accept(arrival, body, rules, verdict)

    def _is_banned(self, envelope: Envelope) -> bool:
        """Whether the address that claims to have signed is banned; a lie fares no better."""
        signer = envelope.signature.partition("|")[0]
        return bool(signer) and self._scoring.banned(_key_identity(signer), self._clock.seconds())

    def _reject(self, arrival: _Arrival, rejected: Rejected) -> None:
        if rejected.final:
            self._seen.add(arrival.envelope.digest, Met.REFUSED, self._wall())
        self._refuse(arrival.link, arrival.req_id, rejected)

    def _refuse(self, link: IPeerLink, req_id: Any, rejected: Rejected) -> None:
        self._count_refused(rejected.check)
        self._log.debug("{peer} refused by {check}", peer=link.name, check=rejected.check)
        link.respond(req_id, {"error": rejected.text})
        self._charge(link.identity, rejected.points)

    def _count_refused(self, check: str) -> None:
        refused = self.counters.refused
        refused[check] = refused.get(check, 0) + 1

    def _charge(self, identity: str, points: int) -> None:
        if points and self._scoring.charge(identity, points, self._clock.seconds()):
            self._ban(identity)

    def _accept(self, arrival: _Arrival, body: Body, rules: Rules, accepted: Accepted) -> None:
        link, envelope = arrival.link, arrival.envelope
        self.counters.accepted += 1
        met = Met.SIGNED if accepted.signed_by else Met.UNSIGNED
        self._seen.add(envelope.digest, met, self._wall())
        self._site_peers.joined(body.site, link)
        self._site_peers.understands(link)
        if body.to is not None and not arrival.broadcast:
            link.respond(arrival.req_id, {"ok": THANKS})
            self._replies.deliver(link.name, body.to, _as_reply(envelope, body, accepted))
            return
        envelope = envelope.traced(link.name) if arrival.broadcast else envelope
        hash = envelope.hash
        self._states(body.site).origins.put(hash, Origin(link.name))
        listeners = self._delivery.listeners(body.site)
        if listeners or body.immediate:
            event = _event(envelope, body, accepted, link.name, arrival.broadcast)
            if not listeners:
                self._delivery.keep(body.site, hash, event)
        self._await_verdict(arrival, body, rules, accepted, envelope, listeners)
        if listeners:
            self._delivery.show(listeners, event)
        # Only now: what was acknowledged is with a client or on disk.
        link.respond(arrival.req_id, {"ok": THANKS})

    def _await_verdict(
        self,
        arrival: _Arrival,
        body: Body,
        rules: Rules,
        accepted: Accepted,
        envelope: Envelope,
        listeners: tuple[IClient, ...],
    ) -> None:
        """Blame or relay once the clients have judged; at once where there are none."""
        link, site = arrival.link, body.site
        signer = accepted.signed_by
        blamed = _key_identity(signer) if signer else link.identity
        holders = {link}
        if listeners:
            self._holders.put(envelope.hash, holders)

        def settled(verdict: Verdict) -> None:
            if verdict is Verdict.REJECT:
                self._charge(blamed, INVALID_POINTS)
            elif verdict is Verdict.ACCEPT and arrival.broadcast:
                self.counters.relayed += self._relay.spread(site, envelope, holders)

        self._delivery.await_verdict(envelope.hash, listeners, rules.valid_timeout, settled)


def _key_identity(address: str) -> str:
    """Under which name a signer is scored, beside hosts."""
    return f"key:{address}"


def cert_text(accepted: Accepted) -> str:
    """`type/name@domain`, or "" without a certificate; pages split it unasked."""
    return accepted.cert.text if accepted.cert is not None else ""


def user_of(accepted: Accepted) -> dict[str, Any] | None:
    """A verified identity for events: `{"address", "id", "provider"}`, None if unsigned."""
    if not accepted.signed_by:
        return None
    cert = accepted.cert
    return {
        "address": accepted.signed_by,
        "id": cert.user_id if cert else None,
        "provider": cert.issuer if cert else None,
    }


def _as_reply(envelope: Envelope, body: Body, accepted: Accepted) -> dict[str, Any]:
    return {
        "hash": envelope.hash,
        "message": body.message,
        "signed_by": accepted.signed_by,
        "cert": cert_text(accepted),
        "timestamp": body.timestamp,
    }


def _event(envelope: Envelope, body: Body, accepted: Accepted, ip: str, broadcast: bool) -> str:
    return receive_event(
        ip=ip,
        hash=envelope.hash,
        message_text=body.message_text,
        signed_by=accepted.signed_by,
        cert=cert_text(accepted),
        site=body.site,
        broadcast=broadcast,
        timestamp=body.timestamp,
        user=user_of(accepted),
        trace=envelope.trace,
        with_trace=broadcast,
    )
