"""Every command with every kind of value in the place of each of its parameters.

Each call is answered, with a reason where it is refused, and nothing that a
client can say is an error of the node's own.
"""

import random

import pytest

HASH = "0" * 64

LIKELY = {
    "message": "x",
    "hash": HASH,
    "ip": "203.0.113.7:15441",
    "inner_path": "content.json",
    "dir_inner_path": "data/*/data.json",
    "channels": "siteChanged",
    "text": "x",
    "data": "x",
    "query": "a.b=1",
    "key": "k" * 43 + "=",
    "name": "n",
    "timeout": 1,
    "publickey": 0,
    "settings": {},
    "domain": "zeroid.bit",
    "auth_type": "web",
    "auth_user_name": "bob",
    "cert": "x",
    "accepted_domains": [],
    "permission": "ADMIN",
}
"""What brings a call as far as the parameter in question."""


def nested(depth):
    value = 1
    for _ in range(depth):
        value = [value]
    return value


VALUES = [
    None, True, False, 0, -1, 1, 7, 2**31, 2**63, -(2**63) - 1, 10**400, 10**4299, 0.0, -0.5,
    1e308, 5e-324, "", " ", "x", "\x00", "\ud800", "\udfff\ud800", "é\u2028</script>", "x" * 1025,
    "x" * 70_000, "0" * 64, "G" * 64, "stored", "../../x", "/etc/passwd", "merged-x/y/z",
    "cors-x/y", "%00", "*/*/*", "data/*/data.json", "a.b.c=5", "127.0.0.1:0", "[::1]:1",
    "self", "1" * 34, "AAAA", "==", [], [[]], [None], ["x", 1], ["\ud800"], [["x", "y"]],
    [["x", "y"], 1], ["x"] * 6000, nested(200), {}, {"": None}, {"a": {"b": []}}, {"\ud800": 1},
    {"to": "x"}, {"to": ["x", 1], "fields": [1]}, {"key": None}, {"key": "n"}, {"encrypted": 1},
    {"encrypted": {"v": 1, "to": [["x"]], "body": 1}}, {"cert_user_id": ["x"], "cert_auth_type": 1},
    {"cert_user_id": "x" * 5000, "signers": 1},
]  # fmt: skip


@pytest.fixture
def net(network):
    made = network(2)
    made.main = made.site(
        files={"hello.txt": b"hello\n", "data/a/data.json": b'{"a": [{"b": 1}]}'},
        rules={"filter": ".*", "history": {"count": 10, "seconds": 1000}},
    )
    made.connect_all()
    return made


def commands_of(net):
    return net.nodes[0].node.commands._table


def calls(net, rng):
    for cmd, command in sorted(commands_of(net).items()):
        names = [parameter.name for parameter in command.parameters]
        likely = {name: LIKELY[name] for name in names if name in LIKELY}
        for name in names:
            for value in VALUES:
                yield cmd, {**likely, name: value}
        for value in VALUES:
            yield cmd, value
            yield cmd, [value] * len(names)
        for _ in range(20):
            yield cmd, {name: rng.choice(VALUES) for name in names}


def problem_with(result):
    """What is wrong with an answer; "" for nothing."""
    error = result.get("error") if isinstance(result, dict) else None
    if error is None:
        return ""
    if not isinstance(error, str) or not error:
        return "an error without a reason"
    if len(error) > 1000:
        return "a long error"
    if error.startswith("internal"):
        return error
    return ""


@pytest.mark.parametrize("trusted", [False, True])
def test_every_call_is_answered(net, trusted):
    rng = random.Random(1)
    seen = set()
    client = net.client(0, net.main, trusted=trusted)
    other = net.client(0, net.main)
    bad = []
    waiting = []

    def note(result, cmd, params):
        seen.add(cmd)
        problem = problem_with(result)
        if problem:
            bad.append((cmd, repr(params)[:200], problem))

    for number, (cmd, params) in enumerate(calls(net, rng)):
        answered = client.call(cmd, params)
        answered.addCallback(note, cmd, params)
        waiting.append((cmd, params, answered))
        if number % 200 == 199:
            net.advance(2)
            waiting = [item for item in waiting if not item[2].called]
            client.events.clear()
            other.events.clear()
    net.advance(1000)
    assert bad == []
    assert seen >= set(commands_of(net))
    pending = {cmd for cmd, _, answered in waiting if not answered.called}
    assert pending == set()
