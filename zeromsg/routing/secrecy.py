"""Sealing what clients send, and opening what is for them.

A client reads with its user's key for the site and with the shared keys that
it gave to its connection. Messages stay sealed in queues and histories; each
client is shown what it can read itself.

Garbage costs little: an entry for another key is told by its hint, and how
many are tried beyond that is bounded for each site. One sealed body that comes
again in another message is not opened: whoever sends it may only have found it.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, DeferredSemaphore, maybeDeferred
from twisted.internet.interfaces import IReactorTime

from zeromsg.crypto.keys import PrivateKey
from zeromsg.crypto.sealed_message import MEMBER, open_message, read_message
from zeromsg.crypto.sealing import (
    BadSealing,
    Encrypted,
    IReader,
    Opened,
    OwnKey,
    SharedKey,
    may_be_for,
)
from zeromsg.crypto.shared_keys import check_text, group_key, is_random_key, shared_key
from zeromsg.errors import BadKey, ClientError
from zeromsg.interfaces import IClient, IUser, IUsers
from zeromsg.policy.rate import Buckets
from zeromsg.policy.site_state import Recent
from zeromsg.wire import json_text

KEYS_LIMIT = 16
"""Shared keys of a connection."""

SITE_KEYS_LIMIT = 1000
"""Shared keys of all connections to a site: each costs a hint for each sealed message."""

NAME_LIMIT = 64

TRIED_BURST = 400.0
TRIED_PER_SECOND = 200.0
"""Decryptions of a site's messages, and separately hints that need a decryption's work."""

KEPT_BURST = 2000.0
"""The same for what was kept, of each user: a full queue or history, once for each of two keys.
So neither goes unopened because much of it comes at once, or because another user looked at it
before, nor uses up what new messages have."""

LOOKS_BURST = 20_000.0
LOOKS_PER_SECOND = 10_000.0
"""Users for whom it is looked whether a site's messages may be sealed to them: about 10 µs each.
For hidden recipients the bounds of what was kept hold beside it."""

OPENED_LIMIT = 10_000
"""Messages of a site whose sealed part would be known again."""

STRETCHING_LIMIT = 8
"""Passphrases that may wait to be stretched."""

MARK = f'"{MEMBER}": {{'
"""What the text of an event has if anything in it is sealed. Within a text of JSON it
cannot stand: there its quotes are escaped."""

Heavy = Callable[[Callable[[], Any]], Deferred[Any]]
"""Runs what would block for long, and gives its result."""


@attrs.define
class Counts:
    """opened: messages, for whichever client. tried: decryptions. over_limit: not tried.
    replayed: sealed parts that came again in another message."""

    opened: int = 0
    tried: int = 0
    over_limit: int = 0
    replayed: int = 0


@attrs.frozen
class _Held:
    """A shared key of a connection. passphrase: then it is one of the client's site only."""

    key: SharedKey
    passphrase: bool


@attrs.define
class _Connection:
    site: str
    keys: dict[str, _Held] = attrs.field(factory=dict)
    opens: bool = True
    unnamed: int = 0

    def free_name(self) -> str:
        """A name that no key has, nor gets."""
        while True:
            self.unnamed += 1
            if (name := f"key{self.unnamed}") not in self.keys:
                return name


class Secrecy:
    """The keys of connections, and all reading of sealed messages.

    merges: whether the person let a site read and write as another one, as its merger.
    """

    def __init__(
        self,
        *,
        users: IUsers,
        merges: Callable[[str, str], bool],
        clock: IReactorTime,
        heavy: Heavy,
    ) -> None:
        self._users = users
        self._merges = merges
        self._clock = clock
        self._heavy = heavy
        self._stretching = DeferredSemaphore(1)
        self._connections: dict[IClient, _Connection] = {}
        self._site_keys: dict[str, int] = {}
        self._tries = Buckets(TRIED_BURST, TRIED_PER_SECOND)
        self._hidden = Buckets(TRIED_BURST, TRIED_PER_SECOND)
        self._kept_tries = Buckets(KEPT_BURST, TRIED_PER_SECOND)
        self._kept_hidden = Buckets(KEPT_BURST, TRIED_PER_SECOND)
        self._looks = Buckets(LOOKS_BURST, LOOKS_PER_SECOND)
        self._looks_hidden = Buckets(KEPT_BURST, TRIED_PER_SECOND)
        self._opened: dict[str, Recent[str]] = {}
        self.counts = Counts()

    # Keys of connections

    def _connection(self, client: IClient) -> _Connection:
        found = self._connections.get(client)
        if found is None:
            found = self._connections[client] = _Connection(client.site)
        return found

    def closed(self, client: IClient) -> None:
        """Forget the keys of a connection."""
        connection = self._connections.pop(client, None)
        if connection is not None:
            self._count_keys(connection.site, -len(connection.keys))

    def _count_keys(self, site: str, more: int) -> None:
        count = self._site_keys.get(site, 0) + more
        if count:
            self._site_keys[site] = count
        else:
            self._site_keys.pop(site, None)

    async def add_key(self, client: IClient, text: str, name: str | None) -> str:
        """Give a connection a shared key; its name. Raises ClientError."""
        connection = self._connection(client)
        if name is None:
            name = connection.free_name()
        if not 0 < len(name) <= NAME_LIMIT:
            raise ClientError("invalid", f"a name has 1 to {NAME_LIMIT} characters")
        key = await self._stretched(text, client.site)
        if self._connections.get(client) is not connection:
            raise ClientError("closed", "the connection is gone")
        if name not in connection.keys:
            if len(connection.keys) >= KEYS_LIMIT:
                raise ClientError("too-big", f"a connection has at most {KEYS_LIMIT} keys")
            if self._site_keys.get(client.site, 0) >= SITE_KEYS_LIMIT:
                raise ClientError("too-big", f"a site has at most {SITE_KEYS_LIMIT} keys here")
            self._count_keys(client.site, 1)
        connection.keys[name] = _Held(key, not is_random_key(text))
        return name

    async def _stretched(self, text: str, site: str) -> SharedKey:
        try:
            if is_random_key(text):
                return shared_key(text, site)
            check_text(text)
        except BadKey as problem:
            raise ClientError("invalid", str(problem)) from None
        if len(self._stretching.waiting) >= STRETCHING_LIMIT:
            raise ClientError("too-fast", "too many passphrases wait")
        await self._stretching.acquire()
        work = maybeDeferred(self._heavy, lambda: shared_key(text, site))
        # A thread goes on when the client has gone. Until it ends no other one is begun.
        stretched: Deferred[SharedKey] = Deferred()
        work.addBoth(self._stretching_ended, stretched)
        return await stretched

    def _stretching_ended(self, result: Any, stretched: Deferred[SharedKey]) -> None:
        self._stretching.release()
        stretched.callback(result)

    def remove_key(self, client: IClient, name: str) -> None:
        """Raises ClientError."""
        connection = self._connection(client)
        if connection.keys.pop(name, None) is None:
            raise ClientError("invalid", f"this connection has no key {name[:NAME_LIMIT]}")
        self._count_keys(client.site, -1)

    def key_names(self, client: IClient) -> list[str]:
        return list(self._connection(client).keys)

    def set_opening(self, client: IClient, opens: bool) -> None:
        """Whether incoming sealed messages are opened for a client."""
        self._connection(client).opens = opens

    def key_of(self, client: IClient, name: str, site: str) -> SharedKey:
        """A shared key of a connection, for use on a site. Raises ClientError."""
        held = self._connection(client).keys.get(name)
        if held is None:
            raise ClientError("invalid", f"this connection has no key {name[:NAME_LIMIT]}")
        if held.passphrase and site != client.site:
            raise ClientError("invalid", "a passphrase gives a key of this site only")
        return held.key

    def group_key(self, client: IClient, site: str, public_key: bytes) -> PrivateKey | None:
        """The key to sign with for a group, if the connection holds the group's secret."""
        connection = self._connections.get(client)
        for held in connection.keys.values() if connection is not None else ():
            if held.passphrase and site != client.site:
                continue
            key = group_key(held.key, site)
            if key.public_key == public_key:
                return key
        return None

    # Reading

    def user_of(self, client: IClient) -> str:
        """Master address of the user that a client acts for, though that one may be gone."""
        found = self._users.get(client.user)
        return client.user if found is None else found.master_address

    def acts_for(self, client: IClient, user: str) -> bool:
        """Whether a client is one of a user, by master address."""
        found = self._users.get(client.user)
        return found is not None and found.master_address == user

    def awaited(self, event: str, had: Collection[str]) -> bool:
        """Whether an event may be sealed to users of this node other than those that had it.

        had: master addresses. Where it is too much to find out, it may be.
        """
        others = [user for user in self._users.all() if user.master_address not in had]
        if not others or MARK not in event:
            return False
        values = json_text.load(event)
        encrypted = _encrypted(values["message"])
        # Under another signature than the seal names it opens for nobody.
        if encrypted is None or encrypted.sender != values["signed_by"]:
            return False
        site: str = values["site"]
        if not self._may(self._looks, site, len(others)):
            return True
        return any(self._may_be_for(user, site, encrypted) for user in others)

    def _may_be_for(self, user: IUser, site: str, encrypted: Encrypted) -> bool:
        for key in user.reading_keys(site):
            if encrypted.hidden and not self._may(self._looks_hidden, site):
                return True
            if may_be_for(OwnKey(key), encrypted):
                return True
        return False

    def view(self, event: str, kept_for: str = "") -> "View | None":
        """An event that is shown to each client as it can read it; None where nothing is sealed.

        kept_for: the user that asks for it, where it waited here and did not come just now.
        """
        if MARK not in event:
            return None
        values = json_text.load(event)
        encrypted = _encrypted(values["message"])
        return None if encrypted is None else View(self, values, encrypted, kept_for)

    def readable(self, client: IClient, event: str) -> str:
        """An event that was kept as one client can read it."""
        view = self.view(event, self.user_of(client))
        return event if view is None else view.text_for(client)

    def readable_values(
        self, client: IClient, site: str, values: Mapping[str, Any], kept: bool = False
    ) -> Mapping[str, Any]:
        """The same for an event or a reply with `message`, `signed_by` and `hash`, of a site."""
        encrypted = _encrypted(values.get("message"))
        if encrypted is None:
            return values
        kept_for = self.user_of(client) if kept else ""
        return View(self, {**values, "site": site}, encrypted, kept_for).values_for(client, values)

    def opens_for(self, client: IClient) -> bool:
        """Whether a client wants to be shown what it can read; by hand it opens all the same."""
        connection = self._connections.get(client)
        return connection is None or connection.opens

    def readers_of(self, client: IClient, site: str) -> list[tuple[IReader, Mapping[str, Any]]]:
        """What a client reads with on a site, and what it is told of it.

        On another site than its own (a reply under `as`) those are the keys that
        it brought itself: with the user's, one page could have opened what was
        written to another. A merger may read what is written to the user on the
        sites that it merges; the key of such a site itself stays out of its reach.
        """
        connection = self._connections.get(client)
        found: list[tuple[IReader, Mapping[str, Any]]] = []
        user = self._users.get(client.user)
        if user is not None:
            found += [(OwnKey(key), {"by": "auth"}) for key in self._keys_for(client, user, site)]
        for name, held in connection.keys.items() if connection is not None else ():
            if site == client.site or not held.passphrase:
                found.append((held.key, {"by": "key", "name": name}))
        return found

    def _keys_for(self, client: IClient, user: IUser, site: str) -> Sequence[PrivateKey]:
        """The user's keys that a client may read with on a site."""
        if site == client.site:
            return user.reading_keys(site)
        if not self._merges(client.site, site):
            return ()
        own = user.site_key(site)
        return [key for key in user.reading_keys(site) if own is None or key.secret != own.secret]

    def try_open(
        self, values: Mapping[str, Any], encrypted: Encrypted, reader: IReader, kept_for: str
    ) -> Opened | None:
        """Open a received message with one key, within the bounds.

        kept_for: as in `view`.
        """
        site: str = values["site"]
        if encrypted.sender != values["signed_by"]:
            return None
        tries, hidden, whose = self._tries, self._hidden, site
        if kept_for:
            tries, hidden, whose = self._kept_tries, self._kept_hidden, f"{site} {kept_for}"
        if encrypted.hidden and isinstance(reader, OwnKey) and not self._may(hidden, whose):
            return None
        opened = open_message(
            values["message"],
            encrypted,
            reader,
            site=site,
            allowed=lambda: self._may_try(tries, whose),
        )
        if opened is None:
            return None
        points = self._opened.setdefault(site, Recent(OPENED_LIMIT))
        point, hash = encrypted.point.hex(), values["hash"]
        if points.get(point) not in (None, hash):
            self.counts.replayed += 1
            return None
        points.put(point, hash)
        self.counts.opened += 1
        return opened

    def _may_try(self, buckets: Buckets, whose: str) -> bool:
        allowed = self._may(buckets, whose)
        self.counts.tried += allowed
        return allowed

    def _may(self, buckets: Buckets, whose: str, tokens: float = 1.0) -> bool:
        now = self._clock.seconds()
        if not buckets.allows(whose, now, tokens):
            self.counts.over_limit += 1
            return False
        buckets.spoke(whose, now, tokens)
        return True

    # By hand

    async def open_by_hand(
        self, client: IClient, site: str, message: object, keys: Sequence[str] | None
    ) -> dict[str, Any]:
        """What `peerDecrypt` answers. keys: texts of shared keys or private keys in WIF.

        site: of the message; the client's own, or another one under `as`.
        Raises ClientError; that it cannot be opened, never why.
        """
        sealed = message if isinstance(message, dict) and MEMBER in message else {MEMBER: message}
        try:
            encrypted = read_message(sealed)
        except BadSealing as problem:
            raise ClientError("invalid", str(problem)) from None
        assert encrypted is not None
        readers = (
            self.readers_of(client, site)
            if keys is None
            else [(await self._reader(text, site), {"by": "key"}) for text in keys]
        )
        for reader, how in readers:
            opened = open_message(sealed, encrypted, reader, site=site)
            if opened is not None:
                return {"message": opened.value, "from": encrypted.sender, **how}
        raise ClientError("denied", "this cannot be opened")

    async def _reader(self, text: str, site: str) -> IReader:
        try:
            return OwnKey(PrivateKey.from_wif(text))
        except BadKey:
            return await self._stretched(text, site)


class View:
    """One sealed event, opened once for each key."""

    def __init__(
        self, secrecy: Secrecy, values: Mapping[str, Any], encrypted: Encrypted, kept_for: str
    ) -> None:
        self._secrecy = secrecy
        self._kept_for = kept_for
        self._values = values
        self._encrypted = encrypted
        self._opened: dict[IReader, Opened | None] = {}
        # Many clients read with the same key: for those the text is made once.
        self._texts: dict[tuple[int, str], str] = {}

    def text_for(self, client: IClient) -> str:
        """The parameters of the event as JSON."""
        opened, how = self._read_by(client)
        made = (id(opened), how.get("name", ""))
        if made not in self._texts:
            self._texts[made] = json_text.dump_compact(_shown(self._values, opened, how))
        return self._texts[made]

    def values_for(self, client: IClient, values: Mapping[str, Any]) -> dict[str, Any]:
        """values: of the event, with `message` and `encrypted` as this client reads them."""
        return _shown(values, *self._read_by(client))

    def _read_by(self, client: IClient) -> tuple[Opened | None, Mapping[str, Any]]:
        """What the client reads, and with what."""
        if not self._secrecy.opens_for(client):
            return None, {}
        for reader, how in self._secrecy.readers_of(client, self._values["site"]):
            if reader not in self._opened:
                self._opened[reader] = self._secrecy.try_open(
                    self._values, self._encrypted, reader, self._kept_for
                )
            opened = self._opened[reader]
            if opened is not None:
                return opened, how
        return None, {}


def _shown(
    values: Mapping[str, Any], opened: Opened | None, how: Mapping[str, Any]
) -> dict[str, Any]:
    if opened is None:
        return {**values, MEMBER: {"opened": False}}
    return {**values, "message": opened.value, MEMBER: {"opened": True, **how}}


def _encrypted(message: object) -> Encrypted | None:
    """The sealed part of a message; a member of that name may be anything else to a site."""
    try:
        return read_message(message)
    except BadSealing:
        return None
