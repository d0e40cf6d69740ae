import json
import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from zeromsg.wire.json_text import DEPTH_ERRORS, NESTING_LIMIT, dump, dump_compact, load

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=15,
)


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


@given(values)
def test_dump_is_pythons_default(value):
    """Other nodes hash and filter that very text."""
    assert dump(value) == json.dumps(value)
    assert dump(value).isascii()


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ({"b": 1, "a": [1, 2]}, '{"b": 1, "a": [1, 2]}'),
        ("h\u00e9\U0001f600/\x7f", '"h\\u00e9\\ud83d\\ude00/\\u007f"'),
        (1e16, "1e+16"),
        (0.1, "0.1"),
        (-0.0, "-0.0"),
        ({1: None, 2.5: False}, '{"1": null, "2.5": false}'),
        ("\ud800", '"\\ud800"'),
    ],
)
def test_the_exact_text(value, written):
    assert dump(value) == written


@given(values)
def test_load_undoes_both_styles(value):
    assert load(dump(value)) == value
    assert load(dump_compact(value)) == value


def test_the_compact_style_has_no_spaces():
    assert dump_compact({"a": [1, 2], "b": "h\u00e9"}) == '{"a":[1,2],"b":"h\\u00e9"}'


@pytest.mark.parametrize("encode", [dump, dump_compact])
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_what_is_no_json_number_is_not_written(encode, number):
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode({"a": [number]})


@pytest.mark.parametrize(
    "text",
    [
        *("NaN", "Infinity", "-Infinity", "[1, NaN]", '{"a": Infinity}'),
        # JSON by its grammar, but an infinity once it is a float.
        *("1e999", "-1e999", "[1.0e400]", '{"a": 9' + "9" * 400 + ".0}"),
        *("", " ", "{", "[1,]", "{'a': 1}", '"\x01"', "01", "1 2", "nul", "\ufeff1", "\udcff"),
        "9" * 5000,
        "-" + "9" * 5000,
    ],
    ids=lambda text: repr(text)[:20],
)
def test_what_is_no_json_is_refused(text):
    with pytest.raises(ValueError):
        load(text)


@pytest.mark.parametrize(("text", "value"), [("1e308", 1e308), ("1e-999", 0.0), ("-0", 0)])
def test_the_largest_and_smallest_numbers_pass(text, value):
    assert load(text) == value


@pytest.mark.parametrize("opening", ["[", '{"a":', '[{"a":['])
def test_deep_nesting_is_a_value_error(opening):
    with pytest.raises(ValueError, match="nested too deeply"):
        load(opening * 60_000)


@pytest.mark.parametrize(
    ("opening", "closing", "times"),
    [("[", "]", 256), ('{"a":', "}", 256), ('["x", {"a":', "}]", 128)],
)
def test_nesting_has_one_limit_wherever_it_is_called_from(opening, closing, times):
    """What Python itself takes depends on how deep the calls are already."""
    assert NESTING_LIMIT == 256
    load(opening * times + "1" + closing * times)
    with pytest.raises(ValueError, match="nested too deeply"):
        load(opening * (times + 1) + "1" + closing * (times + 1))


def test_very_many_lists_and_maps_are_refused():
    """Ten megabytes of them took 300, and a second and a half."""
    for empty in ("[]", "{}"):
        many = ",".join([empty] * 199_999)
        assert len(load(f"[{many}]")) == 199_999
        with pytest.raises(ValueError, match="too many lists and maps"):
            load(f"[{many},{empty}]")


def test_many_brackets_are_not_deep():
    assert load(json.dumps([{"a": []}] * 1000 + ["[{" * 1000])) is not None


def test_deep_nesting_raises_nothing_else_when_written():
    for encode in (dump, dump_compact):
        with pytest.raises(DEPTH_ERRORS):
            encode(nested(100_000))


@settings(max_examples=300)
@given(
    st.text(st.characters(), max_size=40)
    | st.text('[]{}",:0123456789eE+-. nultrfasNIy\\u', max_size=40)
)
@example("[" * 3000)
def test_any_text_loads_or_raises_value_error(text):
    try:
        value = load(text)
    except ValueError:
        return
    # Whatever was taken can be written again.
    assert load(dump(value)) == value
