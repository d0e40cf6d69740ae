import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeromsg.policy.seen import CAPACITY, LIFETIME, Met, Seen

DAY = 24 * 3600.0


def digest(number):
    return hashlib.sha256(str(number).encode()).digest()


A, B, C = map(digest, "abc")


def test_what_was_never_met_is_none():
    seen = Seen()
    assert seen.get(A) is None
    assert len(seen) == 0


@pytest.mark.parametrize("met", Met)
def test_what_was_met_is_known_for_what_it_was(met):
    seen = Seen()
    seen.add(A, met, 0.0)
    assert seen.get(A) is met
    assert seen.get(B) is None


def test_the_numbers_on_disk_stay_what_they_are():
    assert [(met.name, int(met)) for met in Met] == [("REFUSED", 0), ("UNSIGNED", 1), ("SIGNED", 2)]


def test_an_unsigned_message_may_become_a_signed_one():
    seen = Seen()
    seen.add(A, Met.UNSIGNED, 0.0)
    seen.add(A, Met.SIGNED, 1.0)
    assert seen.get(A) is Met.SIGNED
    assert len(seen) == 1


def test_the_oldest_fall_out_first():
    seen = Seen(capacity=2)
    for number, one in enumerate((A, B, C)):
        seen.add(one, Met.SIGNED, float(number))
    assert seen.get(A) is None
    assert (seen.get(B), seen.get(C)) == (Met.SIGNED, Met.SIGNED)
    assert len(seen) == 2


def test_meeting_it_again_does_not_make_it_younger():
    """Or old messages could be kept going for ever."""
    seen = Seen(capacity=2)
    seen.add(A, Met.UNSIGNED, 0.0)
    seen.add(B, Met.SIGNED, 1.0)
    seen.add(A, Met.SIGNED, 2.0)
    seen.add(C, Met.SIGNED, 3.0)
    assert seen.get(A) is None
    assert seen.get(B) is Met.SIGNED


def test_the_oldest_fall_out_across_minutes():
    seen = Seen(capacity=3)
    for number in range(10):
        seen.add(digest(number), Met.SIGNED, number * 100.0)
        assert len(seen) == min(number + 1, 3)
    assert [number for number in range(10) if seen.get(digest(number)) is not None] == [7, 8, 9]


def test_what_is_older_than_the_lifetime_is_forgotten_to_a_minute():
    seen = Seen(lifetime=1000.0)
    seen.add(A, Met.SIGNED, 0.0)
    seen.add(B, Met.SIGNED, 500.0)
    seen.expire(1000.0)
    assert seen.get(A) is Met.SIGNED
    seen.expire(1061.0)
    assert seen.get(A) is None
    assert seen.get(B) is Met.SIGNED
    assert len(seen) == 1


def test_old_ones_are_forgotten_as_new_ones_come():
    seen = Seen(lifetime=1000.0)
    seen.add(A, Met.SIGNED, 0.0)
    seen.add(B, Met.SIGNED, 2000.0)
    assert seen.get(A) is None
    assert len(seen) == 1


def test_what_was_forgotten_can_be_met_anew():
    seen = Seen(lifetime=1000.0)
    seen.add(A, Met.REFUSED, 0.0)
    seen.expire(5000.0)
    seen.add(A, Met.SIGNED, 5000.0)
    seen.add(B, Met.SIGNED, 5500.0)
    assert seen.get(A) is Met.SIGNED
    seen.expire(6061.0)
    assert seen.get(A) is None
    assert seen.get(B) is Met.SIGNED


def test_a_million_for_a_day():
    assert CAPACITY == 1_000_000
    assert LIFETIME == DAY
    seen = Seen()
    seen.add(A, Met.SIGNED, 0.0)
    seen.expire(DAY)
    assert seen.get(A) is Met.SIGNED


def test_a_wall_clock_that_is_set_back_loses_nothing():
    seen = Seen(lifetime=1000.0)
    seen.add(A, Met.SIGNED, 5000.0)
    seen.add(B, Met.SIGNED, 100.0)
    seen.expire(100.0)
    assert (seen.get(A), seen.get(B)) == (Met.SIGNED, Met.SIGNED)


# On disk.


def test_what_is_new_is_taken_once():
    seen = Seen()
    seen.add(A, Met.UNSIGNED, 1.0)
    seen.add(A, Met.SIGNED, 2.0)
    seen.add(B, Met.REFUSED, 3.0)
    assert seen.take_new() == [(A, 1, 1.0), (A, 2, 2.0), (B, 0, 3.0)]
    assert seen.take_new() == []
    seen.add(C, Met.SIGNED, 4.0)
    assert seen.take_new() == [(C, 2, 4.0)]


def test_what_an_earlier_run_kept_is_known_and_not_new():
    seen = Seen()
    seen.restore([(A, 1, 1.0), (B, 0, 2.0), (A, 2, 3.0)])
    assert (seen.get(A), seen.get(B)) == (Met.SIGNED, Met.REFUSED)
    assert type(seen.get(A)) is Met
    assert seen.take_new() == []
    seen.expire(DAY + 100.0)
    assert len(seen) == 0


def test_more_than_fits_is_not_restored():
    seen = Seen(capacity=2)
    seen.restore((digest(number), 2, float(number)) for number in range(5))
    assert len(seen) == 2
    assert seen.get(digest(4)) is Met.SIGNED


@given(
    st.lists(st.tuples(st.integers(0, 12), st.sampled_from(Met), st.floats(0.1, 400)), max_size=40),
    st.integers(1, 6),
)
def test_against_a_model(steps, capacity):
    """A plain map of what was met and when, from which too old and too many are taken."""
    seen, model, now = Seen(capacity, lifetime=600.0), {}, 0.0
    for number, met, passes in steps:
        now += passes
        seen.expire(now)
        for known, (_, at) in list(model.items()):
            if seen.get(digest(known)) is None:
                assert now - at > 600.0
                del model[known]
            else:
                assert now - at <= 660.0
        _, first_met = model.get(number, (None, now))
        seen.add(digest(number), met, now)
        model[number] = met, first_met
        if len(model) > capacity:
            del model[min(model, key=lambda known: model[known][1])]
        assert len(seen) == len(model)
        assert {known: seen.get(digest(known)) for known in model} == {
            known: met for known, (met, _) in model.items()
        }
