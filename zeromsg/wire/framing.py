"""Chunks of a connection to whole messages.

The stream is msgpack maps one after another, without lengths or delimiters. A
map that holds `stream_bytes: n` is followed by n raw bytes, which belong to it.

`Framer.feed` returns the messages that a chunk completed, in order, and raises
`TheirMistake` once for a stream that cannot be one; after that the framer is
spent. Source: ZeroNet peer protocol, framing.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgpack

from zeromsg.errors import TheirMistake
from zeromsg.wire.packing import MESSAGE_LIMIT
from zeromsg.wire.packing import unpacker as new_unpacker

Message = dict[Any, Any]

STREAM_BYTES = "stream_bytes"
BODY = "body"

SPARES = 4
SPARE_BYTES = 256 * 1024
"""Decoders that wait for their next use, and what one may have held to be used again."""

_spares: list[msgpack.Unpacker] = []
"""Decoders between two messages. Each takes some 42 KiB, which is more than all else that an idle
connection has; so a connection has one only while a message of its is under way."""


def _starts_a_map(byte: int) -> bool:
    return 0x80 <= byte <= 0x8F or byte in (0xDE, 0xDF)


class Framer:
    """Cuts one direction of a connection into messages.

    stream_limit: told the map that announces a stream, gives the most bytes it
    may bring; 0 when nobody asked for it.
    """

    def __init__(self, stream_limit: Callable[[Mapping[Any, Any]], int]) -> None:
        self._stream_limit = stream_limit
        self._unpacker: msgpack.Unpacker | None = None
        self._most = 0
        # Bytes given to the unpacker, and how many of them whole messages took. What
        # it says of its own position in between counts parts of a message too.
        self._fed = 0
        self._read = 0
        # A message whose streamed body is still arriving, and its pieces.
        self._announced: Message | None = None
        self._pieces: list[bytes] = []
        self._missing = 0

    @property
    def partial(self) -> bool:
        """Whether the beginning of a message waits for its end."""
        return self._announced is not None or self._fed > self._read

    def feed(self, chunk: bytes) -> list[Message]:
        """The messages that end in this chunk; streamed bodies stand under `body`."""
        messages: list[Message] = []
        if self._announced is not None:
            chunk = self._take_body(chunk, messages)
        if not chunk:
            return messages
        if self._fed == self._read and not _starts_a_map(chunk[0]):
            raise TheirMistake("not a message of the peer protocol")
        unpacker = self._unpacker or self._borrow()
        try:
            self._unpack(unpacker, chunk, messages)
        except (ValueError, TypeError, msgpack.UnpackException) as problem:
            # TypeError: a list or map as a map's key. BufferFull and the format
            # errors are UnpackExceptions, the length limits ValueErrors.
            raise TheirMistake(f"undecodable message: {type(problem).__name__}") from None
        if self._fed == self._read:
            self._give_back()
        return messages

    def _borrow(self) -> msgpack.Unpacker:
        unpacker = self._unpacker = _spares.pop() if _spares else new_unpacker()
        # It may have read messages of others.
        self._fed = self._read = unpacker.tell()
        self._most = 0
        return unpacker

    def _give_back(self) -> None:
        if self._unpacker is not None and self._most <= SPARE_BYTES and len(_spares) < SPARES:
            _spares.append(self._unpacker)
        self._unpacker = None

    def _unpack(self, unpacker: msgpack.Unpacker, chunk: bytes, messages: list[Message]) -> None:
        unpacker.feed(chunk)
        self._fed += len(chunk)
        self._most = max(self._most, self._fed - self._read)
        for message in unpacker:
            before, self._read = self._read, unpacker.tell()
            if self._read - before > MESSAGE_LIMIT:
                raise TheirMistake("a message over the size limit")
            if type(message) is not dict:
                raise TheirMistake("a message that is not a map")
            if STREAM_BYTES in message:
                self._begin_body(message)
                body = unpacker.read_bytes(self._missing)
                self._read = unpacker.tell()
                self._take_body(body, messages)
                if self._announced is not None:
                    return
            else:
                messages.append(message)
        waiting = self._fed - self._read
        if 0 < waiting <= len(chunk) and not _starts_a_map(chunk[-waiting]):
            raise TheirMistake("not a message of the peer protocol")
        if waiting > MESSAGE_LIMIT:
            raise TheirMistake("a message over the size limit")

    def _begin_body(self, message: Message) -> None:
        size = message[STREAM_BYTES]
        allowed = self._stream_limit(message)
        if type(size) is not int or not 0 <= size <= allowed:
            raise TheirMistake("a file body that nobody asked for")
        self._announced, self._missing, self._pieces = message, size, []

    def _take_body(self, data: bytes, messages: list[Message]) -> bytes:
        """Add to the body that is arriving; returns what comes after it."""
        taken, rest = data[: self._missing], data[self._missing :]
        self._pieces.append(taken)
        self._missing -= len(taken)
        if self._missing == 0 and self._announced is not None:
            self._announced[BODY] = b"".join(self._pieces)
            messages.append(self._announced)
            self._announced, self._pieces = None, []
        return rest
