import base64
import hashlib
import json
import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeromsg.errors import TheirMistake
from zeromsg.wire import values
from zeromsg.wire.values import (
    PeerAddress,
    is_site_address,
    pack_address,
    site_sha1,
    site_sha256,
    unpack_address,
    unpack_onion,
)

VECTORS = pathlib.Path(__file__).parents[1] / "vectors"
PACKED = json.loads((VECTORS / "packed-peers.json").read_text())
DISCOVERY = json.loads((VECTORS / "discovery.json").read_text())

DUCK = "duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad.onion"
OLD_ONION = "zp2ynpztyxj2kw7x.onion"


def onion_of(key: bytes) -> str:
    """The version 3 onion of a public key, by the letter of rend-spec-v3."""
    checksum = hashlib.sha3_256(b".onion checksum" + key + b"\x03").digest()[:2]
    return base64.b32encode(key + checksum + b"\x03").decode().lower() + ".onion"


ports = st.integers(0, 65535)
ipv4_addresses = st.builds(PeerAddress, st.ip_addresses(v=4).map(str), ports)
ipv6_addresses = st.ip_addresses(v=6).flatmap(
    lambda ip: ports.map(lambda port: PeerAddress.parse(f"[{ip}]:{port}"))
)
onions = st.builds(PeerAddress, st.binary(min_size=32, max_size=32).map(onion_of), ports)
addresses = ipv4_addresses | ipv6_addresses | onions


def host_of(case: dict) -> str:
    """The host of a vector as we write it: lower case, with its ending."""
    if "ip" in case:
        return case["ip"]
    return case["onion"].lower().removesuffix(".onion") + ".onion"


@pytest.mark.parametrize("case", PACKED["pack"], ids=lambda case: case["hex"])
def test_packs_as_zeronet(case):
    address = PeerAddress(host_of(case), case["port"])
    assert address.kind == case["type"]
    assert pack_address(address).hex() == case["hex"]


@pytest.mark.parametrize("case", PACKED["unpack"], ids=lambda case: case["hex"])
def test_unpacks_as_zeronet(case):
    packed = bytes.fromhex(case["hex"])
    host, port = case["address"]
    unpack = unpack_onion if host.endswith(".onion") else unpack_address
    address = unpack(packed)
    assert (address.host, address.port) == (host, port)
    assert pack_address(address) == packed


@pytest.mark.parametrize(
    "case", [case for case in PACKED["errors"] if "hex" in case], ids=lambda case: case["hex"]
)
def test_refuses_what_zeronet_refuses(case):
    # One of them ZeroNet takes: five bytes of onion, which no Tor knows. We do not.
    unpack = {"unpackAddress": unpack_address, "unpackOnionAddress": unpack_onion}
    with pytest.raises(TheirMistake):
        unpack[case["function"]](bytes.fromhex(case["hex"]))


@pytest.mark.parametrize(
    "args", [case["args"] for case in PACKED["errors"] if "args" in case], ids=str
)
def test_no_address_can_be_built_of_a_bad_onion(args):
    host, port = args
    with pytest.raises(ValueError, match="onion"):
        PeerAddress(host + ".onion", port)


@given(addresses)
def test_packing_and_back(address):
    unpack = unpack_onion if address.kind == "onion" else unpack_address
    assert unpack(pack_address(address)) == address


@given(addresses)
def test_text_and_back(address):
    again = PeerAddress.parse(str(address))
    assert again == address
    assert hash(again) == hash(address)


@pytest.mark.parametrize(
    "text",
    [
        "1.2.3.4:80",
        "0.0.0.0:0",
        "255.255.255.255:65535",
        "[2001:db8::1]:80",
        "[::]:1",
        "[::ffff:192.0.2.1]:443",
        DUCK + ":80",
    ],
)
def test_canonical_text_stays(text):
    assert str(PeerAddress.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("[2001:DB8:0:0:0:0:0:1]:80", "[2001:db8::1]:80"),
        ("[::ffff:c000:201]:443", "[::ffff:192.0.2.1]:443"),
        (DUCK.upper() + ":1", DUCK + ":1"),
    ],
)
def test_other_spellings_become_canonical(text, written):
    assert str(PeerAddress.parse(text)) == written


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        ":80",
        "1.2.3.4",
        "1.2.3.4:",
        "1.2.3.4:-1",
        "1.2.3.4:+1",
        "1.2.3.4:65536",
        "1.2.3.4:99999",
        "1.2.3.4:1_0",
        "1.2.3.4:080",
        "1.2.3.4: 80",
        "1.2.3.4:80\n",
        "1.2.3.4:\u0668\u0660",
        "1.2.3:80",
        "01.2.3.4:80",
        "1.2.3.256:80",
        " 1.2.3.4:80",
        "[1.2.3.4]:80",
        "2001:db8::1:80",
        "[2001:db8::1]",
        "[2001:db8::1:80",
        "[[::1]]:80",
        "[]:80",
        "[::1%eth0]:80",
        "[fe80::1%1]:80",
        "localhost:80",
        "example.org:80",
        OLD_ONION + ":80",
        "a" * 56 + ".onion:80",
        DUCK[1:] + ":80",
        "x" + DUCK[1:] + ":80",
        "www." + DUCK + ":80",
        ".onion:80",
        DUCK.replace("k", "\u212a", 1) + ":80",
        "1" * 100_000 + ":80",
        "\ud800:80",
    ],
    ids=lambda text: ascii(text[:40]),
)
def test_bad_text_is_refused(text):
    with pytest.raises(ValueError, match=r"\w+ \w+"):
        PeerAddress.parse(text)


@given(st.text(max_size=100) | st.from_regex(r"[\[\]0-9a-f:.%]{0,50}(onion)?:[0-9]{0,6}"))
def test_parse_raises_nothing_but_value_errors(text):
    try:
        address = PeerAddress.parse(text)
    except ValueError:
        return
    assert PeerAddress.parse(str(address)) == address


@given(st.binary(max_size=40) | st.text(max_size=40) | st.none() | st.integers() | st.lists(ports))
def test_hostile_bytes_raise_only_their_mistake(packed):
    for unpack in (unpack_address, unpack_onion):
        try:
            address = unpack(packed)
        except TheirMistake:
            continue
        assert pack_address(address) == packed


def test_an_onion_with_a_wrong_checksum_costs_no_points():
    packed = bytearray(pack_address(PeerAddress(DUCK, 80)))
    packed[3] ^= 1
    with pytest.raises(TheirMistake, match="checksum") as caught:
        unpack_onion(bytes(packed))
    assert caught.value.points == 0


def test_an_onion_of_another_version_is_refused():
    key = bytes(32)
    checksum = hashlib.sha3_256(b".onion checksum" + key + b"\x04").digest()[:2]
    host = base64.b32encode(key + checksum + b"\x04").decode().lower() + ".onion"
    with pytest.raises(ValueError, match="version"):
        PeerAddress(host, 1)


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("::0001", 1),
        ("::FFFF", 1),
        (DUCK.upper(), 1),
        ("example.org", 1),
        ("", 1),
        ("1.2.3.4", -1),
        ("1.2.3.4", 65536),
        ("1.2.3.4", True),
        ("1.2.3.4", 1.0),
    ],
)
def test_the_constructor_takes_canonical_values_only(host, port):
    with pytest.raises(ValueError, match=r"\w+ \w+"):
        PeerAddress(host, port)


@pytest.mark.parametrize(
    ("host", "private", "loopback"),
    [
        ("127.0.0.1", True, True),
        ("127.255.255.254", True, True),
        ("::1", True, True),
        ("::ffff:127.0.0.1", True, True),
        ("::ffff:10.0.0.1", True, False),
        ("10.1.2.3", True, False),
        ("172.16.0.1", True, False),
        ("172.31.255.255", True, False),
        ("172.32.0.1", False, False),
        ("192.168.1.1", True, False),
        ("169.254.1.1", True, False),
        ("fe80::1", True, False),
        ("fd00::1", True, False),
        ("0.0.0.0", True, False),
        ("::", True, False),
        ("203.0.113.7", False, False),
        ("192.0.2.1", False, False),
        ("2001:db8::1", False, False),
        ("8.8.8.8", False, False),
        (DUCK, False, False),
        (OLD_ONION, False, False),
    ],
)
def test_private_and_loopback(host, private, loopback):
    address = PeerAddress(host, 1)
    assert address.is_private is private
    assert address.is_loopback is loopback


def test_addresses_are_values():
    one, other = PeerAddress("1.2.3.4", 5), PeerAddress.parse("1.2.3.4:5")
    assert one == other
    assert {one, other} == {one}
    with pytest.raises(AttributeError):
        one.port = 6
    with pytest.raises(AttributeError):
        one.other = 6


@pytest.mark.parametrize("case", DISCOVERY["site_hashes"], ids=lambda case: case["address"])
def test_site_hashes(case):
    assert is_site_address(case["address"])
    assert site_sha256(case["address"]).hex() == case["sha256"]
    assert site_sha1(case["address"]).hex() == case["sha1"]


@pytest.mark.parametrize(
    "text",
    [
        None,
        1,
        b"1HeLLo4uzjaLetFx6NH3PMwFP3qbRbTf3D",
        "",
        "1" * 25,
        "1" * 36,
        "1HeLLo4uzjaLetFx6NH3PMwFP3qbRbTf3D\n",
        "1HeLLo4uzjaLetFx6NH3PMwFP3qbRbTf3/",
        "../../../../../../../../../etc",
        "1HeLLo4uzjaLetFx6NH3PMwFP3qbRbTfé",
        "\u0661" * 30,
    ],
    ids=ascii,
)
def test_what_is_no_site_address(text):
    assert not is_site_address(text)


def test_lengths_are_those_of_the_specification():
    lengths = (values.IPV4_BYTES, values.IPV6_BYTES, values.ONION_V2_BYTES, values.ONION_V3_BYTES)
    assert lengths == (6, 18, 12, 37)
