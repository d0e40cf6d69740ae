"""What reaches the terminal and the log."""

import io
import json

import pytest
from click.testing import CliRunner
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from zeromsg.cli.logs import JsonLines, json_line
from zeromsg.cli.options import endpoint_url, json_or_text
from zeromsg.cli.output import printable, sender, shown, table
from zeromsg.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "shown_as"),
    [
        ("plain", "plain"),
        ("grüße, 世界", "grüße, 世界"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\nb\r", "a\\nb\\r"),
        ("\x9b31m", "\\x9b31m"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\ud800", "\\ud800"),
    ],
)
def test_a_stranger_cannot_steer_the_terminal(text, shown_as):
    assert printable(text) == shown_as
    assert shown(text) == shown_as


def test_messages_that_are_no_text_are_shown_as_json():
    assert shown({"é": [1, None, "\x1b"]}) == '{"é": [1, null, "\\u001b"]}'


def test_a_sender_is_named_as_well_as_known():
    event = {"ip": "127.0.0.2:1", "signed_by": "1Address", "user": {"id": "bob@zeroid.bit"}}
    assert sender(event) == "bob@zeroid.bit"
    assert sender(event | {"user": {"id": None}}) == "1Address"
    assert sender({"ip": "127.0.0.2:1", "signed_by": "", "user": None}) == "127.0.0.2:1"
    assert sender({}) == "?"


def test_a_table_is_plain_columns_where_there_is_no_terminal(capsys):
    table(("name", "n"), [("[bold]long name", "1"), ("x\x1b", "22")])
    assert capsys.readouterr().out == (
        "name             n\n[bold]long name  1\nx\\x1b            22\n"
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": [1, 2.5]}', {"a": [1, 2.5]}),
        ('"quoted"', "quoted"),
        ("null", None),
        ("7", 7),
        ("hello there", "hello there"),
        ("{half", "{half"),
        ("NaN", "NaN"),
        ("", ""),
        ("[" * 100_000, "[" * 100_000),
    ],
)
def test_what_is_no_json_is_text(text, value):
    assert json_or_text(text) == value


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("tcp:43110:interface=127.0.0.1", "http://127.0.0.1:43110"),
        ("tcp:43110", "http://127.0.0.1:43110"),
        ("tcp:80:backlog=5:interface=0.0.0.0", "http://127.0.0.1:80"),
        ("tcp6:43110", "http://[::1]:43110"),
        (r"tcp6:43110:interface=\:\:1", "http://[::1]:43110"),
        (r"tcp:43110:interface=2001\:db8\:\:7", "http://[2001:db8::7]:43110"),
    ],
)
def test_a_listening_endpoint_as_url(endpoint, url):
    assert endpoint_url(endpoint) == url


@pytest.mark.parametrize("endpoint", ["unix:/run/x", "tcp:0", "systemd:domain=INET:index=0"])
def test_endpoints_without_url(endpoint):
    with pytest.raises(ConfigError, match="say --node URL"):
        endpoint_url(endpoint)


def logged(severity: LogLevel, format: str, /, **fields: object) -> dict:
    """What an event of our loggers becomes as a line of JSON."""
    stream = io.StringIO()
    logger = Logger(namespace="zeromsg.part", observer=JsonLines(stream))
    logger.emit(severity, format, **fields)
    (line,) = stream.getvalue().splitlines()
    return json.loads(line)


def test_a_log_line_is_one_object():
    line = logged(LogLevel.warn, "{peer}\nrefused by {check}", peer="a:1", check="size", n=object())
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "warn",
        "from": "zeromsg.part",
        "text": "a:1\nrefused by size",
        "peer": "a:1",
        "check": "size",
    }


def test_a_field_does_not_replace_what_every_line_has():
    line = logged(LogLevel.info, "{text} {time}", text="x", time="y")
    assert line["text"] == "x y"
    assert line["time"] != "y"


def test_a_failure_has_its_traceback_in_the_line():
    try:
        raise ValueError("this went wrong")
    except ValueError:
        failure = Failure()
    line = json.loads(json_line({"log_format": "oh", "log_failure": failure}))
    assert "ValueError: this went wrong" in line["failure"]


def test_a_fault_of_ours_is_one_line(monkeypatch):
    import zeromsg.cli.site as module
    from zeromsg.cli import main

    def broken(*arguments: object) -> None:
        raise KeyError("here")

    monkeypatch.setattr(module, "Desk", broken)
    result = CliRunner().invoke(main, ["site", "new", "x"])
    assert result.exit_code == 1
    assert "this is a fault of zeromsg, please report it: KeyError in broken" in result.stderr
    assert len(result.stderr.splitlines()) == 1
