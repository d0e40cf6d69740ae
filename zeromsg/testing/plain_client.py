"""HTTP and WebSockets over a plain socket, written by hand so that they can do everything wrong.

    with PlainClient(node.host, node.ui_port, wrapper_key(node.host, node.ui_port, site)) as client:
        client.send_text('{"cmd": "ping", "id": 1}')
        assert client.receive_json()["result"] == "pong"

Source: RFC 6455; ZeroFrame API, HTTP and WebSocket.
"""

import json
import os
import re
import socket
import struct
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

SECONDS = 10.0

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

_KEY = re.compile(r'wrapper_key = "(.*?)"')


class Response(NamedTuple):
    """An HTTP response; header names are in lower case."""

    code: int
    headers: dict[str, str]
    body: bytes


class Frame(NamedTuple):
    opcode: int
    payload: bytes


def request_text(path: str, headers: Mapping[str, str | None]) -> bytes:
    """A GET request. Headers whose value is None are left out."""
    lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
    return "\r\n".join([f"GET {path} HTTP/1.1", *lines, "", ""]).encode("latin-1")


def exchange(host: str, port: int, request: bytes, seconds: float = SECONDS) -> Response:
    """Send bytes, and read the one response to them."""
    with socket.create_connection((host, port), seconds) as connection:
        connection.sendall(request)
        return _read_response(connection, b"")[0]


def get(host: str, port: int, path: str, /, **headers: str | None) -> Response:
    """Get a page. headers: `sec_fetch_dest` for Sec-Fetch-Dest."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    common = {"host": f"{host}:{port}", "accept": "text/html", "connection": "close"}
    return exchange(host, port, request_text(path, {**common, **named}))


def wrapper_key(host: str, port: int, site: str) -> str:
    """The key that programs find in the site's page."""
    found = _KEY.search(get(host, port, f"/{site}").body.decode())
    assert found is not None, "the page has no key"
    return found[1]


def upgrade_text(host: str, port: int, key: str, headers: Mapping[str, str | None]) -> bytes:
    """The request that opens a WebSocket."""
    common = {
        "Host": f"{host}:{port}",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
    }
    return request_text(f"/Websocket?wrapper_key={key}", {**common, **headers})


def _read_response(connection: socket.socket, data: bytes) -> tuple[Response, bytes]:
    """A response, and the bytes that came after it."""
    while b"\r\n\r\n" not in data:
        data += _some(connection)
    head, _, rest = data.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(":") for line in lines)
    }
    code = int(status.split()[1])
    if code == 101:
        return Response(code, headers, b""), rest
    if "content-length" in headers:
        length = int(headers["content-length"])
        while len(rest) < length:
            rest += _some(connection)
        return Response(code, headers, rest[:length]), rest[length:]
    chunked = headers.get("transfer-encoding") == "chunked"
    while True:
        more = connection.recv(65536)
        if not more:
            return Response(code, headers, _unchunk(rest) if chunked else rest), b""
        rest += more


def _unchunk(data: bytes) -> bytes:
    body = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        body, data = body + data[:length], data[length + 2 :]
    return body


def _some(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise ConnectionError("the node closed the connection")
    return data


def frame(opcode: int, payload: bytes, *, final: bool = True, masked: bool = True) -> bytes:
    """A frame of a client; its mask is random, or zero for long payloads."""
    first = (0x80 if final else 0) | opcode
    size = len(payload)
    bit = 0x80 if masked else 0
    if size < 126:
        head = struct.pack("!BB", first, bit | size)
    elif size < 65536:
        head = struct.pack("!BBH", first, bit | 126, size)
    else:
        head = struct.pack("!BBQ", first, bit | 127, size)
    if not masked:
        return head + payload
    if size > 65536:
        return head + bytes(4) + payload
    mask = os.urandom(4)
    pattern = (mask * (size // 4 + 1))[:size]
    return head + mask + bytes(a ^ b for a, b in zip(payload, pattern, strict=True))


class PlainClient:
    """A WebSocket that was opened with a key; a context manager that closes it.

    headers: of the upgrade, beside the usual ones.
    receive_buffer: bytes the system may keep for us, so that a node notices soon
        when we do not read.
    """

    def __init__(
        self,
        host: str,
        port: int,
        key: str,
        *,
        headers: Mapping[str, str | None] | None = None,
        receive_buffer: int | None = None,
    ) -> None:
        self._last_id = 0
        self.events: list[dict[str, Any]] = []
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(SECONDS)
        try:
            self.socket.connect((host, port))
            self.socket.sendall(upgrade_text(host, port, key, headers or {}))
            response, self._data = _read_response(self.socket, b"")
            assert response.code == 101, response
        except BaseException:
            self.socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.socket.close()

    # Frames.

    def send_text(self, text: str) -> None:
        self.socket.sendall(frame(TEXT, text.encode()))

    def receive(self, seconds: float = SECONDS) -> Frame | None:
        """The next frame; None once the connection is closed. Raises TimeoutError."""
        deadline = time.monotonic() + seconds
        while True:
            taken = self._cut()
            if taken is not None:
                return taken
            self.socket.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                data = self.socket.recv(65536)
            except TimeoutError:
                raise
            except OSError:
                return None
            if not data:
                return None
            self._data += data

    def _cut(self) -> Frame | None:
        data = self._data
        if len(data) < 2:
            return None
        assert data[0] & 0x80, "the node sends whole messages"
        size, start = data[1], 2
        if size == 126:
            start = 4
            size = struct.unpack("!H", data[2:4])[0] if len(data) >= 4 else 1 << 62
        elif size == 127:
            start = 10
            size = struct.unpack("!Q", data[2:10])[0] if len(data) >= 10 else 1 << 62
        if len(data) < start + size:
            return None
        self._data = data[start + size :]
        return Frame(data[0] & 0x0F, data[start : start + size])

    def wait_for_close(self, seconds: float = SECONDS) -> tuple[int, str] | None:
        """Code and reason of the close frame; None when the connection ended without."""
        deadline = time.monotonic() + seconds
        while True:
            got = self.receive(deadline - time.monotonic())
            if got is None:
                return None
            if got.opcode == CLOSE:
                return struct.unpack("!H", got.payload[:2])[0], got.payload[2:].decode()

    # Messages.

    def receive_json(self, seconds: float = SECONDS) -> dict[str, Any]:
        """The next message. Raises ConnectionError when there is a close instead."""
        deadline = time.monotonic() + seconds
        while True:
            got = self.receive(deadline - time.monotonic())
            if got is None or got.opcode == CLOSE:
                raise ConnectionError(f"the node closed: {got}")
            if got.opcode == TEXT:
                message: dict[str, Any] = json.loads(got.payload)
                return message

    def answer_to(self, number: Any, seconds: float = SECONDS) -> Any:
        """The result of the call with this id; events before it are kept."""
        deadline = time.monotonic() + seconds
        while True:
            message = self.receive_json(deadline - time.monotonic())
            if message["cmd"] == "response" and message["to"] == number:
                return message["result"]
            self.events.append(message)

    def ask(self, cmd: str, params: Any = None, seconds: float = SECONDS) -> Any:
        """Run a command as it should be done; its result."""
        self._last_id += 1
        number = 1_000_000 + self._last_id
        self.send_text(json.dumps({"cmd": cmd, "params": params, "id": number}))
        return self.answer_to(number, seconds)

    def wait_for_event(self, cmd: str, seconds: float = SECONDS) -> Any:
        """The parameters of the next event of this name."""
        deadline = time.monotonic() + seconds
        while True:
            for event in self.events:
                if event["cmd"] == cmd:
                    self.events.remove(event)
                    return event["params"]
            self.events.append(self.receive_json(deadline - time.monotonic()))
