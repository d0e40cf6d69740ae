"""A million distinct signers: whoever makes keys for ever takes no more memory than others."""

import pytest

from zeromsg.policy import program as program_module
from zeromsg.policy.judges import SOURCES_LIMIT, Judges
from zeromsg.policy.program import Facts, Program
from zeromsg.policy.rate import SENDER_LIMIT, Buckets, Frequency
from zeromsg.policy.scoring import IDENTITY_LIMIT, Scoring

MILLION = 1_000_000
FEWER = 100_000
"""Ten times of what is kept, where each takes its time."""


def names(count=MILLION):
    return (f"key:{number}" for number in range(count))


def test_their_points():
    scoring = Scoring()
    scoring.charge("key:0", 50.0, 0.0)
    for name in names():
        scoring.charge(name, 5.0, 1.0)
    assert len(scoring._records) == IDENTITY_LIMIT
    assert scoring.points(f"key:{MILLION - 1}", 1.0) == 5.0
    assert scoring.points("key:0", 1.0) == 0.0


def test_their_rejections():
    scoring = Scoring()
    for name in names(FEWER):
        scoring.rejected(name, 10.0, 1.0)
    assert len(scoring._records) == IDENTITY_LIMIT


def test_what_neighbours_hold_against_them():
    judges = Judges()
    for name in names(FEWER):
        judges.objected(name, "192.0.2.1", 10.0, 1.0)
    assert len(judges._sources) == SOURCES_LIMIT


@pytest.mark.parametrize(
    ("kept", "count"),
    [(Frequency(), MILLION), (Buckets(5.0, 1.0), FEWER)],
    ids=["freq_limit", "rate"],
)
def test_their_rates(kept, count):
    for name in names(count):
        kept.spoke(name, 1.0)
    held = kept._last if isinstance(kept, Frequency) else kept._buckets
    assert len(held) == SENDER_LIMIT
    assert f"key:{count - 1}" in held


def test_their_counters(monkeypatch):
    monkeypatch.setattr(program_module, "SIGNERS_LIMIT", 100)
    program = Program({"accept": "true", "counters": {"n": "counters.n + 1"}})
    for name in names(FEWER // 10):
        program.accepted(Facts(None, 4, name, "", 0.0))
    assert len(program._kept) == 100
