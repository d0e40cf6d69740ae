"""Attacks on a network of twenty nodes, half of them without clients.

What counts is the outcome: no honest node is banned anywhere, honest messages
reach everybody once, and the attacker is cut off within ten messages that he
sends to a node with clients himself. Over nodes without clients some more reach
clients, seven over each at the most if they come one after the other.
"""

import random

import pytest

from zeromsg.crypto.keys import PrivateKey
from zeromsg.routing.blame import key_identity
from zeromsg.testing import Network

NODES = 20
SPECIAL = NODES - 1
"""The attacker, or the liar. The others are connected without it."""

ATTACKS = 30
KEY = PrivateKey(b"\7" * 32)


def line(rng):
    return [(number, number + 1) for number in range(SPECIAL)]


def mesh(links):
    """A random connected graph of the honest, and the special one at so many of them."""

    def pairs(rng):
        made = {(rng.randrange(number), number) for number in range(1, SPECIAL)}
        for number in range(SPECIAL):
            made |= {
                (min(number, other), max(number, other))
                for other in rng.sample(range(SPECIAL), 2)
                if other != number
            }
        return sorted(made) + [(SPECIAL, other) for other in rng.sample(range(SPECIAL), links)]

    return pairs


def is_connected(pairs, nodes):
    reached = {next(iter(nodes))}
    for _ in nodes:
        for first, second in pairs:
            if {first, second} <= nodes and reached & {first, second}:
                reached |= {first, second}
    return reached == nodes


class World:
    """Twenty nodes. Clients of honest nodes reject what begins with "bad".

    seconds: what they take for their verdicts, at the most.
    """

    def __init__(self, topology, seed, first_client, seconds=0.0):
        self.net = Network(nodes=NODES, seed=seed)
        self.rng = random.Random(seed)
        self.site = self.net.site()
        pairs = topology(self.rng)
        assert is_connected(pairs, set(range(SPECIAL)))
        for first, second in pairs:
            self.net.connect(first, second)
        self.net.advance(3)
        self.neighbours = {
            first + second - SPECIAL for first, second in pairs if SPECIAL in (first, second)
        }
        self.seconds = seconds
        self.clients = {number: self._judging(number) for number in range(first_client, SPECIAL, 2)}
        self.sent = {number: [] for number in self.clients}

    def _judging(self, number):
        client = self.net.client(number, self.site, None)
        take = client._take

        def judge(payload):
            before = len(client.events)
            take(payload)
            for cmd, params in client.events[before:]:
                if cmd == "peerReceive" and params["ip"] != "self":
                    bad = str(params["message"]).startswith("bad")
                    verdict = "peerInvalid" if bad else "peerValid", [params["hash"]]
                    if self.seconds:
                        pause = self.rng.uniform(0.0, self.seconds)
                        self.net.clock.callLater(pause, client.call, *verdict)
                    else:
                        client.call(*verdict)

        client._take = judge
        return client

    def host(self, number):
        return self.net.nodes[number].address.host

    def key_of(self, number):
        return key_identity(self.net.nodes[number].node.users.default.auth_address(self.site))

    def say_good(self, number, signed=False):
        """Some honest client sends its next message."""
        who = self.rng.choice(sorted(self.clients))
        text = f"good {number}"
        self.sent[who].append(text)
        more = {"privatekey": False} if signed else {}
        self.clients[who].call("peerBroadcast", {"message": text, "peer_count": 0, **more})

    def banned(self, exclude=()):
        """Who is banned where, but for those that may be, and by those that may do so."""
        return [
            (member.number, ban.identity)
            for member in self.net.nodes[:SPECIAL]
            for ban in member.node.bans()
            if ban.identity not in exclude
        ]

    def good(self, number):
        """Honest messages that a client saw, its own among them."""
        heard = [text for text in self.clients[number].messages if str(text).startswith("good")]
        return sorted(heard + self.sent[number])

    def bad(self, number):
        return [
            params
            for params in self.clients[number].received()
            if str(params["message"]).startswith("bad")
        ]

    def direct(self, number):
        """How many bad messages a client was shown that came from the attacker himself."""
        name = str(self.net.nodes[SPECIAL].address)
        return sum(params["ip"] == name for params in self.bad(number))

    def attack(self, burst=1, **more):
        """Bad messages, so many at a time, and as many good ones of others in between.

        Afterwards the attacker is cut off, and nobody else is.
        """
        attacker = self.net.client(SPECIAL, self.site)
        judging = self.neighbours & self.clients.keys()
        for number in range(0, ATTACKS, burst):
            for each in range(number, number + burst):
                attacker.call("peerBroadcast", {"message": f"bad {each}", "peer_count": 0, **more})
            self.net.advance(1)
            # The tenth bad message from him is the ban.
            late = {each for each in judging if self.direct(each) >= 10}
            assert all(self.seconds or self.bans_special(each) for each in late)
            for each in range(number, number + burst):
                self.say_good(each, bool(more))
            self.net.advance(1)
        self.net.advance(10)
        assert self.banned({self.host(SPECIAL), self.key_of(SPECIAL)}) == []
        everything = sorted(f"good {number}" for number in range(ATTACKS))
        for number in self.clients:
            assert self.good(number) == everything
        for number in judging:
            # By his signature he may be known, and ignored, before his address is.
            assert self.bans_special(number) or more
        # He was heard at all.
        assert any(self.bad(number) for number in self.clients)

    def bans_special(self, number):
        return self.net.nodes[number].node.blame.is_banned(self.host(SPECIAL))


@pytest.fixture
def world():
    made = []

    def make(topology, seed, first_client=0, seconds=0.0):
        made.append(World(topology, seed, first_client, seconds))
        return made[-1]

    yield make
    for each in made:
        each.net.close()


@pytest.mark.parametrize(
    ("topology", "seed", "first_client", "signed"),
    [
        pytest.param(line, 1, 0, False, id="line"),
        pytest.param(line, 2, 1, False, id="line-behind-a-relay"),
        pytest.param(line, 3, 1, True, id="line-signed"),
        pytest.param(mesh(1), 1, 0, False, id="one-link-1"),
        pytest.param(mesh(1), 2, 0, False, id="one-link-2"),
        pytest.param(mesh(1), 3, 1, True, id="one-link-signed"),
        pytest.param(mesh(3), 1, 0, False, id="three-links-1"),
        pytest.param(mesh(3), 2, 1, False, id="three-links-2"),
        pytest.param(mesh(3), 4, 1, True, id="three-links-signed"),
        # In these he is a good relay too, and would be paid for it.
        pytest.param(mesh(5), 1, 1, False, id="five-links-1"),
        pytest.param(mesh(5), 2, 1, True, id="five-links-signed"),
        pytest.param(mesh(5), 7, 1, False, id="five-links-2"),
        pytest.param(mesh(5), 102, 1, False, id="five-links-3"),
    ],
)
def test_the_attacker_is_cut_off_and_nobody_else(world, topology, seed, first_client, signed):
    world = world(topology, seed, first_client)
    world.attack(**({"privatekey": False} if signed else {}))
    for number in world.clients:
        assert len(world.bad(number)) <= 17
        assert world.direct(number) <= 10


@pytest.mark.parametrize(
    ("topology", "seed", "first_client", "signed"),
    [
        pytest.param(line, 1, 1, False, id="line-behind-a-relay"),
        pytest.param(mesh(1), 1, 1, True, id="one-link-signed"),
        pytest.param(mesh(3), 1, 0, False, id="three-links"),
        pytest.param(mesh(5), 1, 0, False, id="five-links"),
    ],
)
def test_many_bad_messages_at_once_get_no_relay_banned(world, topology, seed, first_client, signed):
    """They are all on their way before anybody has said a word about the first of them."""
    world = world(topology, seed, first_client)
    world.attack(burst=15, **({"privatekey": False} if signed else {}))
    for number in world.clients:
        assert world.direct(number) <= 10


@pytest.mark.parametrize(
    ("topology", "seed", "burst"),
    [
        pytest.param(line, 1, 1, id="line"),
        pytest.param(mesh(3), 1, 1, id="three-links"),
        pytest.param(mesh(5), 1, 5, id="five-links"),
    ],
)
def test_clients_that_take_their_time(world, topology, seed, burst):
    world(topology, seed, 1, seconds=2.0).attack(burst)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_lying_judge_deprives_only_itself(world, seed):
    world = world(mesh(3), seed)
    liar = world.net.client(SPECIAL, world.site, "peerInvalid")
    for number in range(ATTACKS):
        world.say_good(number, signed=number % 2 == 0)
        world.net.advance(1)
    world.net.advance(10)
    # It bans whom it likes; of the others, nobody bans anybody.
    assert world.banned() == []
    everything = sorted(f"good {number}" for number in range(ATTACKS))
    for number in world.clients:
        assert world.good(number) == everything
    assert 0 < len(liar.messages) <= ATTACKS


def test_a_liar_gets_no_relay_banned_whatever_cost_it_names(world):
    world = world(mesh(3), 4)
    world.net.client(SPECIAL, world.site, "peerInvalid")
    blame = world.net.nodes[SPECIAL].node.blame
    tell = blame.tell
    blame.tell = lambda link, hash, verdict, cost=0.0: tell(link, hash, verdict, 100.0)
    for number in range(ATTACKS):
        world.say_good(number)
        world.net.advance(1)
    assert world.banned() == []
    heard = [len(world.good(number)) for number in world.clients]
    assert heard == [ATTACKS] * len(heard)


# Spoilt copies.


def stripped(params, others):
    return {**params, "signature": ""}


def signed_anew(params, others):
    return {**params, "signature": others["signature"]}


def flipped(params, others):
    address, _, text = params["signature"].partition("|")
    swapped = "A" if text[5] != "A" else "B"
    return {**params, "signature": f"{address}|{text[:5]}{swapped}{text[6:]}"}


def of_another(params, others):
    _, _, text = params["signature"].partition("|")
    return {**params, "signature": f"{KEY.address}|{text}"}


def with_false_cert(params, others):
    return {**params, "cert": ["web/somebody@nowhere", "nowhere", "A" * 88]}


def with_malformed_cert(params, others):
    return {**params, "cert": ["x"]}


def without_signature(params, others):
    return {name: value for name, value in params.items() if name != "signature"}


def with_a_piece_of_raw_in_the_nonce(params, others):
    """The hash is of both with a comma in between: it stays the same."""
    start, _, rest = params["raw"].partition(",")
    return {**params, "nonce": f"{params['nonce']},{start}", "raw": rest}


def with_all_of_it_in_the_nonce(params, others):
    return {**params, "nonce": f"{params['nonce']},{params['raw']}", "raw": ""}


@pytest.mark.parametrize(
    "spoil",
    [
        with_a_piece_of_raw_in_the_nonce,
        with_all_of_it_in_the_nonce,
        stripped,
        signed_anew,
        flipped,
        of_another,
        with_false_cert,
        with_malformed_cert,
        without_signature,
    ],
)
def test_a_spoilt_copy_that_comes_first_does_not_stop_the_good_one(network, stranger, spoil):
    net = network(3)
    site = net.site()
    # Only a stranger carries from node 0 to the others.
    net.connect(1, 2)
    net.advance(2)
    readers = [net.client(number, site) for number in (1, 2)]
    author = net.client(0, site)
    carrier = stranger(net, 0, host="203.0.113.1")
    author.call("peerBroadcast", {"message": "x", "privatekey": False})
    author.call("peerBroadcast", {"message": "y", "privatekey": "stored"})
    net.advance(1)
    good, other = carrier.asked("peerBroadcast")
    spoiler = stranger(net, 1, host="203.0.113.2")
    honest = stranger(net, 1, host="203.0.113.3")
    (kind,) = spoiler.ask("peerBroadcast", spoil(good, other))
    assert kind in ("error", "warning")
    assert [reader.messages for reader in readers] == [[], []]
    assert honest.ask("peerBroadcast", good) == {"ok": "thx"}
    net.advance(1)
    signer = net.nodes[0].node.users.default.auth_address(site)
    for reader in readers:
        heard = [(params["message"], params["signed_by"]) for params in reader.received()]
        assert heard == [("x", signer)]
    assert net.nodes[2].node.bans() == net.nodes[1].node.bans() == []


# Floods.


def duplicates(peer, site, number):
    return peer.envelope(site, "ok: the same", nonce="1")


def bad_signatures(peer, site, number):
    params = peer.envelope(site, f"ok: {number}", nonce=str(number + 1), key=KEY)
    return {**params, "signature": params["signature"][:-8] + "AAAAAAA="}


def bad_filter(peer, site, number):
    return peer.envelope(site, f"no: {number}", nonce=str(number + 1))


def oversize(peer, site, number):
    return peer.envelope(site, f"ok: {number}" + "x" * 1000, nonce=str(number + 1))


def broken_envelopes(peer, site, number):
    return {"raw": number, "nonce": "1"}


@pytest.mark.parametrize(
    ("flood", "check"),
    [
        (duplicates, None),
        (bad_signatures, "signature"),
        (bad_filter, "filter"),
        (oversize, "size"),
        (broken_envelopes, "envelope"),
    ],
)
def test_a_flood_leaves_honest_delivery_complete(network, stranger, flood, check):
    net = network(6)
    site = net.site({"filter": '"ok', "size_limit": 500})
    for first, second in [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 0), (1, 4)]:
        net.connect(first, second)
    net.advance(2)
    clients = {number: net.client(number, site) for number in (0, 2, 4)}
    flooders = 0
    sent = 0
    peers = {}
    for turn in range(20):
        for target in (1, 2):
            peer = peers.get(target)
            if peer is None or peer.lost:
                # It comes back under another address, as often as it likes.
                flooders += 1
                host = f"203.0.113.{flooders}"
                peer = peers[target] = stranger(net, target, host=host, source_port=flooders)
                assert peer is not None
            for _ in range(10):
                peer.request("peerBroadcast", flood(peer, site, sent))
                sent += 1
        clients[(0, 2, 4)[turn % 3]].call(
            "peerBroadcast", {"message": f"ok {turn}", "peer_count": 0, "privatekey": False}
        )
        net.advance(0.5)
    net.advance(3)
    for position, (_, client) in enumerate(sorted(clients.items())):
        own = [f"ok {turn}" for turn in range(20) if turn % 3 == position]
        heard = [text for text in client.messages if not text.startswith("ok: ")]
        assert sorted(own + heard) == sorted(f"ok {turn}" for turn in range(20))
    honest = {member.address.host for member in net.nodes}
    for member in net.nodes:
        counters = member.node.inbound.counters
        assert not honest & {ban.identity for ban in member.node.bans()}
        assert member.node.scoring.points(member.address.host, net.wall()) <= 0
        total = counters.accepted + counters.duplicates + sum(counters.refused.values())
        assert counters.received == total
        if member.number in (1, 2):
            if check is None:
                # A copy costs nothing: whoever relays may be late.
                assert counters.duplicates >= 190
                assert member.node.bans() == []
            else:
                assert counters.refused[check] >= 10
                assert member.node.bans() or check == "envelope"
        else:
            assert not counters.refused
