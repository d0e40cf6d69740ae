"""Having the router let connections in: a mapping that is made, renewed and taken back.

Two ways, tried in order: NAT-PMP (here, it is twelve bytes) and UPnP
(`net.upnp`). A mapping lasts an hour and is renewed at half of that, so that
nothing is left behind by a node that dies. Source: RFC 6886.
"""

import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import attrs
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from zeromsg.errors import Unreachable
from zeromsg.log import leveled

LIFETIME_SECONDS = 3600
RETRY_SECONDS = 300.0
UNMAP_SECONDS = 1.5
"""What taking a mapping back may hold up the node's end."""

NAT_PMP_PORT = 5351
NAT_PMP_TRIES = 5
NAT_PMP_FIRST = 0.25
"""Seconds until the first repeat; doubled each time."""

_MAP_TCP = 2
_ANSWER = 128
_REQUEST = struct.Struct("!BBHHHI")
_RESPONSE = struct.Struct("!BBHIHHI")
_ROUTES = Path("/proc/net/route")


@attrs.frozen
class Mapped:
    """A port of the router that leads to ours, and for how many seconds."""

    port: int
    seconds: int


class IWay(Protocol):
    """A protocol by which a router is asked."""

    @property
    def name(self) -> str: ...

    def map(self, port: int, seconds: int) -> Deferred[Mapped]:
        """Let connections to a port in; seconds 0 takes that back. Fails with Unreachable."""


class PortMapping:
    """Keeps the port for peers mapped.

    told: hears the port that others can connect to, 0 when there is none any more.
    """

    _log = Logger(observer=leveled)

    def __init__(
        self, clock: IReactorTime, ways: Sequence[IWay], told: Callable[[int], None]
    ) -> None:
        self._clock = clock
        self._ways = ways
        self._told = told
        self._port = 0
        self._way: IWay | None = None
        self._timer: IDelayedCall | None = None
        self._working: Deferred[None] | None = None

    def start(self, port: int) -> None:
        self._port = port
        self._work()

    def stop(self) -> Deferred[None]:
        """Fires once the mapping is taken back, or that took too long."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._working is not None:
            self._working.cancel()
        if self._way is None:
            return succeed(None)
        way, self._way = self._way, None
        undone = way.map(self._port, 0)
        undone.addTimeout(UNMAP_SECONDS, self._clock)
        return undone.addCallbacks(lambda mapped: None, self._not_undone)

    def _not_undone(self, failure: Failure) -> None:
        failure.trap(Unreachable, DeferredTimeout, CancelledError)
        self._log.debug("the router keeps the mapping until it runs out")

    def _work(self) -> None:
        self._working = Deferred.fromCoroutine(self._map())
        self._working.addErrback(self._failed)

    def _failed(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self._log.failure("mapping the port failed", failure)

    async def _map(self) -> None:
        first = [self._way] if self._way is not None else []
        for way in [*first, *(way for way in self._ways if way is not self._way)]:
            try:
                mapped = await way.map(self._port, LIFETIME_SECONDS)
            except Unreachable as problem:
                self._log.debug("{way}: {problem}", way=way.name, problem=str(problem))
                continue
            if way is not self._way:
                self._log.info("the router lets port {port} in", port=mapped.port)
            self._way = way
            self._told(mapped.port)
            # A router that only keeps mappings for good says 0.
            self._again((mapped.seconds or LIFETIME_SECONDS) / 2)
            return
        if self._way is None:
            self._log.warn("no router here can be asked to let peers in (peers.map_port)")
        self._way = None
        self._told(0)
        self._again(RETRY_SECONDS)

    def _again(self, seconds: float) -> None:
        self._timer = self._clock.callLater(max(seconds, 1.0), self._work)


# NAT-PMP


def default_gateway(routes: Path = _ROUTES) -> str | None:
    """The router of this machine's default route, where the system tells (Linux)."""
    try:
        lines = routes.read_text("ascii").splitlines()[1:]
    except (OSError, UnicodeDecodeError):
        return None
    for line in lines:
        fields = line.split()
        if len(fields) > 2 and fields[1] == "00000000" and fields[2] != "00000000":
            # In the machine's own byte order.
            return ".".join(str(byte) for byte in struct.pack("=I", int(fields[2], 16)))
    return None


class NatPmp:
    """Asks the router by NAT-PMP.

    gateway: where the router is, or None if that is not known.
    """

    name = "NAT-PMP"

    def __init__(
        self, reactor: Any, gateway: Callable[[], str | None], port: int = NAT_PMP_PORT
    ) -> None:
        self._reactor = reactor
        self._gateway = gateway
        self._port = port

    def map(self, port: int, seconds: int) -> Deferred[Mapped]:
        return Deferred.fromCoroutine(self._ask(port, seconds))

    async def _ask(self, port: int, seconds: int) -> Mapped:
        gateway = self._gateway()
        if gateway is None:
            raise Unreachable("the router of this machine is not known")
        # RFC 6886, 3.4: to take a mapping back, the outer port is 0 too.
        request = _REQUEST.pack(0, _MAP_TCP, 0, port, port if seconds else 0, seconds)
        question = _Question((gateway, self._port), request, port, self._reactor)
        try:
            listening = self._reactor.listenUDP(0, question)
        except OSError as problem:
            raise Unreachable(f"no socket: {problem}") from None
        try:
            return await question.answered
        finally:
            question.over()
            await _ended(listening)


async def _ended(listening: Any) -> None:
    ending = listening.stopListening()
    if ending is not None:
        await ending


class _Question(DatagramProtocol):
    """One request, repeated until the router answers."""

    noisy = False

    def __init__(
        self, router: tuple[str, int], request: bytes, port: int, clock: IReactorTime
    ) -> None:
        self.answered: Deferred[Mapped] = Deferred()
        self._router = router
        self._request = request
        self._mapped = port
        self._clock = clock
        self._tries = 0
        self._timer: IDelayedCall | None = None

    def startProtocol(self) -> None:
        self._send()

    def _send(self) -> None:
        self._timer = None
        if self._tries == NAT_PMP_TRIES:
            self._end(Unreachable("the router does not answer"))
            return
        try:
            self.transport.write(self._request, self._router)  # type: ignore[union-attr]
        except OSError as problem:
            self._end(Unreachable(f"the router cannot be asked: {problem}"))
            return
        self._timer = self._clock.callLater(NAT_PMP_FIRST * 2**self._tries, self._send)
        self._tries += 1

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        # RFC 6886, 3.1: whatever does not come from the router is nobody's answer.
        if addr != self._router or len(datagram) < 4 or self.answered.called:
            return
        version, operation, result = struct.unpack_from("!BBH", datagram)
        if version != 0 or operation != _MAP_TCP + _ANSWER:
            return
        if result:
            self._end(Unreachable(f"the router refuses, with code {result}"))
        elif len(datagram) >= _RESPONSE.size:
            *_, inner, outer, seconds = _RESPONSE.unpack_from(datagram)
            if inner == self._mapped:
                self.over()
                self.answered.callback(Mapped(outer, seconds))

    def connectionRefused(self) -> None:
        self._end(Unreachable("the router does not know NAT-PMP"))

    def _end(self, problem: Unreachable) -> None:
        self.over()
        if not self.answered.called:
            self.answered.errback(problem)

    def over(self) -> None:
        """Send nothing further."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._tries = NAT_PMP_TRIES
