"""The node's way through Tor: its Tor, its onions, and where they are listened for.

One onion for each face (`policy.faces`), with a listener of its own on loopback,
so that it is known to which onion a connection came. One SOCKS user name for
each face, so that Tor keeps their circuits apart; names are drawn anew with
each start, since they need to mean nothing to anybody.
"""

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IDelayedCall,
    IListeningPort,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger

from zeromsg.errors import ConfigError, NotTried, OurMistake
from zeromsg.interfaces import Entropy
from zeromsg.log import leveled
from zeromsg.net.guard import Place, Watch
from zeromsg.net.onion import Onion, Tor
from zeromsg.net.socks import PROXY_SECONDS, SocksEndpoint
from zeromsg.net.tor_process import TorProcess
from zeromsg.policy.onion_upkeep import State
from zeromsg.protocol.socks import Problem
from zeromsg.service.config import Settings
from zeromsg.store.onion_keys import OnionKeys
from zeromsg.wire.values import PeerAddress

KEYS_FOLDER = "onions"
TOR_FOLDER = "tor"

LOOPBACK = "127.0.0.1"

PROBE_SECONDS = 60.0
"""How often a SOCKS port that was found wrong is tried again, without anybody to dial."""

_WRONG_PORT = (Problem.NO_PROXY, Problem.NOT_SOCKS, Problem.LOGIN, Problem.COMMAND)
"""What shows that the SOCKS port itself is not what it should be."""

_SECRET_BYTES = 16
_NAME_CHARACTERS = 32


class TorSide:
    """The way to onions, and this node's own (`interfaces.ITor`).

    watch: what keeps a node in the mode `only` from everything else, or None.
    changed: called when Tor comes or goes, or an onion can be reached.
    """

    _log = Logger(observer=leveled)

    def __init__(
        self,
        settings: Settings,
        reactor: Any,
        rng: random.Random,
        entropy: Entropy,
        watch: Watch | None,
        changed: Callable[[], None],
    ) -> None:
        self._settings = settings.tor
        self._reactor = reactor
        self._watch = watch
        self._changed = changed
        self._secret = entropy(_SECRET_BYTES)
        self._keys = OnionKeys(settings.data_dir / KEYS_FOLDER, entropy)
        self._ports: dict[str, IListeningPort] = {}
        self._onions: dict[str, str] = {}
        self._accepts: Callable[[str], IProtocolFactory] | None = None
        self._process: TorProcess | None = None
        self._socks_problem = ""
        self._probe: IDelayedCall | None = None
        self._stopped = False
        control = Place.parse(settings.tor.control)
        self._socks = Place.parse(settings.tor.socks) if settings.tor.socks else None
        if settings.tor.launch:
            folder = settings.data_dir / TOR_FOLDER
            options = settings.tor.launch_options
            self._process = TorProcess(reactor, folder, settings.tor.binary, options, rng)
            control, self._socks = self._process.control, self._process.socks
        self._fixed = self._socks is not None
        for place in [control, self._socks]:
            if watch is not None and place is not None:
                watch.allow(place)
        self._tor = Tor(
            endpoint=control.endpoint(reactor),
            password=settings.tor.password,
            clock=reactor,
            rng=rng,
            ready=self._ready,
            changed=changed,
            keys_to_others=self._keys.keys_to_others(),
            launched=self._why_not if self._process is not None else None,
        )

    def _why_not(self) -> str:
        """Why nothing listens yet at the control port of a Tor that we start."""
        problem = self._process.problem if self._process is not None else ""
        return problem or "the Tor that this node starts is not ready yet"

    # Life.

    def start(self, accepts: Callable[[str], IProtocolFactory]) -> None:
        """accepts: what takes the connections to the onion of a face. Raises ConfigError."""
        self._accepts = accepts
        if self._process is not None:
            self._process.start()
        self._tor.start()

    def stop(self) -> Deferred[Any]:
        """Take our onions down; fires when nothing listens any more."""
        self._stopped = True
        if self._probe is not None and self._probe.active():
            self._probe.cancel()
        self._tor.stop()
        closing: list[Deferred[Any]] = [
            maybeDeferred(port.stopListening) for port in self._ports.values()
        ]
        self._ports.clear()
        if self._process is not None:
            closing.append(self._process.stop())
        return DeferredList(closing)

    def _ready(self, places: Sequence[Place]) -> None:
        """Tor is connected, and says where its SOCKS ports are."""
        if self._process is not None:
            self._process.works()
        if not self._fixed:
            self._socks = places[0] if places else None
            if self._watch is not None and self._socks is not None:
                self._watch.allow(self._socks)
        if self._socks is None:
            self._found_wrong("Tor has no SOCKS port on this machine: set SocksPort there")
        elif self._process is None:
            self._try_socks()

    # The SOCKS port: what is wrong with it shows only when somebody connects there.

    def _try_socks(self) -> None:
        """Connect to it once, and again while that fails."""
        self._probe = None
        if self._socks is None or self._stopped:
            return
        trying = self._socks.endpoint(self._reactor).connect(Factory.forProtocol(_Probe))
        trying.addTimeout(PROXY_SECONDS, self._reactor)
        trying.addCallbacks(
            lambda _: self._through_socks(None), lambda _: self._through_socks(Problem.NO_PROXY)
        )

    def _through_socks(self, problem: Problem | None) -> None:
        """How a connection through it ended; the reason may lie beyond it."""
        if problem in _WRONG_PORT and self._socks is not None:
            hint = ": look at tor.socks" if self._settings.socks else ""
            self._found_wrong(f"{problem.value} ({self._socks}){hint}")
            if self._probe is None and problem is Problem.NO_PROXY and not self._stopped:
                self._probe = self._reactor.callLater(PROBE_SECONDS, self._try_socks)
        else:
            self._found_wrong("")

    def _found_wrong(self, problem: str) -> None:
        was, self._socks_problem = self._socks_problem, problem
        if was != problem and not self._stopped:
            if problem:
                self._log.warn("{problem}", problem=problem)
            self._changed()

    # ITor.

    @property
    def port(self) -> int:
        return self._settings.port

    def endpoint(self, address: PeerAddress, face: str) -> IStreamClientEndpoint:
        if self._socks is None:
            raise NotTried("Tor was not reached yet")
        digest = hashlib.sha256(self._secret + face.encode()).hexdigest()
        return SocksEndpoint(
            self._socks.endpoint(self._reactor),
            address.host,
            address.port,
            self._reactor,
            user=digest[:_NAME_CHARACTERS],
            told=self._through_socks,
        )

    def onion(self, face: str) -> str:
        onion = self._onions.get(face)
        if onion is None:
            key = self._keys.get(face)
            onion = self._onions[face] = key.onion
            target = f"{LOOPBACK}:{self._listen(face)}"
            self._tor.serve(face, Onion(key, self.port, target, self._settings.clients))
        return onion

    def withdraw(self, face: str) -> None:
        """The key stays on disk: a site that is joined again has the same onion."""
        self._onions.pop(face, None)
        self._tor.withdraw(face)
        port = self._ports.pop(face, None)
        if port is not None:
            maybeDeferred(port.stopListening)

    def _listen(self, face: str) -> int:
        assert self._accepts is not None, "the Tor side was not started"
        try:
            port = self._reactor.listenTCP(0, self._accepts(face), interface=LOOPBACK)
        except CannotListenError as problem:
            raise ConfigError(f"cannot listen for an onion: {problem}") from None
        self._ports[face] = port
        number: int = port.getHost().port
        return number

    def is_ours(self, host: str) -> bool:
        return host.removesuffix(".onion") in self._onions.values()

    def sign(self, onion: str, message: bytes) -> tuple[bytes, bytes]:
        face = next((face for face, ours in self._onions.items() if ours == onion), None)
        if face is None:
            raise OurMistake("that is no onion of this node")
        key = self._keys.get(face)
        return key.public, key.sign(message)

    def status(self) -> Mapping[str, Any]:
        tor = self._tor.status()
        return {
            "mode": self._settings.mode,
            **tor,
            "problem": tor["problem"] or self._socks_problem,
            "refused": dict(self._watch.refused) if self._watch is not None else {},
        }

    def reachable(self) -> bool:
        """Whether all onions of ours can be reached."""
        return all(self._tor.state(face) is State.REACHABLE for face in self._onions)


class _Probe(Protocol):
    """Only looks whether somebody takes the connection."""

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.abortConnection()
