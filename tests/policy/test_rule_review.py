import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zeromsg.policy import rule_review
from zeromsg.policy.rule_review import KEYS, Finding, Refusal, plugin_refuses, replay, review
from zeromsg.policy.rules import parse_rules

ANN = "1KJwzAddgi1spf4ZNKSaAPYPqbFnML9nQS"
GOOD = {"filter": ".*", "size_limit": 500}


@pytest.fixture(autouse=True)
def no_check_is_slow(monkeypatch):
    """However slow the machine is."""
    monkeypatch.setattr(rule_review, "SLOW_SECONDS", 60.0)


def findings(values):
    data = values if isinstance(values, bytes) else json.dumps(values).encode()
    return review(data)[1]


def kinds(values):
    return [(found.level, found.key) for found in findings(values)]


def test_good_rules_need_no_words():
    rules, found = review(json.dumps(GOOD).encode())
    assert found == []
    assert rules.filter.pattern == ".*"


@pytest.mark.parametrize("data", [b"", b"[]", b"x", b"\xff", b"[" * 60_000, b" " * 65_537])
def test_a_file_that_is_none(data):
    rules, (found,) = review(data)
    assert rules is None
    assert (found.level, found.key) == ("error", "")
    assert "p2p.json" in found.text


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({}, "filter"),
        ({"filter": None}, "filter"),
        ({"filter": "("}, "filter"),
        ({"filter": "a" * 5000}, "filter"),
        ({"size_limit": -1}, "size_limit"),
        ({"freq_limit": "3"}, "freq_limit"),
        ({"valid_timeout": 61}, "valid_timeout"),
        ({"max_age": True}, "max_age"),
        ({"signed_only": 5}, "signed_only"),
        ({"cert_signers": []}, "cert_signers"),
        ({"rate": 5}, "rate"),
        ({"rate": {"per_peer": [0, 1]}}, "rate"),
        ({"rate": {"per_peer": ["x", 1]}}, "rate"),
        ({"rate": {"per_signer": [1, -1]}}, "rate"),
        ({"history": []}, "history"),
        ({"history": {"count": -1}}, "history"),
        ({"history": {"seconds": "x"}}, "history"),
        ({"schema": []}, "schema"),
        ({"schema": {"type": "x"}}, "schema"),
        ({"schema": {"$ref": "http://127.0.0.1:1/"}}, "schema"),
        ({"program": 5}, "program"),
        ({"program": "1 +"}, "program"),
        ({"program": "message.matches('a')"}, "program"),
        ({"program": {"accept": "true", "counters": {"n": "1 +"}}}, "program"),
        ({"program": {"accept": "true", "counters": {"a b": "1"}}}, "program"),
        ({"program": {"accept": "true", "counters": 5}}, "program"),
    ],
)
def test_what_does_not_compile_is_named_by_its_key(values, key):
    rules, (found,) = review(json.dumps({"filter": ".*"} | values if values else {}).encode())
    assert rules is None
    assert (found.level, found.key) == ("error", key)
    assert found.text


def test_unknown_keys_and_what_was_meant():
    found = findings(GOOD | {"filtre": 1, "sizelimit": 2, "quite different": 3, "x" * 500: 4})
    assert [finding.level for finding in found] == ["warning"] * 4
    assert [finding.text.partition("did you mean ")[2] for finding in found] == [
        *("filter?", "size_limit?", "", "")
    ]
    assert len(found[3].key) == 64


def test_unknown_keys_are_told_of_beside_what_does_not_compile():
    assert kinds({"filtr": ".*"}) == [("error", "filter"), ("warning", "filtr")]


def test_all_keys_that_rules_have_are_known():
    values = {
        "filter": ".*",
        "schema": True,
        "program": "true",
        "size_limit": 100,
        "freq_limit": 1,
        "rate": {"per_peer": [1, 1]},
        "signed_only": True,
        "cert_signers": {"x.bit": [ANN]},
        "valid_timeout": 1,
        "max_age": 60,
        "history": {"count": 1},
    }
    assert tuple(values) == KEYS
    assert findings(values) == []


# Filters.


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        (".*", ""),
        ('."cmd": "[a-z].*', ""),
        ("a" * 255, ""),
        ("a" * 256, "longer than 255"),
        ("a+", "'+' follows 'a'"),
        ("[a-z]*", "'*' follows ']'"),
        ("a{2}", "'{' follows 'a'"),
        (".*" * 9, ""),
        (".*" * 10, "ten or more"),
        ("." + ".+.{1}" * 5, "ten or more"),
    ],
)
def test_what_plugin_nodes_refuse(pattern, reason):
    assert reason in plugin_refuses(pattern)
    assert bool(plugin_refuses(pattern)) is bool(reason)


def test_a_filter_that_plugin_nodes_refuse_is_warned_of():
    (found,) = findings({"filter": "[a-z]+", "size_limit": 500})
    assert (found.level, found.key) == ("warning", "filter")
    assert "nodes with the plugin drop every message" in found.text


def test_a_filter_that_re2_cannot_do_is_warned_of():
    (found,) = findings({"filter": "(?!.*bad).*", "size_limit": 500})
    assert (found.level, found.key) == ("warning", "filter")
    assert "slower engine" in found.text


# What nothing passes, or nothing reaches.


@pytest.mark.parametrize(
    ("values", "finding"),
    [
        ({"signed_only": []}, ("error", "signed_only")),
        ({"size_limit": 0}, ("error", "size_limit")),
        ({"schema": False}, ("error", "schema")),
        ({"program": "counters.n < 5"}, ("error", "program")),
        ({"program": "counters['n'] < 5"}, ("error", "program")),
        ({"program": {"accept": "true", "counters": {"n": "1"}}}, ("warning", "program")),
        ({"rate": {"per_signer": [1, 1]}}, ("warning", "rate")),
        ({"cert_signers": {"x.bit": []}}, ("warning", "cert_signers")),
    ],
)
def test_rules_that_nothing_passes_or_reaches(values, finding):
    assert kinds(GOOD | values) == [finding]


@pytest.mark.parametrize(
    "values",
    [
        {"signed_only": False},
        {"signed_only": True, "rate": {"per_signer": [1, 1]}},
        {"size_limit": 1},
        {"program": {"accept": "counters.n < 5", "counters": {"n": "1"}}},
        {"program": {"accept": 'counters [ "n" ] < 5', "counters": {"n": "1"}}},
        {"program": {"accept": "true", "counters": {"n": "counters.n + 1"}}},
        {"cert_signers": {"x.bit": ANN}},
    ],
)
def test_rules_that_look_like_it_and_are_fine(values):
    assert kinds(GOOD | values) == []


# Costs.


def test_slow_checks_are_warned_of(monkeypatch):
    monkeypatch.setattr(rule_review, "SLOW_SECONDS", 0.0)
    found = findings(GOOD | {"schema": {}, "program": "true"})
    assert [finding.key for finding in found] == ["filter", "schema", "program"]
    assert all(
        re.fullmatch(r"it takes \d+\.\d ms on a message of 500 characters", finding.text)
        for finding in found
    )


def test_what_large_messages_are_refused_for_is_warned_of():
    growing = "size(message.map(x, message)) > 0"
    dear = {"items": {"allOf": [{"type": "string"}] * 1000}}
    large = {"filter": ".*(?:a?){500}", "size_limit": 60_000, "schema": dear, "program": growing}
    warned = [found for found in findings(large) if "60000 characters" in found.text]
    assert [found.key for found in warned] == ["filter", "schema", "program"]
    assert all("refused" in found.text for found in warned)
    small = [found for found in findings(large | {"size_limit": 50}) if "tried" in found.text]
    assert small == []


def test_no_message_is_tried_that_is_larger_than_any_can_be(seconds_of):
    """Not even where the rules allow two thousand million characters."""
    huge = GOOD | {"size_limit": 2**31, "schema": {}, "program": "size > 0"}
    assert seconds_of(findings, huge) < 5.0
    assert findings(huge) == []


# Recordings.


def event(message, **more):
    return {"message": message, "signed_by": "", "cert": "", "site": "1Site", **more}


def test_which_messages_of_a_recording_would_be_refused():
    rules = parse_rules(
        {
            "filter": '.*"x',
            "size_limit": 20,
            "schema": {"maxProperties": 1},
            "signed_only": ["1a"],
            "program": "message.x > 1",
        }
    )
    messages = [
        ({"x": 2}, "1a", None),
        ({"y": 2}, "1a", "filter"),
        ({"x": "long" * 10}, "1a", "size"),
        ({"x": 1, "y": 2}, "1a", "schema"),
        ({"x": 2}, "1b", "signed-only"),
        ({"x": 2}, "", "signed-only"),
        ({"x": 1}, "1a", "program"),
        ({"x": 3}, "1a", None),
    ]
    lines = [event(message, signed_by=signer) for message, signer, _ in messages]
    found = [(refusal.line, refusal.check) for refusal in replay(rules, lines)]
    assert found == [(n, check) for n, (_, _, check) in enumerate(messages, 1) if check]


def test_counters_go_on_over_a_recording():
    rules = parse_rules(
        {"filter": "", "program": {"accept": "message > counters.n", "counters": {"n": "message"}}}
    )
    lines = [
        event(n, signed_by=signer) for n, signer in ((1, "1a"), (1, "1a"), (1, "1b"), (2, "1a"))
    ]
    assert [refusal.line for refusal in replay(rules, lines)] == [2]


def test_now_is_the_time_of_the_message():
    rules = parse_rules({"filter": "", "program": "now > 1.7e9"})
    lines = [
        event(1, timestamp=1.75e9),
        event(2, timestamp=None),
        event(3, timestamp="x"),
        event(4),
    ]
    assert [refusal.line for refusal in replay(rules, lines)] == [2, 3, 4]


def test_certificates_of_a_recording_are_seen():
    rules = parse_rules({"filter": "", "program": "cert == 'web/bob@x.bit'"})
    lines = [event(1, cert="web/bob@x.bit"), event(2)]
    assert [refusal.line for refusal in replay(rules, lines)] == [2]


@pytest.mark.parametrize(
    "line",
    [
        {},
        {"message": float("inf")},
        {"message": 1, "signed_by": None, "cert": None, "site": None},
        {"message": 1, "signed_by": ["1a"], "cert": {"a": 1}, "site": 5},
        {"message": 1, "signed_by": {}, "timestamp": []},
        {"message": 1, "timestamp": 10**400},
    ],
)
def test_strange_lines_of_a_recording(line):
    rules = parse_rules(
        {"filter": "x", "program": {"accept": "true", "counters": {"n": "1"}}, "signed_only": "1a"}
    )
    (refusal,) = replay(rules, [line])
    assert isinstance(refusal, Refusal)
    assert refusal.check in ("filter", "message")


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(st.characters(), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=100)
@given(
    st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), json_values, max_size=4).map(
        lambda values: values | {"filter": ".*"}
    ),
    st.lists(st.dictionaries(st.sampled_from(["message", "signed_by", "cert"]), json_values)),
)
def test_whatever_a_file_holds_there_is_something_to_say_or_not(values, lines):
    rules, found = review(json.dumps(values).encode())
    assert all(isinstance(finding, Finding) and finding.text for finding in found)
    if rules is None:
        assert found[0].level == "error"
    else:
        assert all(refusal.line <= len(lines) for refusal in replay(rules, lines))
