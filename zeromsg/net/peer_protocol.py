"""One connection to a peer: bytes of a transport to the conversation and back.

What the handshake machine orders is carried out here. Writes are held back
while a handshake must stand alone and while the peer does not read; one that
lets too much pile up is dropped.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Any, Protocol

import attrs
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IPushProducer,
    IReactorTime,
    ITCPTransport,
)
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from twisted.internet.ssl import CertificateOptions
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from zeromsg.errors import TheirMistake, Unreachable
from zeromsg.interfaces import Answer
from zeromsg.log import leveled
from zeromsg.net.tls import FIRST_BYTE
from zeromsg.net.turns import Turns
from zeromsg.policy.faces import CLEAR
from zeromsg.protocol.conversation import (
    ANSWER_SECONDS,
    AnswerArrived,
    Conversation,
    Event,
    RequestArrived,
)
from zeromsg.protocol.handshake import (
    HANDSHAKE_SECONDS,
    Opened,
    Orders,
    Refused,
    SendRequest,
    SendResponse,
    StartTls,
    handshake_machine,
)
from zeromsg.wire.names import HANDSHAKE, RESPONSE
from zeromsg.wire.packing import pack
from zeromsg.wire.peer_messages import Handshake
from zeromsg.wire.values import PeerAddress

PATIENCE = 2.0
"""How much longer than elsewhere is waited for peers behind Tor."""

_FLUSH_SECONDS = 1.0
"""What a dropped peer has to take what was already written."""


@attrs.frozen
class Limits:
    """Bounds of one connection.

    in_flight: requests of ours that may wait for an answer.
    unsent: bytes that may wait for the peer to read.
    """

    in_flight: int = 10_000
    unsent: int = 8 * 1024 * 1024


MUCH_HELD = 64 * 1024
"""Of a message under way, bytes from which on it is counted with those of other links."""


class ILinkOwner(Protocol):
    """Who looks after links: the pool."""

    def link_opened(self, link: "PeerProtocol") -> None: ...

    def link_lost(self, link: "PeerProtocol", opened: bool) -> None: ...

    def link_requested(
        self, link: "PeerProtocol", req_id: Any, cmd: str, params: Mapping[Any, Any]
    ) -> None: ...

    def link_erred(self, link: "PeerProtocol", mistake: TheirMistake) -> None: ...

    def link_holds(self, link: "PeerProtocol", size: int) -> None:
        """So many bytes of a message wait for its end; 0 where they are few."""


class TlsFailed(Unreachable):
    """The connection ended before TLS did its work: the peer may be a plain one."""


class OwnAddress(Unreachable):
    """The peer that was dialled is this node."""


@implementer(IPushProducer)
class PeerProtocol(TwistedProtocol):
    """A link to a peer (`interfaces.IPeerLink`).

    remote: the address the transport talks to, as host and port.
    dialled: whether this node opened the connection.
    tls: options where this connection may be encrypted, else None.
    tls_first: a dialler begins with TLS instead of a plain handshake.
    face: as whom this node shows itself here (`policy.faces`); with an onion's,
        an accepted connection has a pseudonym as `remote`.
    turns: what it shares with the node's other connections.
    """

    _log = Logger(observer=leveled)

    def __init__(
        self,
        owner: ILinkOwner,
        remote: PeerAddress,
        ours: Callable[[PeerAddress], Handshake],
        clock: IReactorTime,
        limits: Limits,
        *,
        dialled: bool,
        tls: CertificateOptions | None,
        tls_first: bool = False,
        face: str = CLEAR,
        turns: Turns | None = None,
    ) -> None:
        self._owner = owner
        self._turns = turns if turns is not None else Turns(clock)
        self.remote = remote
        self.identity = remote.host
        self.dialled = dialled
        self.face = face
        # Through Tor everything takes longer, as ZeroNet nodes know too.
        self._patience = PATIENCE if face else 1.0
        self._clock = clock
        self._limits = limits
        self._tls = tls
        self._tls_first = tls_first
        self._conversation = Conversation(limits.in_flight)
        self._machine = handshake_machine(ours(remote), tls is not None)
        self.ready: Deferred[PeerProtocol] = Deferred()
        self.theirs: Handshake | None = None
        self.address: PeerAddress | None = remote if dialled else None
        self.declared = remote
        self.name = str(remote)
        self.encrypted = False
        self.received_anything = False
        self.last_sent = 0.0
        self.opened_at = clock.seconds()
        self._connected = False
        self._closing = False
        # Nothing may be written while a handshake has to stand alone, or while
        # the transport is full; what would be, waits here.
        self._solitary = False
        self._paused = False
        self._resting = False
        # Seconds that it has to rest when its turn comes; None where it waits for none.
        self._rest_later: float | None = None
        # What came in one piece with what made it rest, and is not handled yet.
        self._left: Iterator[Event | None] | None = None
        self._held: list[bytes] = []
        self._held_size = 0
        self._much_held = False
        self._reason = "the connection was lost"
        self._timers: list[IDelayedCall] = []

    # What the rest of the node sees.

    @property
    def open(self) -> bool:
        return self.theirs is not None and self._connected and not self._closing

    def _known_address(self) -> PeerAddress | None:
        """Where the peer can be dialled, once it said its port."""
        if self.dialled:
            return self.remote
        theirs = self.theirs
        if self.face or theirs is None or theirs.fileserver_port == 0:
            return None
        if theirs.port_opened is False and not self.remote.is_private:
            return None
        return PeerAddress(self.remote.host, theirs.fileserver_port)

    @property
    def claim(self) -> PeerAddress | None:
        """The onion that a stranger says is its own; nothing shows that it is."""
        theirs = self.theirs
        if not self.face or self.dialled or theirs is None or not theirs.onion:
            return None
        try:
            return PeerAddress.parse(f"{theirs.onion}.onion:{theirs.fileserver_port}")
        except ValueError:
            return None

    @property
    def extension(self) -> int:
        return self.theirs.extension if self.theirs is not None else 0

    @property
    def features(self) -> frozenset[str]:
        return self.theirs.features if self.extension and self.theirs else frozenset()

    @property
    def announcing(self) -> bool:
        # Of one that we dialled, what we want of it counts.
        return not self.dialled and self.theirs is not None and self.theirs.tracker_connection

    def ask(
        self, cmd: str, params: Mapping[str, Any], timeout: float = ANSWER_SECONDS
    ) -> Deferred[Answer]:
        return self.ask_packed(cmd, pack(params), timeout)

    def ask_packed(
        self, cmd: str, packed: bytes, timeout: float = ANSWER_SECONDS
    ) -> Deferred[Answer]:
        if not self._connected or self._closing:
            return fail(Unreachable(self._reason))
        if self._conversation.full:
            return fail(Unreachable("too many requests wait for an answer"))
        answered: Deferred[Answer] = Deferred()
        now = self._clock.seconds()
        timeout *= self._patience
        self._write(self._conversation.request(cmd, packed, answered, now, timeout))
        return answered

    def respond(self, req_id: Any, body: Answer) -> None:
        self._write(self._conversation.answer(req_id, body))

    def respond_stream(self, req_id: Any, body: Answer) -> None:
        values = dict(body)
        data = values.pop("body")
        values["stream_bytes"] = len(data)
        self._write(pack({"cmd": RESPONSE, "to": req_id, **values}) + data)

    def drop(self, reason: str) -> None:
        if self._closing:
            return
        self._closing = True
        self._reason = reason
        self._log.debug("closing {peer}: {reason}", peer=self.name, reason=reason)
        if not self._connected:
            return
        if self._paused:
            self._transport.abortConnection()
            return
        # What was held may be the answer that says why.
        self._solitary = False
        self._release()
        self._transport.loseConnection()
        self._later(_FLUSH_SECONDS, self._transport.abortConnection)

    def retire(self, seconds: float, reason: str, still: Callable[[], bool]) -> None:
        """Close after a while, if that is still right then."""
        self._later(seconds, lambda: self.drop(reason) if still() else None)

    # What the pool's clock asks.

    def tick(self, now: float) -> None:
        """Give up on requests whose time is over; close what is stuck."""
        conversation = self._conversation
        late = conversation.expired(now)
        for answered in late:
            _fail(answered, Unreachable("no answer in time"))
        if conversation.dawdles(now):
            self.drop("it takes too long over one message")
        idle = now - max(conversation.last_received, self.opened_at)
        if idle > ANSWER_SECONDS * self._patience and (late or conversation.partial):
            self.drop("it does not answer" if late else "it began a message and stopped")

    @property
    def local(self) -> PeerAddress | None:
        """This node's end of the connection."""
        return remote_of(self._transport.getHost()) if self._connected else None

    def idle(self, now: float) -> float:
        """Seconds since anything was received."""
        return now - max(self._conversation.last_received, self.opened_at)

    # Transport to conversation.

    @property
    def _transport(self) -> ITCPTransport:
        transport = self.transport
        assert transport is not None
        return transport  # type: ignore[return-value]

    def connectionMade(self) -> None:
        self._connected = True
        self.opened_at = self._clock.seconds()
        if not self.face:  # Tor's SOCKS port may be a unix socket
            self._transport.setTcpNoDelay(True)
        self._transport.registerProducer(self, True)  # type: ignore[attr-defined]
        self._later(HANDSHAKE_SECONDS * self._patience, self._handshake_timed_out)
        if self._closing:
            self._transport.abortConnection()
        elif self.dialled:
            if self._tls_first:
                self._start_tls(as_client=True)
            self._carry_out(self._machine.connected())
        else:
            self._carry_out(self._machine.accepted())

    def dataReceived(self, data: bytes) -> None:
        if self._closing:
            # TLS takes a while to close; one mistake is not charged again with each chunk.
            return
        first = not self.received_anything
        self.received_anything = True
        if first and data[0] == FIRST_BYTE and not self.encrypted:
            self._tls_arrived(data)
            return
        events = self._conversation.receive(data, self._clock.seconds())
        if self._resting:
            # TLS may have had some of it already.
            self._left = events if self._left is None else chain(self._left, events)
        else:
            self._handle(events)

    def _handle(self, events: Iterator[Event | None]) -> None:
        began = self._turns.begin()
        try:
            for event in events:
                if type(event) is RequestArrived:
                    self._requested(event)
                elif type(event) is AnswerArrived:
                    self._answered(event)
                if self._ended():
                    return
                if self._conversation.has_more and self._turns.is_over(began):
                    self._wait_for_turn()
                if self._is_resting():
                    self._left = events
                    return
            self._tell_what_is_held()
        except TheirMistake as mistake:
            self._owner.link_erred(self, mistake)
            self.drop(str(mistake))

    def _tell_what_is_held(self) -> None:
        held = self._conversation.held
        if held < MUCH_HELD:
            held = 0
        if held or self._much_held:
            self._much_held = held > 0
            self._owner.link_holds(self, held)

    def _ended(self) -> bool:
        return self._closing

    def _is_resting(self) -> bool:
        return self._resting

    def rest(self, seconds: float) -> None:
        """Do not read from this peer for a while; its bytes wait in the network.

        What came in one piece with what is handled now waits, too.
        """
        if self._rest_later is not None:
            self._rest_later = max(self._rest_later, seconds)
        elif self._stop_reading():
            self._later(seconds, self._wake)

    def _wait_for_turn(self) -> None:
        """The same until the others were heard that sent something."""
        if self._stop_reading():
            self._rest_later = 0.0
            self._turns.wait(self._my_turn)

    def _stop_reading(self) -> bool:
        if not self._connected or self._closing or self._resting:
            return False
        self._resting = True
        self._transport.pauseProducing()  # type: ignore[attr-defined]
        return True

    def _my_turn(self) -> None:
        seconds, self._rest_later = self._rest_later, None
        if seconds and self._connected:
            self._later(seconds, self._wake)
        else:
            self._wake()

    def _wake(self) -> None:
        self._resting = False
        events, self._left = self._left, None
        if events is not None and not self._closing:
            self._handle(events)
        if self._connected and not self._is_resting():
            self._transport.resumeProducing()  # type: ignore[attr-defined]

    def _tls_arrived(self, data: bytes) -> None:
        """A TLS greeting on a connection that has not said what it is."""
        if self.dialled or self._tls is None:
            self.drop("it speaks TLS where we do not")
            return
        self.received_anything = False
        self._start_tls(as_client=False)
        # From here on the transport hands bytes to the TLS layer that startTLS
        # put between us; these came before it was there.
        self._transport.protocol.dataReceived(data)  # type: ignore[attr-defined]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._connected = False
        self._closing = True
        for timer in self._timers:
            if timer.active():
                timer.cancel()
        for answered in self._conversation.abandoned():
            _fail(answered, Unreachable(self._reason))
        self._held.clear()
        self._left = None
        if not self.ready.called:
            self.ready.errback(self._never_opened())
        self._owner.link_lost(self, self.theirs is not None)

    def _never_opened(self) -> Unreachable:
        if self._tls_first and not self.received_anything:
            return TlsFailed(self._reason)
        return Unreachable(self._reason)

    # The handshake's orders.

    def _carry_out(self, orders: Orders) -> None:
        now = self._clock.seconds()
        for order in orders:
            if isinstance(order, SendRequest):
                greeting: Deferred[Answer] = Deferred()
                greeting.addCallbacks(self._greeted, lambda failure: None)
                greeting.addErrback(self._mistaken)
                params = order.handshake.to_wire()
                seconds = HANDSHAKE_SECONDS * self._patience
                data = self._conversation.greet(params, greeting, now, seconds)
                self._transport.write(data)
                self._solitary = True
            elif isinstance(order, SendResponse):
                self._write(self._conversation.answer(order.req_id, order.handshake.to_wire()))
            elif isinstance(order, StartTls):
                self._start_tls(order.as_client)
            elif isinstance(order, Opened):
                self._opened(order)
            elif isinstance(order, Refused):
                self._reason = order.reason
                if order.ourselves and not self.ready.called:
                    self.ready.errback(OwnAddress(order.reason))
                self._transport.abortConnection()

    def _opened(self, order: Opened) -> None:
        self.theirs = order.theirs
        self.address = self._known_address()
        if not self.dialled and not self.face:
            self.declared = PeerAddress(self.identity, order.theirs.fileserver_port)
        self.name = str(self.address or self.remote)
        self._solitary = True
        self._later(order.quiet, self._end_solitude)
        self._owner.link_opened(self)
        if not self.ready.called:
            self.ready.callback(self)

    def _end_solitude(self) -> None:
        self._solitary = False
        self._release()

    def _start_tls(self, as_client: bool) -> None:
        self.encrypted = True
        # `normal`: the side that connected is the TLS client.
        self._transport.startTLS(self._tls, normal=as_client == self.dialled)  # type: ignore[attr-defined]

    def _handshake_timed_out(self) -> None:
        if self.theirs is None:
            self._carry_out(self._machine.timed_out())

    def _greeted(self, answer: Answer) -> None:
        self._carry_out(self._machine.responded(Handshake.from_wire(answer), self.encrypted))

    def _mistaken(self, failure: Failure) -> None:
        failure.trap(TheirMistake)
        self.drop(str(failure.value))

    # Requests and answers.

    def _requested(self, event: RequestArrived) -> None:
        if event.cmd == HANDSHAKE:
            theirs = Handshake.from_wire(event.params)
            self._carry_out(self._machine.requested(event.req_id, theirs, self.encrypted))
        else:
            self._owner.link_requested(self, event.req_id, event.cmd, event.params)

    def _answered(self, event: AnswerArrived) -> None:
        answered: Deferred[Answer] = event.token
        if not answered.called:
            answered.callback(event.body)

    # Writing.

    def _write(self, data: bytes) -> None:
        if not self._connected:
            return
        self.last_sent = self._clock.seconds()
        if not self._solitary and not self._paused:
            self._transport.write(data)
            return
        self._held.append(data)
        self._held_size += len(data)
        if self._held_size > self._limits.unsent:
            self._held.clear()
            self._reason = "it does not read"
            # Nor is what it asked besides in the same bytes worth an answer.
            self._closing = True
            self._transport.abortConnection()

    def _release(self) -> None:
        if self._held and not self._solitary and not self._paused:
            held, self._held, self._held_size = self._held, [], 0
            self._transport.write(b"".join(held))

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        self._release()

    def stopProducing(self) -> None:
        self._paused = True

    def _later(self, seconds: float, action: Callable[[], Any]) -> None:
        self._timers = [timer for timer in self._timers if timer.active()]
        self._timers.append(self._clock.callLater(seconds, action))


def _fail(answered: Deferred[Answer], problem: Unreachable) -> None:
    if not answered.called:
        answered.errback(problem)


def remote_of(address: IAddress | None) -> PeerAddress:
    """The peer's end of a transport."""
    host, port = getattr(address, "host", "0.0.0.0"), getattr(address, "port", 0)
    # Link-local addresses have a zone behind them, which is this machine's own affair;
    # a socket for both families writes IPv4 as IPv6.
    host = host.partition("%")[0]
    return PeerAddress(host.removeprefix("::ffff:") if "." in host else host, port)
