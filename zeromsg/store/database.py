"""What a node must still know after a restart, in one SQLite file.

Calls are synchronous: in WAL mode they take tens of microseconds, less than a
trip to a thread. Every change is committed when its method returns. A commit
outlives the process however that ends; a power cut can take the last ones with
it, but never leaves a torn file.

Each failure of SQLite becomes a `CannotStore` that names the file and what to
do about it: it stops a start, and `store.writing` outlasts it in a node that
runs. A `Database` belongs to the thread that made it, and must be made after a
daemon has forked.
"""

import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import attrs

from zeromsg.errors import CannotStore
from zeromsg.policy.signers import Changes, Named, Signer

FILE_NAME = "zeromsg.sqlite3"
SEEN_LIMIT = 1_000_000
"""Most hashes kept; the first written fall off first."""
PAGES_LIMIT = 1000
"""Most open pages kept; those opened first fall off first."""

_BUSY_SECONDS = 5.0
_SEEN_PAGE = 10_000

# One entry for each version of the schema, oldest first. Entries are never
# edited once released: a new version is a new entry at the end.
_MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        # A log and not a set: 300 new rows take 0.7 ms in a file of a million,
        # against 4 ms where the digest is the primary key, since digests are
        # random and each would touch a page of its own.
        "CREATE TABLE seen (id INTEGER PRIMARY KEY, digest BLOB NOT NULL,"
        " state INTEGER NOT NULL, wall REAL NOT NULL)",
        "CREATE INDEX seen_by_wall ON seen (wall)",
        # AUTOINCREMENT: the id of a deleted message never means another one.
        "CREATE TABLE queue (id INTEGER PRIMARY KEY AUTOINCREMENT, site TEXT NOT NULL,"
        " hash TEXT NOT NULL, event TEXT NOT NULL, wall REAL NOT NULL)",
        "CREATE INDEX queue_by_site ON queue (site)",
        "CREATE TABLE site_keys (site TEXT PRIMARY KEY, key TEXT NOT NULL UNIQUE) WITHOUT ROWID",
        "CREATE TABLE user_settings (site TEXT NOT NULL, user TEXT NOT NULL,"
        " settings TEXT NOT NULL, PRIMARY KEY (site, user)) WITHOUT ROWID",
        "CREATE TABLE bans (identity TEXT PRIMARY KEY, until REAL NOT NULL,"
        " strikes INTEGER NOT NULL, reason TEXT NOT NULL) WITHOUT ROWID",
        "CREATE TABLE peers (id INTEGER PRIMARY KEY, site TEXT NOT NULL, address TEXT NOT NULL,"
        " last_seen REAL NOT NULL, successes INTEGER NOT NULL, failures INTEGER NOT NULL,"
        " UNIQUE (site, address))",
        "CREATE INDEX peers_by_age ON peers (site, last_seen)",
    ),
    (
        "CREATE TABLE signers (site TEXT NOT NULL, address TEXT NOT NULL,"
        " public_key BLOB NOT NULL, first REAL NOT NULL, last REAL NOT NULL,"
        " PRIMARY KEY (site, address)) WITHOUT ROWID",
        "CREATE TABLE user_ids (site TEXT NOT NULL, user_id TEXT NOT NULL,"
        " address TEXT NOT NULL, first REAL NOT NULL,"
        " PRIMARY KEY (site, user_id, address)) WITHOUT ROWID",
    ),
    (
        # One key for each user of a site. "" is the default user, whose keys
        # are those that sites had, so that programs which kept one go on.
        "CREATE TABLE client_keys (site TEXT NOT NULL, user TEXT NOT NULL,"
        " key TEXT NOT NULL UNIQUE, PRIMARY KEY (site, user)) WITHOUT ROWID",
        "INSERT INTO client_keys SELECT site, '', key FROM site_keys",
        "DROP TABLE site_keys",
    ),
    (
        # The first one was never written to.
        "DROP TABLE peers",
        "CREATE TABLE site_peers (site TEXT NOT NULL, address TEXT NOT NULL,"
        " teller TEXT NOT NULL, sources TEXT NOT NULL, successes INTEGER NOT NULL,"
        " failures INTEGER NOT NULL, last_seen REAL NOT NULL, retry_at REAL NOT NULL,"
        " PRIMARY KEY (site, address)) WITHOUT ROWID",
        "CREATE TABLE capabilities (node TEXT PRIMARY KEY, how TEXT NOT NULL,"
        " at REAL NOT NULL) WITHOUT ROWID",
    ),
    (
        "CREATE TABLE permissions (site TEXT NOT NULL, permission TEXT NOT NULL,"
        " PRIMARY KEY (site, permission)) WITHOUT ROWID",
        "CREATE TABLE joined_sites (id INTEGER PRIMARY KEY, site TEXT NOT NULL UNIQUE,"
        " size_limit INTEGER NOT NULL)",
        "CREATE TABLE pages (id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE,"
        " site TEXT NOT NULL, user TEXT NOT NULL, until REAL NOT NULL)",
    ),
    (
        # Which users have a message that stays in the queue for others.
        "CREATE TABLE queue_shown (id INTEGER NOT NULL, user TEXT NOT NULL,"
        " PRIMARY KEY (id, user)) WITHOUT ROWID",
    ),
)

_ADVICE = {
    sqlite3.SQLITE_BUSY: "another program holds it; is a second node running on this data_dir?",
    sqlite3.SQLITE_LOCKED: "another program holds it; is a second node running on this data_dir?",
    sqlite3.SQLITE_FULL: "make room on the disk",
    sqlite3.SQLITE_READONLY: "let the node's user write to it and to its folder",
    sqlite3.SQLITE_PERM: "let the node's user write to it and to its folder",
    sqlite3.SQLITE_CANTOPEN: "let the node's user write to it and to its folder",
    sqlite3.SQLITE_IOERR: "check the disk that it lies on",
}
_DAMAGED = (
    "move it away, with the -wal and -shm files beside it, and start again:"
    " seen messages, queues, bans, peers and the sites' keys begin anew"
)


@attrs.frozen
class Ban:
    """Who may not connect or speak.

    identity: what the ban was proven against, as policy spells it.
    until: Unix time. strikes: how many bans there were, this one included.
    """

    identity: str
    until: float
    strikes: int
    reason: str


class QueuedMessage(NamedTuple):
    """A message that waits for a client of its site.

    hash: 64 hex digits. event: JSON text. wall: Unix time of its arrival.
    shown: the users, by master address, that have it already.
    """

    id: int
    hash: str
    event: str
    wall: float
    shown: frozenset[str] = frozenset()


class PeerRow(NamedTuple):
    """A peer of a site, as `policy.peer_book` knows it.

    address: `host:port`. teller: who named it, as a range. sources: how it was
    heard of, with the first and the last Unix time. last_seen, retry_at: Unix time.
    """

    site: str
    address: str
    teller: str
    sources: Mapping[str, tuple[float, float]]
    successes: int
    failures: int
    last_seen: float
    retry_at: float


class CapabilityRow(NamedTuple):
    """What a node showed of its knowing peer messages. node: `host:port`. at: Unix time."""

    node: str
    how: str
    at: float


class Database:
    """The node's tables, and all of its SQL.

    path: the file, made (mode 0600, its folder 0700) if it is missing, or
    ":memory:". Raises CannotStore if the file cannot be used.
    """

    def __init__(self, path: Path | str) -> None:
        self._path = str(path)
        if self._path != ":memory:":
            _make_private(Path(path))
        with self._explained():
            self._connection = sqlite3.connect(
                self._path, timeout=_BUSY_SECONDS, isolation_level=None
            )
        try:
            with self._explained():
                self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Let go of the file; no other method may be called afterwards."""
        self._connection.close()

    # Seen hashes

    def add_seen(self, rows: Iterable[tuple[bytes, int, float]]) -> None:
        """Remember (digest of 32 bytes, state, Unix time) of each, in one transaction.

        A digest whose state changed is added again. Cheap in batches only.
        """
        with self._transaction():
            self._connection.executemany(
                "INSERT INTO seen (digest, state, wall) VALUES (?, ?, ?)", rows
            )
            self._trim_seen(SEEN_LIMIT)

    def seen_since(self, wall: float) -> Iterator[tuple[bytes, int, float]]:
        """The rows not older than a Unix time, oldest first.

        A digest that was added twice comes twice; the later state is the true
        one. Rows may be added while this is read.
        """
        last: tuple[float, int] = (wall, -1)
        while True:
            page = self._rows(
                "SELECT digest, state, wall, id FROM seen WHERE (wall, id) > (?, ?)"
                " ORDER BY wall, id LIMIT ?",
                (*last, _SEEN_PAGE),
            )
            for digest, state, when, _ in page:
                yield digest, state, when
            if len(page) < _SEEN_PAGE:
                return
            last = page[-1][2:]

    def forget_seen_before(self, wall: float) -> None:
        """Drop the rows older than a Unix time."""
        self._change("DELETE FROM seen WHERE wall < ?", (wall,))

    def trim_seen(self, limit: int = SEEN_LIMIT) -> None:
        """Keep at most `limit` rows, the last written ones. `add_seen` does it too."""
        with self._transaction():
            self._trim_seen(limit)

    def _trim_seen(self, limit: int) -> None:
        # By id, which costs nothing while there is nothing to drop. Where rows
        # in the middle were forgotten, it keeps fewer than it might.
        self._connection.execute(
            "DELETE FROM seen WHERE id <= (SELECT max(id) FROM seen) - ?", (limit,)
        )

    # Messages that wait for a client

    def queue_put(
        self, site: str, hash: str, event: str, wall: float, shown: Iterable[str] = ()
    ) -> int:
        """Keep a message; the caller bounds how many. Returns its id, larger than all before.

        shown: users that have it already.
        """
        with self._transaction():
            cursor = self._connection.execute(
                "INSERT INTO queue (site, hash, event, wall) VALUES (?, ?, ?, ?)",
                (site, hash, event, wall),
            )
            id = cursor.lastrowid
            assert id is not None  # an INSERT has one
            self._add_shown((id, user) for user in shown)
        return id

    def queue_load(self, site: str) -> list[QueuedMessage]:
        """The messages of a site, in the order they were put."""
        rows = self._rows(
            "SELECT id, hash, event, wall FROM queue WHERE site = ? ORDER BY id", (site,)
        )
        shown: dict[int, set[str]] = {}
        for id, user in self._rows(
            "SELECT id, user FROM queue_shown WHERE id IN (SELECT id FROM queue WHERE site = ?)",
            (site,),
        ):
            shown.setdefault(id, set()).add(user)
        return [
            QueuedMessage(id, hash, event, wall, frozenset(shown.get(id, ())))
            for id, hash, event, wall in rows
        ]

    def queue_show(self, ids: Iterable[int], user: str) -> None:
        """Note in one transaction that a user has messages which stay for others."""
        with self._transaction():
            self._add_shown((id, user) for id in ids)

    def _add_shown(self, rows: Iterable[tuple[int, str]]) -> None:
        # Of what fell out meanwhile nothing is to be left.
        self._connection.executemany(
            "INSERT OR IGNORE INTO queue_shown (id, user) SELECT id, ?2 FROM queue WHERE id = ?1",
            rows,
        )

    def queue_sites(self) -> list[str]:
        """The sites that have messages waiting, sorted."""
        return [site for (site,) in self._rows("SELECT DISTINCT site FROM queue ORDER BY site")]

    def queue_delete(self, ids: Iterable[int]) -> None:
        """Drop messages in one transaction; ids that are gone already do no harm."""
        rows = [(id,) for id in ids]
        with self._transaction():
            self._connection.executemany("DELETE FROM queue WHERE id = ?", rows)
            self._connection.executemany("DELETE FROM queue_shown WHERE id = ?", rows)

    # The keys by which programs connect, one for each user of a site

    def client_key(self, site: str, user: str, entropy: Callable[[int], bytes]) -> str:
        """64 hex digits for a user of a site, made from 32 bytes of entropy on first use.

        user: a master address, or "" for the default user.
        """
        query = "SELECT key FROM client_keys WHERE site = ? AND user = ?"
        rows = self._rows(query, (site, user))
        if not rows:
            self._change(
                "INSERT OR IGNORE INTO client_keys VALUES (?, ?, ?)",
                (site, user, entropy(32).hex()),
            )
            rows = self._rows(query, (site, user))
        key: str = rows[0][0]
        return key

    def client_keys(self, site: str) -> dict[str, str]:
        """All keys of a site that were made, by user."""
        return dict(self._rows("SELECT user, key FROM client_keys WHERE site = ?", (site,)))

    # What zites store for a user

    def user_settings(self, site: str, user: str) -> dict[str, Any]:
        """What a user's pages stored for a site; {} at first."""
        rows = self._rows(
            "SELECT settings FROM user_settings WHERE site = ? AND user = ?", (site, user)
        )
        if not rows:
            return {}
        try:
            return dict(json.loads(rows[0][0]))
        except (ValueError, TypeError) as error:
            raise self._unusable(str(error), _DAMAGED) from error

    def set_user_settings(self, site: str, user: str, settings: Mapping[str, Any]) -> None:
        """Replace them by another JSON object; the caller bounds its size."""
        self._change(
            "INSERT OR REPLACE INTO user_settings VALUES (?, ?, ?)",
            (site, user, json.dumps(dict(settings))),
        )

    # What the person allowed sites

    def permissions(self) -> list[tuple[str, str]]:
        """All (site, permission), sorted."""
        return self._rows("SELECT site, permission FROM permissions ORDER BY site, permission")

    def set_permission(self, site: str, permission: str, held: bool) -> None:
        """Give a site a permission, or take it away; the caller bounds how many."""
        if held:
            self._change("INSERT OR IGNORE INTO permissions VALUES (?, ?)", (site, permission))
        else:
            self._change(
                "DELETE FROM permissions WHERE site = ? AND permission = ?", (site, permission)
            )

    # Sites that were joined while the node ran

    def joined_sites(self) -> list[tuple[str, int]]:
        """(address, size limit in bytes) of each, in the order in which they were joined."""
        return self._rows("SELECT site, size_limit FROM joined_sites ORDER BY id")

    def set_joined(self, site: str, size_limit: int | None) -> None:
        """Remember a joined site; None forgets it."""
        if size_limit is None:
            self._change("DELETE FROM joined_sites WHERE site = ?", (site,))
        else:
            self._change(
                "INSERT INTO joined_sites (site, size_limit) VALUES (?, ?)"
                " ON CONFLICT (site) DO UPDATE SET size_limit = excluded.size_limit",
                (site, size_limit),
            )

    # Pages that are open

    def pages(self) -> list[tuple[bytes, str, str, float]]:
        """(digest of the secret, site, user, Unix time of its end) of each, oldest first."""
        return self._rows("SELECT digest, site, user, until FROM pages ORDER BY id")

    def put_page(self, digest: bytes, site: str, user: str, until: float) -> None:
        """Remember an open page, or that it is open for longer; the oldest fall off."""
        with self._transaction():
            self._connection.execute(
                "INSERT OR REPLACE INTO pages (digest, site, user, until) VALUES (?, ?, ?, ?)",
                (digest, site, user, until),
            )
            self._connection.execute(
                "DELETE FROM pages WHERE id <= (SELECT max(id) FROM pages) - ?", (PAGES_LIMIT,)
            )

    # Bans

    def bans(self) -> list[Ban]:
        """All bans, expired ones too, by identity."""
        rows = self._rows("SELECT identity, until, strikes, reason FROM bans ORDER BY identity")
        return [Ban(*row) for row in rows]

    def put_ban(self, ban: Ban) -> None:
        """Add a ban, or replace the one of the same identity."""
        self._change(
            "INSERT OR REPLACE INTO bans VALUES (?, ?, ?, ?)",
            (ban.identity, ban.until, ban.strikes, ban.reason),
        )

    def remove_ban(self, identity: str) -> None:
        """Drop a ban, if there is one."""
        self._change("DELETE FROM bans WHERE identity = ?", (identity,))

    # The directory of keys

    def signers(self) -> list[Signer]:
        """All addresses whose keys are known, unheard of longest first."""
        rows = self._rows(
            "SELECT site, address, public_key, first, last FROM signers ORDER BY last"
        )
        return [Signer(*row) for row in rows]

    def named(self) -> list[Named]:
        """All addresses of user IDs, in the order in which they were shown."""
        rows = self._rows("SELECT site, user_id, address, first FROM user_ids ORDER BY first")
        return [Named(*row) for row in rows]

    def change_signers(self, changes: Changes) -> None:
        """Write what changed in the directory, in one transaction."""
        with self._transaction():
            many = self._connection.executemany
            many(
                "INSERT OR REPLACE INTO signers VALUES (?, ?, ?, ?, ?)",
                (attrs.astuple(signer) for signer in changes.signers.values()),
            )
            many(
                "INSERT OR REPLACE INTO user_ids VALUES (?, ?, ?, ?)",
                (attrs.astuple(named) for named in changes.named),
            )
            many("DELETE FROM signers WHERE site = ? AND address = ?", changes.forgotten)
            many(
                "DELETE FROM user_ids WHERE site = ? AND user_id = ? AND address = ?",
                ((named.site, named.user_id, named.address) for named in changes.unnamed),
            )

    # Peers

    def peers(self, site: str) -> list[PeerRow]:
        """The peers of a site, by address."""
        rows = self._rows(
            "SELECT site, address, teller, sources, successes, failures, last_seen, retry_at"
            " FROM site_peers WHERE site = ? ORDER BY address",
            (site,),
        )
        return [PeerRow._make((*row[:3], self._sources(row[3]), *row[4:])) for row in rows]

    def save_peers(self, kept: Iterable[PeerRow], gone: Iterable[tuple[str, str]]) -> None:
        """Add or replace peers, and drop others by site and address, in one transaction."""
        with self._transaction():
            self._connection.executemany(
                "INSERT OR REPLACE INTO site_peers VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                ((*row[:3], json.dumps(row.sources), *row[4:]) for row in kept),
            )
            self._connection.executemany(
                "DELETE FROM site_peers WHERE site = ? AND address = ?", gone
            )

    def capabilities(self) -> list[CapabilityRow]:
        """What is known of nodes, the oldest first."""
        rows = self._rows("SELECT node, how, at FROM capabilities ORDER BY at, node")
        return [CapabilityRow(*row) for row in rows]

    def save_capabilities(self, kept: Iterable[CapabilityRow], gone: Iterable[str]) -> None:
        """Add or replace what is known of nodes, and drop others, in one transaction."""
        with self._transaction():
            self._connection.executemany(
                "INSERT OR REPLACE INTO capabilities VALUES (?, ?, ?)", kept
            )
            self._connection.executemany(
                "DELETE FROM capabilities WHERE node = ?", ((node,) for node in gone)
            )

    def forget_peers_before(self, wall: float, held: Iterable[str]) -> None:
        """Drop, by Unix time, capabilities and the peers of sites that are not held any more."""
        held = set(held)
        sites = {site for (site,) in self._rows("SELECT DISTINCT site FROM site_peers")}
        with self._transaction():
            self._connection.execute("DELETE FROM capabilities WHERE at < ?", (wall,))
            # Of sites that are held the peer book knows what to drop.
            self._connection.executemany(
                "DELETE FROM site_peers WHERE site = ? AND last_seen < ?",
                ((site, wall) for site in sites - held),
            )

    def _sources(self, text: str) -> dict[str, tuple[float, float]]:
        try:
            return {name: (first, last) for name, (first, last) in json.loads(text).items()}
        except (ValueError, TypeError, AttributeError) as error:
            raise self._unusable(str(error), _DAMAGED) from error

    # The file itself

    def _prepare(self) -> None:
        execute = self._connection.execute
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = NORMAL")
        (verdict,) = execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise self._unusable(verdict, _DAMAGED)
        with self._transaction():
            (version,) = execute("PRAGMA user_version").fetchone()
            if not 0 <= version <= len(_MIGRATIONS):
                raise self._unusable(
                    f"its schema has version {version}, and this zeromsg knows {len(_MIGRATIONS)}",
                    "run the zeromsg that wrote it, or a newer one",
                )
            for statements in _MIGRATIONS[version:]:
                for statement in statements:
                    execute(statement)
            execute(f"PRAGMA user_version = {len(_MIGRATIONS)}")

    def _rows(self, query: str, values: tuple[object, ...] = ()) -> list[Any]:
        with self._explained():
            return self._connection.execute(query, values).fetchall()

    def _change(self, statement: str, values: tuple[object, ...]) -> None:
        # A single statement is a transaction by itself.
        with self._explained():
            self._connection.execute(statement, values)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All or nothing; other writers wait."""
        with self._explained():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                # Some errors, a full disk among them, have rolled back already.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
            raise  # our own bug, not the file's fault
        except sqlite3.DatabaseError as error:
            # Extended codes carry the plain one in their low byte.
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
            raise self._unusable(str(error), _ADVICE.get(code, _DAMAGED)) from error

    def _unusable(self, reason: str, advice: str) -> CannotStore:
        return CannotStore(f"{self._path}: cannot be used as a database ({reason}): {advice}")


def _make_private(path: Path) -> None:
    """Make an empty file that only its owner reads; SQLite gives -wal and -shm the same mode."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise CannotStore(
            f"{path}: cannot be used as a database ({error.strerror}):"
            " let the node's user write to it and to its folder"
        ) from error
