"""A Tor that is none: a scripted control port and SOCKS port, in memory or on real sockets.

It serves whatever onions it is asked to, and leads connections to any onion
where its owner says. For what real Tor shows only now and then (a lost upload,
each of its errors, silence), and for tests that must not need Tor.
"""

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure

from zeromsg.crypto.onion import OnionKey

_INFO = {
    "signal/names": "RELOAD",
    "version": "0.4.9.11",
    "events/names": "CIRC HS_DESC STATUS_CLIENT",
}


class FakeTor:
    """What both ports share.

    socks: what `net/listeners/socks` says. auth: the AUTH line's methods, and
    what follows them. route: where connections lead, see `FakeSocks`.
    uploads: whether descriptors are taken. served: onion -> `port,target`.
    refuse: replies to ADD_ONION instead of serving, one for each.
    """

    def __init__(
        self,
        socks: str = '"127.0.0.1:9050"',
        auth: str = "NULL",
        password: str = "",
        route: "Callable[[str, int, str], Route] | None" = None,
    ) -> None:
        self.socks = socks
        self.auth = auth
        self.password = password
        self.route = route or (lambda host, port, user: 0xF0)
        self.uploads = True
        self.lies = False
        self.silent = False
        self.refuse: list[str] = []
        self.served: dict[str, str] = {}
        self.commands: list[str] = []
        self.controls: list[FakeControl] = []
        self.asked: list[tuple[str, int, str]] = []

    def control(self) -> "FakeControl":
        """A connection to the control port."""
        return FakeControl(self)

    def proxy(self) -> "FakeSocks":
        """A connection to the SOCKS port."""
        return FakeSocks(self)

    def control_factory(self) -> Factory:
        return _factory(self.control)

    def socks_factory(self) -> Factory:
        return _factory(self.proxy)

    def drop_controls(self) -> None:
        """As if Tor ended."""
        for control in list(self.controls):
            control.transport.loseConnection()  # type: ignore[union-attr]


def _factory(make: Callable[[], IProtocol]) -> Factory:
    class Made(Factory):
        noisy = False

        def buildProtocol(self, addr: Any) -> Any:
            return make()

    return Made()


class FakeControl(LineReceiver):
    """The control protocol as far as this node speaks it."""

    delimiter = b"\r\n"

    def __init__(self, tor: FakeTor) -> None:
        self._tor = tor
        self._own: list[str] = []

    def connectionMade(self) -> None:
        self._tor.controls.append(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._tor.controls.remove(self)
        for onion in self._own:
            self._tor.served.pop(onion, None)

    def say(self, *lines: str) -> None:
        for line in lines:
            self.sendLine(line.encode())

    def lineReceived(self, line: bytes) -> None:
        text = line.decode()
        self._tor.commands.append(text)
        if self._tor.silent:
            return
        if self._tor.lies:
            self.say("250+ nonsense", "abc", ".", "xyz not a number", "250 OK")
            return
        name, _, rest = text.partition(" ")
        handler: Callable[[str], None] | None = getattr(self, f"_{name.lower()}", None)
        if handler is None:
            self.say("510 Unrecognized command")
        else:
            handler(rest)

    def _protocolinfo(self, rest: str) -> None:
        self.say("250-PROTOCOLINFO 1", f"250-AUTH METHODS={self._tor.auth}", "250 OK")

    def _authenticate(self, rest: str) -> None:
        wanted = self._tor.password.encode().hex()
        if self._tor.password and rest.lower() != wanted:
            self.say("515 Authentication failed: Password did not match")
        else:
            self.say("250 OK")

    def _getinfo(self, rest: str) -> None:
        values = {**_INFO, "net/listeners/socks": self._tor.socks}
        self.say(f"250-{rest}={values[rest]}", "250 OK")

    def _usefeature(self, rest: str) -> None:
        self.say("250 OK")

    _setevents = _usefeature
    _onion_client_auth_add = _usefeature

    def _add_onion(self, rest: str) -> None:
        if self._tor.refuse:
            self.say(self._tor.refuse.pop(0))
            return
        key, *arguments = rest.split()
        onion = OnionKey.from_tor(key).onion
        named: Mapping[str, str] = dict(word.split("=", 1) for word in arguments)
        self._tor.served[onion] = named["Port"]
        self._own.append(onion)
        self.say(f"250-ServiceID={onion}", "250 OK")
        if self._tor.uploads:
            self.upload(onion)

    def upload(self, onion: str) -> None:
        """A directory took the descriptor."""
        self.say(f"650 HS_DESC UPLOADED {onion} UNKNOWN $AA~directory")

    def _del_onion(self, rest: str) -> None:
        if self._tor.served.pop(rest, None) is None:
            self.say("552 Unknown Onion Service id")
        else:
            self._own.remove(rest)
            self.say("250 OK")


Route = IProtocol | int
"""A protocol that takes the connection, or the code of the refusal."""


class FakeSocks(Protocol):
    """SOCKS5: asks the owner's `route` (host, port, user name) for the other end."""

    def __init__(self, tor: FakeTor) -> None:
        self._tor = tor
        self._buffer = b""
        self._user: str | None = None
        self._inner: IProtocol | None = None
        self._step: Callable[[], bool] = self._methods

    def dataReceived(self, data: bytes) -> None:
        if self._inner is not None:
            self._inner.dataReceived(data)
            return
        self._buffer += data
        while self._buffer and self._step():
            pass

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._inner is not None:
            self._inner.connectionLost(reason)

    @property
    def _stream(self) -> Any:
        return self.transport

    def _take(self, count: int) -> bytes:
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken

    def _methods(self) -> bool:
        if len(self._buffer) < 3:
            return False
        method = self._take(2 + self._buffer[1])[2]
        self._stream.write(bytes([5, method]))
        self._step = self._login if method == 2 else self._request
        return True

    def _login(self) -> bool:
        length = 3 + self._buffer[1] if len(self._buffer) > 1 else 99
        if len(self._buffer) < length or len(self._buffer) < length + self._buffer[length - 1]:
            return False
        words = self._take(length + self._buffer[length - 1])
        self._user = words[2 : 2 + words[1]].decode()
        self._stream.write(b"\x01\x00")
        self._step = self._request
        return True

    def _request(self) -> bool:
        if len(self._buffer) < 5 or len(self._buffer) < 7 + self._buffer[4]:
            return False
        words = self._take(7 + self._buffer[4])
        host, port = words[5:-2].decode(), int.from_bytes(words[-2:], "big")
        self._tor.asked.append((host, port, self._user or ""))
        route = self._tor.route(host, port, self._user or "")
        code = route if isinstance(route, int) else 0
        self._stream.write(bytes([5, code, 0, 1]) + bytes(6))
        if isinstance(route, int):
            self._stream.loseConnection()
            return False
        self._inner = route
        route.makeConnection(self._stream)
        rest, self._buffer = self._buffer, b""
        if rest:
            route.dataReceived(rest)
        return False
