"""The seams between network, storage and routing.

`net`, `store`, `web` and `routing` do not import one another; they meet in
these interfaces, and only `service.assembly` knows who stands behind them.
They are typing protocols, because our own code alone implements them and the
type checker then holds both sides to them without registration.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, BinaryIO, Literal, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint

from zeromsg.crypto.cert import Certificate
from zeromsg.crypto.keys import PrivateKey
from zeromsg.policy.rules import Rules
from zeromsg.wire.client_messages import Answer as ClientAnswer
from zeromsg.wire.client_messages import Call
from zeromsg.wire.trackers import Announcement, Found, Tracker
from zeromsg.wire.values import PeerAddress

Answer = Mapping[str, Any]


class IPeerLink(Protocol):
    """An open connection to a peer, usable both ways whoever opened it."""

    @property
    def name(self) -> str:
        """`host:port` as clients see it: the peer's listening port, or the connection's own."""

    @property
    def address(self) -> PeerAddress | None:
        """Where the peer can be dialled, as far as known; None for closed ports."""

    @property
    def declared(self) -> PeerAddress:
        """Its host with the port it says it listens on, open or not: the name of a node."""

    @property
    def dialled(self) -> bool:
        """Whether this node opened the connection, so that the address is proven."""

    @property
    def face(self) -> str:
        """As whom this node shows itself here, "" on the clear net (`policy.faces`)."""

    @property
    def claim(self) -> PeerAddress | None:
        """The onion that a peer which came in through Tor says it has: proves nothing."""

    @property
    def identity(self) -> str:
        """What of it is proven; points, rates and bans belong to this."""

    @property
    def extension(self) -> int:
        """Version of the zeromsg extension it speaks, 0 for ZeroNet nodes."""

    @property
    def features(self) -> Collection[str]:
        """Names of what it does beyond that version."""

    @property
    def announcing(self) -> bool:
        """Whether it was opened to ask us as a tracker, and for nothing else."""

    def ask(self, cmd: str, params: Mapping[str, Any], timeout: float = ...) -> Deferred[Answer]:
        """Send a request. Fails with Unreachable when no answer comes."""

    def ask_packed(self, cmd: str, packed: bytes, timeout: float = ...) -> Deferred[Answer]:
        """The same with parameters that were packed before, for many peers."""

    def respond(self, req_id: Any, body: Answer) -> None:
        """Answer a request of the peer."""

    def respond_stream(self, req_id: Any, body: Answer) -> None:
        """Answer with `body` as raw bytes behind the message."""

    def rest(self, seconds: float) -> None:
        """Do not read from the peer for a while."""

    def drop(self, reason: str) -> None:
        """Close the connection."""


class IRequests(Protocol):
    """What the network tells routing of peers."""

    def opened(self, link: IPeerLink) -> None:
        """A handshake is complete."""

    def closed(self, link: IPeerLink) -> None:
        """An opened link is gone."""

    def requested(self, link: IPeerLink, req_id: Any, cmd: str, params: Mapping[Any, Any]) -> None:
        """A request to be answered through `link.respond`, within ten seconds.

        Raises TheirMistake for what costs the peer its connection.
        """

    def banned(self, identity: str) -> bool:
        """Whether a proven sender may not connect."""


class IPeers(Protocol):
    """The links that exist, and how to get more."""

    @property
    def links(self) -> Collection[IPeerLink]:
        """All open links."""

    def link_to(self, address: PeerAddress, site: str = "") -> Deferred[IPeerLink]:
        """An open link to this address, dialled if need be.

        site: for which it is; an onion is dialled with another face for each.
        Fails with Unreachable, or NotTried if it was not dialled for a reason of ours.
        """

    def is_us(self, address: PeerAddress) -> bool:
        """Whether dialling this address was found to end at this node itself."""

    def named(self, name: str, site: str = "") -> IPeerLink | None:
        """The open link that clients of a site know by this name."""


class ITor(Protocol):
    """The way to onions, and this node's own (`service.tor_side`)."""

    @property
    def port(self) -> int:
        """At which others reach the onions of this node."""

    def endpoint(self, address: PeerAddress, face: str) -> IStreamClientEndpoint:
        """To an onion, apart from the streams of other faces. Raises NotTried."""

    def onion(self, face: str) -> str:
        """The onion of a face, without `.onion`; it is served from now on.

        Raises ConfigError where its key cannot be used.
        """

    def withdraw(self, face: str) -> None:
        """Serve the onion of a face no more."""

    def is_ours(self, host: str) -> bool:
        """Whether an onion is this node's own."""

    def sign(self, onion: str, message: bytes) -> tuple[bytes, bytes]:
        """Public key and signature of an onion of ours, without `.onion`, over a message."""

    def status(self) -> Mapping[str, Any]:
        """For the operator."""


class ITrackers(Protocol):
    """Trackers of every kind, asked in one way."""

    def refusal(self, tracker: Tracker) -> str:
        """Why this node does not ask such a tracker at all, or ""."""

    async def announce(self, tracker: Tracker, announcement: Announcement) -> Found:
        """Announce sites and ask for their peers; ends within two minutes.

        Raises Unreachable (TrackerRefused with the tracker's reason), TheirMistake.
        """


class ISite(Protocol):
    """A site that the node holds, in whole or in part."""

    @property
    def address(self) -> str: ...

    @property
    def content(self) -> Mapping[str, Any] | None:
        """The verified root content.json, None before it is there."""

    @property
    def rules(self) -> Rules | None:
        """Compiled rules, None where the site takes no messages."""

    @property
    def rules_problem(self) -> str:
        """Why there are no rules, or ""."""

    @property
    def size_limit(self) -> int:
        """Most bytes of the site."""

    @property
    def own(self) -> bool:
        """Whether it is served from a directory of the operator."""

    def read(self, inner_path: str, location: int, length: int) -> tuple[bytes, int]:
        """Part of a file and the file's whole size. Raises FileMissing.

        Files of an earlier version serve on until those of the new one are here.
        """

    def open(self, inner_path: str) -> tuple[BinaryIO, int, str]:
        """A file, its size, and a mark that another content has not. Raises FileMissing."""

    def rules_of(self, inner_path: str, author: Mapping[str, Any]) -> dict[str, Any]:
        """What a content.json has to keep to (`site_content.content_rules`), and its
        `current_size`. Raises ContentRefused."""

    def holds(self, inner_path: str) -> bool:
        """Whether a file is here, and is the one that is listed now."""

    def size_of(self, inner_path: str) -> int | None:
        """The size that a content.json lists for a file, None where none lists it."""

    def is_optional(self, inner_path: str) -> bool:
        """Whether a file is fetched only when somebody wants it."""

    def modified_since(self, since: float) -> Mapping[str, float]:
        """content.json files newer than a time."""

    def version(self, inner_path: str) -> float | None:
        """`modified` of a content.json that is held."""

    def expects(self, inner_path: str) -> bool:
        """Whether it is a place for a content.json that this site may have."""

    def listed_in(self, inner_path: str) -> str:
        """The content.json that vouches for a required file; KeyError where none does."""

    def store_content(self, inner_path: str, data: bytes) -> None:
        """Verify and keep a content.json. Raises ContentRefused."""

    def missing(self) -> Iterable[tuple[str, int]]:
        """Required files that are not there: inner path and size."""

    def missing_contents(self) -> Iterable[str]:
        """Included content.json files that are not there."""

    def store_file(self, inner_path: str, data: bytes) -> None:
        """Verify and keep a file that a content.json lists. Raises ContentRefused."""

    def files(self) -> Sequence[str]:
        """Inner paths of the files that are there."""


class ISites(Protocol):
    """The sites of this node."""

    def get(self, address: str) -> ISite | None: ...

    def addresses(self) -> Sequence[str]: ...


class IOwnedCertificate(Protocol):
    """A certificate of a user, and the key that it speaks for."""

    @property
    def certificate(self) -> Certificate: ...

    @property
    def key(self) -> PrivateKey: ...


class IUser(Protocol):
    """Keys and certificates of a user of the node."""

    @property
    def master_address(self) -> str:
        """What the user is filed under."""

    @property
    def name(self) -> str:
        """What the operator calls the user, or "". Sites are not told."""

    def auth_address(self, site: str) -> str: ...

    def auth_key(self, site: str) -> PrivateKey: ...

    def reading_keys(self, site: str) -> Sequence[PrivateKey]:
        """All keys that messages there may be sealed to, the auth key first."""

    def encryption_key(self, site: str, index: int) -> PrivateKey:
        """What the user decrypts with there; ValueError unless index is 0 to 1000."""

    def site_key(self, site: str) -> PrivateKey | None:
        """The site's own key, where the node has it."""

    def certificate(self, site: str) -> Certificate | None:
        """The certificate chosen for the site."""

    def certificates(self) -> Mapping[str, IOwnedCertificate]:
        """All certificates, by domain."""

    def add_certificate(
        self, site: str, certificate: Certificate, *, replace: bool = False
    ) -> Literal["added", "unchanged", "conflict"]:
        """Keep one for the user's present auth address on a site, without choosing it.

        "conflict": there is another one of its domain, and `replace` is not set.
        Raises ClientError.
        """

    def set_certificate(self, site: str, domain: str | None) -> None:
        """Choose one for a site by its domain; "" or None for none. Raises ClientError."""


class IUsers(Protocol):
    """The users of the node."""

    @property
    def default(self) -> IUser: ...

    def get(self, name: str) -> IUser | None:
        """The user of a master address; "" names the default one."""

    def all(self) -> Sequence[IUser]:
        """Every user, the default one first."""


class IClient(Protocol):
    """A WebSocket connection of a zite or program."""

    @property
    def site(self) -> str:
        """The one site that its key belongs to."""

    @property
    def user(self) -> str:
        """Master address of the user that it acts for; "" for the default one."""

    @property
    def trusted(self) -> bool:
        """Whether the node's own page opened it, where the person is who answers prompts.

        Nothing that a site's own code says may be passed on through it.
        """

    def listens(self, channel: str) -> bool: ...

    def join(self, channels: object) -> None:
        """Raises ValueError."""

    @property
    def ready(self) -> bool:
        """Whether it reads as fast as it is written to."""

    def when_ready(self, action: Callable[[], None]) -> None:
        """Call this once it has read what was written; the last action given counts."""

    def push(self, head: str) -> None:
        """Send an event that was encoded up to its number (`client_messages.event_head`)."""

    def respond(self, call_id: Any, result: Any) -> None:
        """Answer one of its calls."""


class ICalls(Protocol):
    """What the network tells routing of clients."""

    def client_opened(self, client: IClient) -> None: ...

    def client_closed(self, client: IClient) -> None: ...

    def called(self, client: IClient, call: Call) -> None:
        """Run a call; it answers through `client.respond`. Never raises."""

    def answered(self, client: IClient, answer: ClientAnswer) -> None:
        """Take a client's response to something that the node asked."""


class IStore(Protocol):
    """What must survive a restart."""

    def queue_put(
        self, site: str, hash: str, event: str, wall: float, shown: Iterable[str] = ()
    ) -> int:
        """Keep a message, on disk unless that is full. shown: users that have it already."""

    def queue_load(self, site: str) -> Sequence[tuple[int, str, str, float, frozenset[str]]]: ...

    def queue_show(self, ids: Iterable[int], user: str) -> None:
        """Note that a user has messages which stay for others."""

    def queue_delete(self, ids: Iterable[int]) -> None: ...

    def user_settings(self, site: str, user: str) -> Mapping[str, Any]: ...

    def set_user_settings(self, site: str, user: str, settings: Mapping[str, Any]) -> None: ...

    def permissions(self) -> Sequence[tuple[str, str]]:
        """All (site, permission)."""

    def set_permission(self, site: str, permission: str, held: bool) -> None: ...


Wall = Callable[[], float]
"""Unix seconds, for what goes on the wire or to disk."""

Entropy = Callable[[int], bytes]
"""So many random bytes that nobody can guess."""
