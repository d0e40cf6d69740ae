import itertools
import json
import pathlib
import tracemalloc

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from zeromsg.errors import TheirMistake
from zeromsg.wire import framing
from zeromsg.wire.framing import Framer
from zeromsg.wire.packing import MESSAGE_LIMIT, pack

VECTORS = pathlib.Path(__file__).parents[1] / "vectors"
STREAMS_ALLOWED = 10_000

CHUNK = 65536
"""What a transport reads at a time."""


def with_bytes(value):
    """The value of a vector, where bytes are written as {"$bin": hex}."""
    if isinstance(value, list):
        return [with_bytes(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "$bin" in value:
        return bytes.fromhex(value["$bin"])
    return {key: with_bytes(item) for key, item in value.items()}


def one_way(messages, direction):
    """What one side of a recorded connection wrote: pieces of bytes, and what they mean."""
    pieces, decoded = [], []
    for message in messages:
        if message["dir"] != direction or message["kind"] == "tls":
            continue
        data = bytes.fromhex(message["hex"])
        if message["kind"] == "stream":
            pieces[-1] += data
            decoded[-1]["body"] = data
        else:
            pieces.append(data)
            decoded.append(with_bytes(message["decoded"]))
    return pieces, decoded


RECORDED = {
    f"{name}-{number}{direction}": one_way(connection["messages"], direction)
    for name in ("wire-plain", "wire-plain-more", "wire-announce", "wire-tls")
    for number, connection in enumerate(
        json.loads((VECTORS / f"{name}.json").read_text())["connections"]
    )
    for direction in "><"
    if any(message["kind"] == "msg" for message in connection["messages"])
}
recorded = pytest.mark.parametrize(("pieces", "decoded"), RECORDED.values(), ids=RECORDED)


def framer(allowed=STREAMS_ALLOWED):
    return Framer(lambda message: allowed)


def feed(framer, chunk):
    return list(framer.feed(chunk))


def feed_all(framer, data, size):
    messages = []
    for start in range(0, len(data), size):
        messages += feed(framer, data[start : start + size])
    return messages


def cut(data, cuts):
    """The data in chunks that end at these places."""
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def outcome(chunks, allowed=STREAMS_ALLOWED):
    """What a framer makes of chunks: its messages, or None where it refuses them."""
    cutter, messages = framer(allowed), []
    try:
        for chunk in chunks:
            messages += feed(cutter, chunk)
    except TheirMistake:
        return None
    # As text, since NaN is unlike itself.
    return repr(messages), cutter.partial


def test_the_recordings_hold_what_they_should():
    everything = [message for _, decoded in RECORDED.values() for message in decoded]
    assert len(everything) > 100
    assert sum("stream_bytes" in message for message in everything) >= 5


@recorded
def test_a_recorded_direction_at_once(pieces, decoded):
    cutter = framer()
    assert feed(cutter, b"".join(pieces)) == decoded
    assert not cutter.partial


@recorded
def test_a_recorded_direction_byte_by_byte(pieces, decoded):
    cutter = framer()
    for piece, message in zip(pieces, decoded, strict=True):
        for position in range(len(piece) - 1):
            assert feed(cutter, piece[position : position + 1]) == []
            assert cutter.partial
        assert feed(cutter, piece[-1:]) == [message]
        assert not cutter.partial


@given(st.sampled_from(sorted(RECORDED)), st.lists(st.integers(min_value=0), max_size=30))
def test_a_recorded_direction_in_any_chunks(name, cuts):
    pieces, decoded = RECORDED[name]
    cutter, messages = framer(), []
    for chunk in cut(b"".join(pieces), cuts):
        messages += feed(cutter, chunk)
    assert messages == decoded
    assert not cutter.partial


plain_values = st.none() | st.booleans() | st.integers(-99, 2**40) | st.text() | st.binary()
maps = st.dictionaries(
    st.text(max_size=8).filter(lambda key: key not in ("stream_bytes", "body")),
    plain_values | st.lists(plain_values, max_size=4),
    max_size=4,
)


@given(
    st.lists(st.tuples(maps, st.none() | st.binary(max_size=300)), max_size=6),
    st.lists(st.integers(min_value=0), max_size=20),
)
def test_any_chunking_yields_the_same_messages(stream, cuts):
    data, wanted = b"", []
    for message, body in stream:
        if body is None:
            data += pack(message)
            wanted.append(message)
        else:
            announced = {**message, "stream_bytes": len(body)}
            data += pack(announced) + body
            wanted.append({**announced, "body": body})
    cutter, messages = framer(), []
    for chunk in cut(data, cuts):
        messages += feed(cutter, chunk)
    assert messages == wanted
    assert not cutter.partial


@st.composite
def damaged(draw):
    """Real traffic with some bytes replaced, left out or put in."""
    pieces, _ = RECORDED[draw(st.sampled_from(sorted(RECORDED)))]
    start = draw(st.integers(0, max(len(pieces) - 3, 0)))
    data = bytearray(b"".join(pieces[start : start + 3]))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(data) - 1))
        data[place : place + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(data)


hostile = st.binary(max_size=200) | st.binary(max_size=200).map(b"\x82".__add__) | damaged()


@settings(max_examples=500)
@given(hostile, st.lists(st.integers(min_value=0), max_size=20))
@example(b"\x81\x90\x01", [1])  # a list as a key
@example(b"\x81\x80\x01", [])  # a map as a key
@example(b"\x81\x01\xd6\xff\0\0\0\0", [])  # a timestamp
@example(b"\x81\x01\xc7\x00\xff", [])  # an empty timestamp
@example(b"\x81\x01\xc1", [2])  # the byte that msgpack never uses
@example(b"\x80" * 3 + b"\x16\x03\x01", [2])
def test_hostile_bytes_raise_only_their_mistake_however_they_are_cut(data, cuts):
    assert outcome(cut(data, cuts)) == outcome([data])


@pytest.mark.parametrize("first", range(256))
def test_a_message_starts_as_a_map_or_is_refused_at_its_first_byte(first):
    is_map = 0x80 <= first <= 0x8F or first in (0xDE, 0xDF)
    for before in (b"", pack({"cmd": "ping"})):
        split, whole = framer(), framer()
        feed(split, before)
        if is_map:
            feed(split, bytes([first]))
            feed(whole, before + bytes([first]))
        else:
            with pytest.raises(TheirMistake):
                feed(split, bytes([first]))
            with pytest.raises(TheirMistake):
                feed(whole, before + bytes([first]))


def test_nothing_in_gives_nothing_out():
    cutter = framer()
    assert feed(cutter, b"") == []
    feed(cutter, b"\x81")
    assert feed(cutter, b"") == []
    assert cutter.partial


# Sizes.


def of_size(size):
    """A message of exactly so many bytes."""
    message = pack({"cmd": "x", "params": {"raw": bytes(size - 24)}})
    assert len(message) == size
    return message


def test_the_largest_message_passes():
    assert len(feed_all(framer(), of_size(MESSAGE_LIMIT), CHUNK)) == 1


def test_the_largest_message_passes_with_others_around_it():
    """Their bytes share chunks with it, but do not count as its own."""
    small = pack({"cmd": "ping", "req_id": 1, "params": {}})
    stream = small * 100 + of_size(MESSAGE_LIMIT) + small * 1000
    assert len(feed_all(framer(), stream, CHUNK)) == 1101


@pytest.mark.parametrize("size", [CHUNK, 2 * MESSAGE_LIMIT])
def test_a_message_that_is_one_byte_too_large_is_refused(size):
    with pytest.raises(TheirMistake):
        feed_all(framer(), of_size(MESSAGE_LIMIT + 1), size)


def test_a_large_message_of_small_parts_is_refused_too():
    """The unpacker's own buffer stays small then, so it does not notice."""
    message = pack({"cmd": "x", "params": {"l": [bytes(10_000)] * 600}})
    assert len(message) > MESSAGE_LIMIT
    with pytest.raises(TheirMistake, match="size limit"):
        feed_all(framer(), message, CHUNK)


def test_a_message_that_grows_too_large_is_refused_before_its_end():
    cutter = framer()
    endless = b"\x81\xa1l\xdc\x20\x00" + pack(bytes(10_000)) * 600
    with pytest.raises(TheirMistake, match="size limit"):
        feed_all(cutter, endless[: MESSAGE_LIMIT + 1], CHUNK)
    assert len(feed_all(framer(), endless[:MESSAGE_LIMIT], CHUNK)) == 0


def test_many_small_messages_are_no_large_one():
    small = pack({"cmd": "ping", "req_id": 1, "params": {"x": bytes(50_000)}})
    assert len(feed_all(framer(), small * 110, CHUNK)) == 110


@pytest.mark.parametrize(
    "header",
    [
        b"\x81\xa1l\xdb\x7f\xff\xff\xff",
        b"\x81\xa1l\xc6\x7f\xff\xff\xff",
        b"\x81\xa1l\xdd\x7f\xff\xff\xff",
        b"\x81\xa1l\xdf\x7f\xff\xff\xff",
        b"\xdf\x7f\xff\xff\xff",
    ],
    ids=["text", "binary", "list", "map", "the message itself"],
)
def test_a_giant_length_takes_no_more_memory_than_what_came_of_it(header):
    cutter = framer()
    tracemalloc.start()
    try:
        assert feed(cutter, header) == []
        assert tracemalloc.get_traced_memory()[1] < 100_000
        with pytest.raises(TheirMistake):
            feed_all(cutter, bytes(MESSAGE_LIMIT), CHUNK)
        assert tracemalloc.get_traced_memory()[1] < 5 * MESSAGE_LIMIT
    finally:
        tracemalloc.stop()


def peak(cutter, data):
    """Most bytes that were taken while the framer got the data, which ends no message."""
    tracemalloc.start()
    try:
        assert feed_all(cutter, data, CHUNK) == []
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("header", [b"\xdc\x20\x00", b"\xdd\x00\x00\x20\x00"])
def test_lists_in_lists_whose_content_does_not_come_take_no_room(header):
    assert peak(framer(), b"\x81\xa1l" + header * 1000) < 100_000


@pytest.mark.parametrize("empty", [b"\x80", b"\x90", b"\xa2xy"])
def test_what_came_of_a_message_takes_its_size_however_many_parts_it_has(empty):
    row = b"\xdc\x20\x00" + empty * 8192
    data = (b"\x81\xa1l\xdc\x20\x00" + row * 600)[: MESSAGE_LIMIT - 1]
    assert peak(framer(), data) < 1.5 * MESSAGE_LIMIT


def test_the_room_that_a_large_message_took_is_given_back():
    cutter = framer()
    tracemalloc.start()
    try:
        assert len(feed_all(cutter, of_size(MESSAGE_LIMIT), CHUNK)) == 1
        assert len(feed(cutter, pack({"cmd": "ping"}))) == 1
        assert tracemalloc.get_traced_memory()[0] < 100_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("opening", [b"\x91", b"\x81\x01"], ids=["lists", "maps"])
def test_deep_nesting_is_refused(opening):
    with pytest.raises(TheirMistake):
        feed(framer(), b"\x81\x01" + opening * 100_000)


# Streamed bodies.


def announcement(size, to=2):
    return pack({"cmd": "response", "to": to, "stream_bytes": size})


def test_the_limit_is_asked_with_the_message_that_announces():
    asked = []
    cutter = Framer(lambda message: asked.append(dict(message)) or 5)
    (message,) = feed(cutter, announcement(3) + b"abc")
    assert asked == [{"cmd": "response", "to": 2, "stream_bytes": 3}]
    assert message["body"] == b"abc"


def test_the_limit_is_not_asked_for_ordinary_messages():
    cutter = Framer(lambda message: pytest.fail("nothing was announced"))
    assert len(feed(cutter, pack({"cmd": "response", "to": 2, "body": b"abc"}))) == 1


@pytest.mark.parametrize("size", [0, 1, 5])
def test_a_body_up_to_the_limit_is_taken(size):
    ping = {"cmd": "ping"}
    cutter = framer(allowed=5)
    message, after = feed(cutter, announcement(size) + b"abcde"[:size] + pack(ping))
    assert message["body"] == b"abcde"[:size]
    assert after == ping


@pytest.mark.parametrize("size", [6, 2**40, -1, 1.0, True, False, None, "3", b"3", [3], {}])
def test_a_body_that_was_not_asked_for_is_refused_before_it_comes(size):
    with pytest.raises(TheirMistake, match="nobody asked"):
        feed(framer(allowed=5), announcement(size))


def test_a_body_where_none_was_asked_for_is_refused():
    with pytest.raises(TheirMistake, match="nobody asked"):
        feed(framer(allowed=0), announcement(1) + b"x")


def test_a_body_may_be_larger_than_a_message():
    size = MESSAGE_LIMIT + 10
    cutter = framer(allowed=size)
    body = bytes(range(256)) * (size // 256 + 1)
    stream = announcement(size) + body[:size] + pack({"cmd": "ping"})
    message, after = feed_all(cutter, stream, CHUNK)
    assert message["body"] == body[:size]
    assert after == {"cmd": "ping"}
    # Nor does it count for the message that follows.
    assert len(feed_all(cutter, of_size(MESSAGE_LIMIT), CHUNK)) == 1


def test_what_follows_a_body_must_be_a_map_again():
    for stream in (announcement(2) + b"ab" + b"\x93", announcement(2) + b"ab" + b"cd"):
        for size in (len(stream), 1):
            with pytest.raises(TheirMistake):
                feed_all(framer(), stream, size)


def test_a_body_that_is_on_its_way_is_a_partial_message():
    cutter = framer()
    assert feed(cutter, announcement(2)) == []
    assert cutter.partial
    assert feed(cutter, b"a") == []
    assert cutter.partial
    assert len(feed(cutter, b"b")) == 1
    assert not cutter.partial


# Scanners are shared between connections


def test_messages_of_connections_that_take_turns_do_not_mix():
    """Byte by byte, each connection in the middle of a message while others begin theirs."""
    count = 3 * framing.SPARES
    sent = [
        [{"cmd": f"{number}-{turn}", "n": number} for turn in range(3)] for number in range(count)
    ]
    streams = [b"".join(map(pack, messages)) for messages in sent]
    framers = [framer() for _ in range(count)]
    got = [[] for _ in range(count)]
    for bytes_of_all in itertools.zip_longest(*streams):
        for number, byte in enumerate(bytes_of_all):
            if byte is not None:
                got[number] += feed(framers[number], bytes([byte]))
    assert got == sent
    assert len(framing._spares) <= framing.SPARES


def test_what_could_not_be_read_spoils_no_other_connection():
    bad = b"\x81\x81\xa1a\x01\x01"  # a map as a map's key
    for _ in range(2 * framing.SPARES):
        spoilt, cut = framer(), framer()
        assert feed(cut, pack({"a": 1})[:-1]) == []
        with pytest.raises(TheirMistake):
            feed(spoilt, bad)
        assert feed(framer(), pack({"cmd": "x"})) == [{"cmd": "x"}]


def test_an_idle_connection_keeps_no_scanner():
    framers = [framer() for _ in range(100)]
    for each in framers:
        feed(each, pack({"cmd": "x"}))
    tracemalloc.start()
    more = [framer() for _ in range(100)]
    for each in more:
        feed(each, pack({"cmd": "x"}))
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken < 100 * 2000


def test_a_scanner_that_held_much_is_not_kept():
    framing._spares.clear()
    one = framer()
    data = pack({"cmd": "x", "text": "y" * (2 * framing._LARGE)})
    for start in range(0, len(data), CHUNK):
        messages = feed(one, data[start : start + CHUNK])
    assert len(messages) == 1 and framing._spares == []
    feed(one, pack({"cmd": "x"}))
    assert len(framing._spares) == 1
