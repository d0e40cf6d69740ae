import json
import re
import time

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from zeromsg.policy.filters import PATTERN_LIMIT, BadFilter, Filter

# Patterns of what Python and RE2 have in common, as sites write them.
letters = st.sampled_from('ab1 "{}[]:,\\')
atoms = (
    letters.map(re.escape)
    | st.sampled_from([".", r"\d", r"\w", r"\s", r"\W", "[a-z]", '[^"]', "[ab1]", r"[\]\d]"])
    | st.sampled_from(["^", "$", r"\b"])
)
repeats = st.sampled_from(["", "*", "+", "?", "*?", "{2}", "{1,}", "{,2}", "{0,3}", "{,1}?"])
# An anchor is not repeated: what that means is nobody's concern.
pieces = atoms.flatmap(
    lambda atom: st.just(atom) if atom in ("^", "$", r"\b") else repeats.map(atom.__add__)
)
patterns = st.recursive(
    st.lists(pieces, min_size=1, max_size=4).map("".join),
    lambda inner: (
        st.tuples(inner, inner).map("(?:{0[0]}|{0[1]})".format)
        | inner.map("({})?".format)
        | inner.map("(?:{})".format)
    ),
    max_leaves=3,
)
messages = st.recursive(
    st.none() | st.booleans() | st.integers(0, 12) | st.text('ab1 "\\\u00e9', max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab"), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=500)
@given(patterns, messages)
@example(".{,3}$", "a")
@example(r"\{,3}", {})
@example("[{,3}]{,3}", {})
@example(r"[\]{,3}]", {})
@example("[]{,3}]", {})
@example("[^]{,3}]", "x")
@example(r".\d{,2}", 12)
def test_filters_match_as_in_other_nodes(pattern, message):
    text = json.dumps(message)
    assert Filter(pattern).passes(text) is bool(re.match(pattern, text))


@pytest.mark.parametrize(
    ("pattern", "text", "passes"),
    [
        (".*", '"x"', True),
        ("", '"x"', True),
        ('"x', '"xy"', True),
        ("x", '"x"', False),
        ('^"x"$', '"x"', True),
        ('^"x"$', '"xy"', False),
        ('."cmd": "[a-z].*', '{"cmd": "go"}', True),
        ('."cmd": "[a-z].*', '{"x": 1, "cmd": "go"}', False),
        ("^{}$", "{}", True),
        ("{.*}", '{"a": 1}', True),
        ('(?i)"HELLO', '"hello"', True),
        (r'"h\\u00e9', '"h\\u00e9"', True),
        # Texts are ASCII, and what is not can't match.
        ("\u00e9", "\\u00e9", False),
    ],
)
def test_a_filter_is_anchored_at_the_start_only(pattern, text, passes):
    assert Filter(pattern).passes(text) is passes


def test_a_text_of_any_length_is_matched():
    text = json.dumps("a" * 64_000 + "b")
    assert Filter('"a*b"$').passes(text)
    assert not Filter('"a*c"$').passes(text)


@pytest.mark.parametrize(
    "pattern",
    [
        *(None, 5, True, b".*", [], {}),
        *("(", ")", "[", "a**", "*", "+", "?", "\\", "(?P<a", "[b-a]", "a{2,1}", r"\Z", "\ud800"),
        # What needs to look around or back.
        *("(?=a)", "(?!a)", "(?<=a)b", "(?<!a)b", r"(a)\1", "(?P<a>a)(?P=a)", "(?>a)", "a*+"),
        # What would take too much memory.
        *("a{1001}", "((a{100}){100}){100}", "(?:.{900}x|.{900}y){900}"),
        "a" * (PATTERN_LIMIT + 1),
    ],
    ids=lambda pattern: repr(pattern)[:30],
)
def test_what_is_no_filter_is_refused_with_a_sentence(pattern):
    with pytest.raises(BadFilter, match=r"^filter "):
        Filter(pattern)


def test_a_filter_may_be_as_long_as_the_limit():
    assert Filter("a" * PATTERN_LIMIT).passes("a" * PATTERN_LIMIT)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("(a?){24}a{24}$", "a" * 24 + "b"),
        ("(a?){24}a{24}", "a" * 23),
        ("(a+)+$", "a" * 5000 + "b"),
        ("((a*)*)*$", "a" * 5000 + "b"),
        ("(a|a)*$", "a" * 5000 + "b"),
        ("(.*)*c$", "ab" * 5000),
        (".*.*.*.*.*.*.*.*.*x", "a" * 5000),
        ("(?:a?){500}a{500}$", "a" * 499),
        ('"(\\w+\\s?)*"$', '"' + "aa " * 2000 + "!"),
    ],
)
def test_patterns_that_hang_backtracking_engines_are_fast(pattern, text):
    """Seconds to centuries with `re`. The limit is a hundred times what it takes here."""
    compiled = Filter(pattern)
    begun = time.perf_counter()
    assert not compiled.passes(text)
    assert time.perf_counter() - begun < 1.0


@given(st.text(max_size=30), messages)
def test_any_text_is_a_filter_or_a_bad_one(pattern, message):
    try:
        compiled = Filter(pattern)
    except BadFilter:
        assume(False)
    assert compiled.passes(json.dumps(message)) in (True, False)
