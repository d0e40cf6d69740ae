"""A WebSocket client whose wire is memory, for `net.client_protocol` without sockets."""

import json
import os
import struct
from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10

TCP_BUFFER = 65536
"""Unread bytes at which Twisted's TCP pauses who writes."""


class Wire:
    """A TCP transport whose other end reads at once, or not at all while `stuck`.

    reading: whether the protocol wants to be given bytes.
    """

    disconnecting = False

    def __init__(self) -> None:
        self.protocol: Any = None
        self.read = bytearray()
        self.unread = bytearray()
        self.stuck = False
        self.reading = True
        self.connected = True
        self.aborted = False
        # The HTTP channel that had the connection before registered itself.
        self.producer: Any = object()
        self.writes: list[bytes] = []

    def write(self, data: bytes) -> None:
        assert isinstance(data, bytes)
        if not self.connected or self.disconnecting:
            return
        self.writes.append(data)
        if not self.stuck:
            self.read += data
            return
        self.unread += data
        if len(self.unread) > TCP_BUFFER and self.producer is not None:
            self.producer.pauseProducing()

    def writeSequence(self, data: Any) -> None:
        self.write(b"".join(data))

    def unstick(self) -> None:
        """Read everything, and go on reading."""
        self.stuck = False
        self.read += self.unread
        self.unread.clear()
        self.producer.resumeProducing()

    def loseConnection(self) -> None:
        self.disconnecting = True
        self._end(ConnectionDone())

    def abortConnection(self) -> None:
        self.aborted = True
        self._end(ConnectionLost())

    def _end(self, reason: Exception) -> None:
        if self.connected:
            self.connected = False
            self.protocol.connectionLost(Failure(reason))

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert self.producer is None and streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        assert self.producer is not None
        self.producer = None

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        self.reading = True

    def setTcpNoDelay(self, enabled: bool) -> None:
        """There is no TCP."""

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 50000)

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 43110)


class WebSocketClient:
    """One client of a node: what it says and hears, frame by frame.

    stuck: it reads nothing before `wire.unstick`, the answer to the upgrade included.
    settle: ends the reactor's turn, in which nodes hold what they write.
    """

    def __init__(
        self,
        protocol: Any,
        headers: dict[str, str],
        stuck: bool = False,
        settle: Callable[[], object] = lambda: None,
    ) -> None:
        self._settle = settle
        self.wire = Wire()
        self.wire.protocol = protocol
        self.wire.stuck = stuck
        self._taken = 0
        protocol.makeConnection(self.wire)
        lines = [
            "GET /Websocket?wrapper_key=00 HTTP/1.1",
            "Host: 127.0.0.1:43110",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Version: 13",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        self.feed("\r\n".join(lines).encode() + b"\r\n\r\n")

    @property
    def head(self) -> str:
        """The HTTP answer that came before the frames."""
        return bytes(self.wire.read).partition(b"\r\n\r\n")[0].decode()

    def feed(self, data: bytes) -> None:
        self.wire.protocol.dataReceived(data)

    def send_frame(self, opcode: int, payload: bytes, final: bool = True) -> None:
        mask = os.urandom(4)
        size = len(payload)
        head = bytes([opcode | (0x80 if final else 0)])
        if size < 126:
            head += bytes([0x80 | size])
        elif size < 65536:
            head += bytes([0x80 | 126]) + struct.pack("!H", size)
        else:
            head += bytes([0x80 | 127]) + struct.pack("!Q", size)
        masked = bytearray(payload)
        for number in range(4):
            masked[number::4] = bytes(byte ^ mask[number] for byte in masked[number::4])
        self.feed(head + mask + bytes(masked))

    def send(self, message: Any) -> None:
        """A JSON value as one text message."""
        self.send_frame(TEXT, json.dumps(message).encode())

    def frames(self) -> list[tuple[int, bytes]]:
        """What came since the last look, as opcode and payload."""
        self._settle()
        found = []
        data = bytes(self.wire.read)
        if not self._taken:
            self._taken = data.find(b"\r\n\r\n") + 4
        while self._taken < len(data):
            start = self._taken
            opcode, size = data[start] & 0x0F, data[start + 1]
            assert data[start] & 0x80 and size < 128, "fragmented, or masked by the server"
            start += 2
            if size == 126:
                (size,) = struct.unpack_from("!H", data, start)
                start += 2
            elif size == 127:
                (size,) = struct.unpack_from("!Q", data, start)
                start += 8
            found.append((opcode, data[start : start + size]))
            self._taken = start + size
        assert self._taken <= len(data), "a frame is not whole"
        return found

    def messages(self) -> list[Any]:
        """The JSON messages that came since the last look."""
        return [json.loads(payload) for opcode, payload in self.frames() if opcode == TEXT]
