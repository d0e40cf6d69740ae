from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from zeromsg.policy.site_state import (
    QUEUE_BYTES,
    QUEUE_MESSAGES,
    Queue,
    Queued,
    Recent,
    SiteState,
)


def drain(queue):
    """Take everything out, as for a first client."""
    items = []
    for item in queue.waiting_for("anybody"):
        queue.remove(item)
        items.append(item)
    return items


def test_what_waits_comes_out_in_its_order_once():
    queue = Queue()
    items = [Queued(number, f"event {number}") for number in range(3)]
    for item in items:
        assert queue.put(item) == []
    assert len(queue) == 3
    assert drain(queue) == items
    assert len(queue) == 0
    assert drain(queue) == []


def test_the_oldest_fall_out_when_there_are_too_many():
    queue = Queue(messages=2)
    first, second, third = (Queued(number, "x") for number in range(3))
    queue.put(first)
    queue.put(second)
    assert queue.put(third) == [first]
    assert drain(queue) == [second, third]


def test_the_oldest_fall_out_when_they_are_too_large():
    queue = Queue(size=10)
    small, smaller, large = Queued(1, "x" * 4), Queued(2, "x" * 3), Queued(3, "x" * 9)
    queue.put(small)
    queue.put(smaller)
    assert queue.put(large) == [small, smaller]
    assert queue.put(Queued(4, "x")) == []
    assert queue.put(Queued(5, "x")) == [large]


def test_what_is_too_large_alone_falls_out_itself():
    queue = Queue(size=10)
    queue.put(Queued(1, "x"))
    too_large = Queued(2, "x" * 11)
    assert queue.put(too_large) == [Queued(1, "x"), too_large]
    assert len(queue) == 0
    assert queue.put(Queued(3, "x" * 10)) == []


def test_what_was_taken_makes_room():
    queue = Queue(messages=2, size=10)
    for _ in range(5):
        assert queue.put(Queued(1, "x" * 5)) == []
        assert queue.put(Queued(2, "x" * 5)) == []
        drain(queue)


def test_a_thousand_messages_or_eight_mebibytes():
    assert (QUEUE_MESSAGES, QUEUE_BYTES) == (1000, 8 * 1024 * 1024)
    queue = SiteState().queue
    assert not any(queue.put(Queued(number, "x")) for number in range(1000))
    assert queue.put(Queued(1000, "x")) == [Queued(0, "x")]
    assert len(queue.put(Queued(1001, "x" * (QUEUE_BYTES - 10)))) == 990


def test_what_one_user_was_shown_stays_for_the_others():
    queue = Queue(size=4)
    first, second = Queued(1, "x"), Queued(2, "y", frozenset({"bob"}))
    queue.put(first)
    queue.put(second)
    queue.show(first, "alice")
    shown = Queued(1, "x", frozenset({"alice"}))
    assert list(queue.waiting_for("alice")) == [second]
    assert list(queue.waiting_for("bob")) == [shown]
    assert list(queue.waiting_for("carol")) == [shown, second]
    queue.show(shown, "bob")
    # It is as old as before.
    assert queue.put(Queued(3, "zzz")) == [Queued(1, "x", frozenset({"alice", "bob"}))]
    assert len(queue) == 2


def test_what_is_taken_while_it_is_looked_at_does_not_come():
    queue = Queue()
    items = [Queued(number, "x") for number in range(4)]
    for item in items:
        queue.put(item)
    walk = queue.waiting_for("alice")
    assert next(walk) == items[0]
    queue.remove(items[1])
    queue.show(items[2], "alice")
    queue.put(Queued(4, "x"))
    assert list(walk) == [items[3]]


@given(st.lists(st.none() | st.integers(0, 12), max_size=40), st.integers(1, 5), st.integers(1, 20))
def test_a_queue_against_a_model(steps, most, size):
    """None takes everything; a number puts an event of that length."""
    queue, model = Queue(most, size), deque()
    for row, length in enumerate(steps):
        if length is None:
            assert drain(queue) == list(model)
            model.clear()
            continue
        model.append(Queued(row, "x" * length))
        dropped = []
        while len(model) > most or sum(len(item.event) for item in model) > size:
            dropped.append(model.popleft())
        assert queue.put(Queued(row, "x" * length)) == dropped
        assert len(queue) == len(model)


def test_recent_things_are_found_by_hash():
    recent = Recent(2)
    assert recent.get("a") is None
    recent.put("a", 1)
    assert recent.get("a") == 1
    recent.put("a", 2)
    assert recent.get("a") == 2


def test_the_last_things_are_kept():
    recent = Recent(2)
    for number, key in enumerate("abac"):
        recent.put(key, number)
    assert (recent.get("a"), recent.get("b"), recent.get("c")) == (2, None, 3)


def test_sites_share_no_state():
    one, other = SiteState(), SiteState()
    one.frequency.spoke("a", 0.0)
    one.queue.put(Queued(1, "x"))
    one.origins.put("hash", "192.0.2.1:1")
    assert other.frequency.allows("a", 10.0, 0.0)
    assert len(other.queue) == 0
    assert other.origins.get("hash") is None
