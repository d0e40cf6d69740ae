"""Who pays for a message that clients reject, and what neighbours' verdicts are worth."""

import math

import pytest

from zeromsg.crypto.keys import PrivateKey
from zeromsg.policy.hearing import GRACE
from zeromsg.policy.judges import COST_LIMIT, GRADIENT, OBJECTION_POINTS
from zeromsg.policy.scoring import BAN_SECONDS, EARNED
from zeromsg.routing.blame import INVALID_POINTS, key_identity
from zeromsg.routing.relay import PROBE_SECONDS
from zeromsg.wire.names import UNHEARD

KEY = PrivateKey(b"\7" * 32)
OTHER_KEY = PrivateKey(b"\x08" * 32)
SOURCE = "203.0.113.1"
JUDGES = ("203.0.113.11", "203.0.113.12", "203.0.113.13")


def points(net, number, identity):
    return net.nodes[number].node.scoring.points(identity, net.wall())


def host(net, number):
    return net.nodes[number].address.host


def banned(net, number):
    return sorted(ban.identity for ban in net.nodes[number].node.bans())


def signer_of(net, number, site):
    return net.nodes[number].node.users.default.auth_address(site)


def broadcast(net, client, message, **more):
    client.call("peerBroadcast", {"message": message, "peer_count": 0, **more})
    net.advance(0.5)


class Crossing:
    """A node without clients between a source and judges, all written by hand."""

    def __init__(self, net, stranger, judges=JUDGES, extension=1):
        self.net = net
        self.site = net.site()
        self._stranger = stranger
        self.source = self.add(SOURCE, extension)
        self.judges = [self.add(name) for name in judges]
        self._count = 0

    def add(self, name, extension=1):
        more = {"zeromsg": {"version": extension}} if extension else {}
        made = self._stranger(self.net, host=name, **more)
        made.host = name
        return made

    def send(self, source=None, key=None):
        """A new message through the node; its hash."""
        source = source or self.source
        self._count += 1
        params = source.envelope(self.site, f"m{self._count}", nonce=str(self._count), key=key)
        assert source.ask("peerBroadcast", params) == {"ok": "thx"}
        return source.hash(params)

    def verdict(self, judge, hash, verdict="reject", cost=10.0):
        return judge.ask("peerVerdict", {"hash": hash, "verdict": verdict, "cost": cost})

    def reached(self):
        """How many messages each judge was sent."""
        return [len(judge.broadcasts()) for judge in self.judges]

    def points(self, identity=SOURCE):
        return points(self.net, 0, identity)

    def make_doubtful(self):
        """The source's messages are to be tried from now on; the first judge objected."""
        self.verdict(self.judges[0], self.send())
        for judge in self.judges:
            judge.requests.clear()


@pytest.fixture
def crossing(network, stranger):
    return lambda **more: Crossing(network(1), stranger, **more)


# Our own clients.


def test_a_rejection_charges_the_neighbour_and_the_signer(network):
    net = network(2)
    site = net.site()
    net.connect_all()
    sender = net.client(0, site)
    net.client(1, site, "peerInvalid")
    broadcast(net, sender, "x", privatekey=False)
    signer = key_identity(signer_of(net, 0, site))
    assert (points(net, 1, host(net, 0)), points(net, 1, signer)) == (10, 10)
    # Who made it is told, and charges nobody: not its client, not itself, not the judge.
    assert (points(net, 0, host(net, 1)), points(net, 0, signer)) == (0, 0)


def test_an_unsigned_message_charges_the_neighbour_alone(network):
    net = network(2)
    site = net.site()
    net.connect_all()
    net.client(1, site, "peerInvalid")
    broadcast(net, net.client(0, site), "x")
    assert points(net, 1, host(net, 0)) == 10
    assert not [name for name in net.nodes[1].node.scoring._records if name.startswith("key:")]


@pytest.mark.parametrize("verdict", ["peerIgnore", None])
def test_what_is_ignored_or_not_judged_costs_and_earns_nothing(network, verdict):
    net = network(2)
    site = net.site()
    net.connect_all()
    net.client(1, site, verdict)
    broadcast(net, net.client(0, site), "x", privatekey=False)
    net.advance(6)
    assert points(net, 1, host(net, 0)) == 0
    assert points(net, 1, key_identity(signer_of(net, 0, site))) == 0


def test_accepted_messages_earn_points_back(network):
    net = network(2)
    site = net.site()
    net.connect_all()
    sender, judge = net.client(0, site), net.client(1, site, "peerInvalid")
    broadcast(net, sender, "bad")
    judge._verdict = "peerValid"
    broadcast(net, sender, "good")
    assert points(net, 1, host(net, 0)) == INVALID_POINTS - EARNED
    judge._verdict = None
    broadcast(net, sender, "unjudged")
    net.advance(6)
    assert points(net, 1, host(net, 0)) == INVALID_POINTS - EARNED


def test_the_tenth_rejected_message_is_the_last(network):
    net = network(2)
    site = net.site()
    net.connect_all()
    sender, judge = net.client(0, site), net.client(1, site, "peerInvalid")
    for number in range(15):
        broadcast(net, sender, number)
    assert judge.messages == list(range(10))
    assert banned(net, 1) == [host(net, 0)]
    assert not net.nodes[1].node.pool.links


def test_a_plugin_neighbour_answers_for_unsigned_messages_only(network, stranger):
    net = network(1)
    site = net.site()
    net.client(0, site, "peerInvalid")
    plugin = stranger(net)
    plugin.ask("peerBroadcast", plugin.envelope(site, "signed", nonce="1", key=KEY))
    assert points(net, 0, "203.0.113.9") == 0
    assert points(net, 0, key_identity(KEY.address)) == 10
    plugin.ask("peerBroadcast", plugin.envelope(site, "unsigned", nonce="2"))
    assert points(net, 0, "203.0.113.9") == 10
    # It is never told: it would count an unknown command.
    assert plugin.asked("peerVerdict") == []


def test_our_own_client_is_never_banned(network):
    net = network(2)
    site = net.site({"filter": '"(good|bad)', "size_limit": 20, "freq_limit": 0.3})
    net.connect_all()
    own, other = net.client(0, site), net.client(0, site, "peerInvalid")
    reader = net.client(1, site)
    for number in range(40):
        assert "error" in own.ask("peerBroadcast", {"message": f"no {number}"})
        assert "error" in own.ask("peerBroadcast", {"message": "good" * 20})
    for number in range(20):
        answer = own.ask(
            "peerBroadcast", {"message": f"good {number}", "privatekey": False, "peer_count": 0}
        )
        # Neither its own node's other clients nor itself can hurt it.
        for client in (own, other):
            assert client.ask("peerInvalid", [answer["hash"]]) == "ok"
        net.advance(0.5)
    assert banned(net, 0) == banned(net, 1) == []
    assert all(record.points <= 0 for record in net.nodes[0].node.scoring._records.values())
    assert reader.messages == [f"good {number}" for number in range(20)]


@pytest.mark.parametrize(
    "rules", [{"freq_limit": 1.0}, {"rate": {"per_peer": [5, 1]}}, {"rate": {"per_signer": [1, 1]}}]
)
@pytest.mark.parametrize("signed", [False, True])
def test_who_passes_on_messages_of_many_pays_nothing_for_their_rate_together(
    network, rules, signed
):
    """Each of five authors keeps to the rate; all they say comes through one node."""
    net = network(7)
    site = net.site({"filter": ".*", **rules})
    for number in range(5):
        net.connect(number, 5)
    net.connect(5, 6)
    net.advance(3)
    authors = [net.client(number, site) for number in range(5)]
    end = net.client(6, site)
    for turn in range(25):
        for number, author in enumerate(authors):
            key = {"privatekey": False} if signed else {}
            author.call("peerBroadcast", {"message": [turn, number], "peer_count": 0, **key})
            net.advance(0.3)
    assert [banned(net, number) for number in range(7)] == [[]] * 7
    assert points(net, 6, host(net, 5)) <= 0
    assert len(end.messages) > 20


def test_a_plugin_node_pays_nothing_for_the_rate_either(network, stranger):
    """What it passes on comes from many; and how fast it arrives is nobody's proven doing."""
    net = network(1)
    site = net.site({"filter": ".*", "freq_limit": 10})
    plugin = stranger(net)
    for number in range(30):
        params = plugin.envelope(site, number, nonce=str(number + 1), key=KEY)
        answer = plugin.ask("peerBroadcast", params, 0.05)
    assert answer == {"warning": f"Too fast messages from {site}"}
    assert points(net, 0, "203.0.113.9") <= 0
    assert points(net, 0, key_identity(KEY.address)) == 0


# Blame flows back.


@pytest.mark.parametrize("signed", [False, True])
def test_relays_without_clients_charge_their_source_a_bit_more(network, signed):
    net = network(5)
    site = net.site()
    net.connect_line()
    sender = net.client(0, site)
    net.client(4, site, "peerInvalid")
    broadcast(net, sender, "x", **({"privatekey": False} if signed else {}))
    charged = [points(net, number, host(net, number - 1)) for number in (4, 3, 2, 1)]
    assert charged == [10, 10 * GRADIENT, 10 * GRADIENT**2, 10 * GRADIENT**3]
    signer = key_identity(signer_of(net, 0, site))
    for_signer = [points(net, number, signer) for number in (4, 3, 2, 1)]
    assert for_signer == (charged if signed else [0] * 4)
    assert points(net, 0, host(net, 1)) == 0


def test_a_relay_whose_clients_accepted_does_not_listen_to_neighbours(network):
    net = network(3)
    site = net.site()
    net.connect_line()
    sender = net.client(0, site)
    net.client(1, site, "peerValid")
    net.client(2, site, "peerInvalid")
    broadcast(net, sender, "x", privatekey=False)
    assert points(net, 2, host(net, 1)) == 10
    assert points(net, 1, host(net, 0)) == -EARNED
    assert points(net, 1, key_identity(signer_of(net, 0, site))) == 0


def test_what_its_clients_reject_is_not_relayed(network):
    net = network(3)
    site = net.site()
    net.connect_line()
    sender = net.client(0, site)
    net.client(1, site, "peerInvalid")
    end = net.client(2, site)
    broadcast(net, sender, "x")
    assert (end.messages, points(net, 2, host(net, 1))) == ([], 0)


def test_many_objections_to_one_message_are_paid_once(crossing):
    crossing = crossing()
    hash = crossing.send(key=KEY)
    for judge in crossing.judges:
        assert crossing.verdict(judge, hash) == {"ok": "thx"}
    assert crossing.points() == 12.5
    assert crossing.points(key_identity(KEY.address)) == 12.5
    assert [told["cost"] for told in crossing.source.asked("peerVerdict")] == [12.5]


def test_a_plugin_source_is_charged_but_not_told(crossing):
    crossing = crossing(extension=0)
    crossing.verdict(crossing.judges[0], crossing.send())
    assert crossing.points() == 12.5
    assert crossing.source.asked("peerVerdict") == []


def test_a_judge_that_objected_often_gets_no_more_of_that_source(network):
    net = network(5)
    site = net.site()
    for number in (0, 2, 3, 4):
        net.connect(number, 1)
    net.advance(2)
    source, other_source = net.client(0, site), net.client(4, site)
    judge = net.client(2, site, "peerInvalid")
    pleased = net.client(3, site, "peerValid")
    for number in range(30):
        broadcast(net, source, f"s{number}")
    # What its objections cost the source ends at fifty points, or just above.
    assert 0 < len(judge.messages) <= OBJECTION_POINTS / 12.5 + 1
    after = max(int(text[1:]) for text in judge.messages) + 1
    assert pleased.messages[-(30 - after) :] == [f"s{number}" for number in range(after, 30)]
    assert points(net, 1, host(net, 0)) <= OBJECTION_POINTS + 12.5
    assert banned(net, 1) == []
    # Others it is still sent.
    judge._verdict = "peerValid"
    broadcast(net, other_source, "other")
    assert judge.messages[-1] == "other"


def test_objections_to_a_signer_follow_him_over_sources(crossing):
    crossing = crossing(judges=JUDGES[:1])
    judge = crossing.judges[0]
    crossing.source.close()
    for number in range(3):
        source = crossing.add(f"203.0.114.{number + 1}")
        crossing.verdict(judge, crossing.send(source, key=KEY), "reject", 18.0)
        source.close()
        crossing.net.advance(0.1)
    assert judge.broadcasts() == ["m1", "m2", "m3"]
    # What clients of ours accept is passed on; but nothing of him.
    client = crossing.net.client(0, crossing.site)
    source = crossing.add(SOURCE)
    crossing.send(source, key=KEY)
    crossing.send(source, key=OTHER_KEY)
    crossing.send(source)
    assert client.messages == ["m4", "m5", "m6"]
    assert judge.broadcasts()[3:] == ["m5", "m6"]


# Doubtful sources.


def test_what_nobody_doubts_goes_to_all_at_once(crossing):
    crossing = crossing()
    crossing.send()
    assert crossing.reached() == [1, 1, 1]
    assert not any(
        "want_verdict" in params
        for judge in crossing.judges
        for params in judge.asked("peerBroadcast")
    )


@pytest.mark.parametrize(
    ("verdict", "further"), [("accept", 2), ("none", 2), ("reject", 0), ("ignore", 0)]
)
def test_a_doubtful_message_is_tried_at_one_neighbour_first(crossing, verdict, further):
    crossing = crossing()
    crossing.make_doubtful()
    hash = crossing.send()
    assert sorted(crossing.reached()) == [0, 0, 1]
    first = crossing.judges[crossing.reached().index(1)]
    assert first.asked("peerBroadcast")[0]["want_verdict"] is True
    crossing.verdict(first, hash, verdict, 0.0)
    crossing.net.advance(PROBE_SECONDS + 1)
    assert sum(crossing.reached()) == 1 + further
    assert max(crossing.reached()) == 1


def test_a_neighbour_that_says_nothing_holds_it_up_for_some_seconds_only(crossing):
    crossing = crossing()
    crossing.make_doubtful()
    hash = crossing.send()
    first = crossing.judges[crossing.reached().index(1)]
    crossing.net.advance(PROBE_SECONDS - 1)
    assert sum(crossing.reached()) == 1
    crossing.net.advance(2)
    assert crossing.reached() == [1, 1, 1]
    # Too late to stop or to repeat anything, but it still counts.
    before = crossing.points()
    crossing.verdict(first, hash)
    crossing.net.advance(1)
    assert crossing.reached() == [1, 1, 1]
    assert crossing.points() == before + 12.5


def test_what_a_probed_node_without_clients_says(network):
    """It cannot judge, and says so at once: nobody waits the whole time."""
    net = network(4)
    site = net.site()
    for number in (0, 2, 3):
        net.connect(number, 1)
    net.advance(2)
    source, end = net.client(0, site), net.client(2, site, "peerInvalid")
    broadcast(net, source, "bad")
    end._verdict = "peerValid"
    for number in range(6):
        broadcast(net, source, number)
    assert end.messages == ["bad", *range(6)]


def test_time_heals_doubt(crossing):
    crossing = crossing()
    crossing.make_doubtful()
    crossing.net.advance(4 * 600.0)
    crossing.send()
    assert crossing.reached() == [1, 1, 1]


# Verdicts that are worth nothing.


def test_verdicts_of_unknown_messages_change_nothing(crossing):
    crossing = crossing()
    for hash in ("0" * 64, "", "zz", "\u00e9"):
        assert crossing.verdict(crossing.judges[0], hash) == {"ok": "thx"}
    assert crossing.points() == 0
    assert crossing.points(JUDGES[0]) == 0


def test_a_second_verdict_of_one_neighbour_does_not_count(crossing):
    crossing = crossing(judges=JUDGES[:1])
    hash = crossing.send()
    crossing.verdict(crossing.judges[0], hash, "accept")
    crossing.verdict(crossing.judges[0], hash, "reject")
    assert crossing.points() == 0
    hash = crossing.send()
    for _ in range(20):
        crossing.verdict(crossing.judges[0], hash, "reject")
    assert crossing.points() == 12.5


def test_who_was_not_sent_a_message_has_no_say(crossing):
    crossing = crossing(judges=JUDGES[:1])
    hash = crossing.send()
    late = crossing.add(JUDGES[1])
    crossing.verdict(late, hash)
    crossing.verdict(crossing.source, hash)
    assert crossing.points() == crossing.points(JUDGES[0]) == 0


def test_our_own_messages_are_not_judged_by_neighbours(crossing):
    crossing = crossing()
    client = crossing.net.client(0, crossing.site)
    for number in range(20):
        answer = client.ask("peerBroadcast", {"message": number, "privatekey": False})
        for judge in crossing.judges:
            crossing.verdict(judge, answer["hash"], "reject", 100.0)
    assert banned(crossing.net, 0) == []
    # And each of them still got all.
    assert crossing.reached() == [20, 20, 20]


@pytest.mark.parametrize("cost", [0, 0.5, 25, 100, 100.0])
def test_what_a_judge_says_it_charged_counts_up_to_a_limit(crossing, cost):
    crossing = crossing()
    crossing.verdict(crossing.judges[0], crossing.send(), "reject", cost)
    assert crossing.points() == min(cost * GRADIENT, COST_LIMIT)


@pytest.mark.parametrize(
    "params",
    [
        {"verdict": "reject", "cost": 100.1},
        {"verdict": "reject", "cost": 1e300},
        {"verdict": "reject", "cost": 2**64 - 1},
        {"verdict": "reject", "cost": -0.1},
        {"verdict": "reject", "cost": math.nan},
        {"verdict": "reject", "cost": math.inf},
        {"verdict": "reject", "cost": True},
        {"verdict": "reject", "cost": "10"},
        {"verdict": "reject", "cost": None},
        {"verdict": "reject", "cost": [10]},
        {"verdict": "maybe", "cost": 1},
        {"verdict": "REJECT", "cost": 1},
        {"verdict": None, "cost": 1},
        {"verdict": [], "cost": 1},
        {"verdict": {}, "cost": 1},
        {"verdict": b"reject", "cost": 1},
        {"cost": 1},
        {"hash": None, "verdict": "reject"},
        {"hash": b"\xff" * 32, "verdict": "reject"},
        {"hash": ["0" * 64], "verdict": "reject"},
        {"hash": "0" * 65, "verdict": "reject"},
        {},
    ],
)
def test_a_malformed_verdict_costs_who_sent_it(crossing, params):
    crossing = crossing()
    hash = crossing.send()
    if params:
        params = {"hash": hash, **params}
    judge = crossing.judges[0]
    judge.request("peerVerdict", params)
    crossing.net.advance(0.5)
    assert judge.lost
    assert crossing.points(JUDGES[0]) == 7
    assert crossing.points() == 0


def test_a_verdict_without_a_cost_costs_nothing(crossing):
    crossing = crossing()
    hash = crossing.send()
    answer = crossing.judges[0].ask("peerVerdict", {"hash": hash, "verdict": "reject"})
    assert (answer, crossing.points()) == ({"ok": "thx"}, 0)


def test_nodes_that_are_not_zeromsg_have_no_verdicts(crossing):
    crossing = crossing(judges=())
    plugin = crossing.add(JUDGES[0], extension=0)
    hash = crossing.send()
    assert plugin.broadcasts() == ["m1"]
    assert crossing.verdict(plugin, hash) == {"error": "Unknown command: peerVerdict"}
    assert (crossing.points(), crossing.points(JUDGES[0])) == (0, 5)


def test_a_judge_cannot_get_a_source_banned_alone(crossing):
    crossing = crossing()
    liar = crossing.judges[0]
    for _ in range(40):
        hash = crossing.send()
        for judge in crossing.judges[1:]:
            crossing.verdict(judge, hash, "accept", 0.0)
        crossing.verdict(liar, hash, "reject", 100.0)
    assert banned(crossing.net, 0) == []
    # A little of it may be forgiven, and charged again.
    assert crossing.points() <= OBJECTION_POINTS + 1
    assert len(liar.broadcasts()) <= OBJECTION_POINTS / 12.5
    assert min(crossing.reached()[1:]) >= 36


def test_objections_that_come_late_and_all_at_once_get_nobody_banned(crossing):
    crossing = crossing(judges=JUDGES[:1])
    liar = crossing.judges[0]
    for hash in [crossing.send() for _ in range(20)]:
        crossing.verdict(liar, hash, "reject", 10.0)
    assert len(liar.broadcasts()) == 20
    assert banned(crossing.net, 0) == []
    assert crossing.points() <= OBJECTION_POINTS + 12.5


def test_judges_together_get_an_attacker_banned(crossing):
    crossing = crossing()
    for _ in range(20):
        before = crossing.reached()
        if crossing.source.lost:
            break
        hash = crossing.send()
        for judge, had in zip(crossing.judges, before, strict=True):
            if len(judge.broadcasts()) > had:
                crossing.verdict(judge, hash)
    assert banned(crossing.net, 0) == [SOURCE]
    assert crossing._count <= 10


# What we owe a judge.


def test_a_judge_that_charges_us_much_is_sent_only_what_our_own_clients_say(crossing):
    crossing = crossing(judges=JUDGES[:1])
    net, judge = crossing.net, crossing.judges[0]
    sent = []
    for number in range(8):
        source = crossing.add(f"203.0.114.{number + 1}")
        sent.append(crossing.send(source))
        if len(judge.broadcasts()) == number + 1:
            crossing.verdict(judge, sent[-1], "reject", 25.0)
    # 25, 50, 75: from seventy on we are silent.
    assert len(judge.broadcasts()) == 3
    assert crossing.points("203.0.114.8") == 0
    client = net.client(0, crossing.site)
    client.call("peerBroadcast", {"message": "our own"})
    net.advance(0.5)
    # Not even what they accepted: clients may disagree for ever, and the nodes still talk.
    crossing.send()
    assert client.messages[-1] == "m9"
    assert judge.broadcasts()[3:] == ["our own"]
    # It halves in ten minutes.
    net.advance(600)
    crossing.send(crossing.add("203.0.114.100"))
    assert len(judge.broadcasts()) == 5


def test_from_forty_points_on_a_judge_is_sent_nothing_doubtful(crossing):
    crossing = crossing(judges=JUDGES[:2])
    judge = crossing.judges[0]
    doubted = [crossing.add(f"203.0.114.{number + 1}") for number in range(2)]
    for source in doubted:
        crossing.verdict(judge, crossing.send(source), "reject", 25.0)
    assert len(judge.broadcasts()) == 2
    crossing.send(doubted[0])
    crossing.net.advance(PROBE_SECONDS + 1)
    assert crossing.reached() == [2, 3]
    crossing.send()
    assert crossing.reached() == [3, 4]


# Many at once: what nobody could know yet.


def test_a_burst_costs_who_passed_it_on_no_more_than_the_grace(network, stranger):
    net = network(1)
    site = net.site()
    client = net.client(0, site, None)
    relay = stranger(net, zeromsg={"version": 1})
    # Nothing of ours is answered for now, so it hears of nothing.
    relay.respond = lambda cmd, params: None
    sent = [relay.envelope(site, f"bad {number}", nonce=str(number + 1)) for number in range(20)]
    for params in sent:
        relay.request("peerBroadcast", params)
    net.advance(0.1)
    assert len(client.messages) == 20
    for params in sent:
        client.call("peerInvalid", [relay.hash(params)])
    net.advance(0.1)
    assert points(net, 0, "203.0.113.9") == GRACE
    costs = [told["cost"] for told in relay.asked("peerVerdict")]
    assert costs == [10.0] * 3 + [0.0] * 17


def test_who_has_not_heard_yet_is_asked_to_come_again(network, stranger):
    net = network(1)
    site = net.site()
    client = net.client(0, site, "peerInvalid")
    relay = stranger(net, zeromsg={"version": 1})
    polite, relay.respond = relay.respond, lambda cmd, params: None
    for number in range(3):
        params = relay.envelope(site, f"bad {number}", nonce=str(number + 1))
        assert relay.ask("peerBroadcast", params) == {"ok": "thx"}
    client._verdict = "peerValid"
    good = relay.envelope(site, "good", nonce="9")
    assert relay.ask("peerBroadcast", good) == {"warning": UNHEARD}
    # Another peer's copy is welcome meanwhile, and so are questions.
    question = relay.envelope(site, "?", nonce="10", broadcast=False)
    assert relay.ask("peerSend", question) == {"ok": "thx"}
    assert client.messages == ["bad 0", "bad 1", "bad 2", "?"]
    relay.respond = polite
    relay.send({"cmd": "response", "to": relay.unanswered[-1], "ok": "thx"})
    net.advance(0.1)
    assert relay.ask("peerBroadcast", good) == {"ok": "thx"}
    assert client.messages[-1] == "good"
    assert net.nodes[0].node.inbound.counters.refused == {"unheard": 1}
    # It cost nothing.
    assert points(net, 0, "203.0.113.9") == 3 * INVALID_POINTS - 2 * EARNED


def test_silence_is_worth_nothing(network, stranger):
    """Who does not answer, or goes, is taken to know, and banned like anybody."""
    net = network(1)
    site = net.site()
    client = net.client(0, site, "peerInvalid")
    number = 0
    for turn in range(4):
        peer = stranger(net, source_port=turn + 1, zeromsg={"version": 1})
        assert peer is not None
        peer.respond = lambda cmd, params: None
        for _ in range(20):
            number += 1
            peer.request("peerBroadcast", peer.envelope(site, f"bad {number}", nonce=str(number)))
            net.advance(0.01)
        if turn < 2:
            net.advance(15)
        if not peer.lost:
            peer.close()
            net.advance(1)
    assert banned(net, 0) == ["203.0.113.9"]
    # Four times three, and then no more.
    assert len(client.messages) <= 12


def test_what_a_judge_does_not_want_yet_is_sent_again(crossing):
    crossing = crossing(judges=JUDGES[:1])
    judge = crossing.judges[0]
    polite, refusals = judge.respond, 2

    def not_yet(cmd, params):
        nonlocal refusals
        if cmd == "peerBroadcast" and refusals:
            refusals -= 1
            return {"warning": UNHEARD}
        return polite(cmd, params)

    judge.respond = not_yet
    crossing.send()
    crossing.net.advance(1)
    assert judge.broadcasts() == ["m1"] * 3
    # Our own clients' messages as well.
    refusals = 1
    crossing.net.client(0, crossing.site).call("peerBroadcast", {"message": "ours"})
    crossing.net.advance(1)
    assert judge.broadcasts()[3:] == ["ours"] * 2


def test_nobody_is_sent_a_message_again_for_ever(crossing):
    crossing = crossing(judges=JUDGES[:1])
    judge = crossing.judges[0]
    polite = judge.respond
    judge.respond = lambda cmd, params: (
        {"warning": UNHEARD} if cmd == "peerBroadcast" else polite(cmd, params)
    )
    crossing.send()
    crossing.net.advance(5)
    assert judge.broadcasts() == ["m1"] * 3


def test_what_turned_out_doubtful_is_not_sent_again(crossing):
    crossing = crossing(judges=JUDGES[:1])
    judge = crossing.judges[0]
    polite, hash = judge.respond, crossing.send()

    def reject_first(cmd, params):
        if cmd == "peerBroadcast":
            judge.request("peerVerdict", {"hash": hash, "verdict": "reject", "cost": 25.0})
            judge.request("peerVerdict", {"hash": "0" * 64, "verdict": "reject", "cost": 25.0})
            return {"warning": UNHEARD}
        return polite(cmd, params)

    judge.respond = reject_first
    crossing.send()
    crossing.net.advance(1)
    assert judge.broadcasts() == ["m1", "m2"]


def test_nodes_whose_clients_disagree_do_not_ban_each_other(network):
    """One's clients like what the other's reject: it stops passing on before it is banned."""
    net = network(3)
    site = net.site()
    net.connect_line()
    sender = net.client(0, site)
    net.client(1, site, "peerValid")
    other = net.client(2, site, "peerInvalid")
    for number in range(40):
        broadcast(net, sender, number)
    assert banned(net, 1) == banned(net, 2) == []
    assert points(net, 2, host(net, 1)) == 70.0
    assert other.messages == list(range(7))


# Bans.


def test_a_ban_survives_a_restart_doubles_and_ends(network):
    net = network(2)
    site = net.site()
    net.connect_all()
    sender, judge = net.client(0, site), net.client(1, site, "peerInvalid")
    for number in range(10):
        broadcast(net, sender, number)
    (ban,) = net.nodes[1].node.bans()
    assert (ban.identity, ban.strikes) == (host(net, 0), 1)
    assert ban.until == pytest.approx(net.wall() + BAN_SECONDS, abs=2)
    net.restart(1)
    assert net.nodes[1].node.bans() == [ban]
    net.connect(0, 1)
    net.connect(1, 0)
    net.advance(15)
    assert not net.nodes[1].node.pool.links
    net.advance(BAN_SECONDS)
    assert net.nodes[1].node.bans() == []
    net.connect(0, 1)
    net.advance(3)
    judge = net.client(1, site, "peerInvalid")
    for number in range(10):
        broadcast(net, sender, f"again {number}")
    assert len(judge.messages) == 10
    (ban,) = net.nodes[1].node.bans()
    assert ban.strikes == 2
    assert ban.until == pytest.approx(net.wall() + 2 * BAN_SECONDS, abs=2)


def test_points_below_a_ban_are_halved_in_time(network):
    net = network(2)
    site = net.site()
    net.connect_all()
    net.client(1, site, "peerInvalid")
    broadcast(net, net.client(0, site), "x")
    net.advance(600)
    assert points(net, 1, host(net, 0)) == 5


def test_messages_of_a_banned_signer_do_not_cost_who_carries_them(network, stranger):
    net = network(1)
    site = net.site()
    client = net.client(0, site)
    node = net.nodes[0].node
    node.ban(key_identity(KEY.address), 3600, "by hand")
    relay = stranger(net, zeromsg={"version": 1})
    params = relay.envelope(site, "x", nonce="1", key=KEY)
    for _ in range(3):
        answer = relay.ask("peerBroadcast", params)
        assert answer == {"warning": "The signer is banned here"}
    other = relay.envelope(site, "y", nonce="2", key=OTHER_KEY)
    assert relay.ask("peerBroadcast", other) == {"ok": "thx"}
    assert client.messages == ["y"]
    assert points(net, 0, "203.0.113.9") == -EARNED
    assert node.inbound.counters.refused == {"banned": 3}
    # It is not remembered as refused: pardoned, he is heard.
    assert node.pardon(key_identity(KEY.address)) is True
    assert relay.ask("peerBroadcast", params) == {"ok": "thx"}
    assert client.messages == ["y", "x"]


def test_a_signers_ban_reaches_him_over_every_relay_and_a_restart(network):
    net = network(3)
    site = net.site()
    net.connect(0, 2)
    net.connect(1, 2)
    net.advance(2)
    sender, other = net.client(0, site), net.client(1, site)
    net.client(2, site)
    signer = key_identity(signer_of(net, 0, site))
    for _ in range(10):
        net.nodes[2].node.blame.charge(signer, 10, "test")
    assert banned(net, 2) == [signer]
    net.restart(2)
    net.advance(1)
    net.connect(0, 2)
    net.connect(1, 2)
    net.advance(3)
    judge = net.client(2, site)
    broadcast(net, sender, "signed", privatekey=False)
    broadcast(net, sender, "unsigned")
    broadcast(net, other, "other", privatekey=False)
    assert judge.messages == ["unsigned", "other"]
    assert points(net, 2, host(net, 0)) <= 0
