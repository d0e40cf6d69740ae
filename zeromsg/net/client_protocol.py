"""WebSockets of ZeroFrame clients, on autobahn.

Frames of the node to clients bypass autobahn, whose sending path costs as much
again as the message; order is kept, because nothing here uses its send queue.
What a client is to get in one turn of the reactor is written at the end of it, in
one system call, and without asking the reactor when the socket takes it at once:
to many clients, asking costs more than writing.
"""

import struct
from collections import deque
from collections.abc import Callable
from typing import Any

import attrs
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from zeromsg.interfaces import ICalls
from zeromsg.log import leveled
from zeromsg.net.turns import Turns
from zeromsg.protocol.session import Session
from zeromsg.wire import client_messages
from zeromsg.wire.client_messages import Answer, BadCall, Unanswerable

PING_SECONDS = 60
"""A client is pinged this often, so that dead connections are noticed."""

CLOSE_GOING_AWAY = 1001
CLOSE_SITE_GONE = 4004
"""To clients of a site that the node does not hold any more: coming back is in vain."""

HELD_BYTES = 64 * 1024
"""From so much on a client is not ready for more; as much waits in its transport."""

PIECE_BYTES = 4096
"""What is cut into frames at a time, a millisecond's work where the frames are small."""

PACE_SECONDS = 0.01
"""What frames wait for a client that loses answers which come too soon.

zeroframe-ws-client notes a call's callback only after it sent the call, on
another thread than the one that reads: an answer within some microseconds
finds nobody. ZeroNet is never that fast; this pause keeps that client working.
"""


@attrs.frozen
class ClientLimits:
    """message: bytes of one message of a client. unsent: bytes it may leave unread."""

    message: int
    unsent: int
    clients: int


@implementer(IPushProducer)
class ClientProtocol(WebSocketServerProtocol):
    """One client (`interfaces.IClient`)."""

    # autobahn keeps `log` for itself.
    _log = Logger(observer=leveled)

    def __init__(
        self,
        calls: ICalls,
        site: str,
        user: str,
        limits: ClientLimits,
        trusted: bool,
        turns: Turns,
    ) -> None:
        super().__init__()
        self._turns = turns
        # What came and was not handled yet: bytes, and messages that were cut out of them.
        # Nothing is read while there is more than one turn's worth.
        self._unread = bytearray()
        self._messages: deque[bytes] = deque()
        self._waits = False
        self._trusted = trusted
        self._calls = calls
        self._site = site
        self._user = user
        self._limits = limits
        self._session = Session()
        self._opened = False
        self._paused = False
        self._paced = False
        self._held: list[bytes] = []
        self._held_size = 0
        self._when_ready: Callable[[], None] | None = None

    @property
    def site(self) -> str:
        return self._site

    @property
    def user(self) -> str:
        return self._user

    @property
    def trusted(self) -> bool:
        return self._trusted

    def listens(self, channel: str) -> bool:
        return channel in self._session.channels

    def join(self, channels: object) -> None:
        self._session.join(channels)

    @property
    def ready(self) -> bool:
        return not self._paused and self._held_size < HELD_BYTES

    def when_ready(self, action: Callable[[], None]) -> None:
        self._when_ready = action

    def push(self, head: str) -> None:
        self._transmit(self._session.payload(head))

    def respond(self, call_id: Any, result: Any) -> None:
        self._transmit(self._session.response(call_id, result))

    # autobahn calls these. Errors in them are ours, and are logged by hand:
    # autobahn would close the connection without saying why.

    def onConnect(self, request: Any) -> None:
        # Python's websocket-client, which zeroframe-ws-client is built on, is
        # the one that sends an Origin but no User-Agent.
        self._paced = "origin" in request.headers and "user-agent" not in request.headers

    def onOpen(self) -> None:
        self._opened = True
        # The transport comes from the HTTP channel, which fed it until the upgrade.
        self._tcp.unregisterProducer()
        self._tcp.registerProducer(self, True)
        self._guarded(self._calls.client_opened, self)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        if not payload:
            return
        self._messages.append(payload)

    def dataReceived(self, data: bytes) -> None:
        """The transport's bytes, in pieces: autobahn cuts all that it is given into frames."""
        self._unread += data
        if not self._waits:
            self._go_on()

    def _go_on(self) -> None:
        """Handle what came, as long as others need not wait too long for that."""
        began, self._waits = self._turns.begin(), False
        while self._messages or self._unread:
            if self._messages:
                self._handle(self._messages.popleft())
            else:
                piece = bytes(self._unread[:PIECE_BYTES])
                del self._unread[:PIECE_BYTES]
                super().dataReceived(piece)
                if self._messages:
                    continue  # one is always heard
            more = bool(self._messages or self._unread)
            if more and self._opened and self._turns.is_over(began):
                self._waits = True
                self._tcp.pauseProducing()
                self._turns.wait(self._my_turn)
                return

    def _my_turn(self) -> None:
        self._go_on()
        if self._opened and not self._waits:
            self._tcp.resumeProducing()

    def _handle(self, payload: bytes) -> None:
        try:
            message = client_messages.parse(payload.decode())
        except UnicodeDecodeError:
            self._complain("invalid: the message is no UTF-8")
        except BadCall as refused:
            self.respond(refused.call_id, {"error": str(refused)})
        except Unanswerable as refused:
            self._complain(str(refused))
        else:
            take = self._calls.answered if isinstance(message, Answer) else self._calls.called
            self._guarded(take, self, message)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        if self._opened:
            self._opened = False
            self._held.clear()
            self._messages.clear()
            self._unread.clear()
            self._guarded(self._calls.client_closed, self)

    def _guarded(self, call: Any, *arguments: Any) -> None:
        try:
            call(*arguments)
        except Exception:
            self._log.failure("a client's message could not be handled")

    def _complain(self, text: str) -> None:
        """To a message that has no id which an answer could name."""
        self._transmit(self._session.event("error", text))

    # Writing.

    @property
    def _tcp(self) -> Any:
        return self.transport

    def _transmit(self, payload: bytes) -> None:
        if not self._opened or self.state != self.STATE_OPEN:
            return
        frame = text_frame(payload)
        self._held.append(frame)
        self._held_size += len(frame)
        if self._paused or self._paced:
            if self._held_size > self._limits.unsent:
                self._give_up()
            elif self._paced and len(self._held) == 1:
                self.factory.reactor.callLater(PACE_SECONDS, self.release)
        elif self._held_size >= HELD_BYTES:
            self.release()
        elif len(self._held) == 1:
            self.factory.release_soon(self)

    def _give_up(self) -> None:
        self._held.clear()
        self._log.info("closing a client that does not read")
        self.wasNotCleanReason = "it does not read"
        self.dropConnection(abort=True)

    def sendCloseFrame(self, *arguments: Any, **named: Any) -> None:
        # After it nothing may follow.
        self.release()
        super().sendCloseFrame(*arguments, **named)

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        self.release()

    def release(self) -> None:
        """Write what is held, unless the transport has enough."""
        if self._held and not self._paused and self._opened and self.state == self.STATE_OPEN:
            held, self._held, self._held_size = self._held, [], 0
            _write(self._tcp, b"".join(held))
        if self._when_ready is not None and self.ready and self._opened:
            action, self._when_ready = self._when_ready, None
            self._guarded(action)

    def stopProducing(self) -> None:
        self._paused = True


def _write(transport: Any, data: bytes) -> None:
    """Into the socket if nothing waits before it; the transport has the rest."""
    # Of a Twisted TCP connection; TLS and other transports have no such thing.
    if getattr(transport, "_tempDataBuffer", True) or transport.dataBuffer:
        transport.write(data)
        return
    written = transport.writeSomeData(data) if transport.connected else 0
    # A lost connection the transport finds by itself.
    done = written if isinstance(written, int) and written > 0 else 0
    if done < len(data):
        transport.write(data[done:])


def text_frame(payload: bytes) -> bytes:
    """An unfragmented, unmasked text frame. Source: RFC 6455, section 5.2."""
    size = len(payload)
    if size < 126:
        return struct.pack("!BB", 0x81, size) + payload
    if size < 65536:
        return struct.pack("!BBH", 0x81, 126, size) + payload
    return struct.pack("!BBQ", 0x81, 127, size) + payload


class ClientFactory(WebSocketServerFactory):
    """Makes the protocol of a client whose key was checked before the upgrade."""

    def __init__(self, reactor: IReactorTime, calls: ICalls, limits: ClientLimits) -> None:
        super().__init__(reactor=reactor, server="zeromsg")
        self._calls = calls
        self._limits = limits
        # Apart from what peers have, so that neither can take the other's.
        self._turns = Turns(reactor)
        self._clients: set[ClientProtocol] = set()
        self._holding: list[ClientProtocol] = []
        self.setProtocolOptions(
            maxFramePayloadSize=limits.message,
            maxMessagePayloadSize=limits.message,
            failByDrop=False,
            echoCloseCodeReason=True,
            openHandshakeTimeout=5,
            closeHandshakeTimeout=1,
            tcpNoDelay=True,
            autoPingInterval=PING_SECONDS,
            autoPingTimeout=PING_SECONDS / 2,
        )

    @property
    def full(self) -> bool:
        return len(self._clients) >= self._limits.clients

    def for_site(self, site: str, user: str = "", trusted: bool = False) -> "SiteClientFactory":
        return SiteClientFactory(self, site, user, trusted)

    def build(self, site: str, user: str = "", trusted: bool = False) -> ClientProtocol:
        protocol = ClientProtocol(self._calls, site, user, self._limits, trusted, self._turns)
        protocol.factory = self
        self._clients.add(protocol)
        protocol.is_closed.addBoth(lambda _: self._clients.discard(protocol))
        return protocol

    def release_soon(self, client: ClientProtocol) -> None:
        """Have a client write what it holds at the end of this turn of the reactor."""
        if not self._holding:
            self.reactor.callLater(0, self._release)
        self._holding.append(client)

    def _release(self) -> None:
        holding, self._holding = self._holding, []
        for client in holding:
            client.release()

    def drop_site(self, site: str) -> None:
        """Tell the clients of a site that the node holds it no more."""
        for client in list(self._clients):
            if client.site == site and client.state == client.STATE_OPEN:
                client.sendClose(CLOSE_SITE_GONE, "this node does not hold the site any more")

    def stop(self) -> None:
        """Tell every client that the node goes away."""
        for client in list(self._clients):
            if client.state == client.STATE_OPEN:
                # Of sendClose autobahn lets only codes of applications pass.
                client.sendCloseFrame(CLOSE_GOING_AWAY, b"this node stops")


@attrs.frozen
class SiteClientFactory:
    """What `autobahn.twisted.resource.WebSocketResource` asks for a protocol."""

    _factory: ClientFactory
    _site: str
    _user: str
    _trusted: bool

    def buildProtocol(self, addr: object) -> ClientProtocol:
        return self._factory.build(self._site, self._user, self._trusted)
