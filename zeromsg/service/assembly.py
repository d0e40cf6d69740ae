"""From settings to a running service: `makeService` is what twistd calls."""

import datetime
import fcntl
import gc
import hmac
import ipaddress
import os
import random
import re
import secrets
import stat
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, BinaryIO

import attrs
from autobahn.twisted.resource import WebSocketResource
from twisted.application.service import IService, Service
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError, ReactorNotRunning
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python import usage
from twisted.web.resource import IResource
from twisted.web.server import Site as HttpSite

from zeromsg.crypto.container import PASSPHRASE_LIMIT
from zeromsg.errors import CannotStore, ClientError, ConfigError, FileMissing, OurMistake
from zeromsg.log import leveled, set_level
from zeromsg.net.client_gate import origin_allowed
from zeromsg.net.client_protocol import ClientFactory, ClientLimits
from zeromsg.net.dialer import Dialer
from zeromsg.net.guard import Attempt, Watch
from zeromsg.net.pool import PeerFactory, StrangerFactory
from zeromsg.net.port_mapping import IWay, NatPmp, PortMapping, default_gateway
from zeromsg.net.tls import load_certificate, tls_options
from zeromsg.net.upnp import Upnp
from zeromsg.service.checking import load_to_run
from zeromsg.service.config import Settings
from zeromsg.service.discovery import Outside
from zeromsg.service.node import Edges, Node
from zeromsg.service.operator import operate
from zeromsg.service.tor_only import check_tor
from zeromsg.service.tor_side import TorSide
from zeromsg.store.database import Database
from zeromsg.store.private_file import write_private
from zeromsg.store.users import Users
from zeromsg.web.bodies import BoundedRequest
from zeromsg.web.pages import Pages

TOKEN_FILE = "status.token"
DATABASE_FILE = "zeromsg.sqlite3"
USERS_FILE = "users.json"
TLS_FILE = "peer-tls.pem"
LOCK_FILE = "lock"

TOKEN_BYTES = 32

_PASSPHRASE_BYTES = 4 * PASSPHRASE_LIMIT + 2

FAREWELL_SECONDS = 0.2
"""What clients have to hear that the node stops, before connections are cut."""

_KINDS = {"off": ("ipv4", "ipv6"), "on": ("ipv4", "ipv6", "onion"), "only": ("onion",)}

_EVERYWHERE = ("", "0.0.0.0", "::")


class NodeService(Service):
    """A node with its sockets.

    passphrase: of users.json, where somebody was asked for it; otherwise the
    settings name a file that holds it.
    watched: told of every attempt to reach something, in the mode `only` of Tor.
    started: fires when all listeners are up, fails with ConfigError otherwise.
    """

    _log = Logger(observer=leveled)
    name = "zeromsg"

    def __init__(
        self,
        settings: Settings,
        reactor: Any,
        passphrase: str | None = None,
        watched: Callable[[Attempt], None] | None = None,
    ) -> None:
        self._settings = settings
        self._passphrase = passphrase
        self._watched = watched
        self._reactor = reactor
        self._ports: list[IListeningPort] = []
        self._node: Node | None = None
        self._mapping: PortMapping | None = None
        self._tor: TorSide | None = None
        self._watch: Watch | None = None
        self.started: Deferred[None] = Deferred()
        self.failed = False

    @property
    def node(self) -> Node:
        """The node, once the service was started."""
        if self._node is None:
            raise OurMistake("the service was not started")
        return self._node

    def _build(self) -> None:
        """Open what is on disk. Not before the start: twistd forks until then, and SQLite
        connections do not survive it."""
        settings = self._settings
        check_tor(settings)
        if settings.tor.mode == "only":
            # Before the first socket, and for good.
            self._watch = Watch(self._report)
            self._watch.install()
        data_dir = settings.data_dir
        make_private_folder(data_dir)
        self._lock = lock_folder(data_dir)
        self._database = Database(data_dir / DATABASE_FILE)
        self._token = status_token(data_dir)
        users = open_users(settings, self._passphrase)
        if settings.users.passphrase_file is not None and not users.sealed:
            self._log.warn("users.json is under no passphrase yet: see `zeromsg user passphrase`")
        self._passphrase = None
        self._node = Node(settings, self._edges(), self._database, users)
        self._clients = ClientFactory(
            self._reactor,
            self._node.commands,
            ClientLimits(
                message=settings.ui.message_limit,
                unsent=settings.ui.unsent_limit,
                clients=settings.ui.max_clients,
            ),
        )
        # Last: what fails in it, stopService cleans up after.
        self._node.load()

    def _edges(self) -> Edges:
        settings = self._settings
        tls = None
        if settings.peers.tls:
            now = datetime.datetime.now(datetime.UTC)
            tls = tls_options(load_certificate(settings.data_dir / TLS_FILE, now, write_private))
        source = source_host(settings.peers.endpoint)
        dialer = Dialer(self._reactor, source)
        rng = random.Random(secrets.randbits(128))
        mode = settings.tor.mode
        if mode != "off":
            self._tor = TorSide(
                settings, self._reactor, rng, secrets.token_bytes, self._watch, self._tor_changed
            )
        return Edges(
            clock=self._reactor,
            wall=time.time,
            rng=rng,
            entropy=secrets.token_bytes,
            connector=dialer.endpoint_for,
            heavy=self._in_thread,
            tls=tls,
            kinds=_KINDS[mode],
            tor=self._tor,
            outside=Outside(self._reactor, source),
        )

    def _report(self, attempt: Attempt) -> None:
        if self._watched is not None:
            self._watched(attempt)
        if not attempt.allowed:
            self._log.warn("refused to {kind}: nothing but Tor is spoken to", kind=attempt.kind)
            self._log.debug("that was {target}", target=attempt.target)

    def _tor_changed(self) -> None:
        if self._node is not None and self.running:
            self._node.tor_changed()

    def _in_thread(self, work: Callable[[], Any]) -> Deferred[Any]:
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), work)

    def startService(self) -> None:
        super().startService()
        Deferred.fromCoroutine(self._start()).chainDeferred(self.started)
        self.started.addErrback(self._start_failed)

    async def _start(self) -> None:
        self._build()
        if self._settings.peers.endpoint:
            port = await self._listen(self._settings.peers.endpoint, PeerFactory(self.node.pool))
            self.node.peer_port = getattr(port.getHost(), "port", 0)
            if self._settings.peers.map_port and self.node.peer_port:
                self._map_port()
        if self._tor is not None:
            self._tor.start(lambda face: StrangerFactory(self.node.pool, face))
        self.node.start()
        gate = _Gate(self.node, self._clients, self._token)
        pages = Pages(gate, secrets.token_bytes, time.time, self._settings.ui.password)
        self.node.on_left = self._clients.drop_site
        http = HttpSite(pages, BoundedRequest, timeout=60)
        http.displayTracebacks = False
        http.noisy = False
        # Twisted writes every request to the log otherwise, keys included.
        http.log = lambda request: None  # type: ignore[method-assign]
        port = await self._listen(self._settings.ui.endpoint, http)
        host = port.getHost()
        self.node.ui = (getattr(host, "host", ""), getattr(host, "port", 0))
        if not (self._settings.ui.password or _is_loopback(self.node.ui[0])):
            self._log.warn(
                "whoever reaches {host}:{port} can act as you: set ui.password",
                host=self.node.ui[0],
                port=self.node.ui[1],
            )
        # What is here by now stays. Looked through by each full collection, it would hold up
        # messages for some 60 ms whenever strangers keep the node busy.
        gc.collect()
        gc.freeze()
        self._log.info(
            "zeromsg is up: clients at {clients}, port for peers: {peers}",
            clients=_place(host),
            host=self.node.ui[0],
            port=self.node.ui[1],
            peers=self.node.peer_port or "none",
        )

    def _map_port(self) -> None:
        source = source_host(self._settings.peers.endpoint)
        ways: list[IWay] = [NatPmp(self._reactor, default_gateway), Upnp(self._reactor, source)]
        self._mapping = PortMapping(self._reactor, ways, self.node.mapped)
        self._mapping.start(self.node.peer_port)

    async def _listen(self, description: str, factory: Any) -> IListeningPort:
        try:
            port: IListeningPort = await serverFromString(self._reactor, description).listen(
                factory
            )
        except (CannotListenError, OSError, ValueError) as problem:
            raise ConfigError(f"cannot listen on {description}: {problem}") from None
        self._ports.append(port)
        return port

    def _start_failed(self, failure: Any) -> None:
        if failure.check(ConfigError):
            self._log.critical("{problem}", problem=str(failure.value))
        else:
            self._log.failure("the node cannot start", failure)
        self.failed = True
        self._reactor.callLater(0, self._stop_reactor)

    def _stop_reactor(self) -> None:
        with suppress(ReactorNotRunning):  # it stops already
            self._reactor.stop()

    def stopService(self) -> Deferred[Any]:
        super().stopService()
        closing = [Deferred.fromCoroutine(_closed(port)) for port in self._ports]
        self._ports = []
        if self._mapping is not None:
            closing.append(self._mapping.stop())
        if self._node is None:
            return DeferredList(closing)
        self._clients.stop()
        self._node.stop()
        if self._tor is not None:
            closing.append(self._tor.stop())
        farewell = deferLater(self._reactor, FAREWELL_SECONDS, self._close_files)
        return DeferredList([*closing, farewell])

    def _close_files(self) -> None:
        self._database.close()
        self._lock.close()


async def _closed(port: IListeningPort) -> None:
    waiting = port.stopListening()
    if waiting is not None:
        await waiting


@attrs.frozen
class _Gate:
    """What the pages ask of the node (`web.pages.IGate`)."""

    _node: Node
    _clients: ClientFactory
    _token: str

    def host_allowed(self, host: str) -> bool:
        return self._node.host_allowed(host)

    def origin_allowed(self, origin: str | None, host: str) -> bool:
        return origin_allowed(origin, host)

    def user_of(self, address: str) -> str | None:
        return self._node.user_of(address)

    def key_of(self, site: str, user: str) -> str | None:
        return self._node.key_of(site, user)

    def opens(self, key: str) -> tuple[str, str] | None:
        return self._node.opens(key)

    def upgrade(self, site: str, user: str, trusted: bool) -> IResource | None:
        if self._clients.full:
            return None
        resource: IResource = WebSocketResource(self._clients.for_site(site, user, trusted))
        return resource

    def title(self, site: str) -> str:
        return self._node.title(site)

    def content(self, site: str) -> Mapping[str, Any] | None:
        held = self._node.sites.get(site)
        return held.content if held is not None else None

    def clients(self, site: str) -> int:
        return self._node.delivery.count(site)

    def ajax_key(self, site: str) -> str:
        return self._node.ajax_key(site)

    def modified(self, site: str) -> int:
        return int((self.content(site) or {}).get("modified", 0))

    def is_here(self, site: str, inner_path: str) -> bool:
        return self._node.files.is_here(site, inner_path)

    def may_come(self, site: str, inner_path: str) -> bool:
        return self._node.files.may_come(site, inner_path)

    def need(self, site: str, inner_path: str, seconds: float) -> Deferred[bool]:
        return self._node.files.need(site, inner_path, seconds)

    def locate(self, site: str, inner_path: str) -> tuple[str, str] | None:
        try:
            return self._node.permissions.locate(site, inner_path)
        except ClientError:
            return None

    def open_file(self, site: str, inner_path: str) -> tuple[BinaryIO, int, str] | None:
        held = self._node.sites.get(site)
        try:
            return held.open(inner_path) if held is not None else None
        except FileMissing:
            return None

    def is_folder(self, site: str, inner_path: str) -> bool:
        held = self._node.sites.get(site)
        folder = f"{inner_path.rstrip('/')}/" if inner_path else ""
        return held is not None and any(path.startswith(folder) for path in held.files())

    def kept_pages(self) -> Iterable[tuple[bytes, str, str, float]]:
        return self._node.database.pages()

    def keep_page(self, digest: bytes, site: str, user: str, until: float) -> None:
        self._node.store.put_page(digest, site, user, until)

    def sites(self) -> Collection[str]:
        return self._node.sites.addresses()

    def status(self) -> Mapping[str, Any]:
        return self._node.status()

    def operate(self, cmd: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
        return operate(self._node, cmd, params)

    def may_see_status(self, token: str) -> bool:
        return hmac.compare_digest(token.encode(), self._token.encode())


def _place(address: object) -> str:
    """Where something listens, as people write it."""
    if isinstance(address, UNIXAddress):
        return f"unix:{os.fsdecode(address.name or b'')}"
    return f"{getattr(address, 'host', '')}:{getattr(address, 'port', 0)}"


def _is_loopback(host: str) -> bool:
    """Whether a listening host is reached from this machine alone; "" is a unix socket."""
    try:
        return not host or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def source_host(endpoint: str) -> str | None:
    """The one host that a listening endpoint names, to dial from it too."""
    # A colon within a part is written with a backslash before it.
    for part in re.split(r"(?<!\\):", endpoint)[1:]:
        key, _, value = part.partition("=")
        host = value.replace("\\", "")
        if key == "interface" and host not in _EVERYWHERE:
            return host
    return None


def make_private_folder(folder: Path) -> None:
    """Raises CannotStore."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as problem:
        raise CannotStore(f"cannot make {folder}: {problem.strerror}") from None


class FolderInUse(CannotStore):
    """Another process holds the data directory."""


def lock_folder(folder: Path) -> IO[str]:
    """Hold a data directory for this process alone; let go by closing.

    Raises FolderInUse, CannotStore.
    """
    try:
        descriptor = os.open(folder / LOCK_FILE, os.O_WRONLY | os.O_CREAT, 0o600)
        file = os.fdopen(descriptor, "w")
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise FolderInUse(f"another node uses {folder} already") from None
    except OSError as problem:
        raise CannotStore(f"cannot use {folder}: {problem.strerror}") from None
    return file


def open_users(settings: Settings, passphrase: str | None = None, *, create: bool = True) -> Users:
    """The users of a data directory.

    passphrase: goes before the file that the settings name. create: as `Users`
    has it. Raises ConfigError.
    """
    if passphrase is None:
        passphrase = configured_passphrase(settings)
    path = settings.data_dir / USERS_FILE
    return Users(path, secrets.token_bytes, passphrase, create=create)


def configured_passphrase(settings: Settings) -> str | None:
    """What `users.passphrase_file` holds, None where there is no such setting. Raises ConfigError.

    A line break at the end belongs to the file and not to the passphrase.
    """
    path = settings.users.passphrase_file
    return None if path is None else read_passphrase(path)


def read_passphrase(path: Path) -> str:
    """Raises ConfigError where a file cannot be read, holds none, or everybody may read it."""
    try:
        with path.open("rb") as file:
            # systemd shows its credentials to one user by an access list, which
            # looks like a mode for a group.
            if os.fstat(file.fileno()).st_mode & stat.S_IRWXO:
                raise ConfigError(f"{path}: everybody may read it: chmod o-rwx it")
            text = file.read(_PASSPHRASE_BYTES + 1).decode()
    except OSError as problem:
        raise ConfigError(f"{path}: cannot be read: {problem.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: expected a passphrase as UTF-8 text") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not 0 < len(text) <= PASSPHRASE_LIMIT or "\n" in text:
        raise ConfigError(
            f"{path}: expected a passphrase of at most {PASSPHRASE_LIMIT} characters on one line"
        )
    return text


def status_token(data_dir: Path) -> str:
    """The secret by which commands of the operator know this node; made on first use."""
    path = data_dir / TOKEN_FILE
    try:
        kept = path.read_text(errors="replace").strip() if path.exists() else ""
        # Half of one, which a crash left behind, could be guessed.
        if len(kept) == 2 * TOKEN_BYTES and kept.isascii():
            return kept
        token = secrets.token_hex(TOKEN_BYTES)
        write_private(path, token + "\n")
    except OSError as problem:
        raise CannotStore(f"cannot use {path}: {problem.strerror}") from None
    return token


class Options(usage.Options):
    """What `twistd zeromsg` understands."""

    optParameters = [
        ["config", "c", None, "The configuration file (TOML)."],
    ]

    def __init__(self) -> None:
        super().__init__()
        self.overrides: list[str] = []

    def opt_set(self, override: str) -> None:
        """Another value for one key: --set peers.tls=false. May be given again."""
        self.overrides.append(override)

    opt_s = opt_set

    def postOptions(self) -> None:
        """Read the configuration here: what is wrong with it is a sentence, and exit code 2.

        twistd would put its whole help before a UsageError, and a traceback before
        what `makeService` raises.
        """
        from twisted.internet import reactor

        path = self["config"]
        try:
            self.settings = load_to_run(reactor, Path(path) if path else None, self.overrides)
        except ConfigError as problem:
            print(f"zeromsg: {problem}", file=sys.stderr)
            raise SystemExit(2) from None


class NotStarted(SystemExit, Exception):
    """Ends twistd with code 1.

    An Exception too: by that twistd removes its pid file, and tells the process
    that waits for the daemon. A traceback of it is shown by nobody.
    """

    def __init__(self) -> None:
        super().__init__("the log says why")
        self.code = 1


class TwistdService(NodeService):
    """A `NodeService` that fails where twistd, and who watches over it, take notice."""

    def startService(self) -> None:
        """Raises NotStarted. All that a start waits for has happened when this returns."""
        super().startService()
        if self.failed:
            raise NotStarted


def makeService(options: Options) -> IService:
    """The service of `twistd zeromsg`."""
    from twisted.internet import reactor

    set_level(options.settings.log.level)
    return TwistdService(options.settings, reactor)
