"""Which addresses strangers may name, and which belong together."""

import pytest

from zeromsg.policy.addresses import ONIONS, is_private, line_of, range_of, unfit
from zeromsg.wire.values import PeerAddress

ONION = "duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad.onion"

PRIVATE = [
    "0.0.0.1",
    "10.1.2.3",
    "100.64.0.1",
    "100.127.255.255",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.1.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.0.1",
    "::1",
    "fc00::1",
    "fd12:3456::1",
    "fe80::1",
    "fec0::1",
    "::ffff:127.0.0.1",
    "::ffff:192.168.1.1",
    "64:ff9b::7f00:1",
    "64:ff9b::c0a8:101",
    "64:ff9b:1::1",
    "2002:7f00:1::",
    "2002:a00:1::5",
]
NOBODY = [
    "0.0.0.0",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "ff02::1",
    "::ffff:224.0.0.1",
    "64:ff9b::e000:1",
    "2002:e000:1::",
]
PUBLIC = ["1.1.1.1", "100.63.0.1", "100.128.0.1", "172.32.0.1", "2001:db8::1", "64:ff9b::101:101"]


@pytest.mark.parametrize("host", PRIVATE)
def test_private_addresses_are_for_private_networks(host):
    assert is_private(host)
    assert unfit(PeerAddress(host, 80), allow_private=False) == "that address is private"
    assert unfit(PeerAddress(host, 80), allow_private=True) == ""


@pytest.mark.parametrize("host", NOBODY)
@pytest.mark.parametrize("allow_private", [True, False])
def test_nobody_is_never_dialled(host, allow_private):
    assert unfit(PeerAddress(host, 80), allow_private=allow_private) == (
        "no single machine has that address"
    )


@pytest.mark.parametrize("host", [*PUBLIC, ONION])
def test_public_addresses_may_be_dialled(host):
    assert not is_private(host)
    assert unfit(PeerAddress(host, 80), allow_private=False) == ""


@pytest.mark.parametrize("host", ["1.1.1.1", "127.0.0.1", "2001:db8::1", ONION])
def test_nobody_listens_at_port_0(host):
    assert "port 0" in unfit(PeerAddress(host, 0), allow_private=True)


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("203.0.113.9", "203.0.0.0/16"),
        ("203.0.200.9", "203.0.0.0/16"),
        ("203.1.113.9", "203.1.0.0/16"),
        ("::ffff:203.0.113.9", "203.0.0.0/16"),
        ("2002:cb00:7109::", "203.0.0.0/16"),
        ("2001:db8:1:2::3", "2001:db8:1::/48"),
        ("2001:db8:1:ffff::3", "2001:db8:1::/48"),
        ("2001:db8:2::3", "2001:db8:2::/48"),
        ("127.0.0.5", "127.0.0.5"),
        ("10.0.0.1", "10.0.0.1"),
        (ONION, ONIONS),
    ],
)
def test_ranges(host, found):
    assert range_of(host) == found


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("192.168.1.5", "192.168.1.5"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("::1", "::1"),
        ("fe80::1", "fe80::1"),
        ("fd00:1:2:3::4", "fd00:1:2:3::4"),
        ("2002:cb00:7109::1", "203.0.113.9"),
        ("64:ff9b::cb00:7109", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
    ],
)
def test_what_is_on_one_line(host, found):
    assert line_of(host) == found
