"""Numbered requests and responses of one connection, both ways, without I/O.

Bytes go in by `receive` and come out as events; `request` and `answer` give
bytes to write. Each side numbers its own requests from 1 (0 is the handshake);
responses may come in any order. Source: ZeroNet peer protocol, envelopes.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import msgspec

from zeromsg.errors import TheirMistake
from zeromsg.wire.framing import Framer, Message
from zeromsg.wire.names import HANDSHAKE, RESPONSE, STREAM_FILE
from zeromsg.wire.packing import pack, packed_request
from zeromsg.wire.peer_messages import text

ANSWER_SECONDS = 10.0
"""What a node has to answer a request before its peer gives up on the connection."""

MESSAGE_SECONDS = 60.0
"""What one message may take from its first byte to its last."""

STREAM_LIMIT = 1024 * 1024
"""Most bytes that one streamFile answer may bring; nobody asks for more."""

HANDSHAKE_ID = 0


class RequestArrived(msgspec.Struct, frozen=True):
    """The peer wants something. req_id: the number it sent, None when it sent none."""

    req_id: int | None
    cmd: str
    params: Mapping[Any, Any]


class AnswerArrived(msgspec.Struct, frozen=True):
    """The peer answered a request of ours; token is what `request` was given."""

    token: Any
    body: Mapping[Any, Any]


Event = RequestArrived | AnswerArrived


@attrs.define
class _Waiting:
    token: Any
    cmd: str
    deadline: float


class Conversation:
    """One connection's messages. Times are seconds of one clock that never goes back.

    in_flight_limit: most requests of ours that may wait for an answer.
    """

    def __init__(self, in_flight_limit: int) -> None:
        self._framer = Framer(self._stream_limit)
        self._next_id = HANDSHAKE_ID
        self._waiting: dict[int, _Waiting] = {}
        self._in_flight_limit = in_flight_limit
        self.last_received = 0.0
        # When the message began that is still arriving.
        self._begun: float | None = None

    @property
    def partial(self) -> bool:
        """Whether the peer began a message that it did not finish."""
        return self._framer.partial

    @property
    def held(self) -> int:
        """Bytes of that, but for a file that was asked for."""
        return self._framer.held

    def dawdles(self, now: float) -> bool:
        """Whether the peer takes too long over one message, however busily it drips."""
        return self._begun is not None and now - self._begun > MESSAGE_SECONDS

    @property
    def waiting(self) -> int:
        """How many requests of ours have no answer yet."""
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """Whether no further request may be made now."""
        return len(self._waiting) >= self._in_flight_limit

    @property
    def has_more(self) -> bool:
        """Whether further messages may have come with the one that is being handled."""
        return self._framer.unread > 0

    def receive(self, chunk: bytes, now: float) -> Iterator[Event | None]:
        """Events of what a chunk completed. Raises TheirMistake when the stream is broken.

        None stands for a message that means nothing. A generator, because a handler may
        change what the next message means, and may have to put off what is left.
        """
        self.last_received = now
        before = self._framer.count
        yield from map(self._understand, self._framer.feed(chunk))
        if not self._framer.partial:
            self._begun = None
        elif self._framer.count > before or self._begun is None:
            self._begun = now

    def _understand(self, message: Message) -> Event | None:
        cmd = message.get("cmd")
        if type(cmd) is not str or not cmd:
            raise TheirMistake("a message without cmd")
        if not cmd.isascii():
            text(cmd, "cmd")  # it is repeated in the answer, and must be fit for that
        if cmd == RESPONSE:
            return self._match(message)
        params = message.get("params")
        if type(params) is not dict:
            raise TheirMistake("a request whose params are no map")
        req_id = message.get("req_id")
        if type(req_id) is not int and req_id is not None:
            raise TheirMistake("a req_id that is no whole number")
        # ZeroNet nodes take the first letter in either case.
        return RequestArrived(req_id, cmd[0].lower() + cmd[1:], params)

    def _match(self, message: Message) -> AnswerArrived | None:
        to = message.get("to")
        waiting = self._waiting.pop(to, None) if type(to) is int else None
        if waiting is None:
            # Late, or to nothing we asked; ZeroNet nodes ignore it too.
            return None
        return AnswerArrived(waiting.token, message)

    def _stream_limit(self, message: Mapping[Any, Any]) -> int:
        to = message.get("to")
        waiting = self._waiting.get(to) if type(to) is int else None
        return STREAM_LIMIT if waiting is not None and waiting.cmd == STREAM_FILE else 0

    def greet(self, params: Mapping[str, Any], token: Any, now: float, timeout: float) -> bytes:
        """The bytes of our handshake request, which is always number 0."""
        self._expect(HANDSHAKE_ID, token, HANDSHAKE, now + timeout)
        return packed_request(HANDSHAKE, HANDSHAKE_ID, pack(params))

    def request(
        self, cmd: str, packed_params: bytes, token: Any, now: float, timeout: float
    ) -> bytes:
        """The bytes of a request. The caller has looked at `full`."""
        self._next_id += 1
        self._expect(self._next_id, token, cmd, now + timeout)
        return packed_request(cmd, self._next_id, packed_params)

    def _expect(self, req_id: int, token: Any, cmd: str, deadline: float) -> None:
        self._waiting[req_id] = _Waiting(token, cmd, deadline)

    @staticmethod
    def answer(req_id: Any, body: Mapping[str, Any]) -> bytes:
        """The bytes of a response; the body's keys stand beside `cmd` and `to`."""
        return pack({"cmd": RESPONSE, "to": req_id, **body})

    def expired(self, now: float) -> list[Any]:
        """Tokens of the requests whose time is over; they are given up."""
        late = [req_id for req_id, entry in self._waiting.items() if entry.deadline <= now]
        return [self._waiting.pop(req_id).token for req_id in late]

    def abandoned(self) -> list[Any]:
        """Tokens of every request that waits; the connection is over."""
        tokens = [entry.token for entry in self._waiting.values()]
        self._waiting.clear()
        # A connection is part of reference cycles, and what is half received may be large.
        self._framer = Framer(self._stream_limit)
        return tokens
