"""The commands of clients: parameters by name and place, permissions, and an answer to all."""

import base64
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zeromsg.crypto.keys import PrivateKey
from zeromsg.routing import calling, commands
from zeromsg.testing import Network
from zeromsg.wire import client_messages

KEY = PrivateKey(b"\x41" * 32)
HELLO = base64.b64encode(b"hello raw\n").decode()


def results(deferred):
    found = []
    deferred.addCallback(found.append)
    return found


@pytest.fixture
def net(network):
    made = network(2)
    made.main = made.site(files={"hello.txt": b"hello raw\n", "data/b.bin": b"\xff\x00"})
    made.other = made.site()
    made.connect_all()
    return made


@pytest.fixture
def client(net):
    return net.client(0, net.main)


# Parameters


def peer_messages(net, stranger):
    """What a member of both sites is sent: raw of every broadcast and question."""
    one = stranger(net, 0, port=7)
    return lambda: [
        (cmd, json.loads(params["raw"]), params)
        for cmd, params in one.requests
        if cmd in ("peerBroadcast", "peerSend")
    ]


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ("text", {"message": "text", "peer_count": 5, "immediate": False}),
        (["text"], {"message": "text", "peer_count": 5}),
        ([["a", "list"]], {"message": ["a", "list"]}),
        ([None], {"message": None}),
        ([False], {"message": False}),
        ({"message": None}, {"message": None}),
        # The plugin's order: message, privatekey, peer_count, immediate, trace, timestamp.
        (["text", None, 7], {"peer_count": 7, "signer": None, "immediate": False}),
        (["text", None, 7, True], {"peer_count": 7, "immediate": True}),
        (["text", False, 7], {"peer_count": 7, "signer": "user"}),
        (["text", "stored"], {"peer_count": 5, "signer": "site"}),
        (["text", KEY.wif], {"signer": "key"}),
        (["text", None, 5, False, True, True], {"trace": True, "timestamp": True}),
        (["text", None, 5, False, False, False], {"trace": False, "timestamp": False}),
        # The order of the proposal: message, peer_count, broadcast, immediate, timeout.
        (["text", 3], {"peer_count": 3, "broadcast": True}),
        (["text", 3, True, True], {"peer_count": 3, "broadcast": True, "immediate": True}),
        (["text", 3, False, True, 1], {"peer_count": 3, "broadcast": False, "immediate": True}),
        (["text", 0], {"peer_count": 0}),
    ],
)
def test_positions_of_peer_broadcast(net, client, stranger, params, expected):
    sent = peer_messages(net, stranger)
    client.call("peerBroadcast", params)
    net.advance(1)
    ((cmd, raw, envelope),) = sent()
    signers = {
        None: "",
        "user": net.nodes[0].users.default.auth_address(net.main),
        "site": net.main,
        "key": KEY.address,
    }
    for name, value in expected.items():
        if name == "signer":
            assert raw["signer"] == signers[value]
        elif name == "trace":
            assert ("trace" in envelope) == value
        elif name == "timestamp":
            assert ("timestamp" in raw) == value
        else:
            assert raw[name] == value, name
    assert cmd == ("peerBroadcast" if raw["broadcast"] else "peerSend")


def test_positions_of_peer_send(net, client, stranger):
    sent = peer_messages(net, stranger)
    client.call("peerSend", ["203.0.113.9:7", "q", False, None, True, True, 5])
    client.call("peerSend", ["203.0.113.9:7", "r", None, "ab" * 32])
    net.advance(1)
    (_, question, _), (_, reply, _) = sent()
    assert question["message"] == "q" and question["immediate"] is True
    assert question["signer"] == net.nodes[0].users.default.auth_address(net.main)
    assert question["timestamp"] == pytest.approx(net.wall() - 1)
    assert (reply["message"], reply["to"]) == ("r", "ab" * 32)


def test_the_names_are_those_of_the_api(net, client, stranger):
    sent = peer_messages(net, stranger)
    client.call(
        "peerBroadcast",
        {
            "message": "x",
            "privatekey": None,
            "peer_count": 3,
            "immediate": True,
            "trace": True,
            "timestamp": True,
            "broadcast": True,
            "timeout": 5,
        },
    )
    net.advance(1)
    ((_, raw, envelope),) = sent()
    assert (raw["peer_count"], raw["immediate"], envelope["trace"]) == (3, True, [])


@pytest.mark.parametrize(
    ("cmd", "params", "sentence"),
    [
        ("peerBroadcast", {}, "peerBroadcast needs the parameter message"),
        ("peerBroadcast", [], "peerBroadcast needs the parameter message"),
        ("peerBroadcast", {"message": 1, "bogus": 1}, "peerBroadcast has no parameter bogus"),
        ("peerBroadcast", [1, None, 5, False, False, False, True, 60, None, 9], "takes at most 9"),
        ("peerBroadcast", [1, 5, True, False, 60, 9], "takes at most 5"),
        ("peerBroadcast", {"message": 1, "peer_count": -1}, "peer_count must be a whole number"),
        ("peerBroadcast", {"message": 1, "peer_count": 101}, "peer_count must be a whole number"),
        ("peerBroadcast", {"message": 1, "peer_count": True}, "peer_count must be a whole number"),
        ("peerBroadcast", {"message": 1, "peer_count": 5.0}, "peer_count must be a whole number"),
        ("peerBroadcast", {"message": 1, "immediate": 1}, "immediate must be true or false"),
        ("peerBroadcast", {"message": 1, "timeout": -1}, "timeout must be a number of seconds"),
        ("peerBroadcast", {"message": 1, "timeout": 3601}, "timeout must be a number of seconds"),
        ("peerBroadcast", {"message": 1, "timeout": True}, "timeout must be a number of seconds"),
        ("peerBroadcast", {"message": 1, "timeout": "5"}, "timeout must be a number of seconds"),
        ("peerSend", {}, "peerSend needs the parameter ip"),
        ("peerSend", ["1.2.3.4:5"], "peerSend needs the parameter message"),
        ("peerSend", {"ip": 5, "message": 1}, "ip must be a text"),
        ("peerSend", {"ip": "self", "message": 1, "to": 5}, "to must be a text"),
        ("peerReply", ["hash"], "peerReply needs the parameter message"),
        ("peerValid", [], "peerValid needs the parameter hash"),
        ("peerInvalid", {"hash": 5}, "hash must be a text"),
        ("peerIgnore", {"hash": "x" * 1025}, "hash must be a text of at most 1024 characters"),
        ("ping", ["x"], "ping takes at most 0 parameters"),
        ("ping", {"x": 1}, "ping has no parameter x"),
        ("channelJoin", [5], "channels must be a text or a list of texts"),
        ("channelJoin", [[5]], "channels must be a text or a list of texts"),
        ("channelJoin", [[f"c{n}" for n in range(65)]], "at most 64 channels"),
        ("fileGet", [], "fileGet needs the parameter inner_path"),
        ("userSetSettings", ["text"], "settings must be a map"),
        ("as", [], "as needs the parameter address"),
        ("as", ["SITE"], "as needs the parameter cmd"),
        ("as", ["SITE", ""], "cmd must name another command"),
    ],
)
def test_what_does_not_fit_is_answered(net, client, cmd, params, sentence):
    if isinstance(params, list):
        params = [net.main if value == "SITE" else value for value in params]
    answer = client.ask(cmd, params)
    assert set(answer) == {"error"}
    code, _, text = answer["error"].partition(": ")
    assert code == "invalid"
    assert sentence in text
    assert client.events == []


def test_an_unknown_command_gets_zeronets_answer(client):
    assert client.ask("noSuchCommand", {"a": 1}) == {"error": "Unknown command: noSuchCommand"}
    assert client.ask("PING") == {"error": "Unknown command: PING"}
    assert client.ask("x" * 1000) == {"error": "Unknown command: " + "x" * 100}


def test_the_first_letter_may_be_upper_case(client):
    assert client.ask("Ping") == "pong"
    assert client.ask("PeerBroadcast", ["x"])["sent"] is True


@pytest.mark.parametrize("cmd", ["peerValid", "peerInvalid", "peerIgnore"])
def test_verdicts_are_answered_ok_whatever_they_are_about(client, cmd):
    assert client.ask(cmd, ["00"]) == "ok"
    assert client.ask(cmd, {"hash": "no hash at all"}) == "ok"
    assert client.ask(cmd, "bare") == "ok"


def test_no_id_gives_rights(net, client):
    """ZeroNet runs admin commands for ids from a million on."""
    for call_id in (16, 1_000_000, 1_000_001, -1):
        call = client_messages.parse(json.dumps({"cmd": "siteList", "id": call_id}))
        answers = []
        client.respond = lambda to, result, answers=answers: answers.append((to, result))
        net.nodes[0].node.commands.called(client, call)
        assert answers == [
            (call_id, {"error": "denied: You don't have permission to run siteList"})
        ]


# as


def test_as_sends_unsigned_for_another_site(net, client):
    far = net.client(1, net.other)
    answer = client.ask("as", [net.other, "peerBroadcast", {"message": "x"}])
    assert answer["sent"] is True
    net.advance(1)
    (event,) = far.received()
    assert (event["message"], event["signed_by"], event["site"]) == ("x", "", net.other)
    # The caller is of another site and sees nothing of it.
    assert client.events == []


def test_as_asks_for_another_site(net, client):
    far = net.client(1, net.other)
    far.answers["q"] = "a"
    many = results(
        client.call("as", [net.other, "peerBroadcast", {"message": "q", "broadcast": False}])
    )
    one = results(client.call("as", [net.other, "peerSend", [net.nodes[1].name, "q"]]))
    net.advance(1)
    assert [entry["reply"] for entry in many[0]] == ["a"]
    assert one[0]["message"] == "a"


def test_as_replies_for_another_site(net, client):
    far = net.client(1, net.other)
    got = results(far.call("peerSend", [net.nodes[0].name, "q"]))
    net.advance(1)
    hash = net.nodes[0].node._states[net.other].origins._items
    (asked,) = hash
    sent = results(client.call("as", [net.other, "peerReply", [asked, "a"]]))
    net.advance(1)
    assert sent == [{"sent": True}]
    assert got[0]["message"] == "a"


@pytest.mark.parametrize("privatekey", [False, "stored", KEY.wif])
@pytest.mark.parametrize(
    ("cmd", "params"),
    [
        ("peerBroadcast", {"message": "x"}),
        ("peerBroadcast", {"message": "x", "broadcast": False}),
        ("peerSend", {"ip": "self", "message": "x"}),
        ("peerSend", {"ip": "self", "message": "x", "to": "0" * 64}),
        ("peerReply", {"hash": "0" * 64, "message": "x"}),
    ],
)
def test_as_never_signs_for_another_site(net, client, cmd, params, privatekey):
    page = net.client(0, net.other)
    params = {**params, "privatekey": privatekey}
    answer = client.ask("as", [net.other, cmd, params])
    assert answer == {"error": f"denied: No permission for site {net.other}"}
    net.advance(1)
    assert page.events == []


def test_as_by_position_never_signs_either(net, client):
    for params in (["x", False], ["x", "stored", 5], ["x", KEY.wif]):
        answer = client.ask("as", [net.other, "peerBroadcast", params])
        assert answer == {"error": f"denied: No permission for site {net.other}"}


@pytest.mark.parametrize(
    "cmd",
    [
        "siteInfo", "serverInfo", "fileGet", "fileList", "userGetSettings", "userSetSettings",
        "channelJoin", "peerList", "peerValid", "peerInvalid", "ping", "noSuchCommand",
        "PeerBroadcast", "PEERBROADCAST",
    ],
)  # fmt: skip
def test_as_runs_no_other_command_for_another_site(net, client, cmd):
    answer = client.ask("as", [net.other, cmd, ["content.json"]])
    assert answer == {"error": f"denied: No permission for site {net.other}"}


def test_as_with_ones_own_address_runs_everything(net, client):
    assert client.ask("as", [net.main, "ping"]) == "pong"
    assert client.ask("as", [net.main, "siteInfo"])["address"] == net.main
    assert client.ask("as", {"address": net.main, "cmd": "fileGet", "params": "hello.txt"}) == (
        "hello raw\n"
    )
    assert client.ask("as", [net.main, "peerBroadcast", ["x", "stored"]])["sent"] is True
    assert client.events[0][1]["signed_by"] == net.main
    assert client.ask("as", [net.main, "noSuchCommand"]) == {
        "error": "Unknown command: noSuchCommand"
    }


@pytest.mark.parametrize("name", ["as", "As", "AS", "aS"])
def test_as_does_not_nest(net, client, name):
    inner = [net.other, "peerBroadcast", ["x", False]]
    for address in (net.main, net.other):
        answer = client.ask("as", [address, name, inner])
        assert answer == {"error": "invalid: cmd must name another command"}


def test_as_for_a_site_that_is_not_here(client):
    for cmd, params in (("peerBroadcast", ["x"]), ("peerSend", ["self", "x"])):
        answer = client.ask("as", ["1" + "d" * 30, cmd, params])
        assert answer["error"].startswith("unsupported: this node does not hold the site")
    answer = client.ask("as", ["nonsense", "siteInfo"])
    assert answer == {"error": "denied: No permission for site nonsense"}


# Files and settings


@pytest.mark.parametrize(
    ("params", "result"),
    [
        (["hello.txt"], "hello raw\n"),
        ("hello.txt", "hello raw\n"),
        ({"inner_path": "hello.txt", "format": "base64"}, HELLO),
        ({"inner_path": "data/b.bin", "format": "base64"}, "/wA="),
        (["data/b.bin"], {"error": "Error decoding text: invalid start byte"}),
        (["none.txt"], None),
        ({"inner_path": "none.txt", "required": False, "timeout": 1, "priority": 5}, None),
        (["../site1/p2p.json"], None),
        (["/etc/passwd"], None),
        (["data"], None),
        (["\ud800"], None),
    ],
)
def test_file_get(client, params, result):
    assert client.ask("fileGet", params) == result


@pytest.mark.parametrize(
    ("folder", "files"),
    [
        ("", ["content.json", "data/b.bin", "hello.txt", "p2p.json"]),
        ("data", ["b.bin"]),
        ("data/", ["b.bin"]),
        ("/data", ["b.bin"]),
        ("dat", []),
        ("none", []),
    ],
)
def test_file_list(client, folder, files):
    assert client.ask("fileList", [folder]) == files


@pytest.mark.parametrize("folder", ["..", "data/..", "../x", "data/../../x"])
def test_file_list_stays_inside(client, folder):
    assert client.ask("fileList", [folder]) == {"error": f"invalid: File not allowed: {folder}"}


def test_settings_are_kept_per_site_and_over_restarts(net, client):
    assert client.ask("userGetSettings") == {}
    wanted = {"a": [1, {"b": None}], "ü": "😀", "surrogate": "\ud800"}
    assert client.ask("userSetSettings", [wanted]) == "ok"
    assert client.ask("userGetSettings") == wanted
    assert net.client(0, net.other).ask("userGetSettings") == {}
    assert net.client(1, net.main).ask("userGetSettings") == {}
    net.restart(0)
    assert net.client(0, net.main).ask("userGetSettings") == wanted


def test_settings_are_bounded(client):
    answer = client.ask("userSetSettings", {"settings": {"a": "x" * 65536}})
    assert answer["error"].startswith("too-big: ")
    assert client.ask("userGetSettings") == {}


def nested(depth):
    value = 1
    for _ in range(depth):
        value = [value]
    return value


def deepest_that_parses():
    """The deepest list that the decoder of calls takes, near enough."""
    low, high = 10, 5_000_000
    while low + 1 < high:
        middle = (low + high) // 2
        try:
            client_messages.parse('{"cmd":"x","id":1,"params":' + "[" * middle + "]" * middle + "}")
            low = middle
        except client_messages.Unanswerable:
            high = middle
    return low


@pytest.mark.parametrize("cmd", ["userSetSettings", "peerBroadcast", "peerReply", "peerSend", "as"])
def test_nesting_that_can_be_read_but_not_written_is_refused(net, client, errors, cmd):
    """Reading and writing JSON may give up at different depths."""
    deepest = deepest_that_parses()
    answers = []
    client.respond = lambda to, result: answers.append(result)
    for depth in [deepest - n for n in range(0, min(200, deepest), 7)]:
        deep = "[" * depth + "]" * depth
        params = {
            "userSetSettings": f'[{{"a":{deep}}}]',
            "peerBroadcast": f"[{deep}]",
            "peerReply": f'["00",{deep}]',
            "peerSend": f'["self",{deep},null,null,false,false,0]',
            "as": f'["{net.other}","peerBroadcast",[{deep}]]',
        }[cmd]
        try:
            call = client_messages.parse(f'{{"cmd":"{cmd}","id":1,"params":{params}}}')
        except client_messages.Unanswerable:
            continue
        net.nodes[0].node.commands.called(client, call)
        net.advance(0.1)
    assert answers
    assert not any("internal" in str(answer)[:100] for answer in answers)
    assert errors == []


# Information


def test_channel_join_takes_names_in_every_form(client):
    assert client.ask("channelJoin", {"channels": ["siteChanged", "serverChanged"]}) == "ok"
    assert client.ask("channelJoin", [["peerReceive"]]) == "ok"
    assert client.ask("channelJoin", "announcerChanged") == "ok"
    for name in ("siteChanged", "serverChanged", "peerReceive", "announcerChanged"):
        assert client.listens(name)
    assert not client.listens("unheard")


def test_only_so_many_calls_wait(net, client, monkeypatch):
    monkeypatch.setattr(commands, "CALLS_LIMIT", 3)
    for _ in range(3):
        client.call("peerSend", [net.nodes[1].name, "q"])
    answer = client.ask("peerSend", [net.nodes[1].name, "q"])
    assert answer == {"error": "too-fast: too many calls wait for their result"}
    # Another client has its own count, and what ends makes room.
    assert results(net.client(0, net.main).call("peerSend", [net.nodes[1].name, "q"])) == []
    net.advance(61)
    assert results(client.call("peerSend", [net.nodes[1].name, "q"])) == []


def test_a_bug_of_ours_is_answered_and_logged(net, client, errors, monkeypatch):
    def broken(context):
        raise RuntimeError("a bug")

    async def broken_later(context):
        raise RuntimeError("a bug")

    table = net.nodes[0].node.commands._table
    for run in (broken, broken_later):
        monkeypatch.setitem(table, "ping", calling.Command((), run))
        assert client.ask("ping") == {"error": "internal: this node could not carry it out"}
    assert len(errors) == 2
    errors.clear()


# Anything at all

_leaf = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(), max_size=12)
    | st.sampled_from(["SITE", "OTHER", "self", "PEER", "HASH", "stored", KEY.wif, "peerBroadcast",
                       "peerSend", "peerReply", "as", "content.json", "base64", "\ud800"])
)  # fmt: skip
_value = st.recursive(
    _leaf,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
_NAMES = [
    *("message", "privatekey", "peer_count", "immediate", "trace", "timestamp", "broadcast"),
    *("timeout", "ip", "to", "hash", "channels", "inner_path", "format", "required", "settings"),
    *("address", "cmd", "params", "file_status", "priority", "bogus", "encrypt"),
]
_COMMANDS = [
    *("ping", "siteInfo", "serverInfo", "channelJoin", "fileGet", "fileList", "userGetSettings"),
    *("userSetSettings", "peerBroadcast", "peerSend", "peerReply", "peerValid", "peerInvalid"),
    *("peerIgnore", "peerList", "as", "As", "nonsense", "response"),
]
_call = st.tuples(
    st.integers(0, 2),
    st.sampled_from(_COMMANDS) | st.text(min_size=1, max_size=4),
    _value | st.dictionaries(st.sampled_from(_NAMES), _value, max_size=5),
    st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans(),
)


def filled(value, words):
    if isinstance(value, str):
        return words.get(value, value)
    if isinstance(value, list):
        return [filled(item, words) for item in value]
    if isinstance(value, dict):
        return {name: filled(item, words) for name, item in value.items()}
    return value


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(calls=st.lists(_call, min_size=1, max_size=12))
def test_any_calls_are_all_answered_without_an_error_of_ours(errors, calls):
    with Network(nodes=2, seed=1) as net:
        main, other = net.site(), net.site({"filter": ".*", "freq_limit": 1, "signed_only": True})
        net.connect_all()
        clients = [net.client(0, main, None), net.client(1, main, None), net.client(0, other, None)]
        words = {"SITE": main, "OTHER": other, "PEER": net.nodes[1].name}
        answered = []
        for client in clients:
            client.respond = lambda to, result, client=client: answered.append(
                json.loads(client._session.response(to, result))
            )
        asked = 0
        for number, cmd, params, call_id in calls:
            client = clients[number]
            seen = [event["hash"] for event in client.received()]
            text = json.dumps(
                {
                    "cmd": cmd,
                    "params": filled(params, {**words, **({"HASH": seen[-1]} if seen else {})}),
                    "id": call_id,
                }
            )
            call = client_messages.parse(text)
            if isinstance(call, client_messages.Answer):
                continue
            net.nodes[client is clients[1]].node.commands.called(client, call)
            asked += 1
            net.advance(0.1)
        for _ in range(60):  # the longest timeout is an hour
            if len(answered) < asked:
                net.advance(60.1)
        assert len(answered) == asked
        assert not any("internal: " in str(answer["result"]) for answer in answered)
    assert errors == []
