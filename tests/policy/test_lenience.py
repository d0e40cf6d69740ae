"""How much that costs nothing a sender may bring before it has to wait."""

import pytest

from zeromsg.policy.lenience import BURST, LONGEST_PAUSE, PER_SECOND, SECONDS_EACH, Lenience


def test_a_burst_is_forgiven_and_then_a_rate():
    lenience = Lenience()
    pauses = [lenience.forgiven("a", 0.0, 0.0) for _ in range(int(BURST))]
    assert pauses == [0.0] * int(BURST)
    assert lenience.forgiven("a", 0.0, 0.0) == pytest.approx(1 / PER_SECOND)
    assert lenience.forgiven("b", 0.0, 0.0) == 0.0
    # Whoever keeps to the rate never waits.
    for number in range(1000):
        assert lenience.forgiven("a", 0.0, 10.0 + number / PER_SECOND) == 0.0


def test_what_takes_long_counts_for_many():
    lenience = Lenience()
    for _ in range(int(BURST / 101)):
        assert lenience.forgiven("a", 100 * SECONDS_EACH, 0.0) == 0.0
    pauses = [lenience.forgiven("a", 100 * SECONDS_EACH, 0.0) for _ in range(2)]
    # A tenth of a second each: in the long run two in a hundred of the node's time.
    assert pauses[1] - pauses[0] > 4.0


def test_no_pause_is_longer_than_a_request_may_take():
    lenience = Lenience()
    for _ in range(10_000):
        pause = lenience.forgiven("a", 1.0, 0.0)
    assert pause == LONGEST_PAUSE
