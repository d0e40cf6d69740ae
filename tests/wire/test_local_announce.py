import hashlib
import json
import pathlib

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeromsg.errors import TheirMistake
from zeromsg.wire.local_announce import (
    DATAGRAM_LIMIT,
    DISCOVER_REQUEST,
    DISCOVER_RESPONSE,
    SITE_LIST_REQUEST,
    SITE_LIST_RESPONSE,
    SITES_LIMIT,
    Datagram,
    Sender,
    site_lists,
)
from zeromsg.wire.values import site_sha256

VECTORS = pathlib.Path(__file__).parents[1] / "vectors"
LAN = json.loads((VECTORS / "discovery.json").read_text())["lan"]
REAL = LAN["real_broadcast"] + LAN["real_answers"] + LAN["stub_sent"]
SENDER = Sender("-UT3530-In8V7BpWaM9u", 20011, 21544)


@pytest.mark.parametrize("case", REAL, ids=lambda case: case["decoded"]["cmd"])
def test_real_datagrams_are_read_and_written_the_same(case):
    packed = bytes.fromhex(case["hex"])
    datagram = Datagram.from_wire(packed)
    decoded = case["decoded"]
    assert datagram.cmd == decoded["cmd"]
    assert datagram.sender.peer_id == decoded["sender"]["peer_id"]
    assert datagram.sender.port == decoded["sender"]["port"]
    if case not in LAN["stub_sent"] or datagram.cmd != SITE_LIST_REQUEST:
        # The stub asks with params, which real nodes do not.
        assert datagram.to_wire() == packed


def test_the_site_of_a_real_list():
    case = LAN["real_answers"][2]
    datagram = Datagram.from_wire(bytes.fromhex(case["hex"]))
    assert datagram.sites == (site_sha256(case["site"]),)
    assert datagram.sites_changed == 1795326332


@pytest.mark.parametrize(("sites", "datagrams"), [(0, 1), (1, 1), (100, 1), (101, 2), (250, 3)])
def test_many_sites_take_many_datagrams(sites, datagrams):
    hashes = [hashlib.sha256(b"%d" % number).digest() for number in range(sites)]
    parts = list(site_lists(SENDER, 7, hashes))
    assert len(parts) == datagrams
    assert [digest for part in parts for digest in part.sites] == hashes
    for part in parts:
        packed = part.to_wire()
        assert len(packed) < DATAGRAM_LIMIT
        assert Datagram.from_wire(packed) == part


cmds = st.sampled_from([DISCOVER_REQUEST, DISCOVER_RESPONSE, SITE_LIST_RESPONSE])
senders = st.builds(
    Sender,
    st.text(max_size=20),
    st.integers(0, 65535),
    st.integers(1, 65535),
    st.integers(0, 10_000),
)


@given(cmds, senders, st.none() | st.integers(0, 2**40))
def test_written_and_read(cmd, sender, changed):
    sites = (b"s" * 32,) if cmd == SITE_LIST_RESPONSE else ()
    datagram = Datagram(cmd, sender, changed, sites)
    assert Datagram.from_wire(datagram.to_wire()) == datagram


def message(**changes):
    sender = {"service": "zeronet", "peer_id": "p", "port": 1, "broadcast_port": 1544, "rev": 1}
    values = {"cmd": SITE_LIST_RESPONSE, "params": {}, "sender": sender}
    for key, value in changes.items():
        part, _, name = key.partition("__")
        if name:
            values[part][name] = value
        else:
            values[part] = value
    return msgpack.packb(values)


def test_the_message_that_the_cases_spoil_is_good():
    assert Datagram.from_wire(message()).cmd == SITE_LIST_RESPONSE


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x80",
        b"garbage",
        msgpack.packb([1]),
        message() + b"x",
        message(cmd=7),
        message(cmd="x" * 65),
        message(sender=None),
        message(sender=[]),
        message(params=[7]),
        message(sender__service="bitcoin"),
        message(sender__service=None),
        message(sender__peer_id=7),
        message(sender__peer_id="x" * 65),
        message(sender__port=-1),
        message(sender__port=65536),
        message(sender__port="80"),
        message(sender__port=True),
        message(sender__broadcast_port=0),
        message(sender__broadcast_port=70000),
        message(params__sites_changed="x"),
        message(params__sites_changed=-1),
        message(params__sites={}),
        message(params__sites="x"),
        message(params__sites=[7]),
        message(params__sites=[b"short"]),
        message(params__x="y" * DATAGRAM_LIMIT),
        message(params__x=[0] * 2000),
        b"\x91" * 5000 + b"\x00",
        b"\x81\x80\x00",
        b"\x83\xa3cmd\xdd\xff\xff\xff\xff",
    ],
)
def test_what_is_no_datagram_of_ours(data):
    with pytest.raises(TheirMistake):
        Datagram.from_wire(data)


def test_of_too_many_sites_the_first_are_looked_at():
    data = message(params__sites=[bytes(32)] * (SITES_LIMIT + 50))
    assert len(Datagram.from_wire(data).sites) == SITES_LIMIT


def test_a_site_list_request_has_no_params():
    packed = Datagram(SITE_LIST_REQUEST, SENDER).to_wire()
    assert "params" not in msgpack.unpackb(packed)


@given(st.binary(max_size=100))
def test_hostile_bytes_raise_only_their_mistake(data):
    try:
        Datagram.from_wire(data)
    except TheirMistake as mistake:
        assert str(mistake)


@given(
    st.dictionaries(
        st.sampled_from(["cmd", "params", "sender"]),
        st.none()
        | st.integers(-(2**63), 2**63)
        | st.text(max_size=5)
        | st.dictionaries(
            st.sampled_from(["sites", "sites_changed", "service", "port", "peer_id"]),
            st.none() | st.integers(-5, 2**62) | st.just("zeronet") | st.lists(st.binary()),
        ),
    )
)
def test_hostile_maps_raise_only_their_mistake(values):
    try:
        Datagram.from_wire(msgpack.packb(values))
    except TheirMistake as mistake:
        assert str(mistake)
