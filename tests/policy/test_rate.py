import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeromsg.policy.rate import Buckets, Frequency


def test_who_never_spoke_may_speak():
    assert Frequency().allows("a", 10.0, 0.0)


def test_who_spoke_waits_so_many_seconds():
    frequency = Frequency()
    frequency.spoke("a", 100.0)
    assert not frequency.allows("a", 10.0, 100.0)
    assert not frequency.allows("a", 10.0, 109.999)
    assert frequency.allows("a", 10.0, 110.0)
    assert frequency.allows("b", 10.0, 100.0)


def test_asking_changes_nothing():
    frequency = Frequency()
    for now in (0.0, 1.0, 2.0):
        assert frequency.allows("a", 10.0, now)
    frequency.spoke("a", 2.0)
    for now in (3.0, 11.9):
        assert not frequency.allows("a", 10.0, now)
    assert frequency.allows("a", 10.0, 12.0)


def test_speaking_again_starts_the_time_anew():
    frequency = Frequency()
    frequency.spoke("a", 0.0)
    frequency.spoke("a", 5.0)
    assert not frequency.allows("a", 10.0, 14.9)
    assert frequency.allows("a", 10.0, 15.0)


def test_a_limit_of_zero_lets_everything_through():
    frequency = Frequency()
    frequency.spoke("a", 5.0)
    assert frequency.allows("a", 0.0, 5.0)


def test_ten_thousand_senders_are_remembered():
    frequency = Frequency()
    for number in range(10_001):
        frequency.spoke(str(number), 0.0)
    assert frequency.allows("0", 10.0, 0.0)
    assert not frequency.allows("1", 10.0, 0.0)


def test_those_silent_longest_are_forgotten_first():
    frequency = Frequency(capacity=2)
    frequency.spoke("a", 0.0)
    frequency.spoke("b", 1.0)
    frequency.spoke("a", 2.0)
    frequency.spoke("c", 3.0)
    assert frequency.allows("b", 10.0, 3.0)
    assert not frequency.allows("a", 10.0, 3.0)
    assert not frequency.allows("c", 10.0, 3.0)


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.floats(0, 5)), max_size=40), st.floats(0.1, 9)
)
def test_two_messages_of_one_sender_are_never_closer_than_the_limit(arrivals, seconds):
    frequency, now, passed = Frequency(), 0.0, {}
    for sender, later in arrivals:
        now += later
        allowed = frequency.allows(sender, seconds, now)
        assert allowed is (sender not in passed or now - passed[sender] >= seconds)
        if allowed:
            frequency.spoke(sender, now)
            passed[sender] = now


# Buckets.


def test_a_bucket_lets_so_many_through_at_once():
    buckets = Buckets(burst=3, per_second=1)
    for _ in range(3):
        assert buckets.allows("a", 0.0)
        buckets.spoke("a", 0.0)
    assert not buckets.allows("a", 0.0)
    assert buckets.allows("b", 0.0)


def test_tokens_come_back_one_by_one():
    buckets = Buckets(burst=2, per_second=0.5)
    buckets.spoke("a", 0.0)
    buckets.spoke("a", 0.0)
    assert not buckets.allows("a", 1.9)
    assert buckets.allows("a", 2.0)
    buckets.spoke("a", 2.0)
    assert not buckets.allows("a", 3.9)
    assert buckets.allows("a", 4.0)


def test_a_bucket_is_never_fuller_than_its_burst():
    buckets = Buckets(burst=2, per_second=1)
    buckets.spoke("a", 0.0)
    buckets.spoke("a", 1000.0)
    buckets.spoke("a", 1000.0)
    assert not buckets.allows("a", 1000.0)


def test_without_a_rate_a_bucket_is_not_filled_again():
    buckets = Buckets(burst=1, per_second=0)
    buckets.spoke("a", 0.0)
    assert not buckets.allows("a", 1e9)


def test_buckets_of_those_silent_longest_are_forgotten_first():
    buckets = Buckets(burst=1, per_second=0, capacity=2)
    for sender in "abac":
        buckets.spoke(sender, 0.0)
    assert [buckets.allows(sender, 0.0) for sender in "abc"] == [False, True, False]


@given(
    st.lists(st.integers(0, 40), max_size=60),
    st.integers(1, 5),
    st.sampled_from([0.25, 0.5, 1.0, 2.0]),
)
def test_in_any_span_of_time_no_more_pass_than_burst_and_rate_allow(waits, burst, per_second):
    """Times are quarters of a second, so that nothing is rounded."""
    buckets, now, passed = Buckets(burst, per_second), 0.0, []
    for wait in waits:
        now += wait / 4
        if buckets.allows("a", now):
            buckets.spoke("a", now)
            passed.append(now)
    for first, begun in enumerate(passed):
        for last, ended in enumerate(passed[first:], 1):
            assert last <= burst + (ended - begun) * per_second


@pytest.mark.parametrize("capacity", [1, 5])
def test_buckets_take_bounded_memory(capacity):
    buckets = Buckets(1, 0, capacity)
    for number in range(20):
        buckets.spoke(str(number), 0.0)
    assert sum(not buckets.allows(str(number), 0.0) for number in range(20)) == capacity


def test_what_is_larger_costs_more():
    buckets = Buckets(burst=10, per_second=1)
    assert buckets.allows("a", 0.0, 10)
    assert not buckets.allows("a", 0.0, 11)
    buckets.spoke("a", 0.0, 8)
    assert buckets.allows("a", 0.0, 2)
    assert not buckets.allows("a", 0.0, 3)
    assert buckets.allows("a", 1.0, 3)
