"""`zeromsg rules check`: what is wrong with rules before they are published."""

import json

import pytest
from click.testing import CliRunner

from zeromsg.cli import main
from zeromsg.policy import rule_review


@pytest.fixture
def check(tmp_path, monkeypatch):
    """Run it on rules (a map, or the file's bytes), perhaps against a recording.

    A slow machine makes no findings.
    """
    monkeypatch.setattr(rule_review, "SLOW_SECONDS", 1000.0)

    def check(rules, *arguments, recording=None):
        path = tmp_path / "p2p.json"
        path.write_bytes(rules if isinstance(rules, bytes) else json.dumps(rules).encode())
        more = []
        if recording is not None:
            lines = recording if isinstance(recording, bytes) else lines_of(recording)
            (tmp_path / "recording").write_bytes(lines)
            more = ["--against", str(tmp_path / "recording")]
        return CliRunner().invoke(main, ["rules", "check", str(path), *more, *arguments])

    return check


def lines_of(events):
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


def event(message, **more):
    """A line as `zeromsg listen --record` writes it."""
    return {
        "ip": "203.0.113.1:5",
        "hash": "0" * 64,
        "message": message,
        "signed_by": "",
        "cert": "",
        "site": "1Site",
        "broadcast": True,
        "timestamp": None,
        "user": None,
        **more,
    }


def findings(result):
    return [(found["level"], found["key"]) for found in json.loads(result.stdout)["findings"]]


ANN = "1KJwzAddgi1spf4ZNKSaAPYPqbFnML9nQS"
GOOD = {"filter": '.*"text": .*', "size_limit": 1000, "freq_limit": 1}


def test_good_rules(check):
    result = check(GOOD)
    assert (result.exit_code, result.stdout) == (0, "nothing is wrong with these rules\n")
    result = check(GOOD, "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (0, {"findings": [], "refused": []})


@pytest.mark.parametrize(
    ("rules", "key"),
    [
        ({}, "filter"),
        ({"filter": None}, "filter"),
        ({"filter": "("}, "filter"),
        ({"filter": 5}, "filter"),
        ({**GOOD, "schema": {"type": "nothing"}}, "schema"),
        ({**GOOD, "schema": {"$ref": "http://127.0.0.1:1/x"}}, "schema"),
        ({**GOOD, "program": "message."}, "program"),
        ({**GOOD, "program": "counters.n < 5"}, "program"),
        ({**GOOD, "signed_only": []}, "signed_only"),
        ({**GOOD, "signed_only": 5}, "signed_only"),
        ({**GOOD, "signed_only": "yes"}, "signed_only"),
        ({**GOOD, "signed_only": ["true", ""]}, "signed_only"),
        ({**GOOD, "signed_only": ANN[:-1] + "T"}, "signed_only"),
        ({**GOOD, "size_limit": 0}, "size_limit"),
        ({**GOOD, "size_limit": "1"}, "size_limit"),
        ({**GOOD, "schema": False}, "schema"),
        ({**GOOD, "rate": {"per_peer": [0, 1]}}, "rate"),
        ({**GOOD, "rate": {"per_site": [1, 1]}}, "rate"),
        ({**GOOD, "history": 5}, "history"),
    ],
)
def test_rules_that_let_nobody_write_are_errors(check, rules, key):
    result = check(rules, "--json")
    assert result.exit_code == 1
    assert ("error", key) in findings(result)
    text = check(rules)
    assert text.exit_code == 1
    assert text.stdout.startswith("error: ")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b"null", b" " * 70_000, b"[" * 5000])
def test_a_file_that_is_no_json_map_is_an_error(check, data):
    result = check(data, "--json")
    assert (result.exit_code, findings(result)) == (1, [("error", "")])


@pytest.mark.parametrize(
    ("data", "where"),
    [
        (b'{\n"filter": ".*",\n"size_limit" 5\n}', "line 3, column 14: Expecting ':' delimiter"),
        (b'{\n"filter": "\xff"}', "line 2 is no UTF-8"),
        (b'{"filter": ".*", "max_age": NaN}', "NaN is no JSON"),
    ],
)
def test_where_a_file_is_no_json_is_told(check, data, where):
    assert check(data).stdout == f"error: p2p.json is no JSON: {where}\n"


@pytest.mark.parametrize(
    ("more", "key", "says"),
    [
        ({"filtre": "x"}, "filtre", "did you mean filter?"),
        ({"colour": "x"}, "colour", "no node knows this key"),
        ({"filter": r"(?!x).*"}, "filter", "slower engine"),
        ({"filter": "a+"}, "filter", "nodes with the plugin drop every message"),
        ({"filter": "x" * 300}, "filter", "longer than 255"),
        ({"filter": ".*" * 11}, "filter", "ten or more"),
        ({"rate": {"per_signer": [1, 1]}}, "rate", "does not bound unsigned"),
        ({"cert_signers": {"x.bit": []}}, "cert_signers", "has no address"),
        ({"cert_signers": {"x.bit": "yes"}}, "cert_signers", "x.bit has no address"),
        ({"cert_signers": {"x.bit": [ANN, "no"]}}, "cert_signers", "x.bit: 'no' is no address"),
        ({"signed_only": [ANN, "Bert"]}, "signed_only", "'Bert' is no address"),
        ({"program": {"accept": "true", "counters": {"n": "1"}}}, "program", "never looked at"),
    ],
)
def test_what_is_odd_is_a_warning(check, more, key, says):
    result = check({**GOOD, **more}, "--json")
    assert result.exit_code == 0
    assert says in " ".join(
        found["text"]
        for found in json.loads(result.stdout)["findings"]
        if (found["level"], found["key"]) == ("warning", key)
    )
    assert f"warning: {key}: " in check({**GOOD, **more}).stdout


def test_what_costs_too_much_is_a_warning(check, monkeypatch):
    rules = {**GOOD, "schema": {"type": "object"}, "program": "message.text == ''"}
    monkeypatch.setattr(rule_review, "SLOW_SECONDS", 0.0)
    result = check(rules, "--json")
    texts = [found["text"] for found in json.loads(result.stdout)["findings"]]
    assert result.exit_code == 0
    assert findings(result) == [("warning", key) for key in ("filter", "schema", "program")]
    assert all(text.endswith(" ms on a message of 1000 characters") for text in texts)
    monkeypatch.setattr(rule_review, "SLOW_SECONDS", 1000.0)
    assert findings(check(rules, "--json")) == []


def test_a_recording_shows_whom_the_rules_would_refuse(check):
    rules = {
        **GOOD,
        "size_limit": 50,
        "schema": {"type": "object"},
        "signed_only": [ANN],
        "program": "message.text != 'no'",
    }
    recording = [
        event({"text": "fine"}, signed_by=ANN),
        event({"text": "x" * 50}, signed_by=ANN),
        event({"other": 1}, signed_by=ANN),
        event(['"text": '], signed_by=ANN),
        event({"text": "by another"}, signed_by="1Bad"),
        event({"text": "unsigned"}),
        event({"text": "no"}, signed_by=ANN),
        event({"text": "fine too"}, signed_by=ANN),
    ]
    result = check(rules, "--json", recording=recording)
    assert result.exit_code == 0
    refused = [(each["line"], each["check"]) for each in json.loads(result.stdout)["refused"]]
    assert refused == [
        (2, "size"),
        (3, "filter"),
        (4, "filter"),
        (5, "signed-only"),
        (6, "signed-only"),
        (7, "program"),
    ]
    lines = check(rules, recording=recording).stdout.splitlines()
    assert lines[0].startswith("line 2: size: ")
    assert lines[6:] == ["2 of 8 messages pass"]
    assert json.loads(result.stdout)["messages"] == 8


def test_counters_count_along_a_recording(check):
    rules = {
        **GOOD,
        "program": {"accept": "message.n > counters.n", "counters": {"n": "message.n"}},
    }
    recording = [
        event({"text": "", "n": number}, signed_by=signer)
        for number, signer in [(1, "1A"), (1, "1B"), (1, "1A"), (2, "1A"), (2, "1B")]
    ]
    result = check(rules, "--json", recording=recording)
    refused = [each["line"] for each in json.loads(result.stdout)["refused"]]
    assert refused == [3]


def test_an_empty_recording_refuses_nothing(check):
    text = check(GOOD, recording=b"").stdout
    assert text == "nothing is wrong with these rules\n0 of 0 messages pass\n"


def test_that_all_messages_pass_is_said_too(check):
    text = check(GOOD, recording=[event({"text": "x"})] * 3).stdout
    assert text == "nothing is wrong with these rules\n3 of 3 messages pass\n"


def test_rules_that_do_not_compile_are_not_replayed(check):
    result = check({"filter": "("}, "--json", recording=[event("x")])
    assert (result.exit_code, json.loads(result.stdout)["refused"]) == (1, [])


@pytest.mark.parametrize("line", [b"x", b"5", b"[]", b"null", b"{", b"\xff", b"[" * 100_000])
def test_a_recording_that_is_none_is_wrong_use(check, line):
    result = check(GOOD, recording=lines_of([event({"text": ""})]) + line + b"\n")
    assert result.exit_code == 2
    assert "line 2 is no event of a recording" in result.stderr


@pytest.mark.parametrize(
    "fields",
    [
        {"signed_by": 5},
        {"signed_by": ["x"]},
        {"cert": {"x": 1}},
        {"cert": None},
        {"site": None},
        {"message": None},
        {"message": "\ud800\u0000\x1b[31m"},
        {"message": 10**400},
    ],
)
def test_odd_events_do_not_stop_it(check, fields):
    rules = {"filter": ".", "signed_only": True, "program": "cert == '' && signer != ''"}
    recording = [event("x", **{key: value}) for key, value in fields.items() if key != "message"]
    recording += [event(fields["message"])] if "message" in fields else []
    result = check(rules, "--json", recording=[*recording, event("unsigned")])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["refused"][-1]["line"] == len(recording) + 1


def test_what_a_stranger_wrote_does_not_reach_the_terminal_raw(check):
    result = check({**GOOD, "\x1b[31mx": 1}, recording=[event("\x1b[31m")])
    assert "\x1b" not in result.stdout


def test_wrong_use(tmp_path):
    run = CliRunner().invoke
    assert run(main, ["rules", "check"]).exit_code == 2
    assert run(main, ["rules", "check", str(tmp_path)]).exit_code == 2
    missing = run(main, ["rules", "check", str(tmp_path / "none.json")])
    assert missing.exit_code == 2
    assert "none.json cannot be read" in missing.stderr
    (tmp_path / "p2p.json").write_text('{"filter": ".*"}')
    missing = run(
        main,
        ["rules", "check", str(tmp_path / "p2p.json"), "--against", str(tmp_path / "none")],
    )
    assert missing.exit_code == 2
