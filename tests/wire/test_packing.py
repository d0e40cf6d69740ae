import json
import pathlib
import tracemalloc

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeromsg.wire.packing import MESSAGE_LIMIT, pack, packed_request, scanner, unpack

VECTORS = pathlib.Path(__file__).parents[1] / "vectors"
RECORDED = [
    pytest.param(message, id=f"{name}-{number}")
    for name in ("wire-plain", "wire-plain-more", "wire-announce", "wire-tls")
    for number, message in enumerate(
        message
        for connection in json.loads((VECTORS / f"{name}.json").read_text())["connections"]
        for message in connection["messages"]
        if message["kind"] == "msg"
    )
]

keys = st.text(max_size=5) | st.integers(-5, 5) | st.binary(max_size=5)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)


def with_bytes(value):
    """The value of a vector, where bytes are written as {"$bin": hex}."""
    if isinstance(value, list):
        return [with_bytes(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "$bin" in value:
        return bytes.fromhex(value["$bin"])
    return {key: with_bytes(item) for key, item in value.items()}


@pytest.mark.parametrize("message", RECORDED)
def test_packs_and_unpacks_as_real_nodes_do(message):
    decoded = with_bytes(message["decoded"])
    assert pack(decoded).hex() == message["hex"]
    assert unpack(bytes.fromhex(message["hex"])) == decoded


@given(values)
def test_packing_is_undone_by_unpacking(value):
    assert unpack(pack(value)) == value


@given(st.text(max_size=40), st.integers(0, 2**64 - 1), st.dictionaries(keys, values, max_size=4))
def test_a_request_around_packed_params_is_the_request_packed_whole(cmd, req_id, params):
    whole = pack({"cmd": cmd, "req_id": req_id, "params": params})
    assert packed_request(cmd, req_id, pack(params)) == whole


@pytest.mark.parametrize("value", [{"a": object()}, [1, "\ud800"], 2**64, {"a": {1, 2}}])
def test_a_value_that_cannot_be_packed_leaves_nothing_behind(value):
    with pytest.raises((TypeError, ValueError, OverflowError)):
        pack(["before", value])
    assert pack(1) == b"\x01"


@given(st.binary(max_size=100))
def test_text_that_is_no_utf8_survives(data):
    """Peers older than the bin type send bytes as text."""
    old = msgpack.packb(data, use_bin_type=False)
    assert unpack(old).encode("utf-8", "surrogateescape") == data


@pytest.mark.parametrize(
    ("build", "most"),
    [(lambda size: [None] * size, 8192), (lambda size: dict.fromkeys(range(size)), 8192)],
    ids=["list", "map"],
)
def test_long_lists_and_maps_are_refused(build, most):
    assert len(unpack(msgpack.packb(build(most)))) == most
    with pytest.raises(ValueError, match="exceeds"):
        unpack(msgpack.packb(build(most + 1)))


@pytest.mark.parametrize("data", [b"\xd4\x05x", b"\xd6\xff\0\0\0\0", b"\xc7\x01\x01x"])
def test_extension_types_are_refused(data):
    with pytest.raises(ValueError, match="exceeds max_ext_len"):
        unpack(data)


@pytest.mark.parametrize(
    "header",
    [
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xc9\x7f\xff\xff\xff\x01",
    ],
    ids=["array32", "map32", "str32", "bin32", "ext32"],
)
def test_a_giant_length_allocates_nothing(header):
    finder = scanner()
    tracemalloc.start()
    try:
        finder.feed(header)
        with pytest.raises(msgpack.OutOfData):
            finder.skip()
        with pytest.raises(ValueError, match=r"exceeds|incomplete"):
            unpack(header)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("empty", [b"\x90", b"\x80"], ids=["lists", "maps"])
def test_a_message_of_very_many_lists_or_maps_is_refused(empty):
    """One of five megabytes took over 300."""

    row = b"\xdc\x20\x00" + empty * 8192
    assert len(unpack(b"\x92" + row * 2)) == 2
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="too many lists and maps"):
            unpack(b"\xdc\x02\x00" + row * 512)
        assert tracemalloc.get_traced_memory()[1] < 10 * 1024 * 1024
    finally:
        tracemalloc.stop()


def test_a_message_has_the_size_that_real_nodes_take():
    assert MESSAGE_LIMIT == 5 * 1024 * 1024


@pytest.mark.parametrize("make", [bytes, lambda size: "x" * size], ids=["bin", "str"])
def test_one_text_may_be_as_long_as_a_message(make):
    assert len(unpack(pack(make(MESSAGE_LIMIT)))) == MESSAGE_LIMIT
    with pytest.raises(ValueError, match="exceeds"):
        unpack(pack(make(MESSAGE_LIMIT + 1)))
