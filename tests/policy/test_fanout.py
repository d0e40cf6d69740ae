import random

from hypothesis import given
from hypothesis import strategies as st

from zeromsg.policy.fanout import choose

peers = st.lists(st.integers(0, 30), unique=True, max_size=20)


@given(peers, st.sets(st.integers(0, 30)), st.none() | st.integers(0, 25), st.integers(0, 99))
def test_as_many_as_wanted_and_there_never_an_excluded_one(candidates, exclude, count, seed):
    chosen = choose(candidates, exclude, count, random.Random(seed))
    eligible = set(candidates) - exclude
    assert len(chosen) == len(set(chosen))
    assert set(chosen) <= eligible
    assert len(chosen) == (len(eligible) if count is None else min(count, len(eligible)))


@given(peers, st.integers(0, 25), st.integers(0, 99))
def test_one_seed_one_fan_out(candidates, count, seed):
    first = choose(candidates, (), count, random.Random(seed))
    again = choose(iter(candidates), (), count, random.Random(seed))
    assert first == again


def test_everybody_has_the_same_chance():
    rng = random.Random(1)
    heard = dict.fromkeys(range(10), 0)
    for _ in range(2000):
        for peer in choose(heard, {0}, 3, rng):
            heard[peer] += 1
    assert heard.pop(0) == 0
    # 667 each on average; 100 are more than four standard deviations.
    assert all(abs(times - 2000 * 3 / 9) < 100 for times in heard.values())


def test_nobody_else_is_consulted_when_all_are_wanted():
    """The order of who is asked is the order of the candidates."""
    assert choose([3, 1, 2], {9}, None, random.Random(1)) == [3, 1, 2]
    assert choose([3, 1, 2], (), 3, random.Random(1)) == [3, 1, 2]


def test_none_wanted_none_chosen():
    assert choose([1, 2, 3], (), 0, random.Random(1)) == []
    assert choose([], (), 5, random.Random(1)) == []
