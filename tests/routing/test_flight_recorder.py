"""What became of a message: every one is explained, and the sums balance."""

import random
from collections import Counter

import pytest

from zeromsg.crypto.keys import PrivateKey
from zeromsg.policy.recorder import CAPACITY, CHECKS_LIMIT, Recorder, Stopwatch
from zeromsg.routing.blame import key_identity

MESSAGES = 2000
PEERS = 6
RULES = {
    "filter": r'\{"t": ',
    "schema": {"type": "object", "properties": {"n": {"type": "integer"}}},
    "program": "!has(message.forbidden)",
    "size_limit": 200,
    "freq_limit": 1,
    "max_age": 100,
    "valid_timeout": 1,
}
BANNED = PrivateKey(b"\7" * 32)

CHECKS = [
    "seen",
    "site",
    "size",
    "rate",
    "age",
    "filter",
    "schema",
    "signature",
    "certificate",
    "signed-only",
    "signer-rate",
    "program",
]
BEFORE_RULES = ("raw", "kind", "site", "rules", "banned")
FINAL = ("raw", "size", "filter")
"""Checks after which a copy from a ZeroNet node is met again: its plugin knows them too."""


def expected_checks(fate):
    if fate == "accepted":
        return [(name, True) for name in CHECKS]
    if fate in BEFORE_RULES:
        return [("seen", True), (fate, False)]
    return [(name, True) for name in CHECKS[: CHECKS.index(fate)]] + [(fate, False)]


class Traffic:
    """Random messages at one node, each with the fate that it must meet."""

    def __init__(self, net, stranger, seed):
        self.net = net
        self.rng = random.Random(seed)
        self.node = net.nodes[0].node
        self.site = net.site(RULES)
        self.signed_site = net.site({**RULES, "signed_only": True})
        self.silent_site = net.site(None)
        self.node.ban(key_identity(BANNED.address), 10**9, "test")
        self.client = net.client(0, self.site, None)
        self.peers = []
        for number in range(PEERS):
            host = f"203.0.113.{number + 1}"
            self.peers.append(stranger(net, host=host))
            self.peers[-1].host = host
        self.count = 0
        self.fates = {}
        self.copies = Counter()
        self.sent = {}
        self.sources = {}
        self.verdicts = {}
        self.refused = Counter()
        self.received = self.accepted = self.duplicates = 0

    def key(self):
        return PrivateKey((10**6 + self.count).to_bytes(32))

    def params(self, peer, fields=None, site=None, key=None, **body):
        self.count += 1
        message = {"t": self.count, **(fields or {})}
        body.setdefault("broadcast", True)
        return peer.envelope(site or self.site, message, nonce=str(self.count), key=key, **body)

    def put(self, peer, params, fate, cmd="peerBroadcast"):
        """Send one; its hash."""
        before = len(self.client.events)
        peer.request(cmd, params)
        self.net.advance(0.05)
        self.received += 1
        # Nobody is to be banned here for what he sends.
        self.node.pardon(peer.host)
        if fate == "envelope":
            self.refused[fate] += 1
            return
        hash = peer.hash(params)
        self.copies[hash] += 1
        self.sources.setdefault(hash, set()).add(f"{peer.host}:40000")
        if self.fates.get(hash) in ("accepted", *FINAL):
            self.duplicates += 1
            return
        self.fates[hash] = fate
        self.sent[hash] = (cmd, params)
        if fate != "accepted":
            self.refused[fate] += 1
            return
        self.accepted += 1
        for event, shown in self.client.events[before:]:
            if event == "peerReceive":
                verdict = self.rng.choice(["accept", "reject", "ignore", None])
                self.verdicts[hash] = verdict
                if verdict is not None:
                    name = {"accept": "Valid", "reject": "Invalid", "ignore": "Ignore"}[verdict]
                    self.client.call(f"peer{name}", [shown["hash"]])

    def step(self):
        peer = self.peers[self.count % PEERS]
        kind = self.rng.choice(KINDS)
        getattr(self, "do_" + kind.replace("-", "_"))(peer)
        # Everybody may speak again at his next turn.
        self.net.advance(0.25)

    def do_accepted(self, peer):
        self.put(peer, self.params(peer), "accepted")

    def do_signed(self, peer):
        self.put(peer, self.params(peer, key=self.key()), "accepted")

    def do_question(self, peer):
        self.put(peer, self.params(peer, broadcast=False), "accepted", "peerSend")

    def do_reply_to_nobody(self, peer):
        params = self.params(peer, broadcast=False, to="0" * 64)
        self.put(peer, params, "accepted", "peerSend")

    def do_again(self, peer):
        """A copy of any earlier one; refusals that may be others' doing are checked anew."""
        known = [hash for hash, fate in self.fates.items() if fate not in ("rate", "signer-rate")]
        if known:
            hash = self.rng.choice(known)
            cmd, params = self.sent[hash]
            self.put(peer, params, self.fates[hash], cmd)

    def do_envelope(self, peer):
        self.count += 1
        bad = [{}, {"raw": 1, "nonce": "1"}, {"raw": "{}"}, {"raw": "{}", "nonce": "x" * 10**5}]
        self.put(peer, self.rng.choice(bad), "envelope")

    def do_raw(self, peer):
        self.count += 1
        raw = self.rng.choice(["", "x", "[]", "{}", '{"message": 1}', "[" * 300])
        self.put(peer, {"raw": raw, "nonce": str(self.count), "signature": "", "cert": None}, "raw")

    def do_kind(self, peer):
        self.put(peer, self.params(peer, broadcast=False), "kind")

    def do_site(self, peer):
        self.put(peer, self.params(peer, site="1Unknown" + "a" * 25), "site")

    def do_rules(self, peer):
        self.put(peer, self.params(peer, site=self.silent_site), "rules")

    def do_banned(self, peer):
        self.put(peer, self.params(peer, key=BANNED), "banned")

    def do_size(self, peer):
        self.put(peer, self.params(peer, {"x": "y" * 300}), "size")

    def do_rate(self, peer):
        self.put(peer, self.params(peer), "accepted")
        self.put(peer, self.params(peer), "rate")

    def do_age(self, peer):
        self.put(peer, self.params(peer, timestamp=self.net.wall() - 1000), "age")

    def do_filter(self, peer):
        self.count += 1
        self.put(peer, peer.envelope(self.site, self.count, nonce=str(self.count)), "filter")

    def do_schema(self, peer):
        self.put(peer, self.params(peer, {"n": "x"}), "schema")

    def do_signature(self, peer):
        params = self.params(peer, key=self.key())
        self.put(peer, {**params, "signature": params["signature"][:-8] + "AAAAAAA="}, "signature")

    def do_certificate(self, peer):
        params = self.params(peer, key=self.key())
        self.put(peer, {**params, "cert": ["web/x@nowhere", "nowhere", "A" * 88]}, "certificate")

    def do_signed_only(self, peer):
        self.put(peer, self.params(peer, site=self.signed_site), "signed-only")

    def do_signer_rate(self, peer):
        key = self.key()
        self.put(peer, self.params(peer, key=key), "accepted")
        self.put(peer, self.params(peer, key=key), "signer-rate")

    def do_program(self, peer):
        self.put(peer, self.params(peer, {"forbidden": 1}), "program")


KINDS = [name.removeprefix("do_") for name in vars(Traffic) if name.startswith("do_")]


@pytest.fixture
def traffic(network, stranger):
    def make(seed, messages):
        made = Traffic(network(1), stranger, seed)
        while made.received < messages:
            made.step()
        made.net.advance(5)
        return made

    return make


def test_every_message_is_explained_and_the_sums_balance(traffic):
    traffic = traffic(1, MESSAGES)
    assert {*BEFORE_RULES, *CHECKS[2:], "accepted"} == {*traffic.fates.values()}
    for hash, fate in traffic.fates.items():
        found = traffic.node.why(hash)
        assert found is not None
        assert found["fate"] == fate
        assert found["copies"] == traffic.copies[hash]
        assert set(found["from"]) == traffic.sources[hash]
        checks = [(check["check"], check["passed"]) for check in found["checks"]]
        expected = expected_checks(fate)
        assert checks[: len(expected)] == expected
        # Copies that were checked anew met the same; there is nothing else.
        assert checks == (expected * traffic.copies[hash])[: len(checks)]
        assert all(check["microseconds"] >= 0 for check in found["checks"])
        assert found["verdict"] == traffic.verdicts.get(hash)
        assert found["clients"] == (hash in traffic.verdicts)
        broadcast = traffic.sent[hash][0] == "peerBroadcast"
        passed_on = hash in traffic.verdicts and traffic.verdicts[hash] in ("accept", None)
        assert (found["relays"] > 0) == (broadcast and passed_on)
    counters = traffic.node.inbound.counters
    assert counters.received == traffic.received >= MESSAGES
    assert counters.accepted == traffic.accepted
    assert counters.duplicates == traffic.duplicates > 0
    assert counters.refused == dict(traffic.refused)
    total = counters.accepted + counters.duplicates + sum(counters.refused.values())
    assert counters.received == total
    assert counters.relayed == sum(traffic.node.why(hash)["relays"] for hash in traffic.fates)
    status = traffic.node.status()["messages"]
    assert (status["received"], status["waiting_for_verdict"]) == (traffic.received, 0)
    assert len(traffic.node.recorder) == len(traffic.fates)


def test_addresses_are_hidden_unless_asked_for(traffic):
    traffic = traffic(2, 100)
    for hash, fate in traffic.fates.items():
        if fate in ("raw", "site", "rules", "signed-only"):
            continue
        hidden = traffic.client.ask("peerWhy", [hash])
        assert (hidden["fate"], hidden["from"]) == (fate, len(traffic.sources[hash]))
        assert "203.0.113" not in str(hidden)
        shown = traffic.client.ask("peerWhy", {"hash": hash, "peers": True})
        assert set(shown["from"]) == traffic.sources[hash]


def test_a_site_learns_nothing_of_another_sites_messages(traffic):
    traffic = traffic(3, 200)
    others = [
        traffic.net.client(0, site, None) for site in (traffic.signed_site, traffic.silent_site)
    ]
    nothing = {"error": "invalid: this node knows nothing of that message, or no more"}
    sites = dict(zip(("signed-only", "rules"), others, strict=True))
    seen = Counter()
    for hash, fate in traffic.fates.items():
        for client in (traffic.client, *others):
            answer = client.ask("peerWhy", {"hash": hash, "peers": True})
            if client is sites.get(fate, traffic.client) and fate not in ("raw", "site"):
                seen[fate] += 1
                assert answer["fate"] == fate
            else:
                assert answer == nothing
    assert seen["signed-only"] and seen["rules"] and seen["accepted"]


@pytest.mark.parametrize("hash", ["0" * 64, "", "zz", "0", "\u0660" * 64, "00 " * 32])
def test_of_an_unknown_hash_nothing_is_known(network, hash):
    net = network(1)
    client = net.client(0, net.site())
    answer = client.ask("peerWhy", [hash])
    assert answer["error"].startswith("invalid: this node knows nothing")
    assert net.nodes[0].node.why(hash) is None


def test_our_own_messages_are_explained_too(network):
    net = network(2)
    site = net.site()
    net.connect_all()
    author, reader = net.client(0, site), net.client(1, site)
    hash = author.ask("peerBroadcast", {"message": "x"})["hash"]
    net.advance(1)
    own, theirs = author.ask("peerWhy", [hash]), reader.ask("peerWhy", [hash])
    assert (own["fate"], own["relays"], own["clients"], own["copies"]) == ("own", 1, 1, 0)
    assert (theirs["fate"], theirs["verdict"], theirs["copies"]) == ("accepted", "accept", 1)


@pytest.mark.parametrize("own", [False, True])
def test_a_spoilt_copy_does_not_change_what_became_of_a_message(network, stranger, own):
    net = network(1)
    site = net.site()
    client = net.client(0, site)
    peer = stranger(net)
    if own:
        client.call("peerBroadcast", {"message": "x"})
        net.advance(0.5)
        (good,) = peer.asked("peerBroadcast")
    else:
        good = peer.envelope(site, "x")
        peer.ask("peerBroadcast", good)
    spoilt = {**good, "signature": f"{BANNED.address}|" + "A" * 87 + "="}
    # Of our own the plugin would take it, so a ZeroNet node is only warned.
    answer = peer.ask("peerBroadcast", spoilt)
    assert answer == {"warning" if own else "error": "Invalid signature"}
    found = client.ask("peerWhy", [peer.hash(good)])
    assert found["fate"] == ("own" if own else "accepted")
    assert found["checks"][-1]["check"] == "signature"
    assert found["checks"][-1]["passed"] is False


def test_verdicts_of_neighbours_are_noted(network):
    net = network(3)
    site = net.site()
    net.connect_line()
    author = net.client(0, site)
    net.client(2, site, "peerInvalid")
    hash = author.ask("peerBroadcast", {"message": "x", "peer_count": 0})["hash"]
    net.advance(1)
    assert net.nodes[1].node.why(hash)["heard"] == {"reject": 1}
    assert net.nodes[0].node.why(hash)["heard"] == {}


def test_a_queued_message_says_so(network, stranger):
    net = network(1)
    site = net.site()
    peer = stranger(net)
    params = peer.envelope(site, "x", immediate=True)
    peer.ask("peerBroadcast", params)
    found = net.nodes[0].node.why(peer.hash(params))
    assert (found["queued"], found["clients"], found["verdict"]) == (True, 0, None)


def test_many_copies_of_one_message_take_bounded_room():
    recorder = Recorder()
    for number in range(1000):
        watch = Stopwatch(lambda: 0.0)
        for name in CHECKS:
            watch.check(name, True)
        recorder.copy(b"x", f"peer {number}", "signature", watch, 0.0)
    record = recorder.get(b"x")
    assert record.copies == 1000
    assert len(record.checks) <= CHECKS_LIMIT + len(CHECKS)
    assert len(record.sources) == CHECKS_LIMIT


def test_the_oldest_are_forgotten_first():
    recorder = Recorder()
    for number in range(CAPACITY + 5):
        recorder.record(number.to_bytes(4), 0.0)
    assert len(recorder) == CAPACITY
    assert recorder.get((4).to_bytes(4)) is None
    assert recorder.get((5).to_bytes(4)) is not None


def test_a_flood_of_refusals_takes_bounded_room(network, stranger):
    net = network(1)
    site = net.site({"filter": "nothing"})
    node = net.nodes[0].node
    peer = stranger(net)
    node.recorder._capacity = 50
    for number in range(200):
        peer.request("peerBroadcast", peer.envelope(site, number, nonce=str(number)))
        net.advance(0.05)
        node.pardon("203.0.113.9")
    assert node.inbound.counters.refused == {"filter": 200}
    assert len(node.recorder) == 50
