"""What clients send: broadcasts, questions and replies, on their way to peers."""

import random
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from zeromsg.errors import ClientError, Unreachable
from zeromsg.interfaces import Answer, IPeerLink, IPeers, Wall
from zeromsg.policy.fanout import choose
from zeromsg.policy.recorder import Recorder
from zeromsg.policy.site_state import SiteState
from zeromsg.protocol.aggregation import Aggregation
from zeromsg.routing.carrying import Carrying
from zeromsg.routing.delivery import Delivery
from zeromsg.routing.drafts import Draft, Drafts, Finished
from zeromsg.routing.history import History
from zeromsg.routing.inbound import Origin
from zeromsg.routing.relay import Relay
from zeromsg.routing.replies import Replies, Reply
from zeromsg.routing.site_peers import SitePeers
from zeromsg.wire.names import PEER_SEND, SELF
from zeromsg.wire.packing import pack
from zeromsg.wire.peer_messages import Envelope
from zeromsg.wire.values import PeerAddress

HEAD_START_SECONDS = 1.0
"""After that the second way to a peer is tried beside the first: the port of a peer behind a
firewall does not refuse, it says nothing."""


class Outbound:
    """Carries out the sending commands of clients."""

    def __init__(
        self,
        *,
        drafts: Drafts,
        states: Callable[[str], SiteState[Origin]],
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
    ) -> None:
        self._drafts = drafts
        self._states = states
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

    def broadcast(
        self, draft: Draft, peer_count: int, trace: bool, respond: Callable[[Any], None]
    ) -> None:
        """Send to the site's peers and show it to the site's own clients.

        The order that pages know: `peerReceive` from "self", the answer, `peerSend`.
        """
        finished = self._drafts.finish(draft, {"peer_count": peer_count, "broadcast": True})
        envelope = finished.envelope.with_trace() if trace else finished.envelope
        self._show_own(finished, broadcast=True)
        reached = self._relay.spread(draft.site, envelope)
        record = self._recorder.record(envelope.digest, self._wall())
        record.site, record.fate, record.relays = draft.site, "own", reached
        record.clients = len(self._delivery.listeners(draft.site))
        if reached < peer_count:
            self._relay.reach_further(draft.site, envelope, peer_count - reached)
        respond({"sent": reached > 0, "hash": finished.hash, "peers": reached})
        self._echo(finished, ip="", broadcast=True)

    def _show_own(self, finished: Finished, broadcast: bool) -> None:
        event = finished.event(ip=SELF, broadcast=broadcast)
        self._states(finished.site).origins.put(finished.hash, Origin(SELF))
        listeners = self._delivery.listeners(finished.site)
        self._delivery.show(listeners, event, finished.own(ip=SELF, broadcast=broadcast))
        if broadcast and self._history.wanted(finished.site):
            self._history.add(finished.site, event)
        if finished.immediate:
            self._delivery.keep(finished.site, finished.hash, event, listeners)

    def _echo(self, finished: Finished, ip: str, broadcast: bool) -> None:
        event = finished.event(ip=ip, broadcast=broadcast)
        self._delivery.echo(finished.site, event, finished.own(ip=ip, broadcast=broadcast))

    async def ask_many(self, draft: Draft, peer_count: int, timeout: float) -> list[dict[str, Any]]:
        """Ask `peer_count` peers; their replies once all are in, or after `timeout` seconds."""
        finished = self._drafts.finish(draft, {"peer_count": peer_count, "broadcast": False})
        members = [
            link for link in self._site_peers.members(draft.site) if self._relay.takes_own(link)
        ]
        links = choose(members, (), peer_count, self._rng)
        further = self._relay.unconnected(draft.site, peer_count - len(links))
        names = [link.name for link in links] + [str(address) for address in further]
        gathered = Aggregation.of(names)
        if gathered.done:
            return []
        all_in: Deferred[None] = Deferred()

        def look() -> None:
            if gathered.done and not all_in.called:
                all_in.callback(None)

        def replied(name: str, reply: Reply) -> None:
            gathered.replied(name, reply)
            look()

        def failed(name: str, error: str) -> None:
            gathered.failed(name, error)
            look()

        self._replies.expect(finished.hash, names, replied)
        packed = pack(finished.envelope.to_wire())
        for link in links:
            self._put(draft.site, link, packed, failed)
        for address in further:
            dialled = self._relay.dial(address, draft.site)
            dialled.addCallback(lambda link: self._put(draft.site, link, packed, failed))
            dialled.addErrback(_not_reached, failed, str(address))
        all_in.addTimeout(timeout, self._clock, onTimeoutCancel=lambda result, seconds: None)
        try:
            await all_in
        finally:
            self._replies.forget(finished.hash)
        return gathered.result(f"timeout: no reply within {timeout:g} seconds")

    def _put(
        self, site: str, link: IPeerLink, packed: bytes, failed: Callable[[str, str], None]
    ) -> None:
        """Send a question to one peer; `failed` hears when it does not take it."""

        def answered(answer: Answer) -> None:
            error = answer.get("error")
            if error is not None:
                failed(link.name, f"denied: {str(error)[:500]}")

        sent = self._site_peers.send(site, link, PEER_SEND, packed)
        sent.addCallback(answered)
        sent.addErrback(_not_reached, failed, link.name)

    async def ask(
        self, draft: Draft, ip: str, timeout: float, respond: Callable[[Any], None]
    ) -> None:
        """A question to one peer, or to the site's own clients; `respond` hears the reply.

        The order that pages know: the answer, `peerSend`.
        """
        finished = self._drafts.finish(draft, {"broadcast": False})
        name = ip if ip == SELF else self._name_of(ip, draft.site)
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

        self._replies.expect(finished.hash, (name,), replied)
        reply.addTimeout(timeout, self._clock, onTimeoutCancel=time_up)
        try:
            if ip == SELF:
                self._show_own(finished, broadcast=False)
            else:
                self._reach(draft.site, ip, finished.envelope, failed)
            message = await reply
        finally:
            self._replies.forget(finished.hash)
        respond(message)
        self._echo(finished, ip=ip, broadcast=False)

    def _reach(
        self, site: str, ip: str, envelope: Envelope, failed: Callable[[str, str], None]
    ) -> None:
        link = self._peers.named(ip, site)
        if link is not None:
            self._put(site, link, pack(envelope.to_wire()), failed)
            return
        reaching = Deferred.fromCoroutine(self._reach_far(site, ip, envelope, failed))
        reaching.addErrback(_not_found, failed, ip)

    async def _reach_far(
        self, site: str, ip: str, envelope: Envelope, failed: Callable[[str, str], None]
    ) -> None:
        """By dialling, or over a neighbour; first the one that is likelier. Raises Unreachable.

        Both may succeed: the peer takes the message once, by its hash.
        """

        async def dial() -> None:
            link = await self._peers.link_to(_parse_peer(ip), site)
            self._put(site, link, pack(envelope.to_wire()), failed)

        async def carry() -> None:
            await self._carrying.carry(
                site, ip, envelope, partial(self._replies.expect_from, envelope.hash)
            )

        ways = [carry, dial] if self._carrying.knows(site, ip) else [dial, carry]
        await _first_of(ways, self._clock)

    async def reply(self, draft: Draft, ip: str, to: str) -> str:
        """Answer a question; the reply's own hash once the peer has taken it."""
        finished = self._drafts.finish(draft, {"broadcast": False, "to": to})
        if ip == SELF:
            self._replies.deliver(SELF, to, finished.as_reply())
        else:
            link = self._peers.named(ip, draft.site)
            self._check_way(ip, link)
            try:
                if link is None:
                    link = await self._peers.link_to(_parse_peer(ip), draft.site)
                packed = pack(finished.envelope.to_wire())
                answer = await self._site_peers.send(draft.site, link, PEER_SEND, packed)
            except Unreachable:
                raise ClientError("no-peer", f"Could not find peer {ip}") from None
            if "error" in answer:
                raise ClientError("denied", str(answer["error"])[:500])
        self._echo(finished, ip=ip, broadcast=False)
        return finished.hash

    def _name_of(self, ip: str, site: str) -> str:
        """The name that replies of a peer will come under. Raises ClientError."""
        link = self._peers.named(ip, site)
        self._check_way(ip, link)
        return link.name if link is not None else str(_parse_peer(ip))

    def _check_way(self, ip: str, link: IPeerLink | None) -> None:
        """Raises ClientError where our own messages may not go this way."""
        if link is not None:
            allowed = self._relay.takes_own(link)
        else:
            allowed = self._relay.takes_own_to(_parse_peer(ip))
        if not allowed:
            raise ClientError("denied", "this node sends its own messages through Tor only")

    def origin_of(self, site: str, hash: str) -> str:
        """The peer that a received message came from. Raises ClientError."""
        origin = self._states(site).origins.get(hash)
        if origin is None:
            raise ClientError("no-peer", f"no message with hash {hash[:64]} was received lately")
        return origin.name


def _first_of(
    ways: Sequence[Callable[[], Coroutine[Any, Any, None]]], clock: IReactorTime
) -> Deferred[None]:
    """Fires when one of them has succeeded, or fails as the last of them failed.

    Each is begun when the one before has failed, or after its head start; what was
    begun goes on (RFC 8305 does so with addresses).
    """
    waiting = list(ways)
    left = len(ways)
    found: Deferred[None] = Deferred()
    head_start: IDelayedCall | None = None

    def begin() -> None:
        nonlocal head_start
        if head_start is not None and head_start.active():
            head_start.cancel()
        if found.called or not waiting:
            return
        way = waiting.pop(0)
        if waiting:
            head_start = clock.callLater(HEAD_START_SECONDS, begin)
        Deferred.fromCoroutine(way()).addCallbacks(succeeded, failed)

    def succeeded(_: None) -> None:
        if not found.called:
            found.callback(None)

    def failed(failure: Failure) -> None:
        nonlocal left
        left -= 1
        if found.called:
            failure.trap(Unreachable)
        elif not left or not failure.check(Unreachable):
            found.errback(failure)
        else:
            begin()

    begin()
    return found


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
