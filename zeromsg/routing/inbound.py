"""Peer messages that arrive: checks, clients, verdict, relay.

The path of a message, cheapest step first: envelope and hash, duplicate,
`raw`, site and rules, the rules' checks; then an answer to the neighbour, the
event to the site's clients, their verdict, the relay.
"""

from collections.abc import Callable, Collection, Mapping
from itertools import islice
from time import perf_counter
from typing import Any

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from zeromsg.errors import TheirMistake
from zeromsg.interfaces import IClient, IPeerLink, ISite, ISites
from zeromsg.log import leveled
from zeromsg.policy.ballot import Verdict
from zeromsg.policy.faces import speaks_of
from zeromsg.policy.recorder import Recorder, Stopwatch
from zeromsg.policy.rules import Rules
from zeromsg.policy.seen import Met, Seen
from zeromsg.policy.shedding import Shedding
from zeromsg.policy.signers import Signers
from zeromsg.policy.site_state import Recent, SiteState
from zeromsg.policy.validation import Accepted, Rejected, no_rules, validate
from zeromsg.routing.blame import Blame, Passed, key_identity
from zeromsg.routing.carrying import Carrying
from zeromsg.routing.delivery import Delivery, receive_event
from zeromsg.routing.history import History
from zeromsg.routing.refusing import Refusing, broken
from zeromsg.routing.relay import Relay
from zeromsg.routing.replies import Replies
from zeromsg.routing.site_peers import SitePeers
from zeromsg.wire.names import (
    ALREADY_RECEIVED,
    P2P_JSON,
    THANKS,
    UNHEARD,
    UNKNOWN_SITE,
    WANT_VERDICT,
)
from zeromsg.wire.peer_messages import Body, Envelope, parse_body, parse_envelope

_HOLDERS = 10_000


@attrs.frozen
class Origin:
    """Who sent a message: the name clients know, "self" for our own clients."""

    name: str


@attrs.define
class Counters:
    """Messages by what became of them."""

    refused: Mapping[str, int]
    received: int = 0
    accepted: int = 0
    duplicates: int = 0
    relayed: int = 0


@attrs.frozen
class _Arrival:
    """One message on its way through the checks.

    asks: it wants to hear our verdict. carried: the neighbour hands on another's question.
    """

    link: IPeerLink
    req_id: Any
    envelope: Envelope
    broadcast: bool
    asks: bool
    carried: bool
    watch: Stopwatch


class Inbound:
    """Handles peerBroadcast and peerSend requests of peers."""

    _log = Logger(observer=leveled)

    def __init__(
        self,
        *,
        sites: ISites,
        states: Callable[[str], SiteState[Origin]],
        seen: Seen,
        blame: Blame,
        recorder: Recorder,
        shedding: Shedding[IPeerLink],
        signers: Signers,
        history: History,
        delivery: Delivery,
        replies: Replies,
        relay: Relay,
        site_peers: SitePeers,
        carrying: Carrying,
        clock: IReactorTime,
        wall: Callable[[], float],
        raw_limit: int,
    ) -> None:
        self._sites = sites
        self._states = states
        self._seen = seen
        self._blame = blame
        self._recorder = recorder
        self._shedding = shedding
        self._signers = signers
        self._history = history
        self._delivery = delivery
        self._replies = replies
        self._relay = relay
        self._site_peers = site_peers
        self._carrying = carrying
        self._clock = clock
        self._wall = wall
        self._raw_limit = raw_limit
        self._refusing = Refusing(blame, shedding, clock)
        # Who sent a copy of a message that waits for its verdict, and needs none back.
        self._holders: Recent[set[IPeerLink]] = Recent(_HOLDERS)
        self.counters = Counters(refused=self._refusing.counts)

    def arrived(
        self, link: IPeerLink, req_id: Any, params: Mapping[Any, Any], broadcast: bool
    ) -> None:
        """Handle one request; it is answered before this returns."""
        self.counters.received += 1
        watch = Stopwatch(perf_counter)
        try:
            envelope = parse_envelope(params, self._raw_limit)
        except TheirMistake as mistake:
            self._refusing.refuse(link, req_id, broken("envelope", mistake), watch)
            return
        body: Body | None = None
        if link.face:
            # Before anything is looked up: whether a message was seen here, a link may
            # hear of its own site alone.
            body = self._body_for(link, req_id, envelope, watch)
            if body is None:
                return
        met = self._seen.get(envelope.digest)
        if met is not None and not (met is Met.UNSIGNED and envelope.signature):
            self._met_again(link, req_id, envelope)
            return
        watch.check("seen", True)
        asks = params.get(WANT_VERDICT) is True and link.extension > 0
        carried = not broadcast and self._carrying.brought(link, params)
        arrival = _Arrival(link, req_id, envelope, broadcast, asks, carried, watch)
        if body is None:
            try:
                body = parse_body(envelope.raw)
            except TheirMistake as mistake:
                self._reject(arrival, "", _noted(watch, broken("raw", mistake)))
                return
        self._judge(arrival, body)

    def _body_for(
        self, link: IPeerLink, req_id: Any, envelope: Envelope, watch: Stopwatch
    ) -> Body | None:
        """What a message to an onion of ours says, None where it was refused for that."""
        try:
            body = parse_body(envelope.raw)
        except TheirMistake as mistake:
            # Not final: that it was met is no affair of other onions either.
            rejected = attrs.evolve(broken("raw", mistake), final=False)
            self._refusing.refuse(link, req_id, _noted(watch, rejected), watch, envelope)
            return None
        if not speaks_of(link.face, body.site):
            unknown = Rejected("site", 0, UNKNOWN_SITE, final=False)
            self._refusing.refuse(link, req_id, _noted(watch, unknown), watch, envelope)
            return None
        return body

    def _met_again(self, link: IPeerLink, req_id: Any, envelope: Envelope) -> None:
        self.counters.duplicates += 1
        self._shedding.useless(link)
        link.respond(req_id, {"warning": ALREADY_RECEIVED})
        record = self._recorder.get(envelope.digest)
        if record is not None:
            record.again(link.name)
        if self._delivery.waiting:
            holders = self._holders.get(envelope.hash)
            if holders is not None:
                holders.add(link)

    def _judge(self, arrival: _Arrival, body: Body) -> None:
        """The checks that need the site, and then those of its rules."""
        before = self._refusing.repeated(arrival.link, arrival.envelope)
        outcome = before or self._outcome(arrival, body)
        if isinstance(outcome, Rejected):
            self._reject(arrival, body.site, outcome)
        else:
            self._accept(arrival, body, *outcome)

    def _outcome(self, arrival: _Arrival, body: Body) -> Rejected | tuple[Rules, Accepted]:
        watch, envelope = arrival.watch, arrival.envelope
        if body.broadcast is not None and body.broadcast is not arrival.broadcast:
            # A question must not spread, nor a broadcast be taken for a question:
            # it would count as seen, and its relay be stopped.
            meant = "" if body.broadcast else "not "
            text = f"This message was {meant}meant to be broadcast"
            return _noted(watch, Rejected("kind", 7, text, final=False, ours=True))
        site = self._sites.get(body.site)
        if site is None:
            return _noted(watch, Rejected("site", 0, UNKNOWN_SITE, final=False))
        rules = site.rules
        if rules is None:
            if _awaits_rules(site):
                return _noted(watch, Rejected("site", 0, UNKNOWN_SITE, final=False))
            return _noted(watch, no_rules(body.site))
        if self._is_banned(envelope):
            return _noted(watch, Rejected("banned", 0, "The signer is banned here", final=False))
        if arrival.broadcast and self._blame.is_behind(arrival.link):
            # It stops what it can once it hears, and sends the rest again.
            return _noted(watch, Rejected("unheard", 0, UNHEARD, final=False))
        watch.check("site", True)
        verdict = validate(
            envelope,
            body,
            rules,
            self._states(body.site).frequency,
            arrival.link.identity,
            self._clock.seconds(),
            self._wall(),
            watch,
        )
        return verdict if isinstance(verdict, Rejected) else (rules, verdict)

    def _is_banned(self, envelope: Envelope) -> bool:
        """Whether the address that claims to have signed is banned; a lie fares no better."""
        signer = envelope.signature.partition("|")[0]
        return bool(signer) and self._blame.is_banned(key_identity(signer))

    def _reject(self, arrival: _Arrival, site: str, rejected: Rejected) -> None:
        link, envelope, now = arrival.link, arrival.envelope, self._wall()
        if rejected.final and not self._refusing.is_ours(link, rejected):
            # What costs nothing must not push out what was really met.
            self._seen.add(envelope.digest, Met.REFUSED, now)
        record = self._recorder.copy(envelope.digest, link.name, rejected.check, arrival.watch, now)
        record.site = record.site or site
        self._refusing.refuse(link, arrival.req_id, rejected, arrival.watch, envelope)

    def _accept(self, arrival: _Arrival, body: Body, rules: Rules, accepted: Accepted) -> None:
        link, envelope = arrival.link, arrival.envelope
        self.counters.accepted += 1
        self._shedding.useful(link)
        met = Met.SIGNED if accepted.signed_by else Met.UNSIGNED
        self._seen.add(envelope.digest, met, self._wall())
        record = self._recorder.copy(
            envelope.digest, link.name, "accepted", arrival.watch, self._wall()
        )
        record.site = body.site
        self._site_peers.joined(body.site, link)
        self._site_peers.understands(link)
        others = self._note_signer(body.site, accepted)
        if body.to is not None and not arrival.broadcast:
            link.respond(arrival.req_id, {"ok": THANKS})
            reply = _as_reply(envelope, body, accepted, others)
            if not self._replies.deliver(link.name, body.to, reply):
                self._carrying.replied(link, body.to, envelope)
            return
        if arrival.broadcast:
            self._site_peers.traced(body.site, link, envelope.trace)
        envelope = envelope.traced(link.name) if arrival.broadcast else envelope
        hash = envelope.hash
        self._states(body.site).origins.put(hash, Origin(link.name))
        listeners = self._delivery.listeners(body.site)
        record.clients += len(listeners)
        remembered = arrival.broadcast and self._history.wanted(body.site)
        if listeners or body.immediate or remembered:
            event = _event(envelope, body, accepted, others, link.name, arrival.broadcast)
            if body.immediate and self._delivery.keep(body.site, hash, event, listeners):
                record.queued = True
        self._await_verdict(
            arrival,
            body.site,
            rules,
            accepted.signed_by,
            envelope,
            listeners,
            event if remembered else None,
        )
        if listeners:
            self._delivery.show(listeners, event)
        # Only now: what was acknowledged is with a client or on disk, or waits for a full disk.
        link.respond(arrival.req_id, {"ok": THANKS})

    def _note_signer(self, site: str, accepted: Accepted) -> tuple[str, ...]:
        """Learn the key of who signed; other addresses that its user ID has shown."""
        if not accepted.signed_by:
            return ()
        user_id = accepted.cert.user_id if accepted.cert is not None else None
        others = self._signers.met(
            site, accepted.signed_by, accepted.public_key, user_id, self._wall()
        )
        if others:
            self._log.debug("{user} has shown several addresses", user=user_id)
        return others

    def _await_verdict(
        self,
        arrival: _Arrival,
        site: str,
        rules: Rules,
        signer: str,
        envelope: Envelope,
        listeners: tuple[IClient, ...],
        remember: str | None,
    ) -> None:
        """Blame or relay once the clients have judged; at once where there are none.

        remember: the event that goes into the site's history if they accept it.
        """
        link = arrival.link
        heard = self._blame.heard_by(link)
        holders = {link}
        if listeners:
            self._holders.put(envelope.hash, holders)

        def settled(verdict: Verdict, judged: bool) -> None:
            record = self._recorder.get(envelope.digest)
            if record is not None and judged:
                record.verdict = verdict.value
            opinion = verdict if judged else None
            self._blame.judged(link, envelope.hash, signer, opinion, heard, arrival.carried)
            if arrival.asks and opinion is not Verdict.REJECT:
                self._blame.tell(link, envelope.hash, opinion)
            if verdict is Verdict.ACCEPT and remember is not None:
                self._history.add(site, remember)
            if verdict is Verdict.ACCEPT and arrival.broadcast:
                passed = Passed(site, link, signer, judged, heard)
                self._relay.pass_on(envelope, passed, holders, self._relayed)

        self._delivery.await_verdict(envelope.hash, listeners, rules.valid_timeout, settled)

    def _relayed(self, envelope: Envelope, count: int) -> None:
        self.counters.relayed += count
        record = self._recorder.get(envelope.digest)
        if record is not None:
            record.relays += count


def _awaits_rules(site: ISite) -> bool:
    """Whether the site is being fetched, and its rules are not here yet."""
    if site.own:
        return False
    return site.content is None or any(path == P2P_JSON for path, _ in islice(site.missing(), 1))


def _noted(watch: Stopwatch, rejected: Rejected) -> Rejected:
    watch.check(rejected.check, False)
    return rejected


def cert_text(accepted: Accepted) -> str:
    """`type/name@domain`, or "" without a certificate; pages split it unasked."""
    return accepted.cert.text if accepted.cert is not None else ""


def user_of(accepted: Accepted, others: Collection[str] = ()) -> dict[str, Any] | None:
    """A verified identity for events: `{"address", "id", "provider"}`, None if unsigned.

    others: further addresses that the user ID has shown; then one of them may
    be an impostor's, and `other_addresses` says so.
    """
    if not accepted.signed_by:
        return None
    cert = accepted.cert
    return {
        "address": accepted.signed_by,
        "id": cert.user_id if cert else None,
        "provider": cert.issuer if cert else None,
        **({"other_addresses": list(others)} if others else {}),
    }


def conflict_of(accepted: Accepted, others: Collection[str]) -> dict[str, Any]:
    """`user` for a reply, which has it only where its signer may be an impostor."""
    return {"user": user_of(accepted, others)} if others else {}


def _as_reply(
    envelope: Envelope, body: Body, accepted: Accepted, others: Collection[str]
) -> dict[str, Any]:
    return {
        "hash": envelope.hash,
        "message": body.message,
        "signed_by": accepted.signed_by,
        "cert": cert_text(accepted),
        "timestamp": body.timestamp,
        **conflict_of(accepted, others),
    }


def _event(
    envelope: Envelope,
    body: Body,
    accepted: Accepted,
    others: Collection[str],
    ip: str,
    broadcast: bool,
) -> str:
    return receive_event(
        ip=ip,
        hash=envelope.hash,
        message_text=body.message_text,
        signed_by=accepted.signed_by,
        cert=cert_text(accepted),
        site=body.site,
        broadcast=broadcast,
        timestamp=body.timestamp,
        user=user_of(accepted, others),
        trace=envelope.trace,
        with_trace=broadcast,
    )
