import itertools
import json

from hypothesis import given
from hypothesis import strategies as st

from zeromsg.policy.recorder import CHECKS_LIMIT, Recorder, Stopwatch

DIGEST, OTHER = b"d" * 32, b"o" * 32


def watch_of(*checks):
    """A stopwatch on which each check took a microsecond more than the one before."""
    ticks = itertools.accumulate(range(1000))
    watch = Stopwatch(lambda: next(ticks) * 1e-6)
    for name, passed in checks:
        watch.check(name, passed)
    return watch


def test_a_stopwatch_gives_each_check_its_own_time():
    watch = watch_of(("size", True), ("rate", True), ("filter", False))
    names = [(name, passed) for name, passed, _ in watch.checks]
    assert names == [("size", True), ("rate", True), ("filter", False)]
    assert [round(time, 6) for _, _, time in watch.checks] == [1.0, 2.0, 3.0]


def test_a_new_record_knows_nothing_but_its_time():
    recorder = Recorder()
    assert recorder.get(DIGEST) is None
    record = recorder.record(DIGEST, 100.0)
    assert recorder.get(DIGEST) is record
    assert record.to_map(with_peers=True) == {
        "site": "",
        "at": 100.0,
        "fate": "",
        "copies": 0,
        "checks": [],
        "from": [],
        "clients": 0,
        "verdict": None,
        "relays": 0,
        "heard": {},
        "queued": False,
    }


def test_a_record_stays_the_same_and_keeps_its_first_time():
    recorder = Recorder()
    record = recorder.record(DIGEST, 100.0)
    assert recorder.record(DIGEST, 200.0) is record
    assert record.at == 100.0


def test_records_share_nothing():
    recorder = Recorder()
    one, two = recorder.record(DIGEST, 0.0), recorder.record(OTHER, 0.0)
    one.heard["accept"] = 1
    one.checks.append(("size", True, 1.0))
    one.sources.append("a")
    assert (two.heard, two.checks, two.sources) == ({}, [], [])


def test_copies_are_told_apart():
    recorder = Recorder()
    spoilt = watch_of(("size", True), ("signature", False))
    recorder.copy(DIGEST, "192.0.2.1:1", "signature", spoilt, 100.0)
    good = watch_of(("size", True), ("signature", True))
    record = recorder.copy(DIGEST, "192.0.2.2:2", "accepted", good, 101.0)
    record.again("192.0.2.1:1")
    assert record is recorder.get(DIGEST)
    assert (record.at, record.copies, record.fate) == (100.0, 3, "accepted")
    assert record.sources == ["192.0.2.1:1", "192.0.2.2:2"]
    assert [(name, passed) for name, passed, _ in record.checks] == [
        *(("size", True), ("signature", False)),
        *(("size", True), ("signature", True)),
    ]


def test_addresses_are_shown_to_who_asks_for_them():
    recorder = Recorder()
    record = recorder.copy(DIGEST, "192.0.2.1:1", "filter", watch_of(("filter", False)), 100.0)
    shown, hidden = record.to_map(with_peers=True), record.to_map(with_peers=False)
    assert shown["from"] == ["192.0.2.1:1"]
    assert hidden["from"] == 1
    assert "192.0.2.1" not in json.dumps(hidden)
    assert shown["checks"] == [{"check": "filter", "passed": False, "microseconds": 1.0}]


def test_what_is_shown_can_be_changed_without_harm():
    record = Recorder().record(DIGEST, 0.0)
    record.again("a")
    shown = record.to_map(with_peers=True)
    shown["from"].append("b")
    shown["heard"]["accept"] = 5
    assert (record.sources, record.heard) == (["a"], {})


def test_everything_that_became_of_it():
    record = Recorder().record(DIGEST, 0.0)
    record.site, record.clients, record.verdict, record.relays = "1abc", 2, "accept", 5
    record.heard, record.queued = {"accept": 3, "reject": 1}, True
    shown = record.to_map(with_peers=False)
    assert (shown["site"], shown["clients"], shown["verdict"]) == ("1abc", 2, "accept")
    assert (shown["relays"], shown["heard"]) == (5, {"accept": 3, "reject": 1})
    assert shown["queued"] is True


# Memory.


def test_the_oldest_are_forgotten_first():
    recorder = Recorder(capacity=2)
    for digest in (b"1", b"2", b"1", b"3"):
        recorder.record(digest, 0.0)
    assert [digest for digest in (b"1", b"2", b"3") if recorder.get(digest)] == [b"2", b"3"]
    assert len(recorder) == 2


def test_ten_thousand_messages_are_remembered():
    recorder = Recorder()
    for number in range(10_500):
        recorder.record(number.to_bytes(32), 0.0)
    assert len(recorder) == 10_000
    assert recorder.get((499).to_bytes(32)) is None
    assert recorder.get((500).to_bytes(32)) is not None


def test_many_copies_of_one_message_take_bounded_memory():
    recorder = Recorder()
    for number in range(1000):
        watch = watch_of(*[(f"check {check}", True) for check in range(10)])
        record = recorder.copy(DIGEST, f"192.0.2.1:{number}", "rate", watch, 0.0)
        record.again(f"192.0.2.2:{number}")
    assert record.copies == 2000
    assert len(record.checks) == CHECKS_LIMIT == 64
    assert len(record.sources) == CHECKS_LIMIT
    assert record.checks[0][0] == "check 0"


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from("abc"), st.booleans()), max_size=60))
def test_copies_and_sources_balance(arrivals):
    recorder = Recorder(capacity=3)
    for number, (digest, source, known) in enumerate(arrivals):
        key = bytes([digest])
        record = recorder.get(key)
        if known and record is not None:
            before = record.copies
            record.again(source)
            assert record.copies == before + 1
        else:
            record = recorder.copy(key, source, "accepted", watch_of(("size", True)), number)
        assert source in record.sources
        assert len(set(record.sources)) == len(record.sources) <= record.copies
        assert len(recorder) <= 3
        assert recorder.get(key) is record
