"""Writes that a full disk refuses: they wait, in order, and nothing is lost."""

import pytest
from twisted.logger import capturedLogs

from zeromsg.errors import CannotStore
from zeromsg.store.database import Ban, Database
from zeromsg.store.writing import Writing

SITE = "1HeLLo4uzjaLetFx6NH3PMwFP3qbRbTf3D"
HASH = "ab" * 32


class Disk(Database):
    """A database that can be told that its disk is full."""

    def __init__(self):
        self.full = False
        self.tries = 0
        super().__init__(":memory:")

    def _transaction(self):
        self._refuse()
        return super()._transaction()

    def _change(self, statement, values):
        self._refuse()
        super()._change(statement, values)

    def _refuse(self):
        if self.full:
            self.tries += 1
            raise CannotStore("the disk is full")


@pytest.fixture
def disk():
    made = Disk()
    yield made
    made.close()


@pytest.fixture
def store(disk):
    return Writing(disk)


def levels(events):
    return [event["log_level"].name for event in events]


def test_what_waits_is_written_when_there_is_room_again(disk, store):
    disk.full = True
    with capturedLogs() as logged:
        store.add_seen([(b"x" * 32, 1, 5.0)])
        store.put_ban(Ban("ip:192.0.2.7", 9.0, 1, "why"))
        store.put_page(b"digest", SITE, "", 9.0)
        assert not store.settle() and not store.settle()
    assert store.problem == "the disk is full" and store.waiting == 3
    assert levels(logged) == ["warn"]
    disk.full = False
    with capturedLogs() as logged:
        assert store.settle() and store.settle()
    assert levels(logged) == ["info"]
    assert store.problem == "" and store.waiting == 0
    assert [digest for digest, _, _ in disk.seen_since(0)] == [b"x" * 32]
    assert [ban.identity for ban in disk.bans()] == ["ip:192.0.2.7"]
    assert len(disk.pages()) == 1


def test_writes_keep_their_order(disk, store):
    disk.full = True
    store.put_ban(Ban("ip:192.0.2.7", 9.0, 1, "why"))
    disk.full = False
    store.remove_ban("ip:192.0.2.7")
    assert store.settle()
    assert disk.bans() == []


def test_a_queued_message_waits_and_keeps_its_number(disk, store):
    first = store.queue_put(SITE, HASH, '"on disk"', 1.0)
    disk.full = True
    second = store.queue_put(SITE, HASH, '"held"', 2.0)
    third = store.queue_put(SITE, HASH, '"held too"', 3.0)
    assert second != third and first > 0 > second
    assert [item.event for item in store.queue_load(SITE)] == [
        '"on disk"',
        '"held"',
        '"held too"',
    ]
    store.queue_show([second], "1Bob")
    store.queue_delete([first, third])
    disk.full = False
    assert store.settle()
    (item,) = disk.queue_load(SITE)
    assert item.event == '"held"' and item.shown == {"1Bob"}
    store.queue_show([second], "1Eve")
    assert disk.queue_load(SITE)[0].shown == {"1Bob", "1Eve"}
    store.queue_delete([second])
    assert disk.queue_load(SITE) == []


def test_a_message_that_falls_out_before_it_is_written_never_is(disk, store):
    disk.full = True
    for number in range(1000):
        store.queue_delete([store.queue_put(SITE, HASH, "{}", float(number))])
    assert store.waiting == 0
    # One try found out; the others did not even ask the disk.
    assert disk.tries == 1


def test_a_key_holds_though_it_cannot_be_kept_yet(disk, store):
    disk.full = True
    key = store.client_key(SITE, "", lambda count: b"k" * count)
    assert key == (b"k" * 32).hex()
    disk.full = False
    assert store.settle()
    assert disk.client_keys(SITE) == {"": key}


def test_whoever_waits_for_a_write_is_told(disk, store):
    disk.full = True
    for write in (
        lambda: store.set_user_settings(SITE, "1Bob", {}),
        lambda: store.set_permission(SITE, "ADMIN", True),
        lambda: store.set_joined(SITE, 5),
    ):
        with pytest.raises(CannotStore, match="the disk is full"):
            write()


def test_what_is_lost_at_the_end_is_said(disk, store):
    disk.full = True
    store.put_ban(Ban("ip:192.0.2.7", 9.0, 1, "why"))
    with capturedLogs() as logged:
        store.close()
    assert levels(logged) == ["error"] and logged[0]["count"] == 1
