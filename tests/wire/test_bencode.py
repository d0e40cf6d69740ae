import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeromsg.errors import TheirMistake
from zeromsg.wire.bencode import DEPTH_LIMIT, ITEMS_LIMIT, decode


def encode(value) -> bytes:
    """The other direction, by the letter of BEP 3; only tests need it."""
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, bytes):
        return b"%d:%s" % (len(value), value)
    if isinstance(value, list):
        return b"l" + b"".join(map(encode, value)) + b"e"
    pairs = sorted(value.items())
    return b"d" + b"".join(encode(key) + encode(item) for key, item in pairs) + b"e"


values = st.recursive(
    st.integers(-(2**63) + 1, 2**63 - 1) | st.binary(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.binary(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


def nested(levels: int) -> bytes:
    return b"l" * levels + b"e" * levels


@given(values.filter(lambda value: encode(value).count(b"l") < DEPTH_LIMIT))
def test_what_was_encoded_is_read(value):
    try:
        assert decode(encode(value)) == value
    except TheirMistake as mistake:
        assert "nested" in str(mistake)


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"i0e", 0),
        (b"i-5e", -5),
        (b"0:", b""),
        (b"4:spam", b"spam"),
        (b"le", []),
        (b"de", {}),
        (b"d3:cowl3:mooe1:ni7ee\n", {b"cow": [b"moo"], b"n": 7}),
        # Keys out of order: many trackers do not sort.
        (b"d1:bi1e1:ai2ee", {b"b": 1, b"a": 2}),
    ],
)
def test_examples(data, value):
    assert decode(data) == value


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"i",
        b"ie",
        b"i-e",
        b"i1",
        b"i1.5e",
        b"i+1e",
        b"i" + b"9" * 20 + b"e",
        b"5:spam",
        b"-1:",
        b"99999999999:x",
        b"4294967295:x",
        b"l",
        b"d",
        b"d1:a",
        b"di1e1:ae",
        b"i1ei2e",
        b"i1e junk",
        b"<html>",
        nested(100_000),
        b"d" + b"1:ad" * 50_000,
    ],
)
def test_what_is_no_bencode(data):
    with pytest.raises(TheirMistake):
        decode(data)


def test_nesting_has_a_bound():
    assert decode(nested(DEPTH_LIMIT + 1)) is not None
    with pytest.raises(TheirMistake, match="nested too deeply"):
        decode(nested(DEPTH_LIMIT + 2))


def test_the_number_of_values_has_a_bound():
    assert len(decode(b"l" + b"0:" * (ITEMS_LIMIT - 1) + b"e")) == ITEMS_LIMIT - 1
    with pytest.raises(TheirMistake, match="too many values"):
        decode(b"l" + b"0:" * ITEMS_LIMIT + b"e")


@given(st.binary(max_size=60) | st.text("idle0123456789:-", max_size=60).map(str.encode))
def test_hostile_bytes_raise_only_their_mistake(data):
    try:
        decode(data)
    except TheirMistake as mistake:
        assert str(mistake)
