"""Chunks of a connection to whole messages.

The stream is msgpack maps one after another, without lengths or delimiters. A
map that holds `stream_bytes: n` is followed by n raw bytes, which belong to it.

A message is decoded when all of it is here, and no earlier: msgpack makes a list as
soon as it knows the length, so that three kilobytes of lists in lists took
44 MiB for as long as the rest did not come.

`Framer.feed` yields the messages that a chunk completes, in order, each when it is
asked for, and raises `TheirMistake` once for a stream that cannot be one; after that
the framer is spent. Source: ZeroNet peer protocol, framing.
"""

from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any

import msgpack

from zeromsg.errors import TheirMistake
from zeromsg.wire.packing import MESSAGE_LIMIT, unpack
from zeromsg.wire.packing import scanner as new_scanner

Message = dict[Any, Any]

STREAM_BYTES = "stream_bytes"
BODY = "body"


_LARGE = 256 * 1024
"""After a message of more bytes the room that it took is given back."""

SPARES = 4
_spares: list[msgpack.Unpacker] = []
"""Scanners between two chunks. Each takes some 42 KiB, which is more than all else that an idle
connection has; so a connection has one only while a message of its is under way."""


def _undecodable(problem: Exception) -> TheirMistake:
    return TheirMistake(f"undecodable message: {type(problem).__name__}")


def _starts_a_map(byte: int) -> bool:
    return 0x80 <= byte <= 0x8F or byte in (0xDE, 0xDF)


class Framer:
    """Cuts one direction of a connection into messages.

    stream_limit: told the map that announces a stream, gives the most bytes it
    may bring; 0 when nobody asked for it.
    count: messages so far. unread: bytes of the chunk after the last of them.
    """

    def __init__(self, stream_limit: Callable[[Mapping[Any, Any]], int]) -> None:
        self._stream_limit = stream_limit
        self._renew()
        self._arrived: Message | None = None
        self.count = self.unread = 0
        # A message whose streamed body is still arriving, and its pieces.
        self._announced: Message | None = None
        self._pieces: list[bytes] = []
        self._missing = 0

    def _renew(self) -> None:
        """Begin with another scanner, as one keeps the room that it needed once."""
        self._scanner: msgpack.Unpacker | None = None
        self._scanned = 0
        # The beginning of a message. Its pieces may be small and many, and one buffer goes
        # back to the system as a whole.
        self._begun = bytearray()
        self._size = 0

    @property
    def partial(self) -> bool:
        """Whether the beginning of a message waits for its end."""
        return self._announced is not None or self._size > 0

    @property
    def held(self) -> int:
        """Bytes of a message whose end is awaited, without a body that was asked for."""
        return self._size

    def feed(self, chunk: bytes) -> Iterator[Message]:
        """The messages that end in this chunk; streamed bodies stand under `body`.

        All are to be taken before the next chunk is fed.
        """
        while chunk:
            if self._announced is not None:
                chunk = self._take_body(chunk)
            else:
                chunk = yield from self._messages(chunk)
            if self._arrived is not None:
                yield self._given()

    def _given(self) -> Message:
        """What arrived; it may be large, so that nothing holds on to it."""
        message, self._arrived = self._arrived, None
        assert message is not None
        return message

    def _messages(self, chunk: bytes) -> Generator[Message, None, bytes]:
        """The messages of a chunk; returns what the scanner that is used must not see."""
        scanner = self._scanner or self._borrow()
        scanner.feed(chunk)
        before, self._scanned = self._scanned, self._scanned + len(chunk)
        start = 0
        while start < len(chunk):
            if not self._size and not _starts_a_map(chunk[start]):
                raise TheirMistake("not a message of the peer protocol")
            try:
                scanner.skip()
            except msgpack.OutOfData:
                self._begun += memoryview(chunk)[start:]
                self._add(len(chunk) - start)
                return b""
            except (ValueError, msgpack.UnpackException) as problem:
                # Of the latter are BufferFull and the errors of the format.
                raise _undecodable(problem) from None
            end = scanner.tell() - before
            self.unread = len(chunk) - end
            self._add(end - start)
            large = self._size > _LARGE
            self._arrived = self._decode(chunk[start:end])
            self.count += 1
            start = end
            if STREAM_BYTES in self._arrived:
                self._begin_body(self._given())
                self._renew()
                return self._take_body(chunk[start:])
            yield self._given()
            if large:
                self._renew()
                return chunk[start:]
        self._give_back()
        return b""

    def _borrow(self) -> msgpack.Unpacker:
        scanner = self._scanner = _spares.pop() if _spares else new_scanner()
        # It may have seen messages of others.
        self._scanned = scanner.tell()
        return scanner

    def _give_back(self) -> None:
        if self._scanner is not None and len(_spares) < SPARES:
            _spares.append(self._scanner)
        self._scanner = None

    def _add(self, size: int) -> None:
        self._size += size
        if self._size > MESSAGE_LIMIT:
            raise TheirMistake("a message over the size limit")

    def _decode(self, last: bytes) -> Message:
        """The message that ends with this piece."""
        data: bytes | bytearray = last
        if self._begun:
            data = self._begun
            data += last
            self._begun = bytearray()
        self._size = 0
        try:
            message: Message = unpack(data)
        except (ValueError, TypeError) as problem:
            # TypeError: a list or map as a map's key. The limits are ValueErrors.
            raise _undecodable(problem) from None
        return message

    def _begin_body(self, message: Message) -> None:
        size = message[STREAM_BYTES]
        allowed = self._stream_limit(message)
        if type(size) is not int or not 0 <= size <= allowed:
            raise TheirMistake("a file body that nobody asked for")
        self._announced, self._missing, self._pieces = message, size, []

    def _take_body(self, data: bytes) -> bytes:
        """Add to the body that is arriving; returns what comes after it."""
        taken, rest = data[: self._missing], data[self._missing :]
        self._pieces.append(taken)
        self._missing -= len(taken)
        self.unread = len(rest)
        if self._missing == 0 and self._announced is not None:
            self._announced[BODY] = b"".join(self._pieces)
            self._arrived = self._announced
            self._announced, self._pieces = None, []
        return rest
