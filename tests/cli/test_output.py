"""What reaches the terminal and the log."""

import datetime
import io
import json

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificate
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from zeromsg.cli.logs import JsonLines, json_line
from zeromsg.cli.options import endpoint_url, json_or_text, node_url
from zeromsg.cli.output import printable, sender, shown, table
from zeromsg.errors import ConfigError
from zeromsg.net.tls import make_certificate
from zeromsg.service.config import Settings, UiSettings


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
        ("unix:/run/zeromsg.sock:mode=600", "unix:/run/zeromsg.sock"),
        (r"tcp:43110:interface=2001\:db8\:\:7", "http://[2001:db8::7]:43110"),
    ],
)
def test_a_listening_endpoint_as_url(endpoint, url):
    assert str(endpoint_url(endpoint)) == url


@pytest.mark.parametrize("endpoint", ["tcp:0", "systemd:domain=INET:index=0"])
def test_endpoints_without_url(endpoint):
    with pytest.raises(ConfigError, match="say --node URL"):
        endpoint_url(endpoint)


def secure_settings(tmp_path, **more):
    pem = make_certificate(datetime.datetime.now(datetime.UTC))
    (tmp_path / "cert.pem").write_bytes(pem)
    endpoint = f"ssl:43110:privateKey=/none:certKey={tmp_path}/cert.pem"
    return Settings(ui=UiSettings(endpoint=endpoint)), pem


def test_a_secure_endpoint_is_trusted_by_its_own_certificate(tmp_path):
    settings, pem = secure_settings(tmp_path)
    url = node_url(None, settings)
    assert str(url) == "https://127.0.0.1:43110"
    assert url.certificate == load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
    # Saying where it is makes no difference; another node is another matter.
    assert node_url("https://localhost:43110", settings) == url
    assert node_url("https://127.0.0.1:43110", settings) == url
    assert node_url("https://127.0.0.1:43111", settings).certificate is None
    assert node_url("https://node.example:43110", settings).certificate is None


def test_a_certificate_that_cannot_be_read_is_named(tmp_path):
    settings, _ = secure_settings(tmp_path)
    (tmp_path / "cert.pem").write_text("half")
    with pytest.raises(ConfigError, match=r"cert.pem, the certificate of ui.endpoint"):
        node_url(None, settings)
    assert node_url("https://127.0.0.1:43110", settings).certificate is None


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
