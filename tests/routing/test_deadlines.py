import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from zeromsg.routing.deadlines import Deadlines


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def deadlines(clock):
    return Deadlines(clock)


@pytest.fixture
def called():
    return []


def test_an_action_is_called_once_when_its_time_comes(clock, deadlines, called):
    deadlines.add(5.0, lambda: called.append(clock.seconds()))
    clock.advance(4.5)
    assert called == []
    clock.advance(0.5)
    assert called == [5.0]
    clock.advance(100.0)
    assert called == [5.0]
    assert clock.getDelayedCalls() == []


def test_a_cancelled_action_is_not_called(clock, deadlines, called):
    first = deadlines.add(5.0, lambda: called.append("first"))
    deadlines.add(5.0, lambda: called.append("second"))
    first.cancel()
    clock.advance(5.0)
    assert called == ["second"]
    first.cancel()


def test_many_deadlines_take_one_timer(clock, deadlines, called):
    for number in range(100):
        deadlines.add(5.0, lambda number=number: called.append(number))
        clock.advance(0.01)
        assert len(clock.getDelayedCalls()) == 1
    clock.advance(5.0)
    assert called == list(range(100))


def test_a_shorter_one_that_is_added_later_is_called_first(clock, deadlines, called):
    deadlines.add(60.0, lambda: called.append("long"))
    clock.advance(1.0)
    deadlines.add(5.0, lambda: called.append("short"))
    assert len(clock.getDelayedCalls()) == 1
    clock.advance(5.0)
    assert called == ["short"]
    clock.advance(54.0)
    assert called == ["short", "long"]


def test_what_is_due_already_is_called_on_the_next_turn(clock, deadlines, called):
    deadlines.add(0.0, lambda: called.append(1))
    assert called == []
    clock.advance(0.0)
    assert called == [1]


def test_an_action_may_add_others(clock, deadlines, called):
    def again():
        called.append(clock.seconds())
        if len(called) < 4:
            deadlines.add(5.0, again)

    deadlines.add(5.0, again)
    deadlines.add(12.0, lambda: called.append("twelve"))
    for _ in range(30):
        clock.advance(1.0)
    assert called == [5.0, 10.0, "twelve", 15.0]


def test_an_action_may_cancel_others(clock, deadlines, called):
    later = []
    deadlines.add(5.0, lambda: later[0].cancel())
    later.append(deadlines.add(5.0, lambda: called.append("cancelled")))
    deadlines.add(5.0, lambda: called.append("other"))
    clock.advance(5.0)
    assert called == ["other"]


def test_stop_forgets_everything(clock, deadlines, called):
    deadlines.add(5.0, lambda: called.append(1))
    deadlines.stop()
    assert clock.getDelayedCalls() == []
    clock.advance(10.0)
    assert called == []
    deadlines.stop()


def test_stopping_from_an_action_forgets_what_is_due_too(clock, deadlines, called):
    deadlines.add(5.0, deadlines.stop)
    deadlines.add(5.0, lambda: called.append("same length"))
    clock.advance(1.0)
    deadlines.add(4.0, lambda: called.append("other length"))
    clock.advance(10.0)
    assert called == []
    assert clock.getDelayedCalls() == []


def test_it_can_be_used_again_after_it_was_stopped(clock, deadlines, called):
    deadlines.add(5.0, lambda: called.append(1))
    deadlines.stop()
    deadlines.add(5.0, lambda: called.append(2))
    clock.advance(5.0)
    assert called == [2]


def test_an_action_that_raises_does_not_keep_others_from_their_time(clock, deadlines, called):
    def fail():
        raise RuntimeError("a bug")

    deadlines.add(5.0, fail)
    deadlines.add(5.0, lambda: called.append("due"))
    deadlines.add(60.0, lambda: called.append("later"))
    with pytest.raises(RuntimeError, match="a bug"):
        clock.advance(5.0)
    clock.advance(0.0)
    assert called == ["due"]
    clock.advance(55.0)
    assert called == ["due", "later"]


def test_nothing_waits_for_cancelled_ones(clock, deadlines):
    for _ in range(3):
        deadlines.add(5.0, lambda: None).cancel()
    clock.advance(5.0)
    assert clock.getDelayedCalls() == []


# Steps: a length adds a deadline, None cancels the latest, a fraction lets time pass.
steps = st.lists(
    st.sampled_from([1.0, 2.0, 4.0]).map(lambda length: ("add", length))
    | st.integers(0, 9).map(lambda which: ("cancel", which))
    | st.integers(0, 12).map(lambda quarters: ("pass", quarters / 4)),
    max_size=40,
)


@given(steps)
def test_against_a_timer_for_each(steps):
    clock, reference = Clock(), Clock()
    deadlines, called, wanted = Deadlines(clock), [], []
    added = []
    for number, (step, value) in enumerate(steps):
        if step == "add":
            added.append(
                (
                    deadlines.add(value, lambda number=number: called.append(number)),
                    reference.callLater(value, wanted.append, number),
                )
            )
        elif step == "cancel" and added:
            deadline, timer = added[value % len(added)]
            deadline.cancel()
            if timer.active():
                timer.cancel()
        elif step == "pass":
            clock.advance(value)
            reference.advance(value)
        assert sorted(called) == sorted(wanted)
        assert len(clock.getDelayedCalls()) <= 1
    clock.advance(10.0)
    reference.advance(10.0)
    assert sorted(called) == sorted(wanted)
    assert clock.getDelayedCalls() == []
