"""A running Tor: the control connection, and the onions that it serves for this node.

Onions are bound to the control connection: after a crash nothing of us stays
behind in Tor, and after a loss every onion is added again with its key. txtorcon
speaks the control protocol; of it only the protocol is used, because its
higher parts wait without limit and take another onion's upload for ours.
What has to be done when is decided in `policy.onion_upkeep`.
Source: Tor control-spec.
"""

import random
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from zeromsg.crypto.onion import OnionKey
from zeromsg.errors import Unreachable
from zeromsg.log import leveled
from zeromsg.net.guard import Place
from zeromsg.policy.onion_upkeep import Add, Backoff, State, Upkeep

CONNECT_SECONDS = 10.0
COMMAND_SECONDS = 30.0
"""What Tor has to answer one command, or to log us in."""

TICK_SECONDS = 1.0
STREAMS_LIMIT = 50
"""Streams of one circuit to an onion of ours; more close the circuit."""

_SERVICE = re.compile(r"^ServiceID=([a-z2-7]{56})\r?$", re.MULTILINE)
_LISTENER = re.compile(r'"((?:[^"\\]|\\.)*)"')
_GROUP = "; the user of this node may have to be in Tor's group (debian-tor)"


class TorMissing(Unreachable):
    """Tor cannot be used now; the text says why, and what to do.

    told: whether the log has it already, or need not have it.
    """

    def __init__(self, text: str, told: bool = False) -> None:
        super().__init__(text)
        self.told = told


@attrs.frozen
class Onion:
    """An onion of ours.

    port: as others dial it. target: `127.0.0.1:port` where this node listens for it.
    clients: X25519 public keys (base32) of those that may reach it; none: anybody.
    """

    key: OnionKey
    port: int
    target: str
    clients: Sequence[str] = ()

    def command(self) -> str:
        """The ADD_ONION for it."""
        flags = ["DiscardPK", "MaxStreamsCloseCircuit"] + (["V3Auth"] if self.clients else [])
        parts = [
            f"ADD_ONION {self.key.to_tor()}",
            f"Flags={','.join(flags)}",
            f"MaxStreams={STREAMS_LIMIT}",
            f"Port={self.port},{self.target}",
            *(f"ClientAuthV3={key.upper()}" for key in self.clients),
        ]
        return " ".join(parts)


class _Control(Protocol):
    """The control connection: keeps what txtorcon raises on nonsense from the log."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.lost: Deferred[str] = Deferred()
        self._reason = "Tor closed the control connection"

    def connectionMade(self) -> None:
        self.inner.makeConnection(self.transport)

    def dataReceived(self, data: bytes) -> None:
        try:
            self.inner.dataReceived(data)
        except Exception as problem:
            self.close(f"what answers at the control port is no Tor ({type(problem).__name__})")

    def close(self, reason: str = "this node let go") -> None:
        self._reason = reason
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        # A command without an answer may have told nobody yet.
        self.inner.connectionLost(reason)
        if not self.lost.called:
            self.lost.callback(self._reason)


class _OneConnection(Factory):
    noisy = False

    def __init__(self, protocol: _Control) -> None:
        self._protocol = protocol

    def buildProtocol(self, addr: Any) -> _Control:
        return self._protocol


class Tor:
    """Keeps a control connection, and the onions served.

    endpoint: of the control port. password: for it, or "" where a cookie or
    nothing is asked for. ready: called whenever a connection is made, with where
    its SOCKS port is. keys_to_others: see `store.onion_keys`. launched: of a Tor
    that this node starts, says why nothing listens there yet.
    """

    _log = Logger(observer=leveled)

    def __init__(
        self,
        *,
        endpoint: IStreamClientEndpoint,
        password: str,
        clock: IReactorTime,
        rng: random.Random,
        ready: Callable[[Sequence[Place]], None],
        changed: Callable[[], None],
        keys_to_others: Mapping[str, str],
        launched: Callable[[], str] | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._password = password
        self._clock = clock
        self._ready = ready
        self._changed = changed
        self._keys_to_others = keys_to_others
        self._launched = launched
        self._upkeep = Upkeep(rng)
        self._backoff = Backoff(rng)
        self._onions: dict[str, Onion] = {}
        self._names: dict[str, str] = {}
        self._control: _Control | None = None
        self._working: Deferred[None] | None = None
        self._orders: set[Deferred[None]] = set()
        self._running = False
        self._ticking = LoopingCall(self._tick)
        self._ticking.clock = clock
        self.version = ""
        self.problem = "Tor was not reached yet"

    # Life.

    def start(self) -> None:
        self._running = True
        self._ticking.start(TICK_SECONDS, now=False)
        self._working = Deferred.fromCoroutine(self._work())
        self._working.addErrback(self._ended)

    def stop(self) -> None:
        """Let go of Tor, which takes our onions down."""
        self._running = False
        if self._ticking.running:
            self._ticking.stop()
        if self._control is not None:
            self._control.close()
        if self._working is not None:
            self._working.cancel()
        for order in list(self._orders):
            order.cancel()

    def _ended(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self._log.failure("keeping Tor connected failed", failure)

    @property
    def connected(self) -> bool:
        return not self.problem

    def serve(self, name: str, onion: Onion) -> None:
        """Serve this onion from now on, whatever becomes of Tor."""
        self._onions[name] = onion
        self._names[onion.key.onion] = name
        self._upkeep.want(name)

    def withdraw(self, name: str) -> None:
        """Take an onion down for good."""
        onion = self._onions.pop(name, None)
        if onion is None:
            return
        self._names.pop(onion.key.onion, None)
        self._upkeep.drop(name)
        if self._control is not None and self.connected:
            self._begin(self._remove(self._control, onion))

    def state(self, name: str) -> State:
        return self._upkeep.state(name)

    def status(self) -> Mapping[str, Any]:
        """For the operator."""
        return {
            "connected": self.connected,
            "version": self.version,
            "problem": self.problem,
            "onions": [
                {
                    "name": name,
                    "onion": f"{onion.key.onion}.onion:{onion.port}",
                    "state": self._upkeep.state(name).value,
                    "problem": self._upkeep.problem(name),
                }
                for name, onion in self._onions.items()
            ],
        }

    # The connection.

    async def _work(self) -> None:
        while self._running:
            try:
                control = await self._connect()
            except TorMissing as missing:
                self._lost(str(missing), told=missing.told)
            else:
                self._backoff.reset()
                self.problem = ""
                self._log.info("Tor {version} is connected", version=self.version)
                self._changed()
                reason = await control.lost
                self._lost(reason)
            if self._running:
                await deferLater(self._clock, self._backoff.next())

    def _lost(self, reason: str, told: bool = False) -> None:
        was, self.problem = self.problem, reason
        self._control = None
        self._upkeep.lost()
        if self._running and was != reason:
            if not told:
                self._log.warn("no Tor: {problem}; trying again", problem=reason)
            self._changed()

    async def _connect(self) -> _Control:
        """A connection that is logged in. Raises TorMissing."""
        import txtorcon  # type: ignore[import-untyped, unused-ignore]  # late: it is not for all

        password = self._password
        inner = txtorcon.TorControlProtocol((lambda: password) if password else None)
        control = _Control(inner)
        connecting = self._endpoint.connect(_OneConnection(control))
        connecting.addTimeout(CONNECT_SECONDS, self._clock)
        try:
            await connecting
        except (ConnectError, DeferredTimeout, OSError) as problem:
            if self._launched is not None:
                raise TorMissing(self._launched(), told=True) from None
            raise TorMissing(_unconnected(problem)) from None
        self._control = control
        try:
            await self._in_time(control, inner.post_bootstrap)
            self.version = str(inner.version)[:40]
            await self._in_time(control, inner.add_event_listener("HS_DESC", self._descriptor))
            answer = await self._in_time(control, inner.get_info_raw("net/listeners/socks"))
            self._ready(_listeners(answer))
            for onion, key in self._keys_to_others.items():
                command = f"ONION_CLIENT_AUTH_ADD {onion} x25519:{key}"
                await self._in_time(control, inner.queue_command(command))
        except BaseException as problem:
            control.close()
            if isinstance(problem, TorMissing | CancelledError | GeneratorExit):
                raise
            raise TorMissing(_refused(problem)) from None
        return control

    async def _in_time(self, control: _Control, answered: Deferred[Any]) -> Any:
        """What Tor answers. Raises TorMissing when it goes away or takes too long."""
        result: Deferred[Any] = Deferred(lambda _: None)

        def done(value: Any) -> None:
            # A Failure among the values makes the result fail.
            if not result.called:
                result.callback(value)

        def gone(reason: str) -> str:
            if not result.called:
                result.errback(TorMissing(reason))
            return reason

        answered.addCallbacks(done, done)
        if control.lost.called:
            raise TorMissing("Tor closed the control connection")
        control.lost.addCallback(gone)
        timer = self._clock.callLater(COMMAND_SECONDS, gone, "Tor does not answer in time")
        try:
            return await result
        finally:
            if timer.active():
                timer.cancel()

    # Onions.

    def _tick(self) -> None:
        control = self._control
        if control is None or not self.connected:
            return
        for order in self._upkeep.orders(self._clock.seconds()):
            onion = self._onions[order.name]
            if isinstance(order, Add):
                self._begin(self._add(control, order.name, onion))
            else:
                self._begin(self._remove(control, onion))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        running = Deferred.fromCoroutine(work)
        self._orders.add(running)
        running.addErrback(self._ended)
        running.addBoth(self._done, running)

    def _done(self, result: Any, order: Deferred[None]) -> Any:
        self._orders.discard(order)
        return result

    async def _add(self, control: _Control, name: str, onion: Onion) -> None:
        try:
            answer = await self._in_time(control, control.inner.queue_command(onion.command()))
        except TorMissing as missing:
            control.close(str(missing))
            return
        except Exception as problem:
            text = _refused(problem)
            self._upkeep.refused(name, text, self._clock.seconds())
            self._log.warn("Tor does not serve an onion: {problem}", problem=text)
            self._log.debug("it is that of {name}", name=name)
            if "collision" in text:
                # It stayed behind from an earlier connection.
                await self._remove(control, onion)
            return
        served = _SERVICE.search(str(answer))
        if served is None or served[1] != onion.key.onion:
            self._upkeep.refused(name, "Tor serves another onion than asked", self._clock.seconds())
            return
        self._upkeep.added(name, self._clock.seconds())
        if self._onions.get(name) is not onion:
            await self._remove(control, onion)  # it was withdrawn meanwhile

    async def _remove(self, control: _Control, onion: Onion) -> None:
        command = f"DEL_ONION {onion.key.onion}"
        try:
            await self._in_time(control, control.inner.queue_command(command))
        except TorMissing as missing:
            control.close(str(missing))
        except Exception as problem:
            self._log.debug("DEL_ONION: {problem}", problem=_refused(problem))

    def _descriptor(self, event: str) -> None:
        """HS_DESC: `UPLOADED <onion> <auth> <directory> ...`."""
        words = str(event).split()
        if len(words) < 2 or words[0] != "UPLOADED":
            return
        name = self._names.get(words[1])
        if name is not None and self._upkeep.uploaded(name, self._clock.seconds()):
            self._log.info("an onion of this node can be reached")
            self._log.debug("it is {onion} for {name}", onion=words[1], name=name)
            self._changed()


def _listeners(answer: object) -> list[Place]:
    """What `net/listeners/socks` names, those of this machine alone, unix sockets first."""
    places = []
    for word in _LISTENER.findall(str(answer)):
        try:
            place = Place.parse(word.replace("\\", ""))
        except ValueError:
            continue
        if place.is_local:
            places.append(place)
    return sorted(places, key=lambda place: not place.path)


def _unconnected(problem: BaseException) -> str:
    number = getattr(problem, "osError", None) or getattr(problem, "errno", None)
    if number == 13:
        return f"the control port of Tor may not be opened{_GROUP}"
    if isinstance(problem, DeferredTimeout):
        return "the control port of Tor does not take a connection in time"
    return "nothing listens at the control port of Tor: does it run, and is ControlPort set?"


def _refused(problem: BaseException) -> str:
    """What went wrong in one line of bounded length."""
    text = " ".join(str(problem).split())[:200]
    if "COOKIEFILE" in text:
        return f"the cookie of Tor's control port cannot be read{_GROUP}"
    if "password_function" in text or "HASHEDPASSWORD" in text:
        return "Tor's control port wants a password: set tor.password"
    if text.startswith("515") or "Authentication failed" in text:
        return "Tor's control port refuses the password: look at tor.password"
    return f"Tor refused: {text}" if text else f"Tor refused ({type(problem).__name__})"
