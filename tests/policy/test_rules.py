import json
import math
import pathlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zeromsg.crypto.keys import PrivateKey
from zeromsg.policy.program import Facts
from zeromsg.policy.rules import (
    DEFAULT_VALID_TIMEOUT,
    FILE_LIMIT,
    HISTORY_COUNT_LIMIT,
    HISTORY_SECONDS_LIMIT,
    MAX_VALID_TIMEOUT,
    BadRules,
    History,
    parse_rules,
    site_rules,
)

VECTORS = pathlib.Path(__file__).parents[1] / "vectors"
SITES = json.loads((VECTORS / "peermessage.json").read_text())["sites"]

ANY = {"filter": ".*"}


def from_file(values):
    return site_rules({}, json.dumps(values).encode())


@pytest.mark.parametrize("facts", SITES.values(), ids=lambda facts: facts["tag"])
def test_rules_of_recorded_sites(facts):
    p2p_json = facts["p2p.json"]
    if p2p_json is None:
        assert site_rules({}, None) is None
    elif "filter" not in p2p_json:
        with pytest.raises(BadRules, match="there is no filter"):
            from_file(p2p_json)
    else:
        rules = from_file(p2p_json)
        assert rules.filter.pattern == p2p_json["filter"]
        assert rules.freq_limit == p2p_json.get("freq_limit")
        assert rules.size_limit == p2p_json.get("size_limit")


def test_all_keys():
    rules = parse_rules(
        {
            "filter": "x",
            "freq_limit": 3,
            "size_limit": 40,
            "signed_only": ["1b", "1a", "1b"],
            "cert_signers": {"rig.bit": ["1i", "1j"], "zeroid.bit": "1k"},
            "valid_timeout": 2.5,
            "something new": [1],
        }
    )
    assert rules.filter.passes("x")
    assert (rules.freq_limit, rules.size_limit, rules.valid_timeout) == (3.0, 40, 2.5)
    assert list(rules.signed_only) == ["1b", "1a"]
    assert rules.cert_signers == {"rig.bit": ("1i", "1j"), "zeroid.bit": ("1k",)}


def test_what_is_left_out():
    rules = parse_rules(ANY)
    assert rules.freq_limit is None
    assert rules.size_limit is None
    assert rules.signed_only is False
    assert rules.cert_signers == {}
    assert rules.valid_timeout == DEFAULT_VALID_TIMEOUT == 5.0
    nothing = dict.fromkeys(
        ("freq_limit", "size_limit", "signed_only", "cert_signers", "valid_timeout")
    )
    same = parse_rules(ANY | nothing)
    assert (same.freq_limit, same.size_limit, same.signed_only) == (None, None, False)
    assert same.valid_timeout == DEFAULT_VALID_TIMEOUT


@pytest.mark.parametrize("value", [True, False])
def test_signed_only_may_be_true_or_false(value):
    assert parse_rules(ANY | {"signed_only": value}).signed_only is value


def test_signed_only_may_be_one_address():
    assert list(parse_rules(ANY | {"signed_only": "1abc"}).signed_only) == ["1abc"]


GROUP_KEY = PrivateKey(b"\7" * 32)


def test_signed_only_may_be_a_group():
    for key in (GROUP_KEY, PrivateKey(GROUP_KEY.secret, compressed=True)):
        rules = parse_rules(ANY | {"signed_only": {"group": key.public_key.hex()}})
        assert rules.group == PrivateKey(GROUP_KEY.secret, compressed=True).public_key
        # Who is in the group is all that counts.
        assert rules.signed_only is False
    assert parse_rules(ANY).group is None


@pytest.mark.parametrize(
    "value",
    [{"group": value} for value in ("", "xy", "02" * 5, "05" * 33, "02" + "ff" * 32, 7, None, [])]
    + [{"group": GROUP_KEY.public_key.hex(), "more": 1}],
)
def test_a_bad_group_is_named(value):
    with pytest.raises(BadRules, match=r"^signed_only"):
        parse_rules(ANY | {"signed_only": value})


def test_zero_is_a_number():
    zero = dict.fromkeys(("freq_limit", "size_limit", "valid_timeout"), 0)
    rules = parse_rules(ANY | zero)
    assert (rules.freq_limit, rules.size_limit, rules.valid_timeout) == (0, 0, 0)


def test_a_verdict_is_not_waited_for_longer_than_a_minute():
    assert parse_rules(ANY | {"valid_timeout": 60}).valid_timeout == MAX_VALID_TIMEOUT
    with pytest.raises(BadRules, match="valid_timeout must be a number from 0 to 60"):
        parse_rules(ANY | {"valid_timeout": 60.1})


@pytest.mark.parametrize("key", ["freq_limit", "size_limit", "valid_timeout"])
@pytest.mark.parametrize("value", [-1, "3", True, [], {}, math.nan, math.inf, -0.1, 10**30])
def test_bad_numbers_are_named(key, value):
    with pytest.raises(BadRules, match=f"^{key} must be a number"):
        parse_rules(ANY | {key: value})


@pytest.mark.parametrize("value", [1, 1.5, {}, {"a": 1}, [1], [None], [["1a"]], ["1a"] * 10_001])
def test_bad_signers_are_named(value):
    with pytest.raises(BadRules, match=r"^signed_only must be an address or a list"):
        parse_rules(ANY | {"signed_only": value})


@pytest.mark.parametrize(
    "value",
    [1, "1a", ["1a"], True, {"a": 1}, {"a": [1]}, {"a": None}, dict.fromkeys(range(10_001))],
)
def test_bad_issuers_are_named(value):
    with pytest.raises(BadRules, match=r"^cert_signers must be"):
        parse_rules(ANY | {"cert_signers": value})


@pytest.mark.parametrize(
    ("key", "most"),
    [("freq_limit", 10**9), ("size_limit", 2**31), ("max_age", 10**9), ("valid_timeout", 60)],
)
def test_numbers_may_be_as_large_as_their_limit(key, most):
    assert getattr(parse_rules(ANY | {key: most}), key) == most
    with pytest.raises(BadRules):
        parse_rules(ANY | {key: most + 1})


def test_lists_may_have_ten_thousand_entries():
    names = [str(number) for number in range(10_000)]
    rules = parse_rules(ANY | {"signed_only": names, "cert_signers": dict.fromkeys(names, "1a")})
    assert len(rules.signed_only) == len(rules.cert_signers) == 10_000


@pytest.mark.parametrize("values", [{}, {"filter": None}, {"freq_limit": 1}])
def test_without_a_filter_a_site_takes_no_messages(values):
    with pytest.raises(BadRules, match="there is no filter"):
        parse_rules(values)


@pytest.mark.parametrize("pattern", [5, "(", "(?=a", "a" * 5000])
def test_a_bad_filter_is_a_bad_rule(pattern):
    with pytest.raises(BadRules, match="filter"):
        parse_rules({"filter": pattern})


# Keys of our own.


def test_a_rate_is_a_bucket_for_each_neighbour_and_signer():
    rules = parse_rules(ANY | {"rate": {"per_peer": [2, 0.5], "per_signer": [1, 0]}})
    for buckets, burst in ((rules.per_peer, 2), (rules.per_signer, 1)):
        for _ in range(burst):
            assert buckets.allows("a", 0.0)
            buckets.spoke("a", 0.0)
        assert not buckets.allows("a", 0.0)
    assert rules.per_peer.allows("a", 2.0)
    assert not rules.per_signer.allows("a", 1e6)


@pytest.mark.parametrize(
    ("rate", "peers", "signers"),
    [
        ({}, False, False),
        ({"per_peer": [1, 1]}, True, False),
        ({"per_signer": [1, 1]}, False, True),
    ],
)
def test_a_rate_may_have_one_part(rate, peers, signers):
    rules = parse_rules(ANY | {"rate": rate})
    assert (rules.per_peer is not None, rules.per_signer is not None) == (peers, signers)


@pytest.mark.parametrize(
    "rate",
    [
        *(5, [], "x", {"per_site": [1, 1]}, {"per_peer": 5}, {"per_peer": [1]}),
        *({"per_peer": value} for value in ([1, 2, 3], [0, 1], [0.5, 1], [None, 1], [1, None])),
        *({"per_signer": value} for value in (["1", 1], [1, True], [1, -1], [1, 1e6 + 1], {})),
    ],
    ids=repr,
)
def test_bad_rates_are_named(rate):
    with pytest.raises(BadRules, match=r"^rate"):
        parse_rules(ANY | {"rate": rate})
    assert parse_rules(ANY | {"rate": {"per_peer": [1e6, 1e6]}}).per_peer is not None


def test_history_is_bounded_where_it_does_not_bound_itself():
    assert parse_rules(ANY).history is None
    assert parse_rules(ANY | {"history": {"count": 5, "seconds": 60}}).history == History(5, 60.0)
    widest = History(HISTORY_COUNT_LIMIT, HISTORY_SECONDS_LIMIT)
    assert parse_rules(ANY | {"history": {}}).history == widest
    assert (HISTORY_COUNT_LIMIT, HISTORY_SECONDS_LIMIT) == (1000, 30 * 86400.0)


@pytest.mark.parametrize("history", [5, [], {"count": 1001}, {"seconds": -1}, {"count": True}])
def test_bad_histories_are_named(history):
    with pytest.raises(BadRules, match=r"^history"):
        parse_rules(ANY | {"history": history})


@pytest.mark.parametrize("age", [-1, "1", True, 10**10])
def test_a_bad_age_is_named(age):
    assert parse_rules(ANY | {"max_age": 60}).max_age == 60.0
    with pytest.raises(BadRules, match="max_age must be a number"):
        parse_rules(ANY | {"max_age": age})


@pytest.mark.parametrize(
    ("key", "value"),
    [("schema", 5), ("schema", {"type": "nonsense"}), ("program", ""), ("program", "1 +")],
)
def test_a_bad_schema_or_program_is_named(key, value):
    with pytest.raises(BadRules, match=key):
        parse_rules(ANY | {key: value})


# Where they come from.


def test_the_file_counts_before_the_old_keys():
    content = {"p2p_filter": "old", "p2p_size_limit": 5}
    rules = site_rules(content, b'{"filter": "new"}')
    assert rules.filter.pattern == "new"
    assert rules.size_limit is None


def test_a_bad_file_is_not_replaced_by_the_old_keys():
    with pytest.raises(BadRules):
        site_rules({"p2p_filter": ".*"}, b"{}")


def test_old_keys_of_content_json():
    content = {
        "address": "1abc",
        "p2p_filter": "x",
        "p2p_freq_limit": 3,
        "p2p_size_limit": 40,
        "p2p_signed_only": True,
    }
    rules = site_rules(content, None)
    assert rules.filter.pattern == "x"
    assert (rules.freq_limit, rules.size_limit, rules.signed_only) == (3, 40, True)


def test_every_key_may_stand_in_content_json():
    values = {
        "filter": ".*",
        "schema": {"type": "string"},
        "program": {"accept": "size > counters.n", "counters": {"n": "size"}},
        "size_limit": 40,
        "freq_limit": 3,
        "rate": {"per_peer": [1, 2], "per_signer": [3, 4]},
        "signed_only": ["1a"],
        "cert_signers": {"x.bit": "1b"},
        "valid_timeout": 2,
        "max_age": 60,
        "history": {"count": 5, "seconds": 6},
    }
    old = {f"p2p_{key}": value for key, value in values.items()}
    for rules in (site_rules(old, None), site_rules({}, json.dumps(values).encode())):
        assert rules.schema.passes("x", 3)
        assert not rules.schema.passes(1, 1)
        assert rules.program.passes(Facts("x", 3, "", "", 0.0))
        assert rules.per_peer.allows("a", 0.0)
        assert rules.per_signer.allows("a", 0.0)
        assert (rules.max_age, rules.valid_timeout) == (60.0, 2.0)
        assert (rules.freq_limit, rules.size_limit) == (3.0, 40)
        assert rules.history == History(5, 6.0)
        assert list(rules.signed_only) == ["1a"]
        assert rules.cert_signers == {"x.bit": ("1b",)}
    for key, bad in (("schema", 5), ("program", 5), ("rate", 5), ("max_age", "x"), ("history", 5)):
        with pytest.raises(BadRules, match=key):
            site_rules(old | {f"p2p_{key}": bad}, None)


def test_what_is_null_is_left_out():
    keys = ("schema", "program", "rate", "max_age", "history")
    rules = parse_rules(ANY | dict.fromkeys(keys))
    assert (rules.schema, rules.program, rules.max_age, rules.history) == (None,) * 4
    assert (rules.per_peer, rules.per_signer) == (None, None)


def test_a_site_without_either_has_no_rules():
    content = {"address": "1abc", "filter": ".*", "signed_only": True}
    assert site_rules(content, None) is None
    with pytest.raises(BadRules):
        site_rules(content | {"p2p_freq_limit": 1}, None)


@pytest.mark.parametrize(
    "data",
    [b"", b"x", b"[]", b"1", b"\xff", b'{"filter": NaN}', b"[" * 60_000, b'{"a": 1e999}'],
    ids=lambda data: repr(data)[:20],
)
def test_a_file_that_is_no_json_map_is_named(data):
    with pytest.raises(BadRules, match=r"^p2p\.json is no JSON"):
        site_rules({}, data)


def test_a_large_file_is_refused():
    fitting = b'{"filter": ".*"}'.ljust(FILE_LIMIT)
    assert site_rules({}, fitting).filter.pattern == ".*"
    with pytest.raises(BadRules, match="is over 65536 bytes"):
        site_rules({}, fitting + b" ")


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(st.characters(), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=200)
@given(
    st.binary(max_size=40)
    | st.fixed_dictionaries(
        {"filter": st.just(".*") | json_values},
        optional=dict.fromkeys(
            [
                *("freq_limit", "size_limit", "signed_only", "cert_signers", "valid_timeout"),
                *("schema", "program", "rate", "max_age", "history"),
            ],
            st.integers(-1, 99)
            | json_values
            | st.dictionaries(
                st.sampled_from(
                    ["per_peer", "per_signer", "count", "seconds", "accept", "counters", "$ref"]
                ),
                st.lists(st.integers(-1, 9), max_size=3) | json_values,
                max_size=2,
            ),
        ),
    ).map(lambda values: json.dumps(values).encode())
)
def test_any_file_has_rules_or_bad_ones(data):
    try:
        rules = site_rules({}, data)
    except BadRules as problem:
        assert str(problem)
        return
    assert 0 <= rules.valid_timeout <= MAX_VALID_TIMEOUT
    assert rules.filter.passes('"x"') in (True, False)
