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
from zeromsg.errors import ClientError, NotTried, OurMistake
from zeromsg.interfaces import IPeerLink, ITor
from zeromsg.log import leveled
from zeromsg.net import client_gate
from zeromsg.net.dialer import can_connect
from zeromsg.net.peer_protocol import Limits
from zeromsg.net.pool import Pool
from zeromsg.policy.capability import CAPABLE_SECONDS, Capabilities
from zeromsg.policy.faces import CLEAR, Faces, is_pseudonym
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
from zeromsg.routing.file_commands import FileCommands
from zeromsg.routing.history import History
from zeromsg.routing.inbound import Inbound, Origin
from zeromsg.routing.info import NodeFacts, server_info, site_info
from zeromsg.routing.joining import Joining, complete
from zeromsg.routing.keeping import Keeping
from zeromsg.routing.message_commands import MessageCommands
from zeromsg.routing.outbound import Outbound
from zeromsg.routing.permission_commands import PermissionCommands
from zeromsg.routing.permissions import Permissions
from zeromsg.routing.port_check import PortCheck
from zeromsg.routing.prompts import Prompts
from zeromsg.routing.recipients import Recipients
from zeromsg.routing.relay import Relay
from zeromsg.routing.replies import Replies
from zeromsg.routing.requests import Requests
from zeromsg.routing.secrecy import Heavy, Secrecy
from zeromsg.routing.secrecy_commands import SecrecyCommands
from zeromsg.routing.site_commands import SiteCommands
from zeromsg.routing.site_files import SiteFiles
from zeromsg.routing.site_peers import SitePeers
from zeromsg.routing.speaking import Speaking
from zeromsg.routing.spreading import Spreading
from zeromsg.routing.updating import Updating
from zeromsg.service import peer_memory
from zeromsg.service.config import Settings
from zeromsg.service.discovery import Discovery, Outside
from zeromsg.store.database import Ban, Database
from zeromsg.store.sites import SIZE_LIMIT, Sites
from zeromsg.store.users import Users
from zeromsg.store.writing import Writing
from zeromsg.wire.client_messages import event_head
from zeromsg.wire.json_text import dump_compact
from zeromsg.wire.names import CARRY, CONTENT_JSON, PEER_ID_PREFIX, SET_SITE_INFO, TLS_RSA
from zeromsg.wire.peer_messages import Handshake
from zeromsg.wire.values import PeerAddress

SAVE_SECONDS = 1.0
"""How often hashes that were met go to disk."""

RELOAD_SECONDS = 2.0
"""How often own sites are looked at for a new signed version."""

LOOK_SECONDS = 0.1
"""How often a busy node looks whether it keeps up."""

JOINED_LIMIT = 500
"""Most sites that are joined while the node runs."""

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
    kinds: of addresses this node has a way to. tor: the way to onions, if there is one.
    outside: for what is no connection.
    """

    clock: IReactorTime
    wall: Callable[[], float]
    rng: random.Random
    entropy: Callable[[int], bytes]
    connector: Callable[[PeerAddress], IStreamClientEndpoint]
    heavy: Heavy
    tls: Any = None
    kinds: Collection[str] = ("ipv4", "ipv6")
    tor: ITor | None = None
    outside: Outside = attrs.field(factory=Outside)


class Node:
    """A whole node but its listening sockets."""

    _log = Logger(observer=leveled)

    def __init__(self, settings: Settings, edges: Edges, database: Database, users: Users) -> None:
        self.settings = settings
        self.database = database
        self.store = Writing(database)
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
        self._tor = edges.tor
        self._faces = Faces(settings.tor.share_onion)
        self._started = False
        self.sites = Sites(settings.data_dir / SITES_FOLDER, edges.wall)
        self.scoring = Scoring()
        self.recorder = Recorder()
        self._shedding: Shedding[IPeerLink] = Shedding()
        self.seen = Seen()
        self._deadlines = Deadlines(edges.clock)
        self.replies = Replies()
        self.signers = Signers()
        self.permissions = Permissions(self.sites, self.store)
        self.secrecy = Secrecy(
            users=users,
            merges=self.permissions.merges,
            clock=edges.clock,
            heavy=edges.heavy,
        )
        self.delivery = Delivery(
            self.sites,
            self.store,
            self._state,
            self.secrecy,
            self._deadlines,
            edges.wall,
            self.permissions.mergers,
        )
        only = settings.tor.mode == "only"
        self.book = PeerBook(
            allow_private=settings.peers.allow_private,
            kinds=("onion",) if only else ("ipv4", "ipv6", "onion"),
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
        self.files = SiteFiles(self.sites, self.joining, edges.clock)
        self.on_left: Callable[[str], None] = lambda address: None
        self.pool = Pool(
            connector=self._endpoint,
            ours=self._handshake,
            peer_id=self.peer_id,
            tls=edges.tls,
            clock=edges.clock,
            rng=edges.rng,
            entropy=edges.entropy,
            limits=Limits(settings.peers.requests_in_flight, settings.peers.unsent_limit),
            max_connections=settings.peers.max_connections,
            charge=self.blame.charge,
            used=self._is_used,
            face_of=self._face_of,
            is_own=lambda address: self._tor is not None and self._tor.is_ours(address.host),
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
        relay = Relay(
            self.site_peers,
            self.keeping,
            edges.rng,
            self.blame,
            self._deadlines,
            push_own=settings.tor.push_own,
        )
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
            reach=self._tracker_endpoint,
            onions=self._announced_onions,
            sign_onion=self._sign_onion,
            direct=not only,
            ours=self._tracker_handshake,
            known=self.pool.named,
            port=self._tracker_port,
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
            store=self.store,
            delivery=self.delivery,
            site_peers=self.site_peers,
            joining=self.joining,
            permissions=self.permissions,
            facts=self._facts,
        )
        self.prompts = Prompts(edges.clock, edges.entropy)
        self.cert_commands = CertCommands(
            sites=self.sites,
            users=users,
            delivery=self.delivery,
            site_peers=self.site_peers,
            prompts=self.prompts,
            permissions=self.permissions,
        )
        permission_commands = PermissionCommands(
            sites=self.sites,
            permissions=self.permissions,
            prompts=self.prompts,
            site_peers=self.site_peers,
            join=self.join,
            leave=self.leave,
            changed=self._site_changed,
        )
        tables = (
            message_commands.table(),
            SecrecyCommands(self.secrecy).table(),
            site_commands.table(),
            FileCommands(
                sites=self.sites,
                files=self.files,
                permissions=self.permissions,
                clock=edges.clock,
            ).table(),
            permission_commands.table(),
            self.cert_commands.table(),
            CryptCommands(edges.entropy, edges.clock).table(),
        )
        self.commands = Commands(users, self.delivery, self.prompts, self.permissions, tables)
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
        for address, size_limit in self.database.joined_sites():
            if self.sites.get(address) is None:
                self.add_site(address, None, size_limit)
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
        self.store.client_key(address, "", self._entropy)
        for user, key in self.database.client_keys(address).items():
            # A user of an earlier users.json may be gone.
            if self.users.get(user) is not None:
                self._know_key(address, user, key)
        self.delivery.restore(address)
        peer_memory.restore_peers(self.database, self.book, address)
        if self._started:
            self._show(address)
        self.discovery.site_added(address)
        if site.content is None:
            self._log.info("{site} is fetched from its peers", site=address)
        elif site.rules is None:
            self._log.info("{site}: {why}", site=address, why=site.rules_problem)

    def join(self, address: str) -> bool:
        """Hold a site from now on, over restarts too, and fetch it; whether it is new here.

        Raises ClientError where there are too many.
        """
        if self.sites.get(address) is not None:
            return False
        if len(self.database.joined_sites()) >= JOINED_LIMIT:
            raise ClientError("too-big", f"a node joins at most {JOINED_LIMIT} sites")
        self.store.set_joined(address, SIZE_LIMIT)
        self.add_site(address, None, SIZE_LIMIT)
        self.site_peers.introduce(address)
        self.joining.try_all()
        return True

    def leave(self, address: str) -> None:
        """Hold a joined site no more: its files, permissions and connections go.

        Raises ClientError for a site that the configuration names.
        """
        if self.sites.get(address) is None:
            raise ClientError("invalid", f"this node does not hold the site {address}")
        if any(site.address == address for site in self.settings.sites):
            raise ClientError("invalid", "this site stands in the configuration file")
        self.store.set_joined(address, None)
        for permission in self.permissions.of(address):
            self.permissions.remove(address, permission)
        self.joining.forget(address)
        self.sites.remove(address)
        self.site_peers.left(address)
        self._states.pop(address, None)
        for site, user in [known for known in self._keys if known[0] == address]:
            del self._opens[_digest(self._keys.pop((site, user)))]
        self.files.changed(address)
        if self._tor is not None and not self.settings.tor.share_onion:
            self.pool.drop_face(self._faces.of(address))
            self._tor.withdraw(self._faces.of(address))
        self.on_left(address)

    def start(self) -> None:
        """Raises ConfigError where the key of an onion cannot be used."""
        clear = [peer for peer in self.settings.peers.connect if peer.kind != "onion"]
        self.pool.start(self.requests, clear)
        self._started = True
        for address in self.sites.addresses():
            self._show(address)
        self.site_peers.start()
        self.keeping.start()
        self.discovery.start(self.requests)
        self.port_check.start()
        self.joining.start()
        self.updating.start()
        self._saving.start(SAVE_SECONDS, now=False)
        self._reloading.start(RELOAD_SECONDS, now=False)

    def _show(self, site: str) -> None:
        """Have an onion for a site, and keep the configured onions connected for it."""
        if self._tor is not None:
            self._tor.onion(self._faces.of(site))
            for peer in self.settings.peers.connect:
                if peer.kind == "onion":
                    self.pool.keep(peer, site)

    def stop(self) -> None:
        for loop in (self._saving, self._reloading, self._looking):
            if loop.running:
                loop.stop()
        self.files.stop()
        self.updating.stop()
        self.joining.stop()
        self.port_check.stop()
        self.discovery.stop()
        self.keeping.stop()
        self.site_peers.stop()
        self.pool.stop()
        self._deadlines.stop()
        self._save()
        self.store.close()

    def _every_second(self) -> None:
        if self._shedding.busy and not self._looking.running:
            self._looked = self._clock.seconds()
            self._looking.start(LOOK_SECONDS, now=False)
        self._save()

    def _save(self) -> None:
        if not self.store.settle():
            return  # what changes meanwhile is kept where it changes
        self.store.add_seen(self.seen.take_new())
        changes = self.signers.take_changes()
        if changes:
            self.store.change_signers(changes)
        peer_memory.save(self.store, self.book, self.capabilities)

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
                if is_pseudonym(identity):
                    return  # which is gone with its connection
                self.store.put_ban(Ban(ban.identity, ban.until, ban.strikes, ban.reason))

    def ban(self, identity: str, seconds: float, reason: str) -> None:
        """Ban by hand."""
        self.scoring.ban(identity, self._wall(), seconds, reason)
        self._was_banned(identity)

    def pardon(self, identity: str) -> bool:
        """End a ban and forget all points; whether there was a ban."""
        self.store.remove_ban(identity)
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

    def _site_changed(self, address: str, event: tuple[str, Any] | None = None) -> None:
        """Tell the site's clients that it has new content, or of another event."""
        self.files.changed(address)
        site = self.sites.get(address)
        clients = [
            client for client in self.delivery.clients(address) if client.listens("siteChanged")
        ]
        if site is None or not clients:
            return
        peers = len(self.site_peers.participants(address))
        for client in clients:
            user = self.users.get(client.user)
            if user is not None:
                info = site_info(site, user, peers, self.permissions.of(address))
                if event is not None:
                    info["event"] = list(event)
                client.push(event_head(SET_SITE_INFO, dump_compact(info)))

    def mapped(self, port: int) -> None:
        """A router lets others in at this port; 0 when it does so no more."""
        self._outside_port = port

    def _port(self) -> int:
        """Where others connect, as far as this node knows; 0 for nowhere."""
        return self._outside_port or self.peer_port

    def _face_of(self, address: PeerAddress, site: str) -> str:
        return self._faces.of(site) if address.kind == "onion" else CLEAR

    def _endpoint(self, address: PeerAddress, face: str) -> IStreamClientEndpoint:
        """The one place from which peers are connected to. Raises Unreachable."""
        if address.kind != "onion":
            if self.settings.tor.mode == "only":
                raise NotTried("this node reaches onions only")
            return self._connector(address)
        if self._tor is None:
            raise NotTried("this node has no Tor to reach onions with")
        return self._tor.endpoint(address, face)

    def _handshake(self, remote: PeerAddress, face: str) -> Handshake:
        if face and self._tor is not None:
            return self._onion_handshake(remote, face, self._tor)
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

    def _onion_handshake(self, remote: PeerAddress, face: str, tor: ITor) -> Handshake:
        """What an onion says of itself: nothing by which two of a node could be linked."""
        return Handshake(
            peer_id="",
            fileserver_port=tor.port,
            port_opened=None,
            # Of a stranger nothing is known that could stand here.
            target_ip="" if is_pseudonym(remote.host) else remote.host,
            crypt_supported=(),
            crypt=None,
            time=int(self._wall()),
            onion=tor.onion(face),
            features=self._features,
        )

    # Announcing. Only a node without clear-net addresses announces onions: elsewhere
    # an onion told to a tracker would be linked to them.

    def _announces_onions(self) -> bool:
        return self._tor is not None and self.settings.tor.mode == "only"

    def _announced_onions(self) -> Mapping[str, str]:
        if self._tor is None or not self._announces_onions():
            return {}
        return {site: self._tor.onion(self._faces.of(site)) for site in self.sites.addresses()}

    def _tracker_port(self) -> int:
        if self._tor is not None and self._announces_onions():
            return self._tor.port
        return self._port()

    def _sign_onion(self, onion: str, message: bytes) -> tuple[bytes, bytes]:
        if self._tor is None:
            raise OurMistake("this node has no onions to announce")
        return self._tor.sign(onion, message)

    def _tracker_endpoint(self, address: PeerAddress, onion: str) -> IStreamClientEndpoint:
        """To a tracker in the name of an onion, "" for none. Raises Unreachable."""
        if address.kind != "onion" and onion:
            raise NotTried("an onion is not announced on the clear net")
        return self._endpoint(address, f"tracker {onion}")

    def _tracker_handshake(self, remote: PeerAddress) -> Handshake:
        ours = self._handshake(remote, CLEAR)
        if remote.kind != "onion" or self._tor is None:
            return ours
        return attrs.evolve(
            ours,
            peer_id="",
            fileserver_port=self._tor.port,
            port_opened=None,
            crypt_supported=(),
        )

    def tor_changed(self) -> None:
        """Tor came or went, or an onion can be reached: clients hear of it."""
        if self._tor is not None and self._tor.status()["connected"]:
            self.pool.tor_is_back()
        info = event_head("setServerInfo", dump_compact(server_info(self._facts())))
        for site in self.sites.addresses():
            for client in self.delivery.clients(site):
                if client.listens("serverChanged"):
                    client.push(info)

    def _facts(self) -> NodeFacts:
        tor = self._tor.status() if self._tor is not None else None
        problem = "" if tor is None else str(tor["problem"])
        status = "Disabled" if tor is None else f"Error ({problem})" if problem else "OK"
        return NodeFacts(
            __version__,
            self._port(),
            *self.ui,
            self.port_check.all(),
            tor_enabled=tor is not None,
            tor_status=status,
        )

    def _check_port(self, link: IPeerLink, port: int) -> Deferred[bool]:
        """Whether the peer's port can be reached from here."""
        if self._checks >= CHECKS_LIMIT or link.face:
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
            self._know_key(site, user, self.store.client_key(site, user, self._entropy))
        return self._keys[site, user]

    def _know_key(self, site: str, user: str, key: str) -> None:
        self._keys[site, user] = key
        self._opens[_digest(key)] = (site, user)

    def opens(self, key: str) -> tuple[str, str] | None:
        """The site and user that a key belongs to."""
        # By its hash: a key must not be guessable piece by piece from the time this takes.
        return self._opens.get(_digest(key))

    def ajax_key(self, site: str) -> str:
        """By which a site's own pages read its files; nothing else follows from it."""
        key = self.key_of(site) or ""
        return hashlib.sha256(f"ajax {key}".encode()).hexdigest()

    def title(self, site: str) -> str:
        held = self.sites.get(site)
        title = held.content.get("title") if held is not None and held.content else None
        return title if isinstance(title, str) and title else site

    def status(self) -> Mapping[str, Any]:
        """What the operator is shown: counts, links, sites."""
        counters = self.inbound.counters
        configured = {site.address for site in self.settings.sites}
        return {
            "version": __version__,
            "peer_id": self.peer_id,
            "peer_port": self.peer_port,
            "port_opened": dict(self.port_check.all()),
            "tor": self._tor.status() if self._tor is not None else None,
            **self.discovery.status(),
            "sites": [
                {
                    "address": site.address,
                    "title": self.title(site.address),
                    "own": site.own,
                    "configured": site.address in configured,
                    "files": len(site.files()),
                    "missing": sum(1 for _ in site.missing()),
                    "permissions": self.permissions.of(site.address),
                    "complete": complete(site),
                    "takes_messages": site.rules is not None,
                    "problem": site.rules_problem,
                    "version_problem": site.version_problem,
                    "clients": self.delivery.count(site.address),
                    "peers": len(self.site_peers.participants(site.address)),
                    "peers_without_messages": self.site_peers.deaf_count(site.address),
                    "queued": len(self._state(site.address).queue),
                }
                for site in self.sites.all()
            ],
            "links": [
                {
                    "peer": link.name,
                    "dialled": link.dialled,
                    "encrypted": link.encrypted,
                    "tor": bool(link.face),
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
            "storage": {"problem": self.store.problem, "waiting": self.store.waiting},
            "bans": len(self.bans()),
            "clients": self.delivery.count(),
            "seen": len(self.seen),
        }


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
