import json
import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeromsg.errors import TheirMistake
from zeromsg.wire.tracker_http import PEERS_LIMIT, announce_url, compact_peers, parse_answer
from zeromsg.wire.trackers import TrackerRefused, parse_tracker
from zeromsg.wire.values import PeerAddress, site_sha1

VECTORS = pathlib.Path(__file__).parents[1] / "vectors"
DISCOVERY = json.loads((VECTORS / "discovery.json").read_text())["http_tracker"]
INFO_HASH = site_sha1(DISCOVERY["site"])
PEER_ID = "-UT3530-pKaCVxmqwC60"
TRACKER = parse_tracker("http://127.0.0.1:20900/announce")


def answer(**values: bytes) -> bytes:
    """A bencoded map out of values that are bencoded already."""
    pairs = sorted((key.replace("_", " ").encode(), value) for key, value in values.items())
    return b"d" + b"".join(b"%d:%s%s" % (len(key), key, value) for key, value in pairs) + b"e"


def string(data: bytes) -> bytes:
    return b"%d:%s" % (len(data), data)


@pytest.mark.parametrize(
    ("vector", "port"), [("http_request_port_open", 20015), ("http_request_port_closed", 0)]
)
def test_asks_as_zeronet(vector, port):
    target = DISCOVERY[vector].split(" ")[1]
    url = announce_url(TRACKER, INFO_HASH, PEER_ID, port, 30)
    assert url.decode() == "http://127.0.0.1:20900" + target


def test_reads_the_answer_that_zeronet_read():
    packed = bytes.fromhex(DISCOVERY["stub_answer_peers_hex"])
    peers = parse_answer(answer(peers=string(packed))).peers
    assert [str(peer) for peer in peers] == DISCOVERY["peers_added"]


@pytest.mark.parametrize(
    ("tracker", "start"),
    [
        ("http://t.example", b"http://t.example:80/?info_hash="),
        ("https://t.example/a?key=1", b"https://t.example:443/a?key=1&info_hash="),
        ("http://t.example/?key=1", b"http://t.example:80/?key=1&info_hash="),
        ("http://t.example?key=1", b"http://t.example:80/?key=1&info_hash="),
        ("http://[2001:db8::1]/a", b"http://[2001:db8::1]:80/a?info_hash="),
    ],
)
def test_the_path_stays_what_it_is(tracker, start):
    assert announce_url(parse_tracker(tracker), INFO_HASH, PEER_ID, 1, 1).startswith(start)


@given(st.binary(min_size=20, max_size=20))
def test_any_hash_is_percent_encoded(info_hash):
    url = announce_url(TRACKER, info_hash, PEER_ID, 1, 1)
    query = url.partition(b"info_hash=")[2].partition(b"&")[0]
    assert not set(query) & set(b" +&#?/\r\n")
    unquoted = bytearray()
    while query:
        if query.startswith(b"%"):
            unquoted.append(int(query[1:3], 16))
            query = query[3:]
        else:
            unquoted.append(query[0])
            query = query[1:]
    assert unquoted == info_hash


def test_peers_of_both_families():
    peers6 = bytes.fromhex("20010db8000000000000000000000077") + b"\x1a\xe1"
    body = answer(peers=string(b"\xcb\x00\x71\x09\x1a\xe1"), peers6=string(peers6))
    assert parse_answer(body).peers == (
        PeerAddress("203.0.113.9", 6881),
        PeerAddress("2001:db8::77", 6881),
    )


def test_a_mapped_address_is_an_ipv4_one():
    mapped = bytes(10) + b"\xff\xff\xcb\x00\x71\x09\x1a\xe1"
    assert compact_peers(mapped, 18) == [PeerAddress("203.0.113.9", 6881)]


def test_peers_as_maps():
    peers = b"l%se" % b"".join(
        answer(ip=string(ip), port=b"i%de" % port)
        for ip, port in [
            (b"203.0.113.9", 6881),
            (b"2001:db8::1", 6881),
            (b"tracker.example", 6881),  # never looked up
            (b"fe80::1%eth0", 6881),
            (b"203.0.113.10", 0),
            (b"203.0.113.11", 1),
            (b"203.0.113.12", 70000),
            (b"203.0.113.13", -4),
            (b"\xff\xfe", 6881),
        ]
    )
    assert parse_answer(answer(peers=peers)).peers == (
        PeerAddress("203.0.113.9", 6881),
        PeerAddress("2001:db8::1", 6881),
    )


@pytest.mark.parametrize(
    "peers",
    [
        b"li1ee",
        b"lde" + b"e",
        b"l" + answer(ip=b"i1e", port=b"i1e") + b"e",
        b"l" + answer(ip=string(b"203.0.113.9"), port=string(b"80")) + b"e",
        string(b"12345"),
        b"i5e",
        b"de",
    ],
)
def test_peers_that_are_none(peers):
    with pytest.raises(TheirMistake):
        parse_answer(answer(peers=peers))


@pytest.mark.parametrize("body", [b"", b"le", b"i1e", b"<html></html>", b"d", b"4:spam"])
def test_what_is_no_answer(body):
    with pytest.raises(TheirMistake):
        parse_answer(body)


def test_an_answer_without_peers():
    found = parse_answer(answer(interval=b"i1800e"))
    assert (found.peers, found.interval) == ((), 1800.0)


@pytest.mark.parametrize(
    ("given", "interval"),
    [
        ({}, None),
        ({"interval": b"i0e"}, None),
        ({"interval": b"i-60e"}, None),
        ({"interval": b"4:1800"}, None),
        ({"interval": b"i1800e", "min_interval": b"i900e"}, 1800.0),
        ({"interval": b"i60e", "min_interval": b"i900e"}, 900.0),
        ({"interval": b"i999999999999e"}, 7 * 86400.0),
    ],
)
def test_when_to_ask_again(given, interval):
    assert parse_answer(answer(peers=b"0:", **given)).interval == interval


@pytest.mark.parametrize(
    ("given", "retry"),
    [
        ({}, None),
        ({"retry_in": b"i5e"}, 300.0),
        ({"retry_in": string(b"5")}, 300.0),
        ({"retry_in": string(b"never")}, 7 * 86400.0),
        ({"retry_in": string(b"9" * 100)}, 7 * 86400.0),
        ({"retry_in": b"i-5e"}, None),
        ({"retry_in": b"le"}, None),
    ],
)
def test_a_tracker_may_refuse(given, retry):
    with pytest.raises(TrackerRefused, match="refuses: not registered") as refused:
        parse_answer(answer(failure_reason=string(b"not\x00registered"), **given))
    assert refused.value.retry == retry


def test_a_refusal_without_words():
    with pytest.raises(TrackerRefused, match="no reason"):
        parse_answer(answer(failure_reason=b"i1e"))


def test_the_number_of_peers_has_a_bound():
    many = b"\xcb\x00\x71\x09\x1a\xe1" * (PEERS_LIMIT + 100)
    assert len(parse_answer(answer(peers=string(many))).peers) == PEERS_LIMIT


@given(st.binary(max_size=80), st.binary(max_size=40), st.binary(max_size=40))
def test_hostile_answers_raise_only_our_errors(body, peers, peers6):
    for hostile in (body, answer(peers=string(peers), peers6=string(peers6)), answer(peers=body)):
        try:
            found = parse_answer(hostile)
        except (TheirMistake, TrackerRefused):
            continue
        assert all(peer.port > 1 for peer in found.peers)
