"""What clients send: broadcasts, questions and replies, on their way to peers."""

import random
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from zeromsg.crypto.cert import Certificate
from zeromsg.crypto.keys import PrivateKey
from zeromsg.crypto.signing import message_text as signed_text
from zeromsg.crypto.signing import sign
from zeromsg.errors import BadKey, ClientError, Unreachable
from zeromsg.interfaces import Answer, Entropy, IPeerLink, IPeers, ISites, IUsers, Wall
from zeromsg.policy.fanout import choose
from zeromsg.policy.recorder import Recorder
from zeromsg.policy.rules import Rules
from zeromsg.policy.seen import Met, Seen
from zeromsg.policy.site_state import SiteState
from zeromsg.policy.validation import Accepted, Subject, no_rules, validate_own
from zeromsg.protocol.aggregation import Aggregation
from zeromsg.routing.carrying import Carrying
from zeromsg.routing.delivery import Delivery, receive_event
from zeromsg.routing.history import History
from zeromsg.routing.inbound import Origin, cert_text, user_of
from zeromsg.routing.relay import Relay
from zeromsg.routing.replies import Replies, Reply
from zeromsg.routing.site_peers import SitePeers
from zeromsg.wire.json_text import DEPTH_ERRORS, dump
from zeromsg.wire.names import PEER_SEND, SELF
from zeromsg.wire.packing import pack
from zeromsg.wire.peer_messages import Envelope, envelope_digest
from zeromsg.wire.values import PeerAddress

STORED = "stored"

_NONCE_BYTES = 10
"""80 random bits; the plugin has 30, of which two nodes can draw the same."""


@attrs.frozen
class Draft:
    """What a client wants to say. privatekey: None, False, "stored" or a WIF text."""

    site: str
    message: Any
    privatekey: Any = None
    immediate: bool = False
    timestamp: bool = False


@attrs.frozen
class Sealed:
    """A draft that passed the rules, as it travels."""

    site: str
    envelope: Envelope
    message_text: str
    timestamp: float | None
    immediate: bool
    signer: Accepted

    @property
    def hash(self) -> str:
        return self.envelope.hash

    def event(self, *, ip: str, broadcast: bool) -> str:
        return receive_event(
            ip=ip,
            hash=self.hash,
            message_text=self.message_text,
            signed_by=self.signer.signed_by,
            cert=cert_text(self.signer),
            site=self.site,
            broadcast=broadcast,
            timestamp=self.timestamp,
            user=user_of(self.signer),
        )

    def as_reply(self, message: Any) -> dict[str, Any]:
        return {
            "hash": self.hash,
            "message": message,
            "signed_by": self.signer.signed_by,
            "cert": cert_text(self.signer),
            "timestamp": self.timestamp,
        }


class Outbound:
    """Carries out the sending commands of clients."""

    def __init__(
        self,
        *,
        sites: ISites,
        users: IUsers,
        states: Callable[[str], SiteState[Origin]],
        seen: Seen,
        recorder: Recorder,
        history: History,
        delivery: Delivery,
        replies: Replies,
        relay: Relay,
        site_peers: SitePeers,
        carrying: Carrying,
        peers: IPeers,
        clock: IReactorTime,
        wall: Wall,
        rng: random.Random,
        entropy: Entropy,
        raw_limit: int,
    ) -> None:
        self._sites = sites
        self._users = users
        self._states = states
        self._seen = seen
        self._recorder = recorder
        self._history = history
        self._delivery = delivery
        self._replies = replies
        self._relay = relay
        self._site_peers = site_peers
        self._carrying = carrying
        self._peers = peers
        self._clock = clock
        self._wall = wall
        self._rng = rng
        self._entropy = entropy
        self._raw_limit = raw_limit

    def broadcast(
        self, draft: Draft, peer_count: int, trace: bool, respond: Callable[[Any], None]
    ) -> None:
        """Send to the site's peers and show it to the site's own clients.

        The order that pages know: `peerReceive` from "self", the answer, `peerSend`.
        """
        sealed = self._seal(draft, {"peer_count": peer_count, "broadcast": True})
        envelope = sealed.envelope.with_trace() if trace else sealed.envelope
        self._show_own(sealed, broadcast=True)
        reached = self._relay.spread(draft.site, envelope, ())
        record = self._recorder.record(envelope.digest, self._wall())
        record.site, record.fate, record.relays = draft.site, "own", reached
        record.clients = len(self._delivery.listeners(draft.site))
        if reached < peer_count:
            self._relay.reach_further(draft.site, envelope, peer_count - reached)
        respond({"sent": reached > 0, "hash": sealed.hash, "peers": reached})
        self._delivery.echo(draft.site, sealed.event(ip="", broadcast=True))

    def _show_own(self, sealed: Sealed, broadcast: bool) -> None:
        event = sealed.event(ip=SELF, broadcast=broadcast)
        self._states(sealed.site).origins.put(sealed.hash, Origin(SELF))
        listeners = self._delivery.listeners(sealed.site)
        self._delivery.show(listeners, event)
        if broadcast and self._history.wanted(sealed.site):
            self._history.add(sealed.site, event)
        if not listeners and sealed.immediate:
            self._delivery.keep(sealed.site, sealed.hash, event)

    async def ask_many(self, draft: Draft, peer_count: int, timeout: float) -> list[dict[str, Any]]:
        """Ask `peer_count` peers; their replies once all are in, or after `timeout` seconds."""
        sealed = self._seal(draft, {"peer_count": peer_count, "broadcast": False})
        members = self._site_peers.members(draft.site)
        links = choose(members, (), peer_count, self._rng)
        further = self._relay.unconnected(draft.site, peer_count - len(links))
        names = [link.name for link in links] + [str(address) for address in further]
        gathered = Aggregation.of(names)
        if gathered.done:
            return []
        finished: Deferred[None] = Deferred()

        def look() -> None:
            if gathered.done and not finished.called:
                finished.callback(None)

        def replied(name: str, reply: Reply) -> None:
            gathered.replied(name, reply)
            look()

        def failed(name: str, error: str) -> None:
            gathered.failed(name, error)
            look()

        self._replies.expect(sealed.hash, names, replied)
        packed = pack(sealed.envelope.to_wire())
        for link in links:
            self._put(link, packed, failed)
        for address in further:
            dialled = self._relay.dial(address)
            dialled.addCallback(lambda link: self._put(link, packed, failed))
            dialled.addErrback(_not_reached, failed, str(address))
        finished.addTimeout(timeout, self._clock, onTimeoutCancel=lambda result, seconds: None)
        try:
            await finished
        finally:
            self._replies.forget(sealed.hash)
        return gathered.result(f"timeout: no reply within {timeout:g} seconds")

    def _put(self, link: IPeerLink, packed: bytes, failed: Callable[[str, str], None]) -> None:
        """Send a question to one peer; `failed` hears when it does not take it."""

        def answered(answer: Answer) -> None:
            error = answer.get("error")
            if error is not None:
                failed(link.name, f"denied: {str(error)[:500]}")

        sent = self._site_peers.speaking.send(link, PEER_SEND, packed)
        sent.addCallback(answered)
        sent.addErrback(_not_reached, failed, link.name)

    async def ask(
        self, draft: Draft, ip: str, timeout: float, respond: Callable[[Any], None]
    ) -> None:
        """A question to one peer, or to the site's own clients; `respond` hears the reply.

        The order that pages know: the answer, `peerSend`.
        """
        sealed = self._seal(draft, {"broadcast": False})
        name = ip if ip == SELF else str(_parse_peer(ip))
        reply: Deferred[Reply] = Deferred()

        def replied(name: str, message: Reply) -> None:
            if not reply.called:
                reply.callback(message)

        def failed(name: str, error: str) -> None:
            if not reply.called:
                code, _, sentence = error.partition(": ")
                reply.errback(ClientError(code, sentence))

        def time_up(result: Any, seconds: float) -> Any:
            raise ClientError("timeout", f"no reply within {seconds:g} seconds")

        self._replies.expect(sealed.hash, (name,), replied)
        reply.addTimeout(timeout, self._clock, onTimeoutCancel=time_up)
        try:
            if ip == SELF:
                self._show_own(sealed, broadcast=False)
            else:
                self._reach(draft.site, ip, sealed.envelope, failed)
            message = await reply
        finally:
            self._replies.forget(sealed.hash)
        respond(message)
        self._delivery.echo(draft.site, sealed.event(ip=ip, broadcast=False))

    def _reach(
        self, site: str, ip: str, envelope: Envelope, failed: Callable[[str, str], None]
    ) -> None:
        link = self._peers.named(ip)
        if link is not None:
            self._put(link, pack(envelope.to_wire()), failed)
            return
        reaching = Deferred.fromCoroutine(self._reach_far(site, ip, envelope, failed))
        reaching.addErrback(_not_found, failed, ip)

    async def _reach_far(
        self, site: str, ip: str, envelope: Envelope, failed: Callable[[str, str], None]
    ) -> None:
        """By dialling, or over a neighbour; first the one that is likelier. Raises Unreachable."""

        async def dial() -> None:
            link = await self._peers.link_to(_parse_peer(ip))
            self._put(link, pack(envelope.to_wire()), failed)

        async def carry() -> None:
            await self._carrying.carry(
                site, ip, envelope, partial(self._replies.expect_from, envelope.hash)
            )

        first, second = (carry, dial) if self._carrying.knows(site, ip) else (dial, carry)
        try:
            await first()
        except Unreachable:
            await second()

    async def reply(self, draft: Draft, ip: str, to: str) -> str:
        """Answer a question; the reply's own hash once the peer has taken it."""
        sealed = self._seal(draft, {"broadcast": False, "to": to})
        if ip == SELF:
            self._replies.deliver(SELF, to, sealed.as_reply(draft.message))
        else:
            link = self._peers.named(ip)
            try:
                if link is None:
                    link = await self._peers.link_to(_parse_peer(ip))
                packed = pack(sealed.envelope.to_wire())
                answer = await self._site_peers.speaking.send(link, PEER_SEND, packed)
            except Unreachable:
                raise ClientError("no-peer", f"Could not find peer {ip}") from None
            if "error" in answer:
                raise ClientError("denied", str(answer["error"])[:500])
        self._delivery.echo(draft.site, sealed.event(ip=ip, broadcast=False))
        return sealed.hash

    def origin_of(self, site: str, hash: str) -> str:
        """The peer that a received message came from. Raises ClientError."""
        origin = self._states(site).origins.get(hash)
        if origin is None:
            raise ClientError("no-peer", f"no message with hash {hash[:64]} was received lately")
        return origin.name

    def _seal(self, draft: Draft, kind: Mapping[str, Any]) -> Sealed:
        """Check a draft by the site's own rules, then number, sign and hash it.

        Raises ClientError.
        """
        site = self._sites.get(draft.site)
        if site is None:
            raise ClientError("unsupported", f"this node does not hold the site {draft.site}")
        if site.rules is None:
            raise no_rules(draft.site).to_client()
        message_text = _message_text(draft.message)
        key, cert = self._signer(draft, site.rules)
        signed_by = key.address if key is not None else ""
        signer = Accepted(signed_by, cert)
        timestamp = self._wall() if draft.timestamp else None
        rejected = validate_own(
            Subject(draft.site, draft.message, message_text, timestamp, SELF, ours=True),
            signer,
            site.rules,
            self._states(draft.site).frequency,
            self._clock.seconds(),
            self._wall(),
        )
        if rejected is not None:
            raise rejected.to_client()
        raw = self._raw(draft, message_text, kind, signed_by, timestamp)
        envelope = self._envelope(raw, key, cert)
        met = Met.SIGNED if signed_by else Met.UNSIGNED
        self._seen.add(envelope.digest, met, self._wall())
        return Sealed(draft.site, envelope, message_text, timestamp, draft.immediate, signer)

    def _raw(
        self,
        draft: Draft,
        message_text: str,
        kind: Mapping[str, Any],
        signed_by: str,
        timestamp: float | None,
    ) -> str:
        values: dict[str, Any] = {**kind, "immediate": draft.immediate, "site": draft.site}
        if timestamp is not None:
            values["timestamp"] = timestamp
        if signed_by:
            values["signer"] = signed_by
        # The message was encoded already; only what stands beside it is encoded here.
        raw = f'{{"message": {message_text}, {dump(values)[1:]}'
        if len(raw) > self._raw_limit:
            raise ClientError("too-big", f"the message takes over {self._raw_limit} bytes")
        return raw

    def _envelope(self, raw: str, key: PrivateKey | None, cert: Certificate | None) -> Envelope:
        nonce = str(int.from_bytes(self._entropy(_NONCE_BYTES)))
        digest = envelope_digest(nonce, raw)
        signature = ""
        if key is not None:
            signature = f"{key.address}|{sign(signed_text(key.address, digest.hex(), raw), key)}"
        return Envelope(raw, nonce, signature, cert.to_wire() if cert else None, None, digest)

    def _signer(self, draft: Draft, rules: Rules) -> tuple[PrivateKey | None, Certificate | None]:
        wanted = draft.privatekey
        if wanted is None:
            return None, None
        if wanted is False:
            cert = self._users.certificate(draft.site)
            if cert is not None and cert.issuer not in rules.cert_signers:
                cert = None
            return self._users.auth_key(draft.site), cert
        if wanted == STORED:
            key = self._users.site_key(draft.site)
            if key is None:
                raise ClientError("denied", f"this node has no key of the site {draft.site}")
            return key, None
        try:
            return PrivateKey.from_wif(wanted), None
        except BadKey:
            raise ClientError("invalid", "privatekey is no private key") from None


def _message_text(message: Any) -> str:
    try:
        return dump(message)
    except DEPTH_ERRORS:
        raise ClientError("invalid", "the message is no JSON") from None


def _parse_peer(ip: str) -> PeerAddress:
    try:
        address = PeerAddress.parse(ip)
    except ValueError as problem:
        raise ClientError("invalid", f"ip: {problem}") from None
    if not address.port:
        raise ClientError("no-peer", f"Could not find peer {ip}")
    return address


def _not_reached(failure: Failure, failed: Callable[[str, str], None], name: str) -> None:
    failure.trap(Unreachable)
    failed(name, "no-peer: Connection error")


def _not_found(failure: Failure, failed: Callable[[str, str], None], ip: str) -> None:
    failure.trap(Unreachable)
    failed(ip, f"no-peer: Could not find peer {ip}")
