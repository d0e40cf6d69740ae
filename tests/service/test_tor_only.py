"""Settings that do not go with Tor: all named in one error, before any socket."""

import re
from pathlib import Path

import pytest

from zeromsg.errors import ConfigError
from zeromsg.service.config import Settings, parse
from zeromsg.service.tor_only import check_tor, is_local

ONION = "vww6ybal4bd7szmgncyruucpgfkqahzddi37ktceo3ah7ngmcopnpyyd.onion:26552"
GOOD = f"""
[peers]
endpoint = ""
connect = ["{ONION}"]
trackers = ["zero://{ONION}"]
[tor]
mode = "only"
"""


def settings(text: str) -> Settings:
    return parse(text, "zeromsg.toml", Path("/etc"))


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        check_tor(settings(text))
    return str(caught.value)


def test_a_node_without_tor_and_a_good_one_pass() -> None:
    check_tor(Settings())
    check_tor(settings(GOOD))
    check_tor(settings('[tor]\nmode = "on"\npush_own = true'))


def test_every_leak_is_named_at_once() -> None:
    text = refusal(
        """
        [ui]
        endpoint = "tcp:43110"
        [peers]
        endpoint = "tcp:26552"
        connect = ["192.0.2.1:26552"]
        map_port = true
        local_discovery = true
        trackers = ["udp://t.example:80", "zero://192.0.2.1:1", "http://t.example/a"]
        [tor]
        mode = "only"
        control = "tcp:192.0.2.2:9051"
        socks = "192.0.2.3:9050"
        """
    )
    for key in (
        "ui.endpoint", "peers.endpoint", "peers.connect", "peers.map_port", "tor.control",
        "tor.socks", "peers.trackers: \"udp", "peers.trackers: \"zero", "peers.trackers: \"http",
        "peers.local_discovery",
    ):  # fmt: skip
        assert f"\n  {key}" in text


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ('ui.endpoint = "tcp:1:interface=192.168.0.1"', "ui.endpoint"),
        ('ui.endpoint = "systemd:domain=INET:index=0"', "ui.endpoint"),
        ('peers.endpoint = "tcp:1:interface=127.0.0.1"', "peers.endpoint"),
    ],
)
def test_each_alone_stops_the_start(more: str, key: str) -> None:
    good = 'peers.endpoint = ""\n' if not more.startswith("peers") else ""
    assert key in refusal(f'{good}{more}\ntor.mode = "only"')


def test_what_does_not_go_with_the_other_modes() -> None:
    assert "tor.push_own" in refusal("[tor]\npush_own = true")
    assert "peers.connect" in refusal(f'peers.connect = ["{ONION}"]')
    text = '[tor]\nmode = "on"\nlaunch = true\nsocks = "127.0.0.1:9050"'
    assert "tor.socks" in refusal(text)
    assert "tor.control" in refusal('[tor]\nmode = "on"\ncontrol = "tcp:192.0.2.2:9051"')


@pytest.mark.parametrize(
    ("endpoint", "local"),
    [
        ("unix:/run/zeromsg.sock", True),
        ("tcp:1:interface=127.0.0.1", True),
        ("tcp:1:backlog=5:interface=127.9.9.9", True),
        (r"tcp6:1:interface=\:\:1", True),
        ("tcp:1", False),
        ("tcp:1:interface=0.0.0.0", False),
        ("tcp:1:interface=localhost", False),
        ("tcp:1:interface=127.0.0.1:interface=192.0.2.1", False),
        (r"tcp6:1:interface=\:\:", False),
        ("systemd:domain=INET:index=0", False),
    ],
)
def test_what_listens_for_this_machine_alone(endpoint: str, local: bool) -> None:
    assert is_local(endpoint) is local


def test_the_examples_of_the_documentation_start_as_written() -> None:
    text = (Path(__file__).parents[2] / "docs" / "tor.md").read_text()
    examples = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    modes = []
    for example in examples:
        checked = settings(example)
        check_tor(checked)
        modes.append(checked.tor.mode)
    assert modes == ["on", "only"]
