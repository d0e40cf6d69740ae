import hashlib
import itertools
import json
import pathlib

import msgpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from zeromsg.errors import TheirMistake
from zeromsg.wire.framing import Framer
from zeromsg.wire.names import PEER_BROADCAST, PEER_SEND
from zeromsg.wire.packing import pack, packed_request
from zeromsg.wire.peer_messages import (
    NONCE_LIMIT,
    PEER_COUNT_LIMIT,
    RAW_LIMIT,
    SIGNATURE_LIMIT,
    TRACE_LIMIT,
    Body,
    Envelope,
    Handshake,
    envelope_digest,
    integer,
    octets,
    parse_body,
    parse_envelope,
    parse_timestamp,
    text,
)

VECTORS = pathlib.Path(__file__).parents[1] / "vectors"
RECORDED = [
    message
    for name in ("wire-plain", "wire-plain-more", "wire-announce", "wire-tls")
    for connection in json.loads((VECTORS / f"{name}.json").read_text())["connections"]
    for message in connection["messages"]
    if message["kind"] == "msg"
]
GREETINGS = [
    message["decoded"].get("params", message["decoded"])
    for message in RECORDED
    if message["decoded"].get("cmd") == "handshake" or message["decoded"].get("to") == 0
]
PEER_MESSAGES = [
    message for message in RECORDED if message["decoded"]["cmd"] in (PEER_BROADCAST, PEER_SEND)
]
HASHED = [
    case
    for case in json.loads((VECTORS / "peermessage.json").read_text())["cases"]
    if case["hash"] is not None and isinstance(case["params"]["raw"], str)
]

ENVELOPE = {"raw": '{"message": 1, "site": "s"}', "nonce": "1", "signature": "", "cert": None}
GREETING = {"fileserver_port": 15441}

ascii_texts = st.text(st.characters(max_codepoint=126, min_codepoint=32), max_size=60)
any_texts = (
    st.text(max_size=40)
    | st.text(st.characters(categories=["Cs"]), max_size=3)
    | st.binary(max_size=40).map(lambda data: data.decode("utf-8", "surrogateescape"))
)
leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | any_texts
    | st.binary(max_size=40)
)
# Whatever a stranger's bytes can become.
wild = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(any_texts, inner, max_size=3),
    max_leaves=10,
)


def through_the_wire(message, **options):
    """A message packed and taken in again by a framer."""
    (received,) = Framer(lambda message: 0).feed(msgpack.packb(message, **options))
    return received


# Handshakes.


def test_there_are_recorded_handshakes():
    assert len(GREETINGS) >= 10


@pytest.mark.parametrize("params", GREETINGS, ids=range(len(GREETINGS)))
def test_recorded_handshakes_are_understood(params):
    greeting = Handshake.from_wire(params)
    assert greeting == Handshake(
        peer_id=params["peer_id"],
        fileserver_port=params["fileserver_port"],
        port_opened=params["port_opened"],
        target_ip=params["target_ip"],
        crypt_supported=tuple(params["crypt_supported"]),
        crypt=params["crypt"],
        time=params["time"],
        onion=None,
        version="0.7.2",
        rev=4555,
        extension=0,
        tracker_connection=params.get("tracker_connection", False),
    )
    again = {**greeting.to_wire(), **params}
    assert {key: again[key] for key in greeting.to_wire()} == greeting.to_wire()


def test_our_handshake_has_what_real_nodes_send():
    ours = Handshake("-UT3530-abcdefghijkl", 1, None, "1.2.3.4", ("tls-rsa",), None, 5).to_wire()
    assert set(ours) == set(GREETINGS[0]) | {"zeromsg"}
    assert ours["use_bin_type"] is True
    assert ours["rev"] == 4555
    assert ours["zeromsg"] == {"version": 1, "features": []}


short_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
handshakes = st.builds(
    Handshake,
    peer_id=short_texts,
    fileserver_port=st.integers(0, 65535),
    port_opened=st.none() | st.booleans(),
    target_ip=short_texts,
    crypt_supported=st.lists(short_texts, max_size=8).map(tuple),
    crypt=st.none() | short_texts.filter(bool),
    time=st.integers(-(2**63), 2**63),
    onion=st.none() | short_texts.filter(bool),
    version=short_texts,
    rev=st.integers(0, 2**53),
    extension=st.integers(0, 9),
)


@given(handshakes)
def test_a_handshake_survives_the_wire(handshake):
    assert Handshake.from_wire(through_the_wire(handshake.to_wire())) == handshake


@given(handshakes)
def test_a_handshake_of_a_peer_without_bin_type_is_understood(handshake):
    """Its lists of texts come as bytes where it made them of bytes."""
    params = handshake.to_wire()
    del params["use_bin_type"]
    params["crypt_supported"] = [crypt.encode() for crypt in handshake.crypt_supported]
    received = through_the_wire(params, use_bin_type=False)
    assert Handshake.from_wire(received) == handshake
    # In the middle of the change some sent bytes in the new way already.
    assert Handshake.from_wire(through_the_wire(params)) == handshake


def test_only_the_port_is_required():
    assert Handshake.from_wire(GREETING) == Handshake(
        "", 15441, None, "", (), None, 0, None, version="", rev=0, extension=0
    )


@pytest.mark.parametrize(("port", "read"), [(0, 0), (65535, 65535), ("15441", 15441), ("0", 0)])
def test_ports_are_numbers_or_their_digits(port, read):
    assert Handshake.from_wire({"fileserver_port": port}).fileserver_port == read


@pytest.mark.parametrize(
    "port",
    [
        *(None, -1, 65536, 2**63, 1.0, True, False, [], {}, b"15441"),
        *("", "-1", "65536", "1.0", " 1", "\u0665", "\u00b2", "9" * 5000, "x"),
    ],
)
def test_other_ports_are_refused(port):
    with pytest.raises(TheirMistake):
        Handshake.from_wire({"fileserver_port": port})
    with pytest.raises(TheirMistake):
        Handshake.from_wire({})


@pytest.mark.parametrize("value", [None, 1, 1.5, b"\xff", "\udcff", ["x"], {"x": 1}, "x" * 257])
def test_wrong_types_in_a_handshake_count_as_left_out(value):
    names = ("peer_id", "target_ip", "crypt", "onion", "version")
    read = Handshake.from_wire(GREETING | dict.fromkeys(names, value))
    assert read == Handshake.from_wire(GREETING)


@pytest.mark.parametrize("value", [None, "1", 1.0, True, [], {}])
def test_wrong_numbers_in_a_handshake_count_as_left_out(value):
    names = ("time", "rev", "zeromsg")
    read = Handshake.from_wire(GREETING | dict.fromkeys(names, value))
    assert read == Handshake.from_wire(GREETING)
    read = Handshake.from_wire(GREETING | {"zeromsg": {"version": value}})
    assert read.extension == 0


@pytest.mark.parametrize(
    ("features", "read"),
    [
        (["carry", "mesh"], {"carry", "mesh"}),
        (["carry", "carry"], {"carry"}),
        (["carry", 5, None, b"x", ["y"], {"z": 1}], {"carry"}),
        (["x" * 32, "y" * 33], {"x" * 32}),
        ([str(n) for n in range(100)], {str(n) for n in range(32)}),
        ("carry", set()),
        ({"carry": 1}, set()),
        (None, set()),
        (5, set()),
    ],
)
def test_features_are_a_few_short_names(features, read):
    extension = {"version": 1, "features": features}
    assert Handshake.from_wire(GREETING | {"zeromsg": extension}).features == read


def test_features_are_read_as_they_were_written():
    ours = Handshake.from_wire(GREETING | {"zeromsg": {"version": 2, "features": ["b", "a"]}})
    assert ours.to_wire()["zeromsg"] == {"version": 2, "features": ["a", "b"]}
    assert Handshake.from_wire(ours.to_wire()) == ours
    # Version 1 had no features at first.
    assert Handshake.from_wire(GREETING | {"zeromsg": {"version": 1}}).features == frozenset()


def test_a_negative_extension_version_is_none():
    read = Handshake.from_wire(GREETING | {"zeromsg": {"version": -1}})
    assert read.extension == 0


@pytest.mark.parametrize(("value", "read"), [(True, True), (False, False), (0, None), ("x", None)])
def test_port_opened_is_true_false_or_unknown(value, read):
    assert Handshake.from_wire(GREETING | {"port_opened": value}).port_opened is read


def test_a_long_list_of_crypts_is_cut():
    many = [str(number) for number in range(100)]
    read = Handshake.from_wire(GREETING | {"crypt_supported": many})
    assert read.crypt_supported == tuple(many[:8])
    assert Handshake.from_wire(GREETING | {"crypt_supported": "tls-rsa"}).crypt_supported == ()


@settings(max_examples=300)
@given(
    st.fixed_dictionaries(
        {"fileserver_port": st.just(1) | wild},
        optional=dict.fromkeys({*GREETINGS[0], "onion", "zeromsg"} - {"fileserver_port"}, wild),
    )
)
def test_hostile_handshakes_raise_only_their_mistake(params):
    try:
        read = Handshake.from_wire(params)
    except TheirMistake:
        return
    # What was let through can be written again: it is logged, compared and answered.
    assert Handshake.from_wire(through_the_wire(read.to_wire())) == read


# Envelopes.


def test_there_are_recorded_peer_messages():
    assert len(PEER_MESSAGES) >= 20


@pytest.mark.parametrize("message", PEER_MESSAGES, ids=lambda message: message["hex"][:20])
def test_recorded_peer_messages_come_out_as_they_went_in(message):
    decoded = message["decoded"]
    envelope = parse_envelope(decoded["params"])
    packed = packed_request(decoded["cmd"], decoded["req_id"], pack(envelope.to_wire()))
    assert packed.hex() == message["hex"]


def test_a_recorded_reply_names_the_hash_of_its_question():
    questions, replies = [], []
    for message in PEER_MESSAGES:
        if message["decoded"]["cmd"] == PEER_SEND:
            envelope = parse_envelope(message["decoded"]["params"])
            to = parse_body(envelope.raw).to
            (replies if to else questions).append(to or envelope.hash)
    assert questions
    assert questions == replies


def test_a_trace_grows_as_on_the_recorded_relay():
    """A sent it from 198.51.100.11:20011 to B with an empty trace, and B sent it back."""
    sent, *_, returned = (
        parse_envelope(message["decoded"]["params"])
        for message in PEER_MESSAGES[:5]
        if "hello" in message["decoded"]["params"]["raw"]
    )
    assert sent.trace == ()
    assert sent.traced("198.51.100.11:20011") == returned


@pytest.mark.parametrize("case", HASHED, ids=lambda case: case["name"])
def test_hashes_are_those_of_a_real_node(case):
    # One of them has a trace that we refuse; hashes do not cover it.
    params = {key: value for key, value in case["params"].items() if key != "trace"}
    assert parse_envelope(params).hash == case["hash"]


def envelope_of(raw, nonce, signature, cert, trace):
    digest = hashlib.sha256(f"{nonce},{raw}".encode()).digest()
    return Envelope(raw, nonce, signature, cert if signature else None, trace, digest)


envelopes = st.builds(
    envelope_of,
    raw=ascii_texts,
    nonce=ascii_texts.map(lambda nonce: nonce.replace(",", ";")),
    signature=ascii_texts,
    cert=st.none() | st.lists(short_texts, min_size=4, max_size=4),
    trace=st.none() | st.lists(short_texts, max_size=TRACE_LIMIT).map(tuple),
)


@given(envelopes, st.lists(st.integers(min_value=0), max_size=5))
def test_an_envelope_survives_the_wire(envelope, cuts):
    data = packed_request(PEER_SEND, 7, pack(envelope.to_wire()))
    edges = [0, *sorted(cut % len(data) for cut in cuts), len(data)]
    framer, received = Framer(lambda message: 0), []
    for start, end in itertools.pairwise(edges):
        received += framer.feed(data[start:end])
    (request,) = received
    assert request["cmd"] == PEER_SEND
    assert parse_envelope(request["params"]) == envelope


@given(envelopes)
def test_an_envelope_of_a_peer_without_bin_type_is_the_same(envelope):
    params = envelope.to_wire()
    if envelope.trace is not None:
        params["trace"] = [hop.encode() for hop in envelope.trace]
    request = {"cmd": PEER_BROADCAST, "req_id": 1, "params": params}
    received = through_the_wire(request, use_bin_type=False)
    assert parse_envelope(received["params"]) == envelope
    assert parse_envelope(through_the_wire(request)["params"]) == envelope


@settings(max_examples=300)
@given(
    st.fixed_dictionaries(
        {"raw": ascii_texts | wild, "nonce": ascii_texts | wild, "cert": wild},
        optional={"signature": st.just("") | wild, "trace": st.just([]) | wild, "other": wild},
    )
)
@example({"raw": "x", "nonce": "1", "signature": "", "cert": ["\udcff"]})
def test_hostile_envelopes_raise_only_their_mistake(params):
    try:
        envelope = parse_envelope(params)
    except TheirMistake:
        return
    assert len(envelope.hash) == 64
    if not envelope.signature:
        # It may be relayed without anybody having looked at its cert.
        assert parse_envelope(through_the_wire(envelope.to_wire())) == envelope


def test_a_cert_beside_no_signature_is_left_behind():
    cert = ["web", "alice", "rig.bit", "x"]
    assert parse_envelope(ENVELOPE | {"cert": cert}).cert is None
    assert parse_envelope(ENVELOPE | {"cert": cert, "signature": "a|b"}).cert == cert


@pytest.mark.parametrize("missing", ["signature", "cert"])
def test_signature_and_cert_may_be_missing(missing):
    params = {key: value for key, value in ENVELOPE.items() if key != missing}
    assert parse_envelope(params) == parse_envelope(ENVELOPE)


def test_no_signature_is_written_as_an_empty_text():
    """The plugin needs the key; nil would do for it too."""
    read = parse_envelope(ENVELOPE | {"signature": None})
    assert read.to_wire()["signature"] == ""


def test_a_nonce_may_be_a_whole_number():
    read = parse_envelope(ENVELOPE | {"nonce": 123456})
    assert read == parse_envelope(ENVELOPE | {"nonce": "123456"})
    assert read.to_wire()["nonce"] == "123456"


@pytest.mark.parametrize(
    "change",
    [
        *({"raw": raw} for raw in (None, b"{}", 1, [], "\u00e9", "\udcff", "x" * (RAW_LIMIT + 1))),
        *(
            {"nonce": n}
            for n in (None, b"1", 1.0, True, [], "1,", "\u00e9", "x" * (NONCE_LIMIT + 1))
        ),
        *({"signature": s} for s in (b"", 1, [], "\u00e9", "x" * (SIGNATURE_LIMIT + 1))),
        *({"trace": trace} for trace in (None, "a:1", {}, [1], [None], ["\udcff"], [b"\xff"])),
        {"trace": ["x" * 101]},
    ],
    ids=lambda change: repr(change)[:40],
)
def test_bad_envelopes_are_refused(change):
    with pytest.raises(TheirMistake) as refused:
        parse_envelope(ENVELOPE | change)
    assert refused.value.points == 7


@pytest.mark.parametrize("name", ["raw", "nonce"])
def test_raw_and_nonce_are_required(name):
    with pytest.raises(TheirMistake):
        parse_envelope({key: value for key, value in ENVELOPE.items() if key != name})


def test_limits_are_what_may_still_pass():
    parse_envelope(
        {
            "raw": "x" * RAW_LIMIT,
            "nonce": "1" * NONCE_LIMIT,
            "signature": "s" * SIGNATURE_LIMIT,
            "trace": ["x" * 100],
        }
    )
    parse_envelope(ENVELOPE | {"raw": "x" * 10}, 10)
    with pytest.raises(TheirMistake, match="over 10 bytes"):
        parse_envelope(ENVELOPE | {"raw": "x" * 11}, 10)


def test_a_trace_is_cut_and_does_not_grow_beyond_its_limit():
    hops = [f"192.0.2.{number}:1" for number in range(TRACE_LIMIT + 5)]
    read = parse_envelope(ENVELOPE | {"trace": hops})
    assert read.trace == tuple(hops[:TRACE_LIMIT])
    assert read.traced("192.0.2.99:1") == read
    shorter = parse_envelope(ENVELOPE | {"trace": hops[: TRACE_LIMIT - 1]})
    assert shorter.traced("x").trace == (*hops[: TRACE_LIMIT - 1], "x")


def test_who_wants_no_trace_gets_none():
    untraced = parse_envelope(ENVELOPE)
    assert untraced.traced("192.0.2.1:1") is untraced
    assert "trace" not in untraced.to_wire()
    assert untraced.with_trace().to_wire()["trace"] == []
    assert untraced.with_trace().traced("x").trace == ("x",)
    assert untraced.trace is None


@pytest.mark.parametrize(("nonce", "raw"), [("1", "\u00e9"), ("\u00e9", "{}"), ("1", "\udcff")])
def test_only_ascii_has_a_digest(nonce, raw):
    with pytest.raises(UnicodeEncodeError):
        envelope_digest(nonce, raw)


# Bodies.


def body_of(**changes):
    return parse_body(json.dumps({"message": "x", "site": "s", **changes}))


def test_a_body_with_everything():
    raw = (
        '{"message": {"a": [1, "h\\u00e9"]}, "site": "s", "broadcast": true, "immediate": true,'
        ' "peer_count": 3, "timestamp": 1.5, "to": "abc", "signer": "1abc", "else": 1}'
    )
    assert parse_body(raw) == Body(
        message={"a": [1, "h\u00e9"]},
        message_text='{"a": [1, "h\\u00e9"]}',
        site="s",
        broadcast=True,
        immediate=True,
        peer_count=3,
        timestamp=1.5,
        to="abc",
        signer="1abc",
    )


def test_a_body_with_the_least():
    assert parse_body('{"message": null, "site": "s"}') == Body(
        message=None,
        message_text="null",
        site="s",
        broadcast=None,
        immediate=False,
        peer_count=5,
        timestamp=None,
        to=None,
        signer=None,
    )


@pytest.mark.parametrize(
    "raw",
    [
        *("", "x", "{not json", "[]", "1", "null", '"message site"', '{"message": 1}'),
        *('{"site": "s"}', '{"message": 1, "site": 1}', '{"message": 1, "site": null}'),
        *('{"message": 1, "site": "s", "to": 1}', '{"message": 1, "site": "s", "to": []}'),
        *('{"message": NaN, "site": "s"}', '{"message": -Infinity, "site": "s"}'),
        *('{"message": 1e999, "site": "s"}', '{"message": 1, "site": "s"} x'),
        '{"message": 1, "site": "s", "timestamp": Infinity}',
        '{"message": %s, "site": "s"}' % ("9" * 5000),
        '{"message": %s, "site": "s"}' % ("[" * 20_000 + "]" * 20_000),
        '{"message": %s}' % ('{"a":' * 10_000 + "1" + "}" * 10_000),
    ],
    ids=lambda raw: raw[:30],
)
def test_what_is_no_body_is_refused(raw):
    with pytest.raises(TheirMistake) as refused:
        parse_body(raw)
    assert refused.value.points == 7


@pytest.mark.parametrize(
    ("given", "read"),
    [(0, 0), (-1, 0), (7, 7), (100, 100), (101, PEER_COUNT_LIMIT), (10**30, 100)]
    + [(other, 5) for other in (True, None, 2.0, "3", [], {})],
)
def test_peer_count_is_a_whole_number_in_bounds(given, read):
    assert body_of(peer_count=given).peer_count == read


@pytest.mark.parametrize("value", [1, 0, "true", None, [], {}])
def test_only_true_and_false_are_flags(value):
    body = body_of(immediate=value, broadcast=value)
    assert body.immediate is False
    assert body.broadcast is None
    assert body_of(broadcast=False).broadcast is False


@pytest.mark.parametrize("value", [1, None, True, ["1abc"], {}])
def test_a_signer_that_is_no_text_is_none(value):
    assert body_of(signer=value).signer is None


@pytest.mark.parametrize(
    ("value", "read"),
    [(0, 0.0), (1795327023, 1795327023.0), (1.5, 1.5), (-3, -3.0)]
    + [(other, None) for other in (None, True, "1", [], {}, 10**400, float("inf"), float("nan"))],
)
def test_timestamps_are_finite_numbers(value, read):
    assert parse_timestamp(value) == read
    assert type(parse_timestamp(value)) is type(read)


@settings(max_examples=300)
@given(
    st.text(max_size=60)
    | st.dictionaries(
        st.sampled_from(["message", "site", "to", "peer_count", "timestamp", "signer"]),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=10),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner),
            max_leaves=5,
        ),
    ).map(json.dumps)
)
def test_any_text_is_a_body_or_their_mistake(raw):
    try:
        body = parse_body(raw)
    except TheirMistake:
        return
    assert body.message_text.isascii()
    assert json.loads(body.message_text) == body.message
    assert 0 <= body.peer_count <= PEER_COUNT_LIMIT


def test_the_message_text_is_as_other_nodes_write_it():
    """They hash raw, but they filter and measure the message written anew."""
    body = parse_body('{"message":{"b":[1,2.50,1E3],"a":"\\u00E9\\/"},"site":"s"}')
    assert body.message_text == '{"b": [1, 2.5, 1000.0], "a": "\\u00e9/"}'


# Texts, octets and numbers of strangers.


@pytest.mark.parametrize(("value", "read"), [("h\u00e9", "h\u00e9"), (b"h\xc3\xa9", "h\u00e9")])
def test_text_comes_as_str_or_bytes(value, read):
    assert text(value, "it", 2) == read
    with pytest.raises(TheirMistake, match="it is no text of at most 1 "):
        text(value, "it", 1)


@pytest.mark.parametrize("value", [None, 1, [], {}, "\udcff", b"\xff", "\ud800", b"\xed\xa0\x80"])
def test_what_is_no_text_is_refused(value):
    with pytest.raises(TheirMistake):
        text(value, "it")


@given(st.binary(max_size=50))
def test_octets_of_old_and_new_peers_are_the_same(data):
    for use_bin_type in (True, False):
        received = through_the_wire({"peers": [data]}, use_bin_type=use_bin_type)
        assert octets(received["peers"][0], "a peer", 50) == data


def test_packed_peers_of_an_old_peer_can_be_recovered():
    peers = [bytes([198, 51, 100, number, 0x0B, 0x4E]) for number in range(256)]
    request = {"cmd": "pex", "req_id": 1, "params": {"site": "s", "peers": peers, "need": 5}}
    received = through_the_wire(request, use_bin_type=False)["params"]["peers"]
    assert any(isinstance(peer, str) for peer in received)
    assert [octets(peer, "a peer", 6) for peer in received] == peers


@pytest.mark.parametrize("value", [None, 1, [], {}, b"1234567", "1234567", "\u00e9" * 4])
def test_what_is_no_octets_is_refused(value):
    with pytest.raises(TheirMistake, match="at most 6 bytes"):
        octets(value, "it", 6)


@pytest.mark.parametrize("value", [None, True, False, 1.0, "1", b"1", [], {}, -1, 11])
def test_what_is_no_whole_number_in_range_is_refused(value):
    with pytest.raises(TheirMistake, match="from 0 to 10"):
        integer(value, "it", 0, 10)


def test_whole_numbers_reach_both_ends_of_their_range():
    assert [integer(value, "it", 3, 4) for value in (3, 4)] == [3, 4]
    assert integer(2**53, "it") == 2**53
    with pytest.raises(TheirMistake):
        integer(2**53 + 1, "it")


def test_the_limits_are_what_other_nodes_may_rely_on():
    assert (RAW_LIMIT, NONCE_LIMIT, SIGNATURE_LIMIT) == (65536, 128, 256)
    assert (TRACE_LIMIT, PEER_COUNT_LIMIT) == (32, 100)
    assert text("x" * 1024, "it") == "x" * 1024
    with pytest.raises(TheirMistake):
        text("x" * 1025, "it")
    assert integer(0, "it") == 0
    with pytest.raises(TheirMistake):
        integer(-1, "it")


def test_what_was_hashed_cannot_be_changed():
    for value, name in ((parse_envelope(ENVELOPE), "raw"), (body_of(), "site")):
        with pytest.raises(AttributeError):
            setattr(value, name, "other")
