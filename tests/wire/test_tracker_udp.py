import json
import pathlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeromsg.errors import TheirMistake
from zeromsg.wire.tracker_udp import (
    announce_request,
    connect_request,
    parse_announce,
    parse_connect,
    transaction_of,
)
from zeromsg.wire.trackers import TrackerRefused
from zeromsg.wire.values import PeerAddress, site_sha1

VECTORS = pathlib.Path(__file__).parents[1] / "vectors"
UDP = json.loads((VECTORS / "discovery.json").read_text())["udp_tracker"]
CONNECT_TRANSACTION = 0x531DCE77
ANNOUNCE_TRANSACTION = 0xAF9B2E19


def test_connects_as_zeronet():
    assert connect_request(CONNECT_TRANSACTION).hex() == UDP["connect_request"]
    reply = bytes.fromhex(UDP["connect_reply"])
    assert transaction_of(reply) == CONNECT_TRANSACTION
    assert parse_connect(reply, CONNECT_TRANSACTION) == 0x1122334455667788


@pytest.mark.parametrize(
    ("vector", "port"), [("announce_request_port_open", 20015), ("announce_request_port_closed", 0)]
)
def test_announces_as_zeronet(vector, port):
    expected = bytes.fromhex(UDP[vector])
    transaction, peer_id = struct.unpack(">I", expected[12:16])[0], expected[36:56]
    request = announce_request(
        0x1122334455667788, transaction, site_sha1(UDP["site"]), peer_id, port, 30
    )
    assert request == expected


def test_reads_the_answer_that_zeronet_read():
    answer = parse_announce(bytes.fromhex(UDP["announce_reply"]), ANNOUNCE_TRANSACTION, False)
    assert [str(peer) for peer in answer.peers] == UDP["peers_added"]
    assert answer.interval == 1800.0


def test_over_ipv6_peers_have_18_bytes():
    packet = struct.pack(">IIIII", 1, 7, 0, 0, 1)
    packet += bytes.fromhex("20010db8000000000000000000000077") + b"\x1a\xe1"
    answer = parse_announce(packet, 7, ipv6=True)
    assert answer.peers == (PeerAddress("2001:db8::77", 6881),)
    assert answer.interval is None


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"1234567",
        struct.pack(">II", 0, 7),
        struct.pack(">IIQ", 1, 7, 9),
        struct.pack(">IIQ", 2, 7, 9),
        struct.pack(">IIQ", 0, 8, 9),
        bytes(70_000),
    ],
)
def test_what_does_not_connect(packet):
    with pytest.raises(TheirMistake):
        parse_connect(packet, 7)


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        struct.pack(">IIIII", 1, 8, 0, 0, 0),
        struct.pack(">IIIII", 0, 7, 0, 0, 0),
        struct.pack(">IIII", 1, 7, 0, 0),
        struct.pack(">IIIII", 1, 7, 0, 0, 0) + b"12345",
        struct.pack(">IIIII", 1, 7, 0, 0, 0) + b"1234567",
        bytes(70_000),
    ],
)
def test_what_does_not_announce(packet):
    with pytest.raises(TheirMistake):
        parse_announce(packet, 7, False)


@pytest.mark.parametrize(
    ("text", "reason"), [(b"go\x07 away", "go  away"), (b"", "no reason"), (b"\xff" * 900, "�")]
)
def test_a_tracker_may_refuse(text, reason):
    packet = struct.pack(">II", 3, 7) + text
    for parse in (lambda: parse_connect(packet, 7), lambda: parse_announce(packet, 7, True)):
        with pytest.raises(TrackerRefused, match=reason) as refused:
            parse()
        assert len(str(refused.value)) < 300


def test_a_refusal_of_another_question_is_none():
    with pytest.raises(TheirMistake, match="another question"):
        parse_connect(struct.pack(">II", 3, 8) + b"no", 7)


@given(st.binary(max_size=60), st.booleans())
def test_hostile_packets_raise_only_our_errors(packet, ipv6):
    transaction = transaction_of(packet) or 0
    for parse in (
        lambda: parse_connect(packet, transaction),
        lambda: parse_announce(packet, transaction, ipv6),
    ):
        try:
            parse()
        except (TheirMistake, TrackerRefused) as error:
            assert str(error)


def test_an_answer_too_short_to_be_one_has_no_transaction():
    assert transaction_of(b"1234567") is None
