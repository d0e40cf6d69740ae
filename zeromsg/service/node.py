"""A whole node but its sockets: the one place that knows all the concrete parts.

Tests and the in-memory network build it with a fake clock and doubles of the
edges; `service.assembly` adds the sockets.
"""

import hashlib
import random
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from zeromsg import __version__
from zeromsg.interfaces import IPeerLink
from zeromsg.log import leveled
from zeromsg.net import client_gate
from zeromsg.net.dialer import can_connect
from zeromsg.net.peer_protocol import Limits
from zeromsg.net.pool import Pool
from zeromsg.policy.capability import CAPABLE_SECONDS, Capabilities
from zeromsg.policy.peer_book import PeerBook
from zeromsg.policy.recorder import Recorder
from zeromsg.policy.scoring import Banned, Scoring
from zeromsg.policy.seen import LIFETIME, Seen
from zeromsg.policy.shedding import PAUSE_SECONDS, Shedding
from zeromsg.policy.signers import Signers
from zeromsg.policy.site_state import SiteState
from zeromsg.policy.versions import Versions
from zeromsg.routing.blame import Blame
from zeromsg.routing.carrying import Carrying
from zeromsg.routing.cert_commands import CertCommands
from zeromsg.routing.commands import Commands
from zeromsg.routing.crypt_commands import CryptCommands
from zeromsg.routing.deadlines import Deadlines
from zeromsg.routing.delivery import Delivery
from zeromsg.routing.drafts import Drafts
from zeromsg.routing.history import History
from zeromsg.routing.inbound import Inbound, Origin
from zeromsg.routing.info import NodeFacts, site_info
from zeromsg.routing.joining import Joining, complete
from zeromsg.routing.keeping import Keeping
from zeromsg.routing.message_commands import MessageCommands
from zeromsg.routing.outbound import Outbound
from zeromsg.routing.port_check import PortCheck
from zeromsg.routing.prompts import Prompts
from zeromsg.routing.recipients import Recipients
from zeromsg.routing.relay import Relay
from zeromsg.routing.replies import Replies
from zeromsg.routing.requests import Requests
from zeromsg.routing.secrecy import Heavy, Secrecy
from zeromsg.routing.secrecy_commands import SecrecyCommands
from zeromsg.routing.site_commands import SiteCommands
from zeromsg.routing.site_peers import SitePeers
from zeromsg.routing.speaking import Speaking
from zeromsg.routing.spreading import Spreading
from zeromsg.routing.updating import Updating
from zeromsg.service import peer_memory
from zeromsg.service.config import Settings
from zeromsg.service.discovery import Discovery, Outside
from zeromsg.store.database import Ban, Database
from zeromsg.store.sites import Sites
from zeromsg.store.users import Users
from zeromsg.wire.client_messages import event_head
from zeromsg.wire.json_text import dump_compact
from zeromsg.wire.names import CARRY, CONTENT_JSON, PEER_ID_PREFIX, TLS_RSA
from zeromsg.wire.peer_messages import Handshake
from zeromsg.wire.values import PeerAddress

SAVE_SECONDS = 1.0
"""How often hashes that were met go to disk."""

RELOAD_SECONDS = 2.0
"""How often own sites are looked at for a new signed version."""

LOOK_SECONDS = 0.1
"""How often a busy node looks whether it keeps up."""

CHECKS_LIMIT = 16
"""Ports of peers that are tried at one time; each takes a socket for up to five seconds."""

SITES_FOLDER = "sites"

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


@attrs.frozen
class Edges:
    """What a node stands on: clock, chance, and how to connect.

    clock: seconds for timers. wall: Unix seconds. rng: picks peers.
    entropy: bytes nobody can guess. connector: to a peer's address.
    heavy: runs what would block for long. tls: options of `net.tls`, or None.
    kinds: of addresses the connector reaches. outside: for what is no connection.
    """

    clock: IReactorTime
    wall: Callable[[], float]
    rng: random.Random
    entropy: Callable[[int], bytes]
    connector: Callable[[PeerAddress], IStreamClientEndpoint]
    heavy: Heavy
    tls: Any = None
    kinds: Collection[str] = ("ipv4", "ipv6")
    outside: Outside = attrs.field(factory=Outside)


class Node:
    """A whole node but its listening sockets."""

    _log = Logger(observer=leveled)

    def __init__(self, settings: Settings, edges: Edges, database: Database, users: Users) -> None:
        self.settings = settings
        self.database = database
        self.users = users
        self._clock = edges.clock
        self._wall = edges.wall
        self._entropy = edges.entropy
        self.peer_port = 0
        self._outside_port = 0
        self.ui = ("127.0.0.1", 0)
        self.peer_id = PEER_ID_PREFIX + "".join(
            _ALPHABET[byte % len(_ALPHABET)] for byte in edges.entropy(12)
        )
        self._states: dict[str, SiteState[Origin]] = {}
        self._keys: dict[tuple[str, str], str] = {}
        self._opens: dict[bytes, tuple[str, str]] = {}
        self._checks = 0
        self.sites = Sites(settings.data_dir / SITES_FOLDER, edges.wall)
        self.scoring = Scoring()
        self.recorder = Recorder()
        self._shedding: Shedding[IPeerLink] = Shedding()
        self.seen = Seen()
        self._deadlines = Deadlines(edges.clock)
        self.replies = Replies()
        self.signers = Signers()
        self.secrecy = Secrecy(users=users, clock=edges.clock, heavy=edges.heavy)
        self.delivery = Delivery(
            self.sites, database, self._state, self.secrecy, self._deadlines, edges.wall
        )
        self.book = PeerBook(
            allow_private=settings.peers.allow_private,
            is_us=lambda address: self.pool.is_us(address),
        )
        self.capabilities = Capabilities()
        self.site_peers = SitePeers(
            self.sites,
            self.book,
            Speaking(self.capabilities, edges.wall),
            edges.clock,
            edges.wall,
            edges.rng,
            private=settings.peers.allow_private,
            carries=settings.peers.relay_sends,
            configured=settings.peers.connect,
        )
        self.blame = Blame(
            scoring=self.scoring,
            recorder=self.recorder,
            wall=edges.wall,
            banned=self._was_banned,
        )
        versions: Versions[IPeerLink] = Versions()
        self.spreading = Spreading(self.sites, self.site_peers, versions, edges.clock, edges.rng)
        self.joining = Joining(
            self.sites,
            self.site_peers,
            versions,
            edges.clock,
            charge=self.blame.charge,
            changed=self._site_changed,
            completed=self.spreading.completed,
        )
        self.updating = Updating(
            sites=self.sites,
            site_peers=self.site_peers,
            versions=versions,
            joining=self.joining,
            spreading=self.spreading,
            deadlines=self._deadlines,
            clock=edges.clock,
            wall=edges.wall,
            rng=edges.rng,
            charge=self.blame.charge,
            changed=self._site_changed,
        )
        self.pool = Pool(
            connector=edges.connector,
            ours=self._handshake,
            peer_id=self.peer_id,
            tls=edges.tls,
            clock=edges.clock,
            rng=edges.rng,
            limits=Limits(settings.peers.requests_in_flight, settings.peers.unsent_limit),
            max_connections=settings.peers.max_connections,
            charge=self.blame.charge,
            used=self._is_used,
        )
        self._tls = edges.tls is not None
        self._connector = edges.connector
        self.port_check = PortCheck(
            peers=self.pool,
            clock=edges.clock,
            rng=edges.rng,
            port=self._port,
            private=settings.peers.allow_private,
        )
        self._features = frozenset([CARRY] if settings.peers.relay_sends else [])
        history = History(self.sites, edges.wall)
        self.keeping = Keeping(
            sites=self.sites,
            site_peers=self.site_peers,
            book=self.book,
            peers=self.pool,
            clock=edges.clock,
            wall=edges.wall,
            rng=edges.rng,
            outgoing=settings.peers.outgoing,
            kinds=edges.kinds,
            banned=self.blame.is_banned,
        )
        relay = Relay(self.site_peers, self.keeping, edges.rng, self.blame, self._deadlines)
        carrying = Carrying(
            sites=self.sites,
            site_peers=self.site_peers,
            peers=self.pool,
            blame=self.blame,
            deadlines=self._deadlines,
            clock=edges.clock,
            wall=edges.wall,
            raw_limit=settings.peers.raw_limit,
            enabled=settings.peers.relay_sends,
        )
        self.inbound = Inbound(
            sites=self.sites,
            states=self._state,
            seen=self.seen,
            blame=self.blame,
            recorder=self.recorder,
            shedding=self._shedding,
            signers=self.signers,
            history=history,
            delivery=self.delivery,
            replies=self.replies,
            relay=relay,
            site_peers=self.site_peers,
            carrying=carrying,
            clock=edges.clock,
            wall=edges.wall,
            raw_limit=settings.peers.raw_limit,
        )
        self.discovery = Discovery(
            settings.peers,
            edges.outside,
            site_peers=self.site_peers,
            port_check=self.port_check,
            sites=self.sites.addresses,
            connector=edges.connector,
            ours=self._handshake,
            known=self.pool.named,
            port=self._port,
            peer_id=self.peer_id,
            kinds=edges.kinds,
            tls=edges.tls,
            clock=edges.clock,
            wall=edges.wall,
            rng=edges.rng,
            entropy=edges.entropy,
            charge=self.blame.charge,
        )
        self.requests = Requests(
            sites=self.sites,
            site_peers=self.site_peers,
            inbound=self.inbound,
            blame=self.blame,
            joining=self.joining,
            carrying=carrying,
            tracker=self.discovery.server,
            check_port=self._check_port,
            updating=self.updating,
        )
        drafts = Drafts(
            sites=self.sites,
            states=self._state,
            seen=self.seen,
            signers=self.signers,
            secrecy=self.secrecy,
            recipients=Recipients(self.signers, self.secrecy),
            clock=edges.clock,
            wall=edges.wall,
            entropy=edges.entropy,
            raw_limit=settings.peers.raw_limit,
        )
        outbound = Outbound(
            drafts=drafts,
            states=self._state,
            recorder=self.recorder,
            history=history,
            delivery=self.delivery,
            replies=self.replies,
            relay=relay,
            site_peers=self.site_peers,
            carrying=carrying,
            peers=self.pool,
            clock=edges.clock,
            wall=edges.wall,
            rng=edges.rng,
        )
        message_commands = MessageCommands(
            sites=self.sites,
            delivery=self.delivery,
            outbound=outbound,
            secrecy=self.secrecy,
            site_peers=self.site_peers,
            recorder=self.recorder,
            history=history,
        )
        site_commands = SiteCommands(
            sites=self.sites,
            store=database,
            delivery=self.delivery,
            site_peers=self.site_peers,
            facts=self._facts,
        )
        self.prompts = Prompts(edges.clock, edges.entropy)
        self.cert_commands = CertCommands(
            sites=self.sites,
            users=users,
            delivery=self.delivery,
            site_peers=self.site_peers,
            prompts=self.prompts,
        )
        tables = (
            message_commands.table(),
            SecrecyCommands(self.secrecy).table(),
            site_commands.table(),
            self.cert_commands.table(),
            CryptCommands(edges.entropy, edges.clock).table(),
        )
        self.commands = Commands(users, self.delivery, self.prompts, tables)
        self._saving = LoopingCall(self._every_second)
        self._reloading = LoopingCall(self._reload)
        self._looking = LoopingCall(self._look)
        self._looked = 0.0
        for loop in (self._saving, self._reloading, self._looking):
            loop.clock = edges.clock

    # Life.

    def load(self) -> None:
        """Read sites and what an earlier run left. Raises ConfigError."""
        for site in self.settings.sites:
            self.add_site(site.address, site.path, site.size_limit)
        now = self._wall()
        peer_memory.restore_capabilities(self.database, self.capabilities, now)
        self.database.forget_peers_before(now - CAPABLE_SECONDS, self.sites.addresses())
        self.seen.restore(self.database.seen_since(now - LIFETIME))
        kept = self.database.bans()
        bans = (Banned(ban.identity, ban.until, ban.strikes, ban.reason) for ban in kept)
        self.scoring.restore(bans, now)
        self.signers.restore(self.database.signers(), self.database.named())

    def add_site(self, address: str, path: Path | None, size_limit: int) -> None:
        site = self.sites.add(address, path, size_limit)
        self.database.client_key(address, "", self._entropy)
        for user, key in self.database.client_keys(address).items():
            # A user of an earlier users.json may be gone.
            if self.users.get(user) is not None:
                self._know_key(address, user, key)
        self.delivery.restore(address)
        peer_memory.restore_peers(self.database, self.book, address)
        self.discovery.site_added(address)
        if site.rules is None:
            self._log.info("{site}: {why}", site=address, why=site.rules_problem)

    def start(self) -> None:
        self.pool.start(self.requests, self.settings.peers.connect)
        self.site_peers.start()
        self.keeping.start()
        self.discovery.start(self.requests)
        self.port_check.start()
        self.joining.start()
        self.updating.start()
        self._saving.start(SAVE_SECONDS, now=False)
        self._reloading.start(RELOAD_SECONDS, now=False)

    def stop(self) -> None:
        for loop in (self._saving, self._reloading, self._looking):
            if loop.running:
                loop.stop()
        self.updating.stop()
        self.joining.stop()
        self.port_check.stop()
        self.discovery.stop()
        self.keeping.stop()
        self.site_peers.stop()
        self.pool.stop()
        self._deadlines.stop()
        self._save()

    def _every_second(self) -> None:
        self._save()
        if self._shedding.busy and not self._looking.running:
            self._looked = self._clock.seconds()
            self._looking.start(LOOK_SECONDS, now=False)

    def _save(self) -> None:
        self.database.add_seen(self.seen.take_new())
        changes = self.signers.take_changes()
        if changes:
            self.database.change_signers(changes)
        peer_memory.save(self.database, self.book, self.capabilities)

    def _look(self) -> None:
        """See whether the node keeps up; if not, slow the worst senders down."""
        if not self._shedding.busy:
            self._looking.stop()
            return
        now = self._clock.seconds()
        late, self._looked = now - self._looked - LOOK_SECONDS, now
        for link in self._shedding.look(late):
            link.rest(PAUSE_SECONDS)

    def _reload(self) -> None:
        for site in self.sites.all():
            before = site.version(CONTENT_JSON) or 0.0
            if site.reload_if_changed():
                self._site_changed(site.address)
                for inner_path in site.modified_since(before):
                    self.spreading.publish(site.address, inner_path)

    # Between the parts.

    def _state(self, site: str) -> SiteState[Origin]:
        state = self._states.get(site)
        if state is None:
            state = self._states[site] = SiteState()
        return state

    def _was_banned(self, identity: str) -> None:
        """Cut a sender off, and remember it over a restart."""
        self.pool.ban(identity)
        for ban in self.scoring.bans(self._wall()):
            if ban.identity == identity:
                self._log.info("banned a sender: {reason}", reason=ban.reason)
                self._log.debug("it is {identity}", identity=identity)
                self.database.put_ban(Ban(ban.identity, ban.until, ban.strikes, ban.reason))

    def ban(self, identity: str, seconds: float, reason: str) -> None:
        """Ban by hand."""
        self.scoring.ban(identity, self._wall(), seconds, reason)
        self._was_banned(identity)

    def pardon(self, identity: str) -> bool:
        """End a ban and forget all points; whether there was a ban."""
        self.database.remove_ban(identity)
        return self.scoring.pardon(identity)

    def bans(self) -> list[Banned]:
        """Bans in force."""
        now = self._wall()
        return [ban for ban in self.scoring.bans(now) if ban.until > now]

    def why(self, hash: str) -> Mapping[str, Any] | None:
        """What became of a message here, senders included; None if that is not known."""
        try:
            record = self.recorder.get(bytes.fromhex(hash))
        except ValueError:
            return None
        return record.to_map(with_peers=True) if record is not None else None

    def now(self) -> float:
        """Unix seconds, by this node's clock."""
        return self._wall()

    def _is_used(self, link: IPeerLink) -> bool:
        return any(self.site_peers.takes_part(site, link) for site in self.sites.addresses())

    def _site_changed(self, address: str) -> None:
        """Tell the site's clients that it has new content."""
        site = self.sites.get(address)
        clients = [
            client for client in self.delivery.clients(address) if client.listens("siteChanged")
        ]
        if site is None or not clients:
            return
        peers = len(self.site_peers.members(address))
        for client in clients:
            user = self.users.get(client.user)
            if user is not None:
                info = site_info(site, user, peers)
                client.push(event_head("setSiteInfo", dump_compact(info)))

    def mapped(self, port: int) -> None:
        """A router lets others in at this port; 0 when it does so no more."""
        self._outside_port = port

    def _port(self) -> int:
        """Where others connect, as far as this node knows; 0 for nowhere."""
        return self._outside_port or self.peer_port

    def _handshake(self, remote: PeerAddress) -> Handshake:
        return Handshake(
            peer_id=self.peer_id,
            fileserver_port=self._port(),
            port_opened=self.port_check.is_open(remote.kind),
            target_ip=remote.host,
            crypt_supported=(TLS_RSA,) if self._tls else (),
            crypt=None,
            time=int(self._wall()),
            features=self._features,
        )

    def _facts(self) -> NodeFacts:
        return NodeFacts(__version__, self._port(), *self.ui, self.port_check.all())

    def _check_port(self, link: IPeerLink, port: int) -> Deferred[bool]:
        """Whether the peer's port can be reached from here."""
        if self._checks >= CHECKS_LIMIT:
            return succeed(False)
        self._checks += 1
        address = PeerAddress(link.identity, port)
        checking = Deferred.fromCoroutine(can_connect(self._connector, address, self._clock))
        return checking.addBoth(self._checked)

    def _checked(self, result: Any) -> Any:
        self._checks -= 1
        return result

    # What the web pages ask.

    def host_allowed(self, host: str) -> bool:
        return client_gate.host_allowed(host, self.ui[1], self.settings.ui.hosts)

    def user_of(self, address: str) -> str | None:
        """What connections call the user of a master address: "" for the default one."""
        user = self.users.get(address) if address else None
        if user is None:
            return None
        return "" if user is self.users.default else address

    def key_of(self, site: str, user: str = "") -> str | None:
        """The key by which clients act for a user on a site that is held; made on first use.

        user: as `user_of` gives it.
        """
        if (site, "") not in self._keys or self.users.get(user) is None:
            return None
        if (site, user) not in self._keys:
            self._know_key(site, user, self.database.client_key(site, user, self._entropy))
        return self._keys[site, user]

    def _know_key(self, site: str, user: str, key: str) -> None:
        self._keys[site, user] = key
        self._opens[_digest(key)] = (site, user)

    def opens(self, key: str) -> tuple[str, str] | None:
        """The site and user that a key belongs to."""
        # By its hash: a key must not be guessable piece by piece from the time this takes.
        return self._opens.get(_digest(key))

    def title(self, site: str) -> str:
        held = self.sites.get(site)
        title = held.content.get("title") if held is not None and held.content else None
        return title if isinstance(title, str) and title else site

    def status(self) -> Mapping[str, Any]:
        """What the operator is shown: counts, links, sites."""
        counters = self.inbound.counters
        return {
            "version": __version__,
            "peer_id": self.peer_id,
            "peer_port": self.peer_port,
            "port_opened": dict(self.port_check.all()),
            **self.discovery.status(),
            "sites": [
                {
                    "address": site.address,
                    "title": self.title(site.address),
                    "own": site.own,
                    "complete": complete(site),
                    "takes_messages": site.rules is not None,
                    "problem": site.rules_problem,
                    "clients": self.delivery.count(site.address),
                    "peers": len(self.site_peers.members(site.address)),
                    "queued": len(self._state(site.address).queue),
                }
                for site in self.sites.all()
            ],
            "links": [
                {
                    "peer": link.name,
                    "dialled": link.dialled,
                    "encrypted": link.encrypted,
                    "zeromsg": bool(link.extension),
                    "points": round(self.scoring.points(link.identity, self._wall()), 1),
                }
                for link in self.pool.links
            ],
            "messages": {
                "received": counters.received,
                "accepted": counters.accepted,
                "duplicates": counters.duplicates,
                "refused": dict(counters.refused),
                "relayed": counters.relayed,
                "waiting_for_verdict": self.delivery.waiting,
                "waiting_for_reply": len(self.replies),
            },
            "sealed": attrs.asdict(self.secrecy.counts),
            "bans": len(self.bans()),
            "clients": self.delivery.count(),
            "seen": len(self.seen),
        }


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
