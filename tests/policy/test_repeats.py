"""Refused messages that come again as they were."""

import attrs
import msgspec
import pytest

from zeromsg.policy import repeats
from zeromsg.policy.repeats import REPEAT_SECONDS, Repeats
from zeromsg.policy.validation import Rejected
from zeromsg.wire.peer_messages import parse_envelope

REFUSED = Rejected("signed-only", 5, "Not signed message", final=False)


def envelope(number=1, **more):
    return parse_envelope({"raw": "{}", "nonce": str(number), "signature": "a|b", **more})


def test_the_same_bytes_of_the_same_sender_are_known_again_for_a_minute():
    met = Repeats()
    assert met.get("a", envelope(), 0.0) is None
    met.refused("a", envelope(), REFUSED, 0.0)
    assert met.get("a", envelope(), REPEAT_SECONDS - 1) is REFUSED
    assert met.get("b", envelope(), 1.0) is None
    assert met.get("a", envelope(2), 1.0) is None
    assert met.get("a", envelope(), REPEAT_SECONDS) is None


@pytest.mark.parametrize(
    "more", [{"signature": "a|c"}, {"cert": ["x"]}, {"signature": ""}, {"cert": "\ud800"}]
)
def test_another_signature_or_certificate_is_no_repeat(more):
    met = Repeats()
    met.refused("a", envelope(), REFUSED, 0.0)
    assert met.get("a", envelope(**more), 1.0) is None
    met.refused("a", envelope(**more), REFUSED, 1.0)
    assert met.get("a", envelope(**more), 2.0) is REFUSED


def test_a_trace_does_not_matter():
    met = Repeats()
    met.refused("a", envelope(), REFUSED, 0.0)
    traced = msgspec.structs.replace(envelope(), trace=("1.2.3.4:5",))
    assert met.get("a", traced, 1.0) is REFUSED


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(repeats, "REPEATS_LIMIT", 3)
    met = Repeats()
    for number in range(10):
        met.refused("a", envelope(number), attrs.evolve(REFUSED, text=str(number)), 0.0)
    known = [number for number in range(10) if met.get("a", envelope(number), 1.0)]
    assert known == [7, 8, 9]
