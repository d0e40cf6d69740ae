import hashlib
import json
import pathlib

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeromsg.errors import TheirMistake
from zeromsg.wire.announce import (
    HASHES_LIMIT,
    NEED_LIMIT,
    ONIONS_LIMIT,
    PEERS_LIMIT,
    AnnounceAnswer,
    AnnounceRequest,
)
from zeromsg.wire.packing import pack
from zeromsg.wire.trackers import TrackerRefused
from zeromsg.wire.values import PeerAddress, pack_address, site_sha256

VECTORS = pathlib.Path(__file__).parents[1] / "vectors"
WIRE = json.loads((VECTORS / "wire-announce.json").read_text())
SITES = json.loads((VECTORS / "discovery.json").read_text())["site_hashes"]
DUCK = "duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad"
HASH = site_sha256(WIRE["site"])


def messages(direction, cmd):
    found = []
    for connection in WIRE["connections"]:
        kept = [m for m in connection["messages"] if m["dir"] == direction]
        found += [bytes.fromhex(m["hex"]) for m in kept if cmd(m["decoded"])]
    return found


REQUESTS = messages(">", lambda decoded: decoded["cmd"] == "announce")
ANSWERS = messages("<", lambda decoded: decoded["to"] == 1)


def params(**changes):
    return {
        "hashes": [HASH],
        "onions": [],
        "port": 15441,
        "need_types": ["ipv4"],
        "need_num": 20,
        "add": ["ipv4"],
        **changes,
    }


@pytest.mark.parametrize("site", SITES, ids=lambda site: site["address"])
def test_sites_are_named_as_in_zeronet(site):
    assert site_sha256(site["address"]).hex() == site["sha256"]


@pytest.mark.parametrize("packed", REQUESTS, ids=lambda packed: packed.hex()[-20:])
def test_requests_of_real_nodes_are_read_and_written_the_same(packed):
    message = msgpack.unpackb(packed, raw=False)
    request = AnnounceRequest.from_wire(message["params"])
    assert request.hashes == (HASH,)
    assert request.may_list("ipv4") and request.wants("ipv4")
    assert not request.wants("onion")
    assert pack({**message, "params": request.to_wire()}) == packed


@pytest.mark.parametrize("number", range(len(ANSWERS)))
def test_answers_of_real_trackers_are_read_and_written_the_same(number):
    request = AnnounceRequest.from_wire(msgpack.unpackb(REQUESTS[number], raw=False)["params"])
    message = msgpack.unpackb(ANSWERS[number], raw=False)
    answer = AnnounceAnswer.from_wire(message, 1)
    written = {**answer.to_wire(request), "cmd": "response", "to": 1}
    assert pack(written) == ANSWERS[number]


def test_the_peers_of_a_real_answer():
    answer = AnnounceAnswer.from_wire(msgpack.unpackb(ANSWERS[-1], raw=False), 1)
    assert answer.peers == (
        (PeerAddress("198.51.100.12", 20012), PeerAddress("198.51.100.11", 20011)),
    )


def test_who_does_not_know_the_old_name_gets_the_new_one():
    request = AnnounceRequest.from_wire(params(need_types=["ipv4", "ipv6", "onion"]))
    found = (
        PeerAddress("203.0.113.9", 1),
        PeerAddress("2001:db8::9", 2),
        PeerAddress(DUCK + ".onion", 3),
    )
    written = AnnounceAnswer((found, ())).to_wire(request)
    assert written == {
        "peers": [
            {
                key: [pack_address(a)]
                for key, a in zip(("ipv4", "ipv6", "onion"), found, strict=True)
            },
            {"ipv4": [], "ipv6": [], "onion": []},
        ]
    }
    assert AnnounceAnswer.from_wire(written, 2).peers == (found, ())


def test_a_proof_repeats_the_request():
    request = AnnounceRequest.from_wire(params(onions=[DUCK + ".onion"]))
    assert request.onions == (DUCK,)
    proven = request.proven("1795326699", {b"k" * 32: b"s" * 64})
    wire = proven.to_wire()
    assert wire == {
        **request.to_wire(),
        "need_num": 0,
        "onion_sign_this": "1795326699",
        "onion_signs": {b"k" * 32: b"s" * 64},
    }
    assert AnnounceRequest.from_wire(msgpack.unpackb(pack(wire), strict_map_key=False)) == proven


def test_peers_older_than_the_bin_type_are_read():
    packed = msgpack.packb(params(), use_bin_type=False)
    raw = msgpack.unpackb(packed, raw=False, unicode_errors="surrogateescape")
    assert AnnounceRequest.from_wire(raw).hashes == (HASH,)


@pytest.mark.parametrize("key", ["hashes", "port", "need_types", "need_num", "add"])
def test_required_keys(key):
    given_params = params()
    del given_params[key]
    with pytest.raises(TheirMistake):
        AnnounceRequest.from_wire(given_params)


@pytest.mark.parametrize(
    "changes",
    [
        {"hashes": "x"},
        {"hashes": [b"short"]},
        {"hashes": [HASH + b"x"]},
        {"hashes": [7]},
        {"port": -1},
        {"port": 65536},
        {"port": "80"},
        {"port": True},
        {"need_num": -1},
        {"need_types": "ipv4"},
        {"need_types": [7]},
        {"add": {}},
        {"onions": "x"},
        {"onions": [DUCK, DUCK]},
        {"onions": [7]},
        {"onions": ["x" * 200]},
        {"onion_sign_this": 7},
        {"onion_sign_this": "sign me, and lose"},
        {"onion_sign_this": "1" * 41},
        {"onion_sign_this": "١٢٣"},
        {"onion_signs": []},
        {"onion_signs": {7: b""}},
        {"onion_signs": {b"k": 7}},
        {"onion_signs": {b"k" * 600: b"s"}},
        {"onion_signs": {bytes([n]): b"" for n in range(ONIONS_LIMIT + 1)}},
    ],
    ids=str,
)
def test_what_is_no_request(changes):
    with pytest.raises(TheirMistake):
        AnnounceRequest.from_wire(params(**changes))


def test_of_ten_thousand_sites_the_first_are_looked_at():
    hashes = [hashlib.sha256(b"%d" % number).digest() for number in range(10_000)]
    request = AnnounceRequest.from_wire(params(hashes=hashes, onions=[DUCK] * 10_000))
    assert request.hashes == tuple(hashes[:HASHES_LIMIT])
    assert len(request.onions) == HASHES_LIMIT


def test_too_many_different_onions():
    onions = [f"{number:016d}" for number in range(ONIONS_LIMIT + 1)]
    with pytest.raises(TheirMistake, match="different onions"):
        AnnounceRequest.from_wire(params(hashes=[HASH] * len(onions), onions=onions))


def test_need_has_a_bound():
    assert AnnounceRequest.from_wire(params(need_num=10**9)).need_num == NEED_LIMIT


@pytest.mark.parametrize("error", ["Unknown command: announce", b"no", 7, ["x"]])
def test_a_tracker_may_refuse(error):
    with pytest.raises(TrackerRefused, match="the tracker refuses: "):
        AnnounceAnswer.from_wire({"error": error}, 1)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"peers": 7},
        {"peers": [7]},
        {"peers": [{"ipv4": 7}]},
        {"peers": [{"ipv4": [7]}]},
        {"peers": [{"ipv4": [b"12345"]}]},
        {"peers": [{"ipv6": [b"x" * 19]}]},
        {"peers": [{"onion": [b"x" * 13]}]},
        {"peers": [], "onion_sign_this": b"\xff"},
        {"peers": [], "onion_sign_this": "prove it"},
    ],
    ids=str,
)
def test_what_is_no_answer(body):
    with pytest.raises(TheirMistake):
        AnnounceAnswer.from_wire(body, 1)


def test_more_lists_than_hashes_are_not_looked_at():
    body = {"peers": [{"ipv4": []}, 7, 7]}
    assert AnnounceAnswer.from_wire(body, 1).peers == ((),)


def test_addresses_that_nobody_can_dial_are_left_out():
    wrong = b"x" * 35 + b"\x51\x3c"
    old = b"y" * 10 + b"\x51\x3c"
    good = pack_address(PeerAddress(DUCK + ".onion", 15441))
    peers = {"ipv4": [b"\xcb\x00\x71\x09\x00\x00"], "onion": [wrong, old, good]}
    found = AnnounceAnswer.from_wire({"peers": [peers]}, 1).peers
    assert found == ((PeerAddress(DUCK + ".onion", 15441),),)


def test_the_number_of_addresses_has_a_bound():
    many = [b"\xcb\x00\x71\x09" + number.to_bytes(2, "little") for number in range(1, 2000)]
    found = AnnounceAnswer.from_wire({"peers": [{"ipv4": many}]}, 1).peers
    assert len(found[0]) == PEERS_LIMIT


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.binary(max_size=40),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=8) | st.binary(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
keys = st.sampled_from(
    ["hashes", "onions", "port", "need_types", "need_num", "add", "onion_sign_this", "onion_signs"]
)


@given(st.dictionaries(keys, junk, max_size=3))
def test_hostile_requests_raise_only_their_mistake(changes):
    try:
        request = AnnounceRequest.from_wire(params(**changes))
    except TheirMistake as mistake:
        assert str(mistake)
        return
    assert AnnounceRequest.from_wire(request.to_wire()).hashes == request.hashes


@given(
    st.dictionaries(
        st.sampled_from(["peers", "error", "onion_sign_this"]),
        junk | st.lists(st.dictionaries(st.sampled_from(["ipv4", "ip4", "ipv6", "onion"]), junk)),
    )
)
def test_hostile_answers_raise_only_our_errors(body):
    try:
        answer = AnnounceAnswer.from_wire(body, 3)
    except (TheirMistake, TrackerRefused) as error:
        assert str(error)
        return
    assert len(answer.peers) <= 3
