"""What peers may ask: files, peers, and polite answers to all the rest."""

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from zeromsg.testing import Network
from zeromsg.testing.network import EPOCH
from zeromsg.wire.values import PeerAddress

UNKNOWN = {"error": "Unknown site"}


def points(net, host="203.0.113.9"):
    return net.nodes[0].node.scoring.points(host, net.wall())


def served(network, stranger, files=None):
    net = network(1)
    site = net.site(files=files or {"a.txt": b"hello raw\n", "folder/b.txt": b"b"})
    return net, site, stranger(net)


# Polite answers


@pytest.mark.parametrize(
    ("cmd", "params", "answer"),
    [
        ("ping", {}, {"body": b"Pong!"}),
        ("Ping", {}, {"body": b"Pong!"}),
        ("getHashfield", {"site": "SITE"}, {"hashfield_raw": b""}),
        ("setHashfield", {"site": "SITE", "hashfield_raw": b""}, {"ok": "Updated"}),
        (
            "findHashIds",
            {"site": "SITE", "hash_ids": [1, 2]},
            {"peers": {}, "peers_ipv6": {}, "peers_onion": {}, "my": []},
        ),
        ("getPiecefields", {"site": "SITE"}, {"piecefields_packed": {}}),
        ("setPiecefields", {"site": "SITE", "piecefields_packed": {}}, {"ok": "Updated"}),
        ("getTrackers", {}, {"trackers": []}),
        (
            "pex",
            {"site": "SITE", "peers": [], "need": 5},
            {"peers": [], "peers_ipv6": [], "peers_onion": []},
        ),
        ("listModified", {"site": "SITE", "since": EPOCH}, {"modified_files": {}}),
        (
            "listModified",
            {"site": "SITE", "since": 0.5},
            {"modified_files": {"content.json": 1_800_000_000}},
        ),
    ],
)
def test_every_command_of_the_protocol_is_answered(network, stranger, cmd, params, answer):
    net, site, one = served(network, stranger)
    params = {key: site if value == "SITE" else value for key, value in params.items()}
    assert one.ask(cmd, params) == answer
    assert points(net) == 0


@pytest.mark.parametrize(
    "cmd", ["getFile", "streamFile", "pex", "listModified", "update", "getHashfield",
            "setHashfield", "findHashIds", "getPiecefields", "setPiecefields"],
)  # fmt: skip
def test_an_unknown_site_costs_a_zeronet_node_five_points(network, stranger, cmd):
    net, _, one = served(network, stranger)
    assert one.ask(cmd, {"site": "1" + "c" * 30}) == UNKNOWN
    assert points(net) == pytest.approx(5, abs=0.01)
    ours = stranger(net, host="203.0.113.10", zeromsg={"version": 1})
    assert ours.ask(cmd, {"site": "1" + "c" * 30}) == UNKNOWN
    assert points(net, "203.0.113.10") == 0


def test_a_site_whose_content_is_not_here_yet_is_unknown(network, stranger):
    net = network(1)
    site = net.site(holders=[])
    net.nodes[0].node.add_site(site, None, 10_000_000)
    one = stranger(net, zeromsg={"version": 1})
    assert one.ask("pex", {"site": site, "peers": [], "need": 5}) == UNKNOWN


@pytest.mark.parametrize("cmd", ["announce", "noSuchCommand", "Öffne", "a", "x" * 300, "Response"])
def test_an_unknown_command_is_named_and_costs_five_points(network, stranger, cmd):
    net, _, one = served(network, stranger)
    if cmd == "Response":
        # Only the exact word is an answer; it is not a request by another name either.
        one.request(cmd, {})
        net.advance(0.3)
        assert one.answers[1]["error"] == "Unknown command: response"
    else:
        name = (cmd[0].lower() + cmd[1:])[:100]
        assert one.ask(cmd, {}) == {"error": f"Unknown command: {name}"}
    assert points(net) == pytest.approx(5, abs=0.01)
    assert not one.lost


def test_twenty_unknown_commands_are_too_many(network, stranger):
    net, _, one = served(network, stranger)
    for _ in range(25):
        one.request("noSuchCommand", {})
    net.advance(3)
    assert one.lost
    assert all("Unknown command" in one.answers[number]["error"] for number in range(1, 21))
    assert 23 not in one.answers
    assert stranger(net) is None


# The envelope


def test_requests_are_answered_before_a_handshake(network, stranger):
    net = network(1)
    net.site()
    one = stranger(net, greet=False)
    assert one.ask("ping", {}) == {"body": b"Pong!"}
    assert net.nodes[0].node.status()["links"] == []


def test_a_request_without_a_number_is_answered_to_nothing(network, stranger):
    net, _, one = served(network, stranger)
    one.send({"cmd": "ping", "params": {}})
    net.advance(0.3)
    assert one.answers[None]["body"] == b"Pong!"


@pytest.mark.parametrize(
    "message",
    [
        {"cmd": "ping", "req_id": 1},
        {"cmd": "ping", "req_id": 1, "params": None},
        {"cmd": "ping", "req_id": 1, "params": []},
        {"cmd": "", "req_id": 1, "params": {}},
        {"cmd": 5, "req_id": 1, "params": {}},
        {"req_id": 1, "params": {}},
        {"cmd": "getFile", "req_id": 1, "params": {}},
        {"cmd": "getFile", "req_id": 1, "params": {"site": None}},
        {"cmd": "listModified", "req_id": 1, "params": {"site": "SITE", "since": "x"}},
        {"cmd": "listModified", "req_id": 1, "params": {"site": "SITE", "since": True}},
        {"cmd": "update", "req_id": 1, "params": {"site": "SITE"}},
        {
            "cmd": "update",
            "req_id": 1,
            "params": {"site": "SITE", "inner_path": "content.json", "body": 5},
        },
        {"cmd": "checkport", "req_id": 1, "params": {}},
        {"cmd": "checkport", "req_id": 1, "params": {"port": 0}},
        {"cmd": "checkport", "req_id": 1, "params": {"port": 65536}},
        {"cmd": "checkport", "req_id": 1, "params": {"port": "80"}},
        [],
        "ping",
    ],
)
def test_what_is_no_request_costs_the_connection(network, stranger, message):
    net, site, one = served(network, stranger)
    if isinstance(message, dict) and isinstance(message.get("params"), dict):
        params = {k: site if v == "SITE" else v for k, v in message["params"].items()}
        message = {**message, "params": params}
    one.write(msgpack.packb(message))
    net.advance(2)
    assert one.lost
    assert points(net) == pytest.approx(7, abs=0.1)


def test_what_comes_after_a_mistake_is_not_looked_at(network, stranger):
    net, site, one = served(network, stranger)
    good = msgpack.packb({"cmd": "peerBroadcast", "req_id": 5, "params": one.envelope(site, "x")})
    one.write(msgpack.packb({"cmd": "ping", "req_id": 1, "params": None}) + good)
    net.advance(2)
    assert net.nodes[0].node.inbound.counters.received == 0


# Files


@pytest.mark.parametrize("cmd", ["getFile", "streamFile"])
def test_a_file_in_one_piece(network, stranger, cmd):
    _, site, one = served(network, stranger)
    answer = one.ask(cmd, {"site": site, "inner_path": "a.txt", "location": 0})
    assert (answer["body"], answer["size"], answer["location"]) == (b"hello raw\n", 10, 10)
    assert ("stream_bytes" in answer) == (cmd == "streamFile")


@pytest.mark.parametrize("cmd", ["getFile", "streamFile"])
@pytest.mark.parametrize("read_bytes", [None, 1000, 512 * 1024, 2**40])
def test_a_big_file_in_many_pieces(network, stranger, cmd, read_bytes):
    data = bytes(number % 253 for number in range(1237)) * 1000
    if read_bytes == 1000:
        data = data[:20_500]
    _, site, one = served(network, stranger, {"big.bin": data})
    got, location = b"", 0
    params = {"site": site, "inner_path": "big.bin"}
    if read_bytes is not None:
        params["read_bytes"] = read_bytes
    while location < len(data):
        answer = one.ask(cmd, {**params, "location": location, "file_size": len(data)})
        assert answer["size"] == len(data)
        assert 0 < len(answer["body"]) <= min(read_bytes or 512 * 1024, 512 * 1024)
        got += answer["body"]
        location = answer["location"]
    assert got == data
    at_end = one.ask(cmd, {**params, "location": location})
    assert (at_end["body"], at_end["location"]) == (b"", len(data))


def test_messages_may_follow_a_stream_at_once(network, stranger):
    _, site, one = served(network, stranger, {"big.bin": bytes(100_000)})
    numbers = [
        one.request("streamFile", {"site": site, "inner_path": "big.bin", "location": 0}),
        one.request("ping", {}),
        one.request("streamFile", {"site": site, "inner_path": "content.json", "location": 0}),
        one.request("ping", {}),
    ]
    one.net.advance(0.5)
    assert [set(one.answers[number]) & {"body", "stream_bytes"} for number in numbers] == [
        {"body", "stream_bytes"},
        {"body"},
    ] * 2


@pytest.mark.parametrize(
    ("params", "error"),
    [
        ({"inner_path": "none.txt"}, "File read error: no such file"),
        ({"inner_path": ""}, "File read error: no such file"),
        ({"inner_path": "folder"}, "File read error: no such file"),
        ({"inner_path": "../site0/a.txt"}, "File read error: no such file"),
        ({"inner_path": "./a.txt"}, "File read error: no such file"),
        ({"inner_path": "folder/../a.txt"}, "File read error: no such file"),
        ({"inner_path": "/etc/passwd"}, "File read error: no such file"),
        ({"inner_path": "a.txt\0"}, "File read error: no such file"),
        ({"inner_path": "unlisted.txt"}, "File read error: no such file"),
        (
            {"inner_path": "a.txt", "file_size": 5},
            "File read error: File size does not match: 5B != 10B",
        ),
        ({"inner_path": "a.txt", "location": 11}, "File read error: Bad file location"),
        ({"inner_path": "a.txt", "location": 2**53}, "File read error: Bad file location"),
    ],
)
@pytest.mark.parametrize("cmd", ["getFile", "streamFile"])
def test_files_that_are_not_given(network, stranger, cmd, params, error):
    net, site, one = served(network, stranger)
    (net._folder / "site0" / "unlisted.txt").write_text("private")
    assert one.ask(cmd, {"site": site, "location": 0, **params}) == {"error": error}
    assert not one.lost


@pytest.mark.parametrize("size", [0, None, 10, "10", -5])
def test_an_unknown_file_size_is_no_other_size(network, stranger, size):
    _, site, one = served(network, stranger)
    params = {"site": site, "inner_path": "a.txt", "location": 0, "file_size": size}
    assert one.ask("getFile", params)["size"] == 10


def test_a_file_that_was_deleted_meanwhile(network, stranger):
    net, site, one = served(network, stranger)
    (net._folder / "site0" / "a.txt").unlink()
    answer = one.ask("getFile", {"site": site, "inner_path": "a.txt", "location": 0})
    assert answer["error"].startswith("File read error: ")


# checkport


def test_checkport_tries_the_askers_own_host(network, stranger, host_for):
    net, _, one = served(network, stranger)
    listening = host_for(net, PeerAddress("203.0.113.9", 7))
    assert one.ask("checkport", {"port": 7}) == {"status": "open", "ip_external": "203.0.113.9"}
    assert len(listening.strangers) == 1
    assert listening.strangers[0].lost
    assert one.ask("checkport", {"port": 8}) == {"status": "closed", "ip_external": "203.0.113.9"}


def test_many_checks_of_ports_are_not_made_at_once(network, stranger, monkeypatch):
    net, _, one = served(network, stranger)
    opened = []

    class Never:
        def connect(self, factory):
            opened.append(factory)

            return Deferred()

    node = net.nodes[0].node
    monkeypatch.setattr(node, "_connector", lambda address: Never())
    numbers = [one.request("checkport", {"port": 7}) for _ in range(500)]
    net.advance(1)
    assert len(opened) <= 50
    net.advance(8)
    # All are answered within the ten seconds that a node has.
    assert all(one.answers[number]["status"] == "closed" for number in numbers)


# Anything at all

_leaf = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=12)
    | st.binary(max_size=40)
    | st.sampled_from(["SITE", "content.json", "a.txt", b"\x01\x02\x03\x04\x05\x06"])
)
_value = st.recursive(
    _leaf,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(max_size=4) | st.integers(0, 9) | st.binary(max_size=3), inner, max_size=3
        )
    ),
    max_leaves=6,
)
_NAMES = [
    *("site", "inner_path", "location", "read_bytes", "file_size", "peers", "peers_ipv6"),
    *("peers_onion", "need", "since", "body", "modified", "diffs", "hash_ids", "port"),
    *("hashfield_raw", "piecefields_packed", "hashes", "raw", "nonce", "signature", "cert"),
    *("trace", "fileserver_port", "crypt_supported", "peer_id", "onion", "zeromsg"),
]
_COMMANDS = [
    *("ping", "getFile", "streamFile", "pex", "listModified", "update", "getHashfield"),
    *("setHashfield", "findHashIds", "getPiecefields", "setPiecefields", "checkport"),
    *("getTrackers", "announce", "peerBroadcast", "peerSend", "handshake", "nonsense"),
]
_ANSWERED = ["error", "ok", "warning", "peers", "peers_onion", "body", "size", "stream_bytes"]
_params = st.dictionaries(st.sampled_from(_NAMES), _value, max_size=6) | st.fixed_dictionaries(
    {"site": st.just("SITE")}, optional={name: _value for name in _NAMES if name != "site"}
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(requests=st.lists(st.tuples(st.sampled_from(_COMMANDS), _params), min_size=1, max_size=5))
def test_any_request_is_answered_or_costs_the_connection(stranger, errors, requests):
    with Network(nodes=1, seed=1) as net:
        site = net.site(files={"a.txt": b"hello"})
        net.client(0, site)
        one = stranger(net)
        numbers = []
        for cmd, params in requests:
            params = {key: site if value == "SITE" else value for key, value in params.items()}
            numbers.append(one.request(cmd, params))
        net.advance(9)
        assert one.lost or all(number in one.answers for number in numbers)
    assert errors == []


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(answers=st.lists(_value | st.dictionaries(st.sampled_from(_ANSWERED), _value), max_size=4))
def test_any_answer_to_what_we_ask_is_survived(stranger, errors, answers):
    """pex, peerBroadcast, peerSend, streamFile: whatever a peer says to them."""
    with Network(nodes=1, seed=1) as net:
        site, foreign = net.site(), net.site(holders=[])
        net.nodes[0].node.add_site(foreign, None, 10_000_000)
        said = list(answers)

        def respond(cmd, params):
            answer = said.pop(0) if said else None
            return dict(answer) if isinstance(answer, dict) else {"error": answer}

        stranger(net, respond=lambda cmd, params: safely(respond(cmd, params)))
        client = net.client(0, site)
        got = []
        for params in ({}, {"broadcast": False, "timeout": 3}):
            client.call("peerBroadcast", {"message": 1, **params}).addCallback(got.append)
        client.call(
            "peerSend", {"ip": "203.0.113.9:40000", "message": 1, "timeout": 3}
        ).addCallback(got.append)
        net.advance(25)
        assert len(got) == 3
    assert errors == []


def safely(answer):
    """Without keys that the envelope needs, and with a tail where one is announced."""
    answer = {str(key): value for key, value in answer.items() if key not in ("cmd", "to")}
    if "stream_bytes" in answer and not isinstance(answer.get("body", b""), bytes):
        answer["body"] = b""
    return answer
