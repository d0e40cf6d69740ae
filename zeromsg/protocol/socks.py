"""The client's side of SOCKS5 without I/O: bytes of the proxy in, bytes to it out.

1. We offer one method: user name and password where streams must be kept apart
   (Tor gives each pair of them circuits of its own), else none.
2. The proxy takes it, and with a name checks that.
3. We ask for a host, always by name: whoever sends an address has looked one up.
4. The proxy answers with a code, an address that means nothing here, and then,
   perhaps in the same segment, with what the other end says first.

Each code becomes a `Problem`, because what has to be done next differs: a peer
that is gone, one that is slow, and a Tor that is not ready are three things.
Source: RFC 1928, RFC 1929; Tor, proposal 304 (extended codes F0 to F7).
"""

import enum

from zeromsg.errors import NotTried, Unreachable

HOST_LIMIT = 255
NAME_LIMIT = 255

_VERSION = 5
_CONNECT = 1
_BY_NAME = 3
_NO_METHOD = 0
_NAMED = 2
_NONE_FITS = 0xFF
_ADDRESS_BYTES = {1: 4, 4: 16}


class Problem(enum.Enum):
    """Why a connection through a proxy did not come about; the value is for people."""

    NO_PROXY = "the SOCKS port of Tor cannot be reached"
    NOT_SOCKS = "what answers at the SOCKS port speaks no SOCKS"
    LOGIN = "the SOCKS port refuses the way to log in"
    CLOSED_EARLY = "Tor closed the connection before it was ready"
    GENERAL = "Tor gives no reason"
    NOT_ALLOWED = "Tor may not connect there"
    NETWORK = "Tor finds no way to that network"
    HOST = "the onion is not known, or cannot be reached"
    REFUSED = "nothing listens at that port of the onion"
    EXPIRED = "Tor gave up"
    COMMAND = "the SOCKS port does not know the command"
    ADDRESS_KIND = "the SOCKS port takes no names"
    NO_DESCRIPTOR = "the onion is not known: it is not up, or not published yet"
    BAD_DESCRIPTOR = "what the onion published cannot be read"
    INTRODUCTION = "the onion takes no introduction: it went away"
    RENDEZVOUS = "the meeting with the onion failed"
    KEY_MISSING = "the onion is for those with a key, and Tor has none"
    KEY_WRONG = "the onion is for those with a key, and Tor has a wrong one"
    BAD_ADDRESS = "that is no onion: checksum or version are wrong"
    INTRODUCTION_TIMEOUT = "the onion did not answer the introduction in time"
    TIMEOUT = "no connection in time"
    UNKNOWN = "Tor gives a reason that is not known"


_CODES = {
    0x01: Problem.GENERAL,
    0x02: Problem.NOT_ALLOWED,
    0x03: Problem.NETWORK,
    0x04: Problem.HOST,
    0x05: Problem.REFUSED,
    0x06: Problem.EXPIRED,
    0x07: Problem.COMMAND,
    0x08: Problem.ADDRESS_KIND,
    0xF0: Problem.NO_DESCRIPTOR,
    0xF1: Problem.BAD_DESCRIPTOR,
    0xF2: Problem.INTRODUCTION,
    0xF3: Problem.RENDEZVOUS,
    0xF4: Problem.KEY_MISSING,
    0xF5: Problem.KEY_WRONG,
    0xF6: Problem.BAD_ADDRESS,
    0xF7: Problem.INTRODUCTION_TIMEOUT,
}

OURS = frozenset(
    {
        Problem.NO_PROXY,
        Problem.NOT_SOCKS,
        Problem.LOGIN,
        Problem.CLOSED_EARLY,
        Problem.NOT_ALLOWED,
        Problem.NETWORK,
        Problem.COMMAND,
        Problem.ADDRESS_KIND,
    }
)
"""Problems of our own Tor, which say nothing of the peer."""


class SocksFailed(Unreachable):
    """A connection through Tor did not come about.

    code: the byte of the reply, None where there was none.
    """

    def __init__(self, problem: Problem, code: int | None = None) -> None:
        more = "" if code is None or problem is not Problem.UNKNOWN else f" (code {code:#04x})"
        super().__init__(problem.value + more)
        self.problem = problem
        self.code = code

    @property
    def ours(self) -> bool:
        """Whether it says nothing of the peer."""
        return self.problem in OURS

    def as_unreachable(self) -> Unreachable:
        """The same for those that only ask whether the peer is to blame."""
        return NotTried(str(self)) if self.ours else self


class SocksConversation:
    """One connection's way through the proxy.

    host: a name or an address, ASCII, sent as it is. user: what keeps streams
    apart, "" for none. Both are checked here, before anything is connected:
    ValueError.
    """

    def __init__(self, host: str, port: int, user: str = "") -> None:
        if not host or not host.isascii() or len(host) > HOST_LIMIT:
            raise ValueError("a host has 1 to 255 ASCII characters")
        if not 0 < port < 65536:
            raise ValueError("a port is a number from 1 to 65535")
        if not user.isascii() or len(user) > NAME_LIMIT:
            raise ValueError("a user name has at most 255 ASCII characters")
        self._host = host.encode("ascii")
        self._port = port
        self._user = user.encode("ascii")
        self._buffer = b""
        self._step = self._method_chosen
        self.done = False

    def begin(self) -> bytes:
        """What is written first."""
        return bytes([_VERSION, 1, _NAMED if self._user else _NO_METHOD])

    def receive(self, data: bytes) -> bytes:
        """Bytes to write in return. Once `done`, `rest` has what follows the reply.

        Raises SocksFailed. Of what the proxy sends no more is kept than came.
        """
        self._buffer += data
        out = b""
        while not self.done:
            before = len(self._buffer)
            out += self._step()
            if len(self._buffer) == before:
                break
        return out

    @property
    def rest(self) -> bytes:
        """What the other end said already."""
        return self._buffer if self.done else b""

    def _take(self, count: int) -> bytes:
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken

    def _method_chosen(self) -> bytes:
        # A wrong first byte is enough to see that nobody speaks SOCKS here.
        if self._buffer[:1] not in (b"", bytes([_VERSION])):
            raise SocksFailed(Problem.NOT_SOCKS)
        if len(self._buffer) < 2:
            return b""
        method = self._take(2)[1]
        wanted = _NAMED if self._user else _NO_METHOD
        if method != wanted:
            raise SocksFailed(Problem.LOGIN if method == _NONE_FITS else Problem.NOT_SOCKS)
        if not self._user:
            self._step = self._replied
            return self._request()
        self._step = self._logged_in
        # Tor looks at both, and takes any; the password may not be empty.
        return bytes([1, len(self._user)]) + self._user + b"\x01x"

    def _logged_in(self) -> bytes:
        if len(self._buffer) < 2:
            return b""
        version, status = self._take(2)
        if version != 1:
            raise SocksFailed(Problem.NOT_SOCKS)
        if status != 0:
            raise SocksFailed(Problem.LOGIN)
        self._step = self._replied
        return self._request()

    def _request(self) -> bytes:
        head = bytes([_VERSION, _CONNECT, 0, _BY_NAME, len(self._host)])
        return head + self._host + self._port.to_bytes(2, "big")

    def _replied(self) -> bytes:
        if self._buffer[:1] not in (b"", bytes([_VERSION])):
            raise SocksFailed(Problem.NOT_SOCKS)
        # The code is enough to fail on; some proxies close right behind it.
        if len(self._buffer) >= 2 and self._buffer[1] != 0:
            code = self._buffer[1]
            raise SocksFailed(_CODES.get(code, Problem.UNKNOWN), code)
        if len(self._buffer) < 5:
            return b""
        kind = self._buffer[3]
        if kind == _BY_NAME:
            length = 5 + self._buffer[4]
        elif kind in _ADDRESS_BYTES:
            length = 4 + _ADDRESS_BYTES[kind]
        else:
            raise SocksFailed(Problem.NOT_SOCKS)
        if len(self._buffer) < length + 2:
            return b""
        self._take(length + 2)
        self.done = True
        return b""
