"""All links of a node: accepting, dialling, one for each peer, keeping alive, letting go."""

import random
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from zeromsg.errors import NotTried, TheirMistake, Unreachable
from zeromsg.interfaces import Entropy, IPeerLink, IRequests
from zeromsg.log import leveled
from zeromsg.net.dialer import DIAL_ERRORS
from zeromsg.net.peer_protocol import Limits, OwnAddress, PeerProtocol, TlsFailed, remote_of
from zeromsg.net.socks import CONNECT_SECONDS as ONION_SECONDS
from zeromsg.net.turns import Turns
from zeromsg.policy.addresses import is_private, line_of
from zeromsg.policy.faces import CLEAR, Doors, is_pseudonym, make_pseudonym, speaks_of
from zeromsg.policy.onion_dials import OnionDials
from zeromsg.protocol.socks import SocksFailed
from zeromsg.wire.names import PING
from zeromsg.wire.peer_messages import Handshake
from zeromsg.wire.values import PeerAddress

TICK_SECONDS = 1.0
PING_SECONDS = 120.0
"""Silence after which a link is pinged; ZeroNet nodes close at five minutes without a site."""

UNUSED_SECONDS = 300.0
DIALS_LIMIT = 32
"""Dials in progress."""

HELD_LIMIT = 16 * 1024 * 1024
"""Bytes of messages whose end is awaited, of all peers together. Each takes up to three times
its size."""

CONNECT_SECONDS = 10.0
ROUND_SECONDS = 15.0
CONNECTS_A_ROUND = 6
"""Connections one host may open in a round, as ZeroNet nodes count; loopback is exempt. All of a
/64 of IPv6 are one, as everybody with one address there has them all.

So many does this node open to one host within any such time. Of loopback each port counts as one.
"""

DIALLED_LIMIT = 10_000
"""Hosts whose last dials are remembered."""

OURSELVES_LIMIT = 1000
"""Addresses remembered that turned out to be this node."""

SPARE_SECONDS = 2.0
"""What the second connection to a peer lives on; both sides dialled at once."""

BACKOFF_FIRST = 1.0
BACKOFF_MOST = 60.0
PLAIN_LIMIT = 10_000

STRANGERS_SHARE = 2
"""Those that come in through onions have at most this part of all connections: a half."""

STAGGER_SECONDS = 20.0
"""Faces do not all dial a configured onion at the same moment, which would link them."""

Key = tuple[PeerAddress, str]
"""A peer, and the face (`policy.faces`) that we show it; one link for each."""


@attrs.define(eq=False)
class _Kept:
    """A configured peer that is always kept connected."""

    key: Key
    delay: float = BACKOFF_FIRST
    timer: IDelayedCall | None = None


class Pool:
    """The node's links (`interfaces.IPeers`).

    connector: how to connect to an address in the name of a face.
    ours: what this node says of itself to a remote address, as which face.
    face_of: as which face an address is dialled for a site.
    is_own: whether an address is an onion of this node.
    tls: options for encryption, None to stay plain.
    used: whether anybody needs a link; unused ones are closed after a while.
    """

    _log = Logger(observer=leveled)

    def __init__(
        self,
        *,
        connector: Callable[[PeerAddress, str], IStreamClientEndpoint],
        ours: Callable[[PeerAddress, str], Handshake],
        peer_id: str,
        tls: CertificateOptions | None,
        clock: IReactorTime,
        rng: random.Random,
        entropy: Entropy,
        limits: Limits,
        max_connections: int,
        charge: Callable[[str, float, str], None],
        used: Callable[[IPeerLink], bool],
        face_of: Callable[[PeerAddress, str], str] = lambda address, site: CLEAR,
        is_own: Callable[[PeerAddress], bool] = lambda address: False,
    ) -> None:
        self._requests: IRequests
        self._connector = connector
        self._ours = ours
        self._peer_id = peer_id
        self._tls = tls
        self._clock = clock
        self._rng = rng
        self._entropy = entropy
        self._limits = limits
        self._max_connections = max_connections
        self._charge = charge
        self._used = used
        self._face_of = face_of
        self._is_own = is_own
        self._turns = Turns(clock)
        self._doors = Doors()
        self._onion_dials = OnionDials(rng)
        self._all: dict[PeerProtocol, None] = {}
        self._open: dict[PeerProtocol, None] = {}
        # Links with much of a message whose end is awaited, and how much.
        self._holding: dict[PeerProtocol, int] = {}
        self._by_key: dict[Key, PeerProtocol] = {}
        self._dials: dict[Key, Deferred[None]] = {}
        self._waiters: dict[Key, list[Deferred[IPeerLink]]] = {}
        self._plain: dict[PeerAddress, None] = {}
        self._ourselves: dict[PeerAddress, None] = {}
        self._dialled: dict[str, deque[float]] = {}
        self._kept: dict[Key, _Kept] = {}
        self._connects: Counter[str] = Counter()
        self._round_ends = 0.0
        self._running = False
        self._ticking = LoopingCall(self._tick)
        self._ticking.clock = clock

    # Life.

    def start(self, requests: IRequests, keep: Iterable[PeerAddress]) -> None:
        """Begin; before, nothing is dialled or accepted.

        requests: routing, told of links and of what peers ask.
        keep: peers that are always kept connected.
        """
        self._requests = requests
        self._running = True
        self._ticking.start(TICK_SECONDS, now=False)
        for address in keep:
            self.keep(address)

    def keep(self, address: PeerAddress, site: str = "") -> None:
        """Keep a configured peer connected from now on; an onion for each site's face."""
        key = (address, self._face_of(address, site))
        if key in self._kept:
            return
        others = any(kept == address for kept, _ in self._kept)
        kept = self._kept[key] = _Kept(key)
        if others:
            wait = self._rng.uniform(0.0, STAGGER_SECONDS)
            kept.timer = self._clock.callLater(wait, self._keep, key)
        else:
            self._keep(key)

    def drop_face(self, face: str) -> None:
        """A face is not shown any more: close its links, and keep none."""
        for key in [key for key in self._kept if key[1] == face]:
            kept = self._kept.pop(key)
            if kept.timer is not None and kept.timer.active():
                kept.timer.cancel()
        for link in [link for link in self._all if link.face == face]:
            link.drop("its site is held no more")

    def stop(self) -> None:
        """Close everything now."""
        self._running = False
        if self._ticking.running:
            self._ticking.stop()
        for kept in self._kept.values():
            if kept.timer is not None and kept.timer.active():
                kept.timer.cancel()
        for dial in list(self._dials.values()):
            dial.cancel()
        for link in list(self._all):
            link.drop("this node stops")

    # IPeers.

    @property
    def links(self) -> Collection[PeerProtocol]:
        return self._open.keys()

    def named(self, name: str, site: str = "") -> PeerProtocol | None:
        try:
            address = PeerAddress.parse(name)
        except ValueError:
            address = None
        if address is not None:
            link = self._by_key.get((address, self._face_of(address, site)))
            if link is not None:
                return link
        # A peer with a closed port is known by its end of the connection, or a pseudonym.
        return next(
            (link for link in self._open if link.name == name and speaks_of(link.face, site)), None
        )

    def link_to(self, address: PeerAddress, site: str = "") -> Deferred[IPeerLink]:
        waiting: Deferred[IPeerLink] = Deferred()
        key = (address, self._face_of(address, site))
        link = self._by_key.get(key)
        if link is not None:
            waiting.callback(link)
        elif key in self._dials:
            self._waiters[key].append(waiting)
        elif refusal := self._refusal(key):
            waiting.errback(NotTried(refusal))
        else:
            self._waiters[key] = [waiting]
            dial = Deferred.fromCoroutine(self._dial(key))
            # A dial may be over before it is noted.
            if key in self._waiters:
                self._dials[key] = dial
        return waiting

    def is_us(self, address: PeerAddress) -> bool:
        return address in self._ourselves or self._is_own(address)

    def _refusal(self, key: Key) -> str:
        address, face = key
        if not self._running:
            return "this node stops"
        if self.is_us(address):
            return "that is this node itself"
        if self._requests.banned(address.host):
            return "that peer is banned"
        if len(self._dials) >= DIALS_LIMIT:
            return "too many dials in progress"
        if len(self._all) >= self._max_connections:
            return "too many connections"
        if not self._may_dial(address):
            return "that host was dialled too often just now"
        if face:
            return self._onion_dials.refusal(address, self._clock.seconds())
        return ""

    def _may_dial(self, address: PeerAddress) -> bool:
        times = self._dialled.get(_counted(address))
        if times is None:
            return True
        since = self._clock.seconds() - ROUND_SECONDS
        while times and times[0] <= since:
            times.popleft()
        return len(times) < CONNECTS_A_ROUND

    def _dials_now(self, address: PeerAddress) -> None:
        times = self._dialled.setdefault(_counted(address), deque(maxlen=CONNECTS_A_ROUND))
        times.append(self._clock.seconds())
        if len(self._dialled) > DIALLED_LIMIT:
            del self._dialled[next(iter(self._dialled))]

    def _is_us(self, address: PeerAddress) -> None:
        self._ourselves[address] = None
        if len(self._ourselves) > OURSELVES_LIMIT:
            del self._ourselves[next(iter(self._ourselves))]

    async def _dial(self, key: Key) -> None:
        problem: Exception | None = None
        address, face = key
        try:
            if face:
                await self._open_onion(address, face)
            else:
                await self._connect(address)
        except OwnAddress as own:
            self._is_us(address)
            problem = own
        except (Unreachable, CancelledError) as unreachable:
            problem = unreachable
            if address in self._ourselves:
                problem = OwnAddress("that is this node itself")
        finally:
            self._dials.pop(key, None)
            waiters = self._waiters.pop(key, [])
        link = self._by_key.get(key)
        for waiting in waiters:
            if waiting.called:
                continue
            if link is not None:
                waiting.callback(link)
            elif isinstance(problem, NotTried):
                waiting.errback(NotTried(str(problem)))
            else:
                waiting.errback(Unreachable(str(problem or "the connection was lost")))

    async def _open_onion(self, address: PeerAddress, face: str) -> None:
        """Through Tor, never with TLS: Tor encrypts, and proves who answers."""
        self._onion_dials.begun()
        try:
            await self._open_link(address, tls_first=False, face=face)
        except SocksFailed as failed:
            self._onion_dials.failed(address, failed.problem, self._clock.seconds())
            self._log.debug("{peer}: {problem}", peer=str(address), problem=str(failed))
            raise failed.as_unreachable() from None
        else:
            self._onion_dials.succeeded(address)
        finally:
            self._onion_dials.ended()

    async def _connect(self, address: PeerAddress) -> None:
        """TLS first, then plain where the peer cannot; as ZeroNet nodes dial."""
        if self._tls is not None and not self._speaks_plain(address):
            try:
                await self._open_link(address, tls_first=True)
                return
            except TlsFailed:
                self._log.debug("{peer} takes no TLS", peer=str(address))
                self._plain[address] = None
                if len(self._plain) > PLAIN_LIMIT:
                    del self._plain[next(iter(self._plain))]
            if not self._may_dial(address):
                raise Unreachable("that host was dialled too often just now")
        await self._open_link(address, tls_first=False)

    def _speaks_plain(self, address: PeerAddress) -> bool:
        # ZeroNet nodes never look for TLS on connections from these.
        return address in self._plain or address.host in ("127.0.0.1", "::1")

    async def _open_link(self, address: PeerAddress, tls_first: bool, face: str = CLEAR) -> None:
        link = self._protocol(address, dialled=True, tls_first=tls_first, face=face)
        self._all[link] = None
        self._dials_now(address)
        try:
            connecting = self._connector(address, face).connect(_OneShot(link))
            # The way through Tor has its own, longer time.
            seconds = CONNECT_SECONDS if not face else 2 * ONION_SECONDS
            connecting.addTimeout(seconds, self._clock)
            await connecting
        except DIAL_ERRORS as problem:
            self._all.pop(link, None)
            raise Unreachable(f"cannot connect: {type(problem).__name__}") from None
        except Exception:
            self._all.pop(link, None)
            raise
        await link.ready

    def _protocol(
        self,
        remote: PeerAddress,
        *,
        dialled: bool,
        tls_first: bool = False,
        face: str = CLEAR,
    ) -> PeerProtocol:
        return PeerProtocol(
            self,
            remote,
            lambda remote: self._ours(remote, face),
            self._clock,
            self._limits,
            dialled=dialled,
            tls=None if face else self._tls,
            tls_first=tls_first,
            face=face,
            turns=self._turns,
        )

    # Configured peers.

    def _keep(self, key: Key) -> None:
        kept = self._kept[key]
        kept.timer = None
        address, face = key
        linked = self.link_to(address, face)
        linked.addCallbacks(self._kept_open, self._kept_failed, (kept,), {}, (kept,), {})

    def tor_is_back(self) -> None:
        """Dial configured onions soon: their pauses were Tor's, not theirs."""
        for key, kept in self._kept.items():
            if key[1] and kept.timer is not None and kept.timer.active():
                kept.delay = BACKOFF_FIRST
                kept.timer.reset(self._rng.uniform(0.0, BACKOFF_FIRST))

    def _kept_open(self, link: IPeerLink, kept: _Kept) -> None:
        kept.delay = BACKOFF_FIRST

    def _kept_failed(self, failure: Failure, kept: _Kept) -> None:
        failure.trap(Unreachable)
        self._log.debug(
            "{peer} cannot be reached: {problem}",
            peer=str(kept.key[0]),
            problem=failure.getErrorMessage(),
        )
        self._retry(kept)

    def _retry(self, kept: _Kept) -> None:
        if not self._running or self.is_us(kept.key[0]) or kept.timer is not None:
            return
        delay = kept.delay * self._rng.uniform(0.75, 1.25)
        kept.delay = min(kept.delay * 2, BACKOFF_MOST)
        kept.timer = self._clock.callLater(delay, self._keep, kept.key)

    # Accepting.

    def accept(self, remote: PeerAddress) -> PeerProtocol | None:
        """The protocol of a connection that somebody opened, or None to close it at once."""
        now = self._clock.seconds()
        if now >= self._round_ends:
            self._connects.clear()
            self._round_ends = now + ROUND_SECONDS
        line = line_of(remote.host)
        self._connects[line] += 1
        if not self._running or self._requests.banned(remote.host):
            return None
        if len(self._all) >= self._max_connections and not self._make_room(now):
            return None
        if self._connects[line] > CONNECTS_A_ROUND and not remote.is_loopback:
            return None
        link = self._protocol(remote, dialled=False)
        link.ready.addErrback(self._not_opened, link)
        self._all[link] = None
        return link

    def accept_stranger(self, face: str) -> PeerProtocol | None:
        """The same for a connection to an onion of ours: nobody knows where it comes from."""
        now = self._clock.seconds()
        if not self._running or not self._doors.may_enter(face, now):
            return None
        if len(self._all) >= self._max_connections and not self._make_room(now):
            return None
        strangers = sum(bool(link.face) and not link.dialled for link in self._all)
        if strangers >= max(1, self._max_connections // STRANGERS_SHARE):
            return None
        link = self._protocol(make_pseudonym(self._entropy), dialled=False, face=face)
        link.ready.addErrback(self._not_opened, link)
        self._all[link] = None
        points = self._doors.points(face, now)
        if points:
            self._charge(link.identity, points, "others that came this way were banned")
        return link

    def _not_opened(self, failure: Failure, link: PeerProtocol) -> None:
        if not failure.check(OwnAddress):
            return
        # Its other end is ours too and hears nothing of it; known by its port.
        for other in self._all:
            if other.dialled and other.local == link.remote:
                self._is_us(other.remote)

    def _make_room(self, now: float) -> bool:
        """Close the link that was idle longest, if any was for a minute."""
        # What took Tor several circuits to build is kept warm.
        cheap = [link for link in self._all if not (link.face and link.dialled)]
        idle = max(cheap or self._all, key=lambda link: link.idle(now), default=None)
        if idle is None or idle.idle(now) < 60.0:
            return False
        idle.drop("others need the place")
        self._all.pop(idle, None)
        return True

    # ILinkOwner.

    def link_opened(self, link: PeerProtocol) -> None:
        if self._requests.banned(link.identity):
            link.drop("banned")
            return
        self._open[link] = None
        address = link.address
        if address is not None:
            self._file(address, link)
        self._log.debug("{peer} is connected", peer=link.name)
        self._requests.opened(link)

    def _file(self, address: PeerAddress, link: PeerProtocol) -> None:
        """One link for each peer and face; two arise when both sides dial at once."""
        key = (address, link.face)
        other = self._by_key.get(key)
        if other is None or not other.open:
            self._by_key[key] = link
            return
        if link.dialled and not other.dialled:
            # What we dialled is proven to be there; the other only claims the port.
            self._by_key[key] = link
        if not self._same_peer(link, other) or link.dialled == other.dialled:
            return
        ours, theirs = (link, other) if link.dialled else (other, link)
        assert ours.theirs is not None
        if ours.extension and self._peer_id < ours.theirs.peer_id:
            keep, spare = theirs, ours
        else:
            # ZeroNet nodes know no rule; they send over whichever is left.
            keep, spare = ours, theirs
        self._by_key[key] = keep
        # Not at once: what either side asked on it before it knew is still answered.
        # And the one that is kept may have been about to end.
        spare.retire(SPARE_SECONDS, "there is another connection to it", lambda: keep.open)

    @staticmethod
    def _same_peer(link: PeerProtocol, other: PeerProtocol) -> bool:
        """Whether both lead to one node, and not to two behind one address."""
        first, second = link.theirs, other.theirs
        if first is None or second is None or first.peer_id != second.peer_id:
            return False
        if bool(first.extension) != bool(second.extension):
            return False
        # ZeroNet nodes do not tell their own network who they are.
        unnamed = not first.extension and is_private(link.identity)
        return bool(first.peer_id) or unnamed

    def link_lost(self, link: PeerProtocol, opened: bool) -> None:
        self._all.pop(link, None)
        self._holding.pop(link, None)
        address = link.address
        key = (address, link.face) if address is not None else None
        if key is not None and self._by_key.get(key) is link:
            del self._by_key[key]
            others = (
                other
                for other in self._open
                if other.address == address and other.face == link.face
            )
            heir = next((other for other in others if other is not link and other.open), None)
            if heir is not None:
                self._by_key[key] = heir
        if link in self._open:
            del self._open[link]
            self._requests.closed(link)
        kept = self._kept.get(key) if key is not None else None
        if kept is not None and opened and key not in self._by_key:
            self._retry(kept)

    def link_requested(
        self, link: PeerProtocol, req_id: Any, cmd: str, params: Mapping[Any, Any]
    ) -> None:
        self._requests.requested(link, req_id, cmd, params)

    def link_erred(self, link: PeerProtocol, mistake: TheirMistake) -> None:
        self._charge(link.identity, mistake.points, "broken messages")

    def link_holds(self, link: PeerProtocol, size: int) -> None:
        if size:
            self._holding[link] = size
        else:
            self._holding.pop(link, None)
        # The largest has to go: what honest peers say is small beside it.
        while sum(self._holding.values()) > HELD_LIMIT:
            largest = max(self._holding, key=self._holding.__getitem__)
            del self._holding[largest]
            largest.drop("too much of a message waits for its end")

    def ban(self, identity: str) -> None:
        """Close every link of a sender that was banned."""
        for link in [link for link in self._all if link.identity == identity]:
            if is_pseudonym(identity):
                self._doors.banned(link.face, self._clock.seconds())
            link.drop("banned")

    # The clock.

    def _tick(self) -> None:
        now = self._clock.seconds()
        for link in list(self._all):
            link.tick(now)
            if not link.open:
                continue
            idle = link.idle(now)
            if idle > UNUSED_SECONDS and not self._is_kept(link) and not self._used(link):
                link.drop("nobody uses it")
            elif idle > PING_SECONDS and now - link.last_sent > PING_SECONDS:
                link.ask(PING, {}).addErrback(_ignore_unreachable)

    def _is_kept(self, link: PeerProtocol) -> bool:
        if link.address is None or (link.address, link.face) not in self._kept:
            return False
        if link.face and not self._used(link):
            # A configured onion need not hold every site; asking again would only tell of them.
            del self._kept[link.address, link.face]
            return False
        return True


def _counted(address: PeerAddress) -> str:
    """What connections are counted by: a host; on loopback, where every node is, a port of it."""
    return str(address) if address.is_loopback else address.host


def _ignore_unreachable(failure: Failure) -> None:
    # The link closes itself when it does not answer.
    failure.trap(Unreachable)


class _OneShot(Factory):
    """Gives an endpoint the protocol that was made for it."""

    noisy = False

    def __init__(self, link: PeerProtocol) -> None:
        self._link = link

    def buildProtocol(self, addr: IAddress | None) -> PeerProtocol:
        return self._link


class StrangerFactory(Factory):
    """Accepts connections that come through an onion of ours."""

    noisy = False

    def __init__(self, pool: Pool, face: str) -> None:
        self._pool = pool
        self._face = face

    def buildProtocol(self, addr: IAddress | None) -> PeerProtocol | None:
        return self._pool.accept_stranger(self._face)


class PeerFactory(Factory):
    """Accepts connections of peers."""

    noisy = False

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def buildProtocol(self, addr: IAddress | None) -> PeerProtocol | None:
        return self._pool.accept(remote_of(addr))
