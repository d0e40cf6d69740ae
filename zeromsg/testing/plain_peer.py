"""A peer over a plain socket, written by hand so that it can do everything wrong.

    with PlainPeer(node.peer, "127.0.2.9") as stranger:
        stranger.greet()
        assert stranger.ask("ping", {}) == {..., "body": b"Pong!"}

It knows nothing of the node's own code: only msgpack and the specification.
"""

import hashlib
import itertools
import json
import socket
import ssl
import time
from types import TracebackType
from typing import Any, Self

import msgpack

SECONDS = 10.0

_numbers = itertools.count(1)


def pack(message: Any) -> bytes:
    packed: bytes = msgpack.packb(message, use_bin_type=True)
    return packed


def handshake(**changes: Any) -> dict[str, Any]:
    """The parameters of a ZeroNet node's handshake, but for changes."""
    return {
        "version": "0.7.2",
        "protocol": "v2",
        "use_bin_type": True,
        "peer_id": f"-UT3530-{next(_numbers):012}",
        "fileserver_port": 0,
        "port_opened": False,
        "target_ip": "127.0.0.1",
        "rev": 4555,
        "crypt_supported": [],
        "crypt": None,
        "time": int(time.time()),
        **changes,
    }


def envelope(site: str, message: Any, **raw: Any) -> dict[str, Any]:
    """The parameters of an unsigned peerBroadcast. raw: further keys of what is hashed."""
    values = {"message": message, "immediate": False, "peer_count": 5, "broadcast": True}
    text = json.dumps({**values, "site": site, **raw})
    return {"raw": text, "nonce": str(next(_numbers)), "signature": "", "cert": None}


def envelope_hash(params: dict[str, Any]) -> str:
    return hashlib.sha256(f"{params['nonce']},{params['raw']}".encode("ascii")).hexdigest()


def tls_context() -> ssl.SSLContext:
    """TLS that trusts everybody, as peers do."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class PlainPeer:
    """A connection to a node's peer port; a context manager that closes it.

    remote: the node as `host:port`. source: the address to connect from, whose
        alone the blame is. tls: to begin with it.
    requests: what the node asked so far. While `polite` they are answered: a
        node gives up on who does not.
    """

    def __init__(
        self,
        remote: str,
        source: str,
        *,
        tls: ssl.SSLContext | None = None,
        receive_buffer: int | None = None,
    ) -> None:
        host, _, port = remote.rpartition(":")
        self.polite = True
        self.requests: list[dict[Any, Any]] = []
        self._last_id = 0
        self._answers: dict[Any, dict[Any, Any]] = {}
        self._unpacker = msgpack.Unpacker(raw=False, strict_map_key=False)
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self.socket.bind((source, 0))
            self.socket.connect((host, int(port)))
            if tls is not None:
                self.start_tls(tls)
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

    def start_tls(self, context: ssl.SSLContext) -> None:
        """Everything from here on is TLS, with this side as the client."""
        self.socket = context.wrap_socket(self.socket)

    # Messages.

    def send(self, *messages: Any) -> None:
        """All of them in one write."""
        self.socket.sendall(b"".join(map(pack, messages)))

    def receive(self, seconds: float = SECONDS) -> dict[Any, Any] | None:
        """The next message; None once the node closed. Raises TimeoutError."""
        deadline = time.monotonic() + seconds
        while True:
            for message in self._unpacker:
                assert isinstance(message, dict)
                return message
            self.socket.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                data = self.socket.recv(65536)
            except TimeoutError:
                raise
            except OSError:  # a reset is a close as well
                return None
            if not data:
                return None
            self._unpacker.feed(data)

    def closed_within(self, seconds: float) -> bool:
        """Whether the node closes the connection; what it sends before is passed over."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                if self.receive(deadline - time.monotonic()) is None:
                    return True
            except TimeoutError:
                return False

    # The protocol as it should be.

    def greet(self, **changes: Any) -> dict[Any, Any]:
        """Send the handshake; its response."""
        self.send({"cmd": "handshake", "req_id": 0, "params": handshake(**changes)})
        return self.answer_to(0)

    def request(self, cmd: str, params: Any) -> int:
        """Send a request without waiting; its number."""
        self._last_id += 1
        self.send({"cmd": cmd, "req_id": self._last_id, "params": params})
        return self._last_id

    def ask(self, cmd: str, params: Any, seconds: float = SECONDS) -> dict[Any, Any]:
        """Send a request; the answer to it."""
        return self.answer_to(self.request(cmd, params), seconds)

    def broadcast(self, site: str, message: Any, **raw: Any) -> dict[Any, Any]:
        """Send a new unsigned message; the answer."""
        return self.ask("peerBroadcast", envelope(site, message, **raw))

    def wait_for_request(self, cmd: str, seconds: float = SECONDS) -> dict[Any, Any]:
        """The parameters of the next request of this name, which is answered."""
        deadline = time.monotonic() + seconds
        while True:
            for request in self.requests:
                if request["cmd"] == cmd:
                    self.requests.remove(request)
                    params: dict[Any, Any] = request["params"]
                    return params
            self._take(deadline - time.monotonic())

    def answer_to(self, number: int, seconds: float = SECONDS) -> dict[Any, Any]:
        """Wait for the answer to a request of this number."""
        deadline = time.monotonic() + seconds
        while number not in self._answers:
            self._take(deadline - time.monotonic())
        return self._answers.pop(number)

    def _take(self, seconds: float) -> None:
        message = self.receive(seconds)
        if message is None:
            raise ConnectionError("the node closed the connection")
        if message["cmd"] == "response":
            self._answers[message["to"]] = message
            return
        self.requests.append(message)
        if self.polite:
            body: dict[str, Any] = {"peers": []} if message["cmd"] == "pex" else {"ok": "thx"}
            self.send({"cmd": "response", "to": message["req_id"], **body})
