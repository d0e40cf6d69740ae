"""Which questions about sites ZeroNet nodes are asked."""

from zeromsg.policy import asking
from zeromsg.policy.asking import (
    REFUSED_FREELY_SECONDS,
    REFUSED_SECONDS,
    UNKNOWING_SECONDS,
    WINDOW_SECONDS,
    Asking,
    Question,
)
from zeromsg.wire.values import PeerAddress

NODE = PeerAddress("203.0.113.1", 15441)
OTHER = PeerAddress("203.0.113.1", 15442)


def ask(made, site, now, likely=False, again=False, node=NODE):
    return made.question(node, site, now, likely=likely, again=again)


def test_the_free_question_comes_first():
    assert ask(Asking(), "a", 0) is Question.FREE


def test_a_free_refusal_holds_for_an_hour_unless_something_changed():
    made = Asking()
    made.refused(NODE, "a", Question.FREE, 0)
    assert ask(made, "a", REFUSED_FREELY_SECONDS - 1) is None
    assert ask(made, "a", 1, again=True) is Question.FREE
    assert ask(made, "b", 1) is ask(made, "a", 1, node=OTHER) is Question.FREE
    assert ask(made, "a", REFUSED_FREELY_SECONDS) is Question.FREE
    assert not made.was_refused(NODE, "a", 1)


def test_a_costly_refusal_holds_for_a_day_whatever_changed():
    made = Asking()
    made.refused(NODE, "a", Question.COSTLY, 0)
    assert made.was_refused(NODE, "a", 1)
    assert ask(made, "a", REFUSED_SECONDS - 1, again=True, likely=True) is None
    assert ask(made, "a", REFUSED_SECONDS) is Question.FREE
    made.holds(NODE, "a")
    assert ask(made, "a", 1) is Question.FREE


def test_charges_are_counted_within_a_window():
    made = Asking()
    made.does_not_know(NODE, 0)
    assert ask(made, "a", 1) is None
    assert ask(made, "a", 1, likely=True) is Question.COSTLY
    made.refused(NODE, "a", Question.COSTLY, 1)
    assert ask(made, "b", 2, likely=True) is None
    assert ask(made, "b", WINDOW_SECONDS) is None
    assert ask(made, "b", WINDOW_SECONDS, likely=True) is Question.COSTLY
    assert ask(made, "b", WINDOW_SECONDS + 1) is Question.COSTLY
    assert ask(made, "b", UNKNOWING_SECONDS) is Question.FREE


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(asking, "REFUSALS_LIMIT", 3)
    monkeypatch.setattr(asking, "NODES_LIMIT", 3)
    made = Asking()
    for number in range(10):
        made.refused(PeerAddress("203.0.113.9", number + 1), "a", Question.COSTLY, 0)
    assert len(made._refused) == len(made._nodes) == 3
    assert made.was_refused(PeerAddress("203.0.113.9", 10), "a", 1)
    assert not made.was_refused(PeerAddress("203.0.113.9", 7), "a", 1)
