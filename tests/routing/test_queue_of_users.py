"""The queue of a node with several users: sealed messages wait for those who can open them."""

import os

import pytest

from zeromsg.crypto.keys import PrivateKey
from zeromsg.crypto.sealed_message import MEMBER, seal_message
from zeromsg.crypto.sealing import Recipient
from zeromsg.errors import ConfigError
from zeromsg.net.client_protocol import ClientFactory, ClientLimits
from zeromsg.policy.site_state import QUEUE_MESSAGES
from zeromsg.routing import secrecy as secrecy_module
from zeromsg.store.users import Users
from zeromsg.testing.websocket import WebSocketClient

AUTH = {"opened": True, "by": "auth"}
CLOSED = {"opened": False}
HOME = 1
SECRET = "s" * 43 + "="


class Home:
    """A node of Alice, who is its default user, Bob and Carol; somebody elsewhere writes to it."""

    def __init__(self, network):
        self.net = network(2)
        self.site = self.net.site()
        self.net.connect_all()
        self.writer = self.net.client(0, self.site)
        users = self.net.nodes[HOME].users
        self.alice, self.bob, self.carol = users.default, users.new("bob"), users.new("carol")

    def key(self, user):
        """How others name a user, of whom they have seen nothing."""
        return user.auth_key(self.site).public_key.hex()

    def send(self, message, *readers, **more):
        """Write to the node's users; readers are users or keys, none for everybody."""
        keys = [reader if isinstance(reader, str) else self.key(reader) for reader in readers]
        call = {"message": message, "immediate": True}
        if keys:
            call["encrypt"] = {"to": keys}
        call |= more
        assert self.writer.ask("peerBroadcast", call)["sent"] is True
        self.net.advance(1)

    def client(self, user):
        return self.net.client(HOME, self.site, user=user.master_address)

    def visit(self, user):
        """What a client of a user is told when it comes, and then it goes."""
        client = self.client(user)
        client.close()
        return [seen(event) for event in client.received()]

    def queued(self):
        rows = self.net.nodes[HOME].database.queue_load(self.site)
        assert self.net.nodes[HOME].node.status()["sites"][0]["queued"] == len(rows)
        if not rows:
            assert self.net.nodes[HOME].database._rows("SELECT * FROM queue_shown") == []
        return len(rows)


def seen(event):
    """What is told of a message; what was not opened looks always the same."""
    if event.get("encrypted") == CLOSED:
        return CLOSED
    return event["message"], event.get("encrypted")


@pytest.fixture
def home(network):
    return Home(network)


def test_a_sealed_message_waits_for_the_user_that_can_open_it(home):
    home.send("psst", home.bob)
    # Alice is shown what she would have been shown at once, and Bob loses nothing by it.
    assert home.visit(home.alice) == [CLOSED]
    assert home.visit(home.alice) == []
    assert home.visit(home.bob) == [("psst", AUTH)]
    assert home.queued() == 0
    assert home.visit(home.bob) == home.visit(home.carol) == []


def test_what_the_first_to_come_opens_waits_for_nobody_else(home):
    home.send("psst", home.bob)
    assert home.visit(home.bob) == [("psst", AUTH)]
    assert home.queued() == 0
    assert home.visit(home.alice) == []


def test_sealed_to_two_users_both_get_it_once(home):
    home.send("psst", home.alice, home.carol)
    first, second = home.client(home.carol), home.client(home.carol)
    assert [seen(event) for event in first.received()] == [("psst", AUTH)]
    assert second.events == []
    assert home.visit(home.carol) == []
    assert home.visit(home.bob) == [CLOSED]
    assert home.visit(home.alice) == [("psst", AUTH)]
    assert home.queued() == 0


def test_what_is_not_sealed_goes_to_whoever_comes_first(home):
    home.send("hello")
    assert home.visit(home.bob) == [("hello", None)]
    assert home.visit(home.alice) == []
    assert home.queued() == 0


def test_the_order_of_what_waits_is_kept(home):
    home.send("1")
    home.send("2", home.bob)
    home.send("3")
    home.send("4", home.bob, home.alice)
    home.send("5")
    assert home.visit(home.alice) == [("1", None), CLOSED, ("3", None), ("4", AUTH), ("5", None)]
    home.send("6")
    assert home.visit(home.bob) == [("2", AUTH), ("4", AUTH), ("6", None)]
    assert home.queued() == 0


def test_what_nobody_here_can_open_goes_to_the_first_client_alone(home):
    home.send("psst", PrivateKey(b"\7" * 32).public_key.hex())
    assert home.visit(home.alice) == [CLOSED]
    assert home.queued() == 0
    assert home.visit(home.bob) == []


def test_a_stolen_seal_waits_for_nobody(home, stranger):
    """It names another signer than the one that sent it, so nobody can open it."""
    author, thief = PrivateKey(b"\x45" * 32), PrivateKey(b"\x44" * 32)
    readers = [Recipient.of(home.bob.auth_key(home.site).public_key)]
    sealed = seal_message(
        "psst", None, readers, site=home.site, sender=author.address, entropy=os.urandom
    )
    peer = stranger(home.net, HOME, host="203.0.113.5")
    peer.ask("peerBroadcast", peer.envelope(home.site, sealed, key=thief, immediate=True))
    assert home.visit(home.alice) == [CLOSED]
    assert home.queued() == 0


def test_fields_that_are_not_sealed_are_read_by_all(home):
    sealed = {"fields": ["move"]}
    home.send({"game": 7, "move": "e2e4"}, encrypt=sealed | {"to": home.key(home.bob)})
    client = home.client(home.alice)
    ((message, closed),) = [(each["message"], each["encrypted"]) for each in client.received()]
    assert (message["game"], set(message), closed) == (7, {"game", MEMBER}, CLOSED)
    assert home.visit(home.bob) == [({"game": 7, "move": "e2e4"}, AUTH)]


def test_who_holds_a_shared_key_may_open_by_hand_what_waits_for_another(home):
    home.writer.ask("peerKeyAdd", [SECRET, "table"])
    encrypt = {"to": [home.key(home.bob), {"key": "table"}]}
    home.send("psst", encrypt=encrypt)
    client = home.client(home.alice)
    (event,) = client.received()
    client.ask("peerKeyAdd", [SECRET])
    assert client.ask("peerDecrypt", [event["message"]])["message"] == "psst"
    assert home.visit(home.bob) == [("psst", AUTH)]


@pytest.mark.parametrize("hidden", [False, True])
def test_hidden_recipients_are_waited_for_too(home, hidden):
    home.send("psst", encrypt={"to": home.key(home.bob), "hidden": hidden})
    assert home.visit(home.alice) == home.visit(home.carol) == [CLOSED]
    assert home.visit(home.bob) == [("psst", AUTH)]
    assert home.queued() == 0


# While another user's client is there


def test_what_others_hear_at_once_still_waits_for_the_user_that_can_open_it(home):
    page = home.client(home.alice)
    home.send("psst", home.bob, home.alice)
    assert [seen(event) for event in page.received()] == [("psst", AUTH)]
    (hash,) = [event["hash"] for event in page.received()]
    assert page.ask("peerWhy", [hash])["queued"] is True
    page.close()
    home.net.restart(HOME)
    assert home.visit(home.alice) == []
    assert home.visit(home.bob) == [("psst", AUTH)]
    assert home.queued() == 0


def test_it_does_not_wait_where_all_hear_it_who_can_open_it(home):
    pages = [home.client(user) for user in (home.alice, home.bob, home.bob)]
    home.send("psst", home.bob)
    assert [[seen(event) for event in page.received()] for page in pages] == [
        [CLOSED],
        [("psst", AUTH)],
        [("psst", AUTH)],
    ]
    assert home.queued() == 0


def test_nothing_else_waits_while_somebody_listens(home):
    page = home.client(home.alice)
    home.send("hello")
    home.send("psst", PrivateKey(b"\7" * 32).public_key.hex())
    home.send("psst", home.bob, immediate=False)
    assert [seen(event) for event in page.received()] == [("hello", None), CLOSED, CLOSED]
    assert home.queued() == 0


def test_who_is_there_and_does_not_listen_has_not_heard_it(home):
    home.client(home.alice)
    home.net.client(HOME, home.site, user=home.bob.master_address, trusted=True)
    home.send("psst", home.bob)
    assert home.visit(home.bob) == [("psst", AUTH)]


def test_a_question_waits_for_the_user_whom_it_was_sealed_to(home):
    home.client(home.alice)
    answers = []
    question = {"ip": home.net.nodes[HOME].name, "message": "?", "immediate": True, "timeout": 60}
    home.writer.call("peerSend", {**question, "encrypt": home.key(home.bob)}).addCallback(
        answers.append
    )
    home.net.advance(10)
    page = home.client(home.bob)
    (event,) = page.received()
    assert seen(event) == ("?", AUTH)
    page.call("peerReply", {"hash": event["hash"], "message": "!"})
    home.net.advance(1)
    assert answers[0]["message"] == "!"


def test_users_of_one_node_write_to_each_other(home):
    page = home.client(home.alice)
    call = {"message": "psst", "immediate": True, "encrypt": home.key(home.bob)}
    page.ask("peerBroadcast", call)
    page.close()
    assert home.client(home.alice).events == []
    ((cmd, params),) = home.client(home.bob).events
    assert (cmd, params["ip"], seen(params)) == ("peerReceive", "self", ("psst", AUTH))
    assert home.queued() == 0


# Over restarts


def test_it_waits_over_restarts_and_nobody_gets_it_twice(home):
    home.send("psst", home.bob, home.carol)
    home.net.restart(HOME)
    assert home.visit(home.alice) == [CLOSED]
    assert home.visit(home.carol) == [("psst", AUTH)]
    home.net.restart(HOME)
    assert home.visit(home.alice) == home.visit(home.carol) == []
    assert home.visit(home.bob) == [("psst", AUTH)]
    home.net.restart(HOME)
    assert home.queued() == 0
    assert home.visit(home.bob) == []


def test_a_node_that_is_killed_loses_nothing(home, monkeypatch):
    """What is on disk, at the moment in which a client is written to, leads to no loss."""
    home.send("psst", home.bob, home.alice)
    database = home.net.nodes[HOME].database
    at_push = []
    client_type = type(home.writer)
    push = client_type.push

    def watching(client, head):
        at_push.append([row.shown for row in database.queue_load(home.site)])
        push(client, head)

    monkeypatch.setattr(client_type, "push", watching)
    home.visit(home.alice)
    home.visit(home.bob)
    assert at_push == [[set()], [{home.alice.master_address}]]
    assert home.queued() == 0


def test_a_users_json_under_a_passphrase_is_waited_for(home):
    """The node does not run while its users are locked; what waits is on disk."""
    home.send("psst", home.bob)
    assert home.visit(home.alice) == [CLOSED]
    member = home.net.nodes[HOME]
    path = member.folder / "users.json"
    member.users = Users(path, os.urandom, cost=1024)
    member.users.set_passphrase("correct horse")
    home.net.stop(HOME)
    with pytest.raises(ConfigError, match="passphrase"):
        Users(path, os.urandom)
    member.users = Users(path, os.urandom, "correct horse")
    home.net.restart(HOME)
    assert home.visit(home.alice) == []
    assert home.visit(home.bob) == [("psst", AUTH)]


# Users that come later


def elsewhere(folder):
    """Users of another node."""
    return Users(folder / "others.json", os.urandom)


def test_who_is_imported_later_gets_what_waits(home, tmp_path):
    others = elsewhere(tmp_path)
    dave = others.default
    home.send("psst", dave)
    home.net.nodes[HOME].users.import_users(others.export_users([dave]))
    assert home.visit(home.alice) == [CLOSED]
    assert home.visit(dave) == [("psst", AUTH)]
    assert home.queued() == 0


def test_whoever_is_new_is_shown_what_waits_for_others_once(home):
    home.send("psst", home.bob)
    dave = home.net.nodes[HOME].users.new("dave")
    assert home.visit(dave) == [CLOSED]
    assert home.visit(dave) == []
    assert home.visit(home.bob) == [("psst", AUTH)]


def test_who_is_no_user_any_more_is_not_waited_for(home, tmp_path):
    home.send("psst", home.bob)
    others = elsewhere(tmp_path)
    home.net.nodes[HOME].users = others
    home.net.restart(HOME)
    assert home.visit(others.default) == [CLOSED]
    assert home.queued() == 0


# Bounds


def test_what_waits_for_somebody_falls_out_as_the_rest_does(home):
    home.send("first", home.bob)
    home.send("second", home.bob)
    assert home.visit(home.alice) == [CLOSED] * 2
    for number in range(QUEUE_MESSAGES - 1):
        home.writer.call("peerBroadcast", {"message": number, "immediate": True})
        if number % 500 == 0:
            home.net.advance(0.1)
    home.net.advance(2)
    assert home.queued() == QUEUE_MESSAGES
    shown = home.net.nodes[HOME].database._rows("SELECT user FROM queue_shown")
    assert shown == [(home.alice.master_address,)]
    assert home.visit(home.bob)[:2] == [("second", AUTH), (0, None)]
    assert home.queued() == 0


@pytest.mark.parametrize("hidden", [False, True])
def test_who_looks_at_much_uses_up_nothing_of_what_others_open(home, monkeypatch, hidden):
    secrecy = home.net.nodes[HOME].node.secrecy
    # Alice has a second key here, that of the site.
    monkeypatch.setattr(secrecy, "_kept_tries", secrecy_module.Buckets(20, 0))
    monkeypatch.setattr(secrecy, "_kept_hidden", secrecy_module.Buckets(20, 0))
    for number in range(10):
        home.send(number, encrypt={"to": home.key(home.bob), "hidden": hidden})
    assert home.visit(home.alice) == [CLOSED] * 10
    assert home.visit(home.bob) == [(number, AUTH) for number in range(10)]


@pytest.mark.parametrize("bound", ["_looks", "_looks_hidden"])
def test_what_is_too_much_to_look_at_stays(home, monkeypatch, bound):
    secrecy = home.net.nodes[HOME].node.secrecy
    monkeypatch.setattr(secrecy, bound, secrecy_module.Buckets(2, 0))
    for number in range(5):
        home.send(number, encrypt={"to": home.key(home.bob), "hidden": True})
    home.visit(home.alice)
    assert home.visit(home.bob) == [(number, AUTH) for number in range(5)]


# Who takes it


def test_the_persons_own_connection_takes_nothing(home):
    """Not even when it joins a channel while somebody else's client listens."""
    home.client(home.alice)
    member = home.net.nodes[HOME]
    member.node.delivery.keep(home.site, "00", '{"ip":"x","message":"kept"}')
    page = home.net.client(HOME, home.site, user=home.bob.master_address, trusted=True)
    assert page.ask("channelJoin", "siteChanged") == "ok"
    assert page.events == []
    assert home.queued() == 1


def slow_client(home, user):
    """A client of which nothing leaves before it is unstuck."""
    limits = ClientLimits(message=10**6, unsent=4 * 2**20, clients=10)
    factory = ClientFactory(home.net.clock, home.net.nodes[HOME].node.commands, limits)
    protocol = factory.build(home.site, user.master_address)
    return WebSocketClient(protocol, {"User-Agent": "test"}, stuck=True)


def told(client):
    return [seen(event["params"]) for event in client.messages() if event["cmd"] == "peerReceive"]


def test_two_slow_clients_of_a_user_share_what_waits(home):
    for number in range(12):
        home.send(f"{number:02}" + "x" * 30_000, home.bob)
    assert home.visit(home.alice) == [CLOSED] * 12
    clients = [slow_client(home, home.bob) for _ in range(2)]
    assert home.queued() > 0
    for client in clients:
        while client.wire.unread:
            client.wire.unstick()
            home.net.advance(0.01)
    first, second = ([int(message[:2]) for message, _ in told(client)] for client in clients)
    assert first and second
    assert sorted([*first, *second]) == list(range(12))
    assert home.queued() == 0
