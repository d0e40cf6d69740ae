import json
import re
import time

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from zeromsg.policy.filters import (
    FENCE_SECONDS,
    FENCED_PATTERN_LIMIT,
    PATTERN_LIMIT,
    BadFilter,
    Filter,
)

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


@settings(max_examples=200)
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
        *("(", ")", "[", "a**", "*", "+", "?", "\\", "(?P<a", "[b-a]", "a{2,1}"),
        # What other nodes cannot do either.
        *(r"\h", "(?<=a+)b", "(?R)", r"(?<!a|bb)\1", r"\X"),
        # What would take too much memory.
        *("a{99999999}", "(?:.{900}x|.{900}y){900}", "((a{100}){100}){100}"),
        "a" * (PATTERN_LIMIT + 1),
        *("a" * 2**20, "(a?){24}" * 2**17, "(" * 2**20),
    ],
    ids=lambda pattern: repr(pattern)[:30],
)
def test_what_is_no_filter_is_refused_with_a_sentence(pattern):
    with pytest.raises(BadFilter, match=r"^filter "):
        Filter(pattern)


@pytest.mark.parametrize(
    ("pattern", "reason"), [("(a", "missing )"), ("a**", "bad repetition operator: **")]
)
def test_the_sentence_says_what_is_wrong_and_nothing_goes_to_stderr(pattern, reason, capfd):
    with pytest.raises(BadFilter) as refused:
        Filter(pattern)
    assert str(refused.value).startswith(f"filter does not compile: {reason}")
    assert "b'" not in str(refused.value)
    assert capfd.readouterr() == ("", "")


def test_a_filter_may_take_only_so_much_memory():
    def alternatives(count):
        return "|".join(f".*{chr(97 + number % 26)}.{{900}}" for number in range(count))

    Filter(alternatives(40))
    with pytest.raises(BadFilter, match="too large"):
        # With letters beyond ASCII a dot is nine instructions.
        Filter(alternatives(100) + "|\u00e9")


def test_a_filter_keeps_its_pattern_as_it_was_written():
    assert Filter(".{,3}").pattern == ".{,3}"


def test_a_filter_may_be_as_long_as_the_limit():
    assert PATTERN_LIMIT == 4096
    longest = Filter("(?:ab|cd)*" + "|x" * ((PATTERN_LIMIT - 10) // 2))
    assert longest.passes("abcd")
    assert len(longest.pattern) == PATTERN_LIMIT


def test_long_messages_do_not_make_long_filters_slow():
    """Where RE2 would take too long and the other engine even longer, nothing matches."""
    for pattern, text in (
        ("a" * PATTERN_LIMIT, "a" * PATTERN_LIMIT),
        (
            "|".join(f".*[a-{chr(98 + number % 20)}].{{200}}x" for number in range(250)),
            "ab" * 30_000,
        ),
        ("(?:a?){1000}" * 300, "a" * 60_000),
    ):
        compiled = Filter(pattern)
        begun = time.perf_counter()
        compiled.passes(text)
        assert time.perf_counter() - begun < 1.0


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


# What needs to look around or back, which RE2 does not do.


@pytest.mark.parametrize(
    ("pattern", "text", "passes"),
    [
        ("^(?!.*bad).*$", '"good"', True),
        ("^(?!.*bad).*$", '"a bad one"', False),
        ('"(?=hello)', '"hello"', True),
        ('"(?=hello)', '"goodbye"', False),
        ('.*(?<=x)"$', '"x"', True),
        ('.*(?<!x)"$', '"x"', False),
        (r'"(.+)\1"$', '"abab"', True),
        (r'"(.+)\1"$', '"aba"', False),
        (r'"(?P<a>.)(?P=a)"', '"aa"', True),
        (r'"x"\Z', '"x"', True),
        (r'"x"\Z', '"x" ', False),
        ("(?=a).{,3}$", "ab", True),
        ("(?>a+)b", "aab", True),
        ("a*+a", "aaa", False),
        ("a{1001}", "a" * 1001, True),
        ("a{1001}", "a" * 1000, False),
        # Fits no text, as texts are ASCII.
        ("\ud800", "x", False),
    ],
)
def test_filters_beyond_re2_work_and_are_fenced(pattern, text, passes):
    compiled = Filter(pattern)
    assert not compiled.linear
    assert compiled.passes(text) is passes


@pytest.mark.parametrize(
    "pattern",
    [
        *("(?=.)ab{e}", "(?=.)ab{e<=1}$", "(?=.)(?:ab){i,d}", "(?=.)a{1}b{,2}$", "(?=.){}"),
        *("(?=.){a{2,}", r"(?=.)a\{e}", "(?=.)[{e}]", "(?=.)[]{e}]+$", r"(?=.)[\]{e}]"),
        *("(?=.)a{2", "(?=.)a{,}$"),
    ],
)
@pytest.mark.parametrize(
    "text", ["ab{e}", "axb", "ab", "abbb", "a{e}", "ab{e<=1}", "{}", "{aa", "]{e}"]
)
def test_braces_mean_what_they_mean_in_other_nodes(pattern, text):
    """The other engine would take some for leave to make mistakes."""
    assert Filter(pattern).passes(text) is bool(re.match(pattern, text))


def test_ordinary_filters_run_on_re2():
    assert all(Filter(pattern).linear for pattern in (".*", '"a', "(a+)+$", "x{1000}"))


@settings(max_examples=100)
@given(st.sampled_from(["(?!b)", "(?=.)", "(?!.*a)", '(?<!")']), patterns, messages)
def test_fenced_filters_match_as_in_other_nodes(look, pattern, message):
    text = json.dumps(message)
    compiled = Filter(look + pattern)
    assert not compiled.linear
    # An alternative may stand outside of the look-around, so the whole is compared.
    assert compiled.passes(text) is bool(re.match(look + pattern, text))


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("(?=a)(a+)+$", "a" * 5000 + "b"),
        ("(?=a)(a|aa)+$", "a" * 5000 + "b"),
        ("(?!x)(.*)*c$", "ab" * 5000),
        ("(?=(.*)(.*)(.*)(.*)(.*)q)", "a" * 60_000),
        (r"(.*)(.*)(.*)\1\2\3q", "a" * 5000),
        ("(?<=.{1000})b|.*.*.*.*(?=q)", "a" * 60_000),
    ],
)
def test_fenced_filters_give_up_in_time(pattern, text):
    """A match that would take too long is none."""
    compiled = Filter(pattern)
    begun = time.perf_counter()
    assert not compiled.passes(text)
    assert time.perf_counter() - begun < 1.0
    assert FENCE_SECONDS < 0.02


@pytest.mark.parametrize(
    "pattern",
    [
        "((a{1000}){1000}){1000}(?=a)",
        "(?=x)((a{100,101}){100,}){100,}",
        "(?=x)(((a{50}b){50}c){50}d){50}",
        "(?=x)a{1000000}",
        # Spaces and comments hide a count from us, but not from the library.
        "(?x)(?=x)((a{1 000}){1 000}){1 000}",
        "(?=x)(?ix:((a{1#\n000}){1#\n000}){1#\n000})",
    ],
)
def test_a_short_filter_cannot_take_all_memory(pattern):
    begun = time.perf_counter()
    with pytest.raises(BadFilter):
        Filter(pattern)
    assert time.perf_counter() - begun < 1.0


@pytest.mark.parametrize("pattern", ["(?!x).{20,}x.{20,}", "(?=.{1,500}$)[a-z]{3}-[0-9]{4}"])
def test_counts_of_an_ordinary_size_are_taken(pattern):
    assert not Filter(pattern).linear


def test_a_fenced_filter_is_as_short_as_the_plugin_demands():
    assert FENCED_PATTERN_LIMIT == 255
    assert Filter("(?=a)" + "a" * 250).passes("a" * 250)
    with pytest.raises(BadFilter):
        Filter("(?=a)" + "a" * 251)


@given(st.text(max_size=30), messages)
def test_any_text_is_a_filter_or_a_bad_one(pattern, message):
    try:
        compiled = Filter(pattern)
    except BadFilter:
        assume(False)
    assert compiled.passes(json.dumps(message)) in (True, False)
