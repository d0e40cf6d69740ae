from hypothesis import given
from hypothesis import strategies as st

from zeromsg.policy.rate import Frequency


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
