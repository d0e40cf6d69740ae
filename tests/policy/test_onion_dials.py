"""The budget of onion dials."""

import random

import pytest

from zeromsg.policy.onion_dials import IN_FLIGHT, REMEMBERED, OnionDials
from zeromsg.protocol.socks import OURS, Problem
from zeromsg.wire.values import PeerAddress

ONION = "vww6ybal4bd7szmgncyruucpgfkqahzddi37ktceo3ah7ngmcopnpyyd.onion"
PEER = PeerAddress(ONION, 1)


def test_few_at_once() -> None:
    dials = OnionDials(random.Random(1))
    for _ in range(IN_FLIGHT):
        assert dials.refusal(PEER, 0.0) == ""
        dials.begun()
    assert "too many" in dials.refusal(PEER, 0.0)
    dials.ended()
    assert dials.refusal(PEER, 0.0) == ""


def pause_after(problem: Problem, failures: int = 1) -> float:
    dials = OnionDials(random.Random(1))
    for _ in range(failures):
        dials.failed(PEER, problem, 0.0)
    return next((s for s in range(200_000) if not dials.refusal(PEER, float(s))), 200_000)


def test_what_failed_waits_as_long_as_its_reason_says() -> None:
    assert pause_after(Problem.RENDEZVOUS) < pause_after(Problem.NO_DESCRIPTOR)
    assert pause_after(Problem.NO_DESCRIPTOR) < pause_after(Problem.REFUSED)
    assert pause_after(Problem.REFUSED) < pause_after(Problem.KEY_MISSING)
    assert pause_after(Problem.BAD_ADDRESS) > 50_000


@pytest.mark.parametrize("problem", sorted(OURS, key=lambda problem: problem.name))
def test_problems_of_our_tor_are_none_of_the_onions(problem: Problem) -> None:
    assert pause_after(problem) == 0


def test_pauses_grow_to_a_bound_and_end_with_success() -> None:
    assert pause_after(Problem.NO_DESCRIPTOR, 1) < pause_after(Problem.NO_DESCRIPTOR, 3)
    assert pause_after(Problem.NO_DESCRIPTOR, 60) <= 1800 * 1.25 + 1
    dials = OnionDials(random.Random(1))
    dials.failed(PEER, Problem.REFUSED, 0.0)
    assert dials.refusal(PEER, 1.0)
    dials.succeeded(PEER)
    assert not dials.refusal(PEER, 1.0)


def test_pauses_differ_by_chance() -> None:
    untils = set()
    dials = OnionDials(random.Random(1))
    for port in range(1, 20):
        dials.failed(PeerAddress(ONION, port), Problem.REFUSED, 0.0)
        peer = PeerAddress(ONION, port)
        untils.add(next(s for s in range(1000) if not dials.refusal(peer, float(s))))
    assert len(untils) > 5


def test_memory_is_bounded() -> None:
    dials = OnionDials(random.Random(1))
    first = PeerAddress(ONION, 1)
    for port in range(1, REMEMBERED + 2):
        dials.failed(PeerAddress(ONION, port), Problem.REFUSED, 0.0)
    assert not dials.refusal(first, 1.0)
