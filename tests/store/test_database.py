"""The database: what it keeps, what it bounds, and what it says when it cannot."""

import signal
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

from zeromsg.errors import ConfigError
from zeromsg.store import database
from zeromsg.store.database import Ban, CapabilityRow, Database, PeerRow

SITE = "1HeLLo4uzjaLetFx6NH3PMwFP3qbRbTf3D"
OTHER = "1Fwms8Gymux3E7bks7fhDgxdUxFwqdxZSx"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data" / database.FILE_NAME


@pytest.fixture(params=["memory", "file"])
def db(request, path):
    opened = Database(":memory:" if request.param == "memory" else path)
    yield opened
    opened.close()


def digest(number: int) -> bytes:
    return number.to_bytes(32, "big")


def numbers(rows) -> list[int]:
    return [int.from_bytes(row[0], "big") for row in rows]


# Seen hashes


def test_seen_rows_come_back_oldest_first(db):
    db.add_seen([(digest(1), 1, 20.0), (digest(2), 2, 10.0)])
    db.add_seen([(digest(3), 1, 20.0)])
    assert list(db.seen_since(0)) == [
        (digest(2), 2, 10.0),
        (digest(1), 1, 20.0),
        (digest(3), 1, 20.0),
    ]


def test_seen_since_includes_its_moment(db):
    db.add_seen([(digest(n), 1, float(n)) for n in range(5)])
    assert numbers(db.seen_since(3.0)) == [3, 4]
    assert numbers(db.seen_since(5.0)) == []


def test_the_later_state_comes_last(db):
    db.add_seen([(digest(1), 1, 10.0)])
    db.add_seen([(digest(1), 2, 10.0)])
    assert {key: state for key, state, _ in db.seen_since(0)} == {digest(1): 2}


def test_seen_is_read_in_pages_while_rows_are_added(db, monkeypatch):
    monkeypatch.setattr(database, "_SEEN_PAGE", 2)
    db.add_seen([(digest(n), 1, 7.0) for n in range(5)])
    rows = db.seen_since(7.0)
    first = next(rows)
    db.add_seen([(digest(5), 1, 7.0)])
    assert numbers([first, *rows]) == [0, 1, 2, 3, 4, 5]


def test_old_seen_rows_are_forgotten(db):
    db.add_seen([(digest(n), 1, float(n)) for n in range(5)])
    db.forget_seen_before(3.0)
    assert numbers(db.seen_since(0)) == [3, 4]


def test_trimming_keeps_the_last_written(db):
    db.add_seen([(digest(n), 1, float(n)) for n in range(5)])
    db.trim_seen(2)
    assert numbers(db.seen_since(0)) == [3, 4]
    db.trim_seen()
    assert numbers(db.seen_since(0)) == [3, 4]
    db.trim_seen(0)
    db.trim_seen(0)
    assert numbers(db.seen_since(0)) == []


def test_seen_is_bounded_without_being_asked(db, monkeypatch):
    assert database.SEEN_LIMIT == 1_000_000
    monkeypatch.setattr(database, "SEEN_LIMIT", 3)
    for n in range(5):
        db.add_seen([(digest(n), 1, float(n))])
    assert numbers(db.seen_since(0)) == [2, 3, 4]


def test_a_batch_is_all_or_nothing(db):
    def rows():
        yield digest(1), 1, 1.0
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        db.add_seen(rows())
    with pytest.raises(sqlite3.IntegrityError):
        db.add_seen([(digest(2), 1, 1.0), (digest(3), None, 1.0)])
    db.add_seen([(digest(4), 1, 1.0)])
    assert numbers(db.seen_since(0)) == [4]


# The queue


def test_queued_messages_come_back_in_order(db):
    first = db.queue_put(SITE, "aa", '{"a": 1}', 20.0)
    db.queue_put(OTHER, "cc", "{}", 5.0)
    second = db.queue_put(SITE, "bb", '{"b": "é\\u0000"}', 10.0)
    assert db.queue_load(SITE) == [
        (first, "aa", '{"a": 1}', 20.0, frozenset()),
        (second, "bb", '{"b": "é\\u0000"}', 10.0, frozenset()),
    ]
    assert db.queue_load("1Nobody") == []
    assert db.queue_sites() == sorted([SITE, OTHER])


def test_delivered_messages_are_deleted(db):
    ids = [db.queue_put(SITE, str(n), "{}", 0.0) for n in range(3)]
    db.queue_delete([ids[0], ids[2], 999])
    assert [message.id for message in db.queue_load(SITE)] == [ids[1]]
    db.queue_delete(iter([ids[1]]))
    assert db.queue_sites() == []


def test_who_was_shown_a_queued_message_is_remembered(path):
    db = Database(path)
    first = db.queue_put(SITE, "aa", "{}", 0.0, ["1alice", "1bob"])
    second = db.queue_put(SITE, "bb", "{}", 0.0)
    other = db.queue_put(OTHER, "cc", "{}", 0.0, {"1carol"})
    db.queue_show([first, second], "1carol")
    db.queue_show([first, 999], "1carol")
    db.close()
    db = Database(path)
    shown = {message.id: message.shown for message in db.queue_load(SITE)}
    assert shown == {first: {"1alice", "1bob", "1carol"}, second: {"1carol"}}
    db.queue_delete([first, other])
    assert [message.shown for message in db.queue_load(SITE)] == [{"1carol"}]
    assert db._rows("SELECT id, user FROM queue_shown") == [(second, "1carol")]
    db.close()


def test_ids_are_not_used_twice(db):
    first = db.queue_put(SITE, "aa", "{}", 0.0)
    db.queue_delete([first])
    assert db.queue_put(SITE, "bb", "{}", 0.0) > first


CHILD = """
import itertools, sys
from pathlib import Path
from zeromsg.store.database import Database

db = Database(Path(sys.argv[1]))
for number in itertools.count():
    id = db.queue_put("site", str(number), '{"n": %d}' % number, float(number))
    print("stored", id, flush=True)
    if number == int(sys.argv[2]):
        import os
        os._exit(9)
"""


def run_child(path: Path, last: int) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path), str(last)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


def test_acknowledged_messages_survive_a_crash(path):
    with run_child(path, 20) as child:
        stored = [int(line.split()[1]) for line in child.stdout]
    assert child.returncode == 9
    assert len(stored) == 21
    db = Database(path)
    assert [message.id for message in db.queue_load("site")] == stored
    db.close()


def test_acknowledged_messages_survive_a_kill(path):
    """Killed at any point, while it writes: what it said is stored, is."""
    with run_child(path, -1) as child:
        stored = [child.stdout.readline() for _ in range(50)]
        child.kill()
        stored += child.stdout.readlines()
    assert child.returncode == -signal.SIGKILL
    ids = [int(line.split()[1]) for line in stored if line.endswith("\n")]
    db = Database(path)
    kept = [message.id for message in db.queue_load("site")]
    assert kept[: len(ids)] == ids
    assert len(kept) <= len(ids) + 1
    db.close()


# Keys of sites


def test_a_user_keeps_the_key_of_a_site(db):
    draws = iter([b"\x01" * 32, b"\x02" * 32, b"\x03" * 32])
    key = db.client_key(SITE, "", lambda count: next(draws)[:count])
    assert key == "01" * 32
    assert db.client_key(SITE, "", lambda count: pytest.fail("a key is made once")) == key
    assert db.client_key(OTHER, "", lambda count: next(draws)) == "02" * 32
    assert db.client_key(SITE, "1bob", lambda count: next(draws)) == "03" * 32
    assert db.client_keys(SITE) == {"": "01" * 32, "1bob": "03" * 32}
    assert db.client_keys(OTHER) == {"": "02" * 32}
    assert db.client_keys("1" * 30) == {}


def test_keys_of_the_first_schema_become_the_default_users(path, monkeypatch):
    steps = database._MIGRATIONS
    monkeypatch.setattr(database, "_MIGRATIONS", steps[:1])
    db = Database(path)
    db._change("INSERT INTO site_keys VALUES (?, ?)", (SITE, "0a" * 32))
    db.close()
    monkeypatch.setattr(database, "_MIGRATIONS", steps)
    db = Database(path)
    assert db.client_key(SITE, "", lambda count: pytest.fail("it is there")) == "0a" * 32
    db.close()


# Settings of users


def test_settings_are_kept_for_each_user_and_site(db):
    assert db.user_settings(SITE, "alice") == {}
    db.set_user_settings(SITE, "alice", {"dark": True, "names": ["é", None]})
    db.set_user_settings(SITE, "bob", {"dark": False})
    db.set_user_settings(OTHER, "alice", {"x": 1})
    assert db.user_settings(SITE, "alice") == {"dark": True, "names": ["é", None]}
    db.set_user_settings(SITE, "alice", {})
    assert db.user_settings(SITE, "alice") == {}
    assert db.user_settings(SITE, "bob") == {"dark": False}


@pytest.mark.parametrize("stored", ["{", "5", "[1]", b"\xff"])
def test_damaged_settings_are_told(path, stored):
    db = Database(path)
    db.set_user_settings(SITE, "alice", {})
    alter(path, "UPDATE user_settings SET settings = ?", stored)
    with pytest.raises(ConfigError, match="move it away"):
        db.user_settings(SITE, "alice")
    db.close()


# Bans


def test_bans_are_put_replaced_and_removed(db):
    ban = Ban("ip:192.0.2.1", 3600.5, 1, "schema")
    db.put_ban(ban)
    db.put_ban(Ban("auth:1abc", 1.0, 2, "rate"))
    assert db.bans() == [Ban("auth:1abc", 1.0, 2, "rate"), ban]
    longer = attrs.evolve(ban, until=7200.0, strikes=2)
    db.put_ban(longer)
    db.remove_ban("auth:1abc")
    db.remove_ban("auth:1abc")
    assert db.bans() == [longer]


# Peers


def peer(number: int, site: str = SITE, **changes) -> PeerRow:
    sources = {"pex": (1.0, 2.5)}
    row = PeerRow(site, f"192.0.2.{number}:1", "198.51.0.0/16", sources, 1, 2, 3.5, 4.5)
    return row._replace(**changes)


def test_peers_are_kept_site_by_site(db):
    rows = [peer(1), peer(2, sources={}), peer(1, OTHER, failures=9)]
    db.save_peers(rows, [])
    assert db.peers(SITE) == rows[:2] and db.peers(OTHER) == rows[2:]
    assert db.peers("1Nobody") == []


def test_peers_are_replaced_and_dropped_together(db):
    db.save_peers([peer(1), peer(2), peer(1, OTHER)], [])
    db.save_peers([peer(1, successes=7)], [(SITE, "192.0.2.2:1"), (SITE, "192.0.2.3:1")])
    assert db.peers(SITE) == [peer(1, successes=7)]
    assert db.peers(OTHER) == [peer(1, OTHER)]


def test_capabilities_are_replaced_and_dropped_together(db):
    rows = [CapabilityRow("192.0.2.1:1", "answered-unknown", 5.0), CapabilityRow("b:1", "x", 4.0)]
    db.save_capabilities(rows, [])
    assert db.capabilities() == rows[::-1]
    newer = CapabilityRow("192.0.2.1:1", "sent-a-message", 9.5)
    db.save_capabilities([newer], ["b:1", "c:1"])
    assert db.capabilities() == [newer]


def test_old_peers_of_sites_that_are_gone_are_forgotten(db):
    db.save_peers([peer(1), peer(2, OTHER), peer(3, OTHER, last_seen=100.0)], [])
    db.save_capabilities([CapabilityRow("a:1", "x", 5.0), CapabilityRow("b:1", "x", 60.0)], [])
    db.forget_peers_before(50.0, [SITE])
    assert db.peers(SITE) == [peer(1)]
    assert db.peers(OTHER) == [peer(3, OTHER, last_seen=100.0)]
    assert [row.node for row in db.capabilities()] == ["b:1"]


# The file


def alter(path: Path, statement: str, *values: object) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(statement, values)
    connection.close()


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        Database(path)
    assert str(caught.value).startswith(f"{path}: cannot be used as a database (")
    return str(caught.value)


def test_everything_survives_reopening(path):
    db = Database(path)
    db.add_seen([(digest(1), 1, 1.0)])
    db.queue_put(SITE, "aa", "{}", 1.0)
    key = db.client_key(SITE, "1bob", bytes)
    db.set_user_settings(SITE, "alice", {"a": 1})
    db.put_ban(Ban("ip:192.0.2.1", 1.0, 1, "rate"))
    db.save_peers([peer(1)], [])
    db.close()
    db = Database(str(path))
    assert numbers(db.seen_since(0)) == [1]
    assert db.queue_sites() == [SITE]
    assert db.client_keys(SITE) == {"1bob": key}
    assert db.user_settings(SITE, "alice") == {"a": 1}
    assert [ban.identity for ban in db.bans()] == ["ip:192.0.2.1"]
    assert len(db.peers(SITE)) == 1
    db.close()


def test_only_the_owner_reads_it(path):
    db = Database(path)
    db.save_peers([peer(1)], [])
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == {path.name + suffix: 0o600 for suffix in ("", "-wal", "-shm")}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    db.close()


VERSION = len(database._MIGRATIONS)


def test_the_journal_is_a_wal(path):
    db = Database(path)
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()
    db.close()


def test_an_older_schema_is_brought_forward(path, monkeypatch):
    db = Database(path)
    db.put_ban(Ban("ip:192.0.2.1", 1.0, 1, "rate"))
    db.close()
    later = (
        *database._MIGRATIONS,
        ("CREATE TABLE more (a)", "INSERT INTO more VALUES (1)"),
        ("INSERT INTO more VALUES (2)",),
    )
    monkeypatch.setattr(database, "_MIGRATIONS", later)
    for _ in range(2):  # each step is taken once
        db = Database(path)
        assert len(db.bans()) == 1
        assert db._rows("SELECT a FROM more") == [(1,), (2,)]
        assert db._rows("PRAGMA user_version") == [(len(later),)]
        db.close()


def test_the_first_schema_is_brought_forward(path, monkeypatch):
    now = database._MIGRATIONS
    monkeypatch.setattr(database, "_MIGRATIONS", now[:1])
    db = Database(path)
    db.put_ban(Ban("ip:192.0.2.1", 1.0, 1, "rate"))
    db.close()
    monkeypatch.setattr(database, "_MIGRATIONS", now)
    db = Database(path)
    db.save_peers([peer(1)], [])
    assert len(db.bans()) == 1 and db.peers(SITE) == [peer(1)]
    db.close()


def test_a_failed_migration_changes_nothing(path, monkeypatch):
    Database(path).close()
    steps = database._MIGRATIONS
    monkeypatch.setattr(database, "_MIGRATIONS", (*steps, ("CREATE TABLE more (a)", "NONSENSE")))
    assert "NONSENSE" in refusal(path)
    monkeypatch.setattr(database, "_MIGRATIONS", steps)
    db = Database(path)
    assert db._rows("SELECT name FROM sqlite_master WHERE name = 'more'") == []
    db.close()


@pytest.mark.parametrize("version", [VERSION + 1, 99, -1])
def test_another_schema_is_refused(path, version):
    Database(path).close()
    alter(path, f"PRAGMA user_version = {version}")
    text = refusal(path)
    assert f"its schema has version {version}, and this zeromsg knows {VERSION}" in text
    assert "run the zeromsg that wrote it, or a newer one" in text


def test_a_file_of_another_kind_is_refused(path):
    path.parent.mkdir()
    path.write_text("These are notes, and no database at all. " * 100)
    text = refusal(path)
    assert "file is not a database" in text
    assert "move it away, with the -wal and -shm files beside it" in text
    assert path.read_text().startswith("These are notes")


def fill(path: Path) -> int:
    db = Database(path)
    db.save_peers([peer(n) for n in range(300)], [])
    db.close()
    return path.stat().st_size


def test_a_truncated_file_is_refused(path):
    size = fill(path)
    with path.open("r+b") as file:
        file.truncate(size // 2)
    assert "move it away" in refusal(path)


def test_a_file_with_spoilt_pages_is_refused(path):
    size = fill(path)
    with path.open("r+b") as file:
        file.seek(8192)
        file.write(b"\xaa" * (size - 8192))
    assert "move it away" in refusal(path)


def test_damage_found_later_is_told(path):
    fill(path)
    db = Database(path)
    alter(path, "DROP TABLE site_peers")
    with pytest.raises(ConfigError, match="no such table"):
        db.peers(SITE)
    with pytest.raises(ConfigError, match="no such table"):
        db.save_peers([peer(1)], [])
    assert db.bans() == []
    db.close()


@pytest.mark.parametrize("text", ["nonsense", "[]", '{"pex": 5}', '{"pex": [1]}'])
def test_sources_that_are_none_are_told(path, text):
    fill(path)
    alter(path, "UPDATE site_peers SET sources = ?", text)
    db = Database(path)
    with pytest.raises(ConfigError, match="move it away"):
        db.peers(SITE)
    db.close()


def test_a_file_held_by_another_is_told(path, monkeypatch):
    monkeypatch.setattr(database, "_BUSY_SECONDS", 0.0)
    db = Database(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(ConfigError, match="another program holds it"):
        db.queue_put(SITE, "aa", "{}", 0.0)
    assert "another program holds it" in refusal(path)
    other.execute("ROLLBACK")
    other.close()
    db.queue_put(SITE, "aa", "{}", 0.0)
    db.close()


def test_a_full_disk_is_told_and_nothing_is_half_written(path):
    db = Database(path)
    pages = db._rows("PRAGMA page_count")[0][0]
    db._rows(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(ConfigError, match="make room on the disk"):
        db.add_seen([(digest(n), 1, 1.0) for n in range(1000)])
    assert list(db.seen_since(0)) == []
    db._rows("PRAGMA max_page_count = 100000")
    db.add_seen([(digest(1), 1, 1.0)])
    assert numbers(db.seen_since(0)) == [1]
    db.close()


def test_a_place_where_no_file_can_be_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    assert "let the node's user write" in refusal(tmp_path / "file" / "a.sqlite3")
    assert "let the node's user write" in refusal(tmp_path)


def test_use_after_close_is_a_bug_and_not_a_configuration(path):
    db = Database(path)
    db.close()
    with pytest.raises(sqlite3.ProgrammingError):
        db.bans()


# Permissions, joined sites, open pages


def test_permissions_are_kept_once_each(path):
    kept = Database(path)
    for _ in range(2):
        kept.set_permission("1a", "ADMIN", True)
    kept.set_permission("1a", "Merger:x", True)
    kept.close()
    kept = Database(path)
    assert kept.permissions() == [("1a", "ADMIN"), ("1a", "Merger:x")]
    kept.set_permission("1a", "ADMIN", False)
    kept.set_permission("1b", "ADMIN", False)
    assert kept.permissions() == [("1a", "Merger:x")]
    kept.close()


def test_joined_sites_keep_their_order(path):
    kept = Database(path)
    for site, limit in (("1b", 5), ("1a", 6), ("1b", 7)):
        kept.set_joined(site, limit)
    assert kept.joined_sites() == [("1b", 7), ("1a", 6)]
    kept.set_joined("1b", None)
    kept.close()
    kept = Database(path)
    assert kept.joined_sites() == [("1a", 6)]
    kept.close()


def test_open_pages_are_bounded(path, monkeypatch):
    monkeypatch.setattr(database, "PAGES_LIMIT", 3)
    kept = Database(path)
    for number in range(5):
        kept.put_page(bytes([number]), "1a", "", 10.0 + number)
    # One that is used again is among the newest.
    kept.put_page(b"\x02", "1a", "1bob", 99.0)
    expected = [(b"\x03", "1a", "", 13.0), (b"\x04", "1a", "", 14.0), (b"\x02", "1a", "1bob", 99.0)]
    assert kept.pages() == expected
    kept.close()
