"""Orders for onions: added a few at a time, watched, put up again."""

import random

from hypothesis import given
from hypothesis import strategies as st

from zeromsg.policy.onion_upkeep import (
    AT_ONCE,
    RECONNECT_MOST,
    REFUSED_MOST,
    UPLOAD_SECONDS,
    Add,
    Backoff,
    Remove,
    State,
    Upkeep,
)


def upkeep(*names: str) -> Upkeep:
    kept = Upkeep(random.Random(1))
    for name in names:
        kept.want(name)
    return kept


def test_few_are_added_at_once() -> None:
    kept = upkeep(*"abcdef")
    orders = kept.orders(0.0)
    assert orders == [Add(name) for name in "abcdef"[:AT_ONCE]]
    assert kept.orders(0.0) == []
    kept.added("a", 0.0)
    assert kept.orders(0.0) == [Add("abcdef"[AT_ONCE])]


def test_uploaded_once_is_news_once() -> None:
    kept = upkeep("a")
    assert not kept.uploaded("a", 0.0)  # nobody asked for it yet
    kept.orders(0.0)
    kept.added("a", 0.0)
    assert kept.uploaded("a", 1.0)
    assert not kept.uploaded("a", 2.0)
    assert kept.state("a") is State.REACHABLE
    assert kept.orders(10_000.0) == []
    assert not kept.uploaded("unknown", 1.0)


def test_an_upload_may_be_told_before_the_answer_to_the_command() -> None:
    kept = upkeep("a")
    kept.orders(0.0)
    assert kept.uploaded("a", 0.5)
    kept.added("a", 1.0)
    assert kept.state("a") is State.REACHABLE


def test_a_lost_upload_is_repeated() -> None:
    kept = upkeep("a")
    kept.orders(0.0)
    kept.added("a", 0.0)
    assert kept.orders(UPLOAD_SECONDS) == []
    late = UPLOAD_SECONDS + 1
    assert kept.orders(late) == [Remove("a")]
    assert "no directory" in kept.problem("a")
    assert kept.orders(late + 3) == [Add("a")]


def test_refusals_are_repeated_ever_more_slowly() -> None:
    kept, now, pauses = upkeep("a"), 0.0, []
    for _ in range(12):
        assert kept.orders(now) == [Add("a")]
        kept.refused("a", "512", now)
        began = now
        while not any(isinstance(o, Add) for o in kept.orders(now)):
            now += 0.5
        kept.refused("a", "512", now)
        pauses.append(now - began)
        now += REFUSED_MOST * 2
    assert pauses[0] < pauses[5] <= REFUSED_MOST * 1.25 + 1


def test_all_are_absent_when_tor_is_lost_and_come_back_at_once() -> None:
    kept = upkeep("a", "b")
    kept.orders(0.0)
    kept.uploaded("a", 1.0)
    kept.refused("b", "550", 1.0)
    kept.lost()
    assert kept.state("a") is kept.state("b") is State.ABSENT
    assert kept.orders(1.0) == [Add("a"), Add("b")]


@given(st.lists(st.sampled_from(["orders", "added", "refused", "uploaded", "lost"]), max_size=60))
def test_whatever_happens_an_onion_is_wanted_again_in_time(events: list[str]) -> None:
    kept, now = upkeep("a"), 0.0
    for event in events:
        now += 7.0
        if event == "orders":
            kept.orders(now)
        elif event == "added":
            kept.added("a", now)
        elif event == "refused":
            kept.refused("a", "no", now)
        elif event == "uploaded":
            kept.uploaded("a", now)
        else:
            kept.lost()
    if kept.state("a") is State.ADDING:
        kept.refused("a", "no", now)
    for _ in range(int(UPLOAD_SECONDS + REFUSED_MOST * 1.25) + 2):
        now += 1.0
        if kept.state("a") is State.REACHABLE or Add("a") in kept.orders(now):
            return
    raise AssertionError(f"never: {events}")


def test_reconnecting_backs_off_with_jitter_to_a_bound() -> None:
    backoff = Backoff(random.Random(1))
    pauses = [backoff.next() for _ in range(12)]
    assert pauses[0] < 1.3 and pauses[0] < pauses[4] and max(pauses) <= RECONNECT_MOST * 1.25
    backoff.reset()
    assert backoff.next() < 1.3
