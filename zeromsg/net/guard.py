"""The one door out, and what watches that nothing leaves by another.

In the mode `only` a node connects to Tor and to nothing else. `Watch` sees to
it below everything that could be mistaken, Twisted and libraries included: it
hears of every connection, datagram, listener and name that Python code of this
process tries, and refuses what is not on its list. It cannot be taken off
again, so that nothing in the process can loosen it. What it does not see is
what C libraries do by themselves; a network namespace shows that
(`zeromsg leaktest`).
Source: Python, table of audit events (socket.*).
"""

import errno
import ipaddress
import socket
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, UNIXClientEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint

_SECONDS = 10


@attrs.frozen
class Place:
    """Where something of this machine listens: host and port, or the path of a unix socket."""

    host: str = ""
    port: int = 0
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> "Place":
        """`tcp:127.0.0.1:9051`, `127.0.0.1:9051`, `[::1]:9051` or `unix:/run/tor/control`.

        No names: they would have to be looked up. Raises ValueError.
        """
        if text.startswith("unix:"):
            path = text.removeprefix("unix:").strip('"')
            if not path.startswith("/"):
                raise ValueError("a unix socket has an absolute path")
            return cls(path=path)
        host, _, port = text.removeprefix("tcp:").rpartition(":")
        # Endpoint strings write the colons of IPv6 with a backslash.
        host = host.replace("\\", "").removeprefix("[").removesuffix("]")
        if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
            raise ValueError("a port from 1 to 65535 is expected at the end")
        return cls(str(ipaddress.ip_address(host)), int(port))

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine."""
        return bool(self.path) or ipaddress.ip_address(self.host).is_loopback

    def endpoint(self, reactor: Any) -> IStreamClientEndpoint:
        """How to connect to it."""
        if self.path:
            return UNIXClientEndpoint(reactor, self.path, _SECONDS)
        if ":" in self.host:
            return TCP6ClientEndpoint(reactor, self.host, self.port, _SECONDS)
        return TCP4ClientEndpoint(reactor, self.host, self.port, _SECONDS)

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@attrs.frozen
class Attempt:
    """Something that was tried.

    kind: connect, send, listen or resolve. target: to what. allowed: whether it went ahead.
    """

    kind: str
    target: str
    allowed: bool


_FAMILIES = (socket.AF_INET, socket.AF_INET6)


class Watch:
    """Decides on every attempt once `install` was called, for the life of the process.

    report: told of every attempt, refused or not.
    """

    def __init__(self, report: Callable[[Attempt], None] = lambda attempt: None) -> None:
        self._places: set[tuple[str, int]] = set()
        self._report = report
        self._installed = False
        self.refused: Counter[str] = Counter()

    def allow(self, place: Place) -> None:
        """Connections to this place of Tor are fine. Raises ValueError for another machine."""
        if not place.is_local:
            raise ValueError(f"{place} is not on this machine")
        if not place.path:
            self._places.add((place.host, place.port))

    def install(self) -> None:
        """From here on nothing else passes."""
        if not self._installed:
            self._installed = True
            sys.addaudithook(self._heard)

    def judge(self, event: str, args: tuple[Any, ...]) -> Attempt | None:
        """What an audit event is about; None for what leads nowhere."""
        if event == "socket.connect":
            return self._connects(*args[:2])
        if event in ("socket.sendto", "socket.sendmsg"):
            return self._sends(*args[:2])
        if event == "socket.bind":
            return self._binds(*args[:2])
        if event == "socket.getaddrinfo":
            return _resolves(args[0])
        if event in ("socket.gethostbyname", "socket.gethostbyaddr"):
            # The second asks for the name of an address, which is a look-up too.
            return Attempt("resolve", str(args[0]), event.endswith("name") and _is_ip(args[0]))
        if event == "socket.getnameinfo":
            return Attempt("resolve", str(args[0]), False)
        return None

    def _heard(self, event: str, args: tuple[Any, ...]) -> None:
        if not event.startswith("socket."):
            return
        attempt = self.judge(event, args)
        if attempt is None:
            return
        self._report(attempt)
        if attempt.allowed:
            return
        self.refused[attempt.kind] += 1
        # With errors of these kinds whoever tried goes on as if the network had said no.
        if attempt.kind == "resolve":
            raise socket.gaierror(socket.EAI_NONAME, "names are left to Tor")
        raise PermissionError(errno.EACCES, "only Tor is connected to")

    def _connects(self, sock: Any, address: Any) -> Attempt | None:
        if sock.family not in _FAMILIES:
            return Attempt("connect", f"unix:{_shown(address)}", True)
        host, port = _pair(address)
        return Attempt("connect", _joined(host, port), (host, port) in self._places)

    def _sends(self, sock: Any, address: Any) -> Attempt | None:
        if sock.family not in _FAMILIES or address is None:
            return None
        return Attempt("send", _joined(*_pair(address)), False)

    def _binds(self, sock: Any, address: Any) -> Attempt | None:
        if sock.family not in _FAMILIES:
            return Attempt("listen", f"unix:{_shown(address)}", True)
        host, port = _pair(address)
        return Attempt("listen", _joined(host, port), _is_ip(host) and Place(host, 1).is_local)


def _pair(address: Any) -> tuple[str, int]:
    if isinstance(address, tuple) and len(address) >= 2:
        return str(address[0]), int(address[1])
    return str(address), 0


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _shown(address: Any) -> str:
    return address.decode(errors="replace") if isinstance(address, bytes) else str(address)


def _resolves(host: Any) -> Attempt:
    # An address is no name: nobody is asked.
    return Attempt("resolve", _shown(host), host is None or _is_ip(host))


def _is_ip(host: Any) -> bool:
    try:
        ipaddress.ip_address(_shown(host).partition("%")[0])
    except ValueError:
        return False
    return True
