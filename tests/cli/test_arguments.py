"""What can be said of a command line before anything is connected to."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from zeromsg import __version__
from zeromsg.cli import main

SITE = "1HeLLo4uzjaLetFx6NH3PMwFP3qbRbTf3D"


def zeromsg(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def test_version():
    result = zeromsg("--version")
    assert (result.exit_code, result.stdout) == (0, f"zeromsg {__version__}\n")


@pytest.mark.parametrize(
    "command",
    [
        (),
        ("demo",),
        ("run",),
        ("site",),
        ("site", "new"),
        ("site", "sign"),
        ("site", "list"),
        ("broadcast",),
        ("send",),
        ("listen",),
        ("status",),
        ("peers",),
        ("site", "peers"),
    ],
)
def test_help_of_every_command(command):
    result = zeromsg(*command, "--help")
    assert result.exit_code == 0
    assert result.stdout.startswith("Usage: ")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("shout",), "No such command 'shout'"),
        (("broadcast", SITE), "Missing argument 'JSON'"),
        (("broadcast", "1NoSite", "hi"), "'1NoSite' is no address of a site."),
        (("broadcast", SITE, "hi", "--sign", "me"), "'me' is not one of"),
        (("broadcast", SITE, "hi", "--count", "0"), "0 is not in the range"),
        (
            ("broadcast", SITE, "hi", "--timeout", "-1"),
            "'-1' is no number of seconds from 0 to 3600",
        ),
        (("broadcast", SITE, "hi", "--timeout", "nan"), "'nan' is no number of seconds"),
        (("broadcast", SITE, "hi", "--node", "here"), "expected the URL of a node"),
        (("broadcast", SITE, "hi", "--node", "http://[::1"), "expected the URL of a node"),
        (("broadcast", SITE, "hi", "--node", "http://h:99999"), "expected the URL of a node"),
        (("peers", "1NoSite"), "'1NoSite' is no address of a site."),
        (("send", SITE, "127.0.0.1:port", "hi"), "'127.0.0.1:port' is no peer"),
        (("listen", SITE, "--verdict", "maybe"), "'maybe' is not one of"),
        (("listen", SITE, "--seconds", "soon"), "'soon' is no number of seconds"),
        (("listen", SITE, "--seconds", "inf"), "'inf' is no number of seconds"),
        (("listen", SITE, "--sign", "user"), "--sign goes with --reply"),
        (("demo", "--port", "70000"), "70000 is not in the range"),
    ],
)
def test_wrong_use_is_told_with_exit_code_2(arguments, sentence):
    result = zeromsg(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "command",
    [
        ("run",),
        ("status",),
        ("site", "list"),
        ("site", "new", "x"),
        ("site", "sign", "x"),
        ("broadcast", SITE, "hi"),
        ("send", SITE, "self", "hi"),
        ("listen", SITE),
    ],
)
def test_a_bad_configuration_is_one_sentence_with_exit_code_2(command, tmp_path):
    config = tmp_path / "zeromsg.toml"
    config.write_text("\n[peers]\ntsl = true\n")
    result = zeromsg(*command, "--config", str(config))
    assert result.exit_code == 2
    assert result.stderr == f"Error: {config} line 3: peers.tsl: unknown key; did you mean tls?\n"


def test_a_recording_that_cannot_be_written_is_told(tmp_path):
    result = zeromsg("listen", SITE, "--record", str(tmp_path / "none" / "file"))
    assert result.exit_code == 2
    assert result.stderr.endswith("none/file cannot be written: No such file or directory\n")


def test_a_missing_configuration_is_told():
    result = zeromsg("run", "--config", "not-here.toml")
    assert result.exit_code == 2
    assert "not-here.toml: cannot be read" in result.stderr


def test_a_bad_override_is_told():
    result = zeromsg("run", "--set", "peers.tls=perhaps")
    assert result.exit_code == 2
    assert "peers.tls: expected true or false" in result.stderr


def test_a_node_without_a_fixed_port_has_to_be_named(tmp_path: Path):
    config = tmp_path / "zeromsg.toml"
    config.write_text('[ui]\nendpoint = "systemd:domain=INET:index=0"\n')
    result = zeromsg("broadcast", SITE, "hi", "--config", str(config))
    assert result.exit_code == 2
    assert "say --node URL" in result.stderr


def test_only_who_can_be_banned_is_banned():
    result = zeromsg("bans", "add", "nonsense!!")
    assert result.exit_code == 2
    assert "no IP address, no onion" in result.stderr
