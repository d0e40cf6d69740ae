"""Sealed messages from client to client: who reads them, and who cannot."""

import json
import os

import pytest
from twisted.internet.defer import Deferred

from zeromsg.crypto.cert import Certificate, cert_subject
from zeromsg.crypto.keys import PrivateKey
from zeromsg.crypto.sealed_message import MEMBER, seal_message
from zeromsg.crypto.sealing import Recipient, SharedKey
from zeromsg.crypto.shared_keys import group_key, shared_key
from zeromsg.crypto.signing import sign
from zeromsg.routing import secrecy as secrecy_module

ISSUER = PrivateKey(b"\x51" * 32)
SECRET = "s" * 43 + "="
RULES = {"filter": ".*", "cert_signers": {"zeroid.bit": [ISSUER.address]}}
MOVE = {"game": 7, "move": "e2e4"}


class Three:
    """Alice and Bob, and Carol's node between them, which relays."""

    def __init__(self, network, rules=RULES):
        self.net = network(3)
        self.site = self.net.site(rules)
        self.net.connect(0, 1)
        self.net.connect(1, 2)
        self.net.advance(2)
        self.alice, self.carol, self.bob = (self.net.client(n, self.site) for n in range(3))

    def user(self, number):
        return self.net.nodes[number].users.default

    def address(self, number):
        return self.user(number).auth_address(self.site)

    def certify(self, number, name):
        """Give a user a certificate, and choose it."""
        user, address = self.user(number), self.address(number)
        unsigned = Certificate("web", name, "zeroid.bit", "")
        cert = Certificate("web", name, "zeroid.bit", sign(cert_subject(address, unsigned), ISSUER))
        user.add_certificate(self.site, cert)
        user.set_certificate(self.site, "zeroid.bit")

    def introduce(self, *clients):
        """Let everybody see a signed message of some clients."""
        for client in clients:
            client.ask("peerBroadcast", {"message": "hello", "privatekey": False})
            self.net.advance(1)
        for client in (self.alice, self.carol, self.bob):
            client.events.clear()

    def send(self, client, message, encrypt, **more):
        answer = client.ask("peerBroadcast", {"message": message, "encrypt": encrypt, **more})
        self.net.advance(1)
        return answer

    def seen_by(self, client):
        (event,) = client.received()
        return event["message"], event.get("encrypted")


@pytest.fixture
def three(network):
    return Three(network)


AUTH = {"opened": True, "by": "auth"}
CLOSED = {"opened": False}


@pytest.mark.parametrize("privatekey", [None, False, "stored"])
def test_by_address_the_one_alone_reads_it(three, privatekey):
    three.introduce(three.bob)
    answer = three.send(three.alice, MOVE, three.address(2), privatekey=privatekey)
    assert answer["sent"] is True
    assert three.seen_by(three.bob) == (MOVE, AUTH)
    message, encrypted = three.seen_by(three.carol)
    assert encrypted == CLOSED
    assert list(message) == [MEMBER]
    assert "e2e4" not in json.dumps(three.carol.events)


def test_by_user_id_and_some_fields_only(three):
    three.certify(2, "bob")
    three.introduce(three.bob)
    three.send(three.alice, MOVE, {"to": "bob@zeroid.bit", "fields": ["move"]}, privatekey=False)
    assert three.seen_by(three.bob) == (MOVE, AUTH)
    message, encrypted = three.seen_by(three.carol)
    assert (message["game"], encrypted) == (7, CLOSED)
    assert set(message) == {"game", MEMBER}


def test_who_chose_a_certificate_still_reads_what_went_to_the_address_before(three):
    three.introduce(three.bob)
    before = three.address(2)
    other = three.net.site()
    bob = three.user(2)
    unsigned = Certificate("web", "bob", "zeroid.bit", "")
    signature = sign(cert_subject(bob.auth_address(other), unsigned), ISSUER)
    bob.add_certificate(other, Certificate("web", "bob", "zeroid.bit", signature))
    bob.set_certificate(three.site, "zeroid.bit")
    assert three.address(2) != before
    three.send(three.alice, "old", before)
    three.bob.ask("peerBroadcast", {"message": "hello", "privatekey": False})
    three.net.advance(1)
    three.send(three.alice, "new", three.address(2))
    assert [event["message"] for event in three.bob.received()] == ["old", "new"]


def test_the_owner_of_a_site_reads_what_is_sealed_to_it(three):
    three.send(three.alice, "to the owner", three.net.site_key(three.site).public_key.hex())
    assert three.seen_by(three.bob) == ("to the owner", AUTH)


def test_by_public_key_of_whom_nobody_heard(three):
    for text in (
        three.user(2).auth_key(three.site).public_key.hex(),
        PrivateKey(three.user(2).auth_key(three.site).secret, True).public_key.hex(),
    ):
        three.send(three.alice, "psst", text)
        assert three.seen_by(three.bob) == ("psst", AUTH)
        three.bob.events.clear()


def test_to_several_at_once_each_named_in_its_way(three):
    three.introduce(three.bob)
    key = {"key": SECRET, "name": "table"}
    for client in (three.alice, three.carol):
        assert client.ask("peerKeyAdd", key) == {"name": "table"}
    three.send(three.alice, MOVE, [three.address(2), three.address(0), {"key": "table"}])
    assert three.seen_by(three.bob) == (MOVE, AUTH)
    assert three.seen_by(three.carol) == (MOVE, {"opened": True, "by": "key", "name": "table"})


def test_with_a_passphrase_that_both_sides_typed(three):
    for client in (three.alice, three.bob):
        client.ask("peerKeyAdd", ["correct horse battery", "us"])
    three.send(three.alice, MOVE, {"key": "us", "fields": ["move"]})
    assert three.seen_by(three.bob) == (MOVE, {"opened": True, "by": "key", "name": "us"})
    assert three.seen_by(three.carol)[1] == CLOSED


def test_hidden_recipients_read_it_too(three):
    three.introduce(three.bob)
    three.send(three.alice, MOVE, {"to": [three.address(2)], "hidden": True})
    assert three.seen_by(three.bob) == (MOVE, AUTH)
    assert three.seen_by(three.carol)[1] == CLOSED


def test_the_author_sees_what_it_wrote_and_other_users_of_the_node_do_not(three):
    three.introduce(three.bob)
    second = three.net.client(0, three.site)
    three.send(three.alice, MOVE, three.address(2))
    for client in (three.alice, second):
        assert [(cmd, params["message"], params["encrypted"]) for cmd, params in client.events] == [
            ("peerReceive", MOVE, {"opened": True, "by": "author"}),
            ("peerSend", MOVE, {"opened": True, "by": "author"}),
        ]


def test_replies_are_sealed_and_opened_too(three):
    three.introduce(three.alice, three.bob)
    got = []
    three.alice.call(
        "peerSend",
        {"ip": three.net.nodes[1].name, "message": "?", "encrypt": three.address(2), "timeout": 5},
    ).addCallback(got.append)
    three.net.advance(1)
    (question,) = three.carol.received()
    three.carol.call(
        "peerReply",
        {
            "hash": question["hash"],
            "message": {"answer": 42},
            "encrypt": three.address(0),
            "privatekey": False,
        },
    )
    three.net.advance(1)
    assert got[0]["message"] == {"answer": 42}
    assert got[0]["encrypted"] == AUTH


def test_gathered_replies_are_opened(three):
    three.introduce(three.alice)
    got = []
    three.alice.call(
        "peerBroadcast", {"message": "who?", "broadcast": False, "timeout": 3}
    ).addCallback(got.append)
    three.net.advance(0.5)
    (question,) = three.carol.received()
    three.carol.call(
        "peerReply", {"hash": question["hash"], "message": "me", "encrypt": three.address(0)}
    )
    three.net.advance(4)
    ((reply,),) = got
    assert (reply["reply"], reply["encrypted"]) == ("me", AUTH)


def test_what_waited_for_a_client_is_opened_for_it(three):
    three.introduce(three.bob)
    three.bob.close()
    three.send(three.alice, MOVE, three.address(2), immediate=True)
    three.net.restart(2)
    late = three.net.client(2, three.site)
    assert three.seen_by(late) == (MOVE, AUTH)


def test_history_is_opened_for_who_may_read_it(network):
    three = Three(network, {**RULES, "history": {"count": 10}})
    three.introduce(three.bob)
    three.send(three.alice, MOVE, three.address(2))
    last = three.bob.ask("peerHistory")[-1]
    assert (last["message"], last["encrypted"]) == (MOVE, AUTH)
    assert three.carol.ask("peerHistory")[-1]["encrypted"] == CLOSED


# Keys of a connection.


def test_keys_belong_to_their_connection_and_go_with_it(three):
    second = three.net.client(2, three.site)
    three.bob.ask("peerKeyAdd", [SECRET, "table"])
    three.alice.ask("peerKeyAdd", [SECRET])
    assert three.alice.ask("peerKeyList") == ["key1"]
    assert second.ask("peerKeyList") == []
    three.send(three.alice, "x", {"key": "key1"})
    assert three.seen_by(three.bob)[0] == "x"
    assert three.seen_by(second)[1] == CLOSED
    three.bob.close()
    again = three.net.client(2, three.site)
    assert again.ask("peerKeyList") == []
    three.send(three.alice, "y", {"key": "key1"})
    assert three.seen_by(again)[1] == CLOSED


def test_a_key_without_a_name_takes_no_others_place(three):
    three.alice.ask("peerKeyAdd", [SECRET, "key1"])
    assert three.alice.ask("peerKeyAdd", ["a" * 64]) == {"name": "key2"}
    assert three.alice.ask("peerKeyList") == ["key1", "key2"]


def test_a_removed_key_reads_nothing_more(three):
    three.bob.ask("peerKeyAdd", [SECRET, "table"])
    assert three.bob.ask("peerKeyRemove", ["table"]) == "ok"
    assert three.bob.ask("peerKeyList") == []
    assert three.bob.ask("peerKeyRemove", ["table"])["error"].startswith("invalid: ")
    three.alice.ask("peerKeyAdd", [SECRET, "table"])
    three.send(three.alice, "x", {"key": "table"})
    assert three.seen_by(three.bob)[1] == CLOSED


def test_a_client_may_do_without_opening(three):
    three.introduce(three.bob)
    assert three.bob.ask("peerDecryptMode", ["off"]) == "ok"
    three.send(three.alice, MOVE, three.address(2))
    message, encrypted = three.seen_by(three.bob)
    assert encrypted == CLOSED
    # By hand it is opened all the same.
    opened = three.bob.ask("peerDecrypt", [message])
    assert opened == {"message": MOVE, "from": "", "by": "auth"}
    three.bob.events.clear()
    assert three.bob.ask("peerDecryptMode", ["auto"]) == "ok"
    three.send(three.alice, MOVE, three.address(2))
    assert three.seen_by(three.bob) == (MOVE, AUTH)


def test_the_number_of_keys_is_bounded(three, monkeypatch):
    monkeypatch.setattr(secrecy_module, "SITE_KEYS_LIMIT", 20)
    for number in range(secrecy_module.KEYS_LIMIT):
        assert "name" in three.alice.ask("peerKeyAdd", [SECRET, f"k{number}"])
    assert three.alice.ask("peerKeyAdd", [SECRET])["error"].startswith("too-big: a connection")
    # One of a name that is there already takes its place.
    assert three.alice.ask("peerKeyAdd", [SECRET, "k1"]) == {"name": "k1"}
    second = three.net.client(0, three.site)
    for _ in range(4):
        assert "name" in second.ask("peerKeyAdd", [SECRET])
    assert second.ask("peerKeyAdd", [SECRET])["error"].startswith("too-big: a site")
    three.alice.close()
    assert "name" in second.ask("peerKeyAdd", [SECRET])


@pytest.mark.parametrize(
    "params",
    [["short"], ["x" * 1025], [7], [None], [], [SECRET, ""], [SECRET, "x" * 65], [SECRET, 7]],
)
def test_bad_keys_are_refused(three, params):
    assert three.alice.ask("peerKeyAdd", params)["error"].startswith("invalid: ")
    assert three.alice.ask("peerKeyList") == []


def test_passphrases_are_stretched_one_after_the_other_and_not_too_many(three):
    waiting = []

    def slowly(work):
        waiting.append(Deferred())
        return waiting[-1].addCallback(lambda _: work())

    three.net.nodes[0].node.secrecy._heavy = slowly
    answers = []
    for _ in range(secrecy_module.STRETCHING_LIMIT + 2):
        three.alice.call("peerKeyAdd", ["correct horse battery"]).addCallback(answers.append)
    assert len(waiting) == 1
    assert [answer["error"] for answer in answers] == ["too-fast: too many passphrases wait"]
    waiting[0].callback(None)
    assert answers[1:] == [{"name": "key1"}]
    assert len(waiting) == 2


def test_clients_that_come_and_go_begin_no_further_stretching(three):
    begun = []

    def slowly(work):
        begun.append(Deferred())
        return begun[-1].addCallback(lambda _: work())

    three.net.nodes[0].node.secrecy._heavy = slowly
    for _ in range(5):
        passing = three.net.client(0, three.site)
        for _ in range(3):
            passing.call("peerKeyAdd", ["correct horse battery"])
        passing.close()
    answers = []
    three.alice.call("peerKeyAdd", ["correct horse battery"]).addCallback(answers.append)
    assert len(begun) == 1
    begun[0].callback(None)
    assert len(begun) == 2
    begun[1].callback(None)
    assert answers == [{"name": "key1"}]


def test_a_key_for_a_connection_that_is_gone_is_not_kept(three):
    waiting = Deferred()
    secrecy = three.net.nodes[0].node.secrecy
    secrecy._heavy = lambda work: waiting.addCallback(lambda _: work())
    three.alice.call("peerKeyAdd", ["correct horse battery"])
    three.alice.close()
    waiting.callback(None)
    assert not secrecy._connections
    assert not secrecy._site_keys


# By hand.


def test_opening_by_hand_takes_keys_as_text(three):
    wif = PrivateKey(b"\5" * 32).wif
    public = PrivateKey(b"\5" * 32).public_key.hex()
    three.alice.ask("peerKeyAdd", [SECRET, "table"])
    three.send(three.alice, MOVE, {"to": [public, {"key": "table"}], "fields": ["move"]})
    message, _ = three.seen_by(three.bob)
    for keys in ([wif], [SECRET], ["wrong passphrase", wif]):
        opened = three.bob.ask("peerDecrypt", {"encrypted": message, "keys": keys})
        assert opened == {"message": MOVE, "from": "", "by": "key"}
    assert "error" in three.bob.ask("peerDecrypt", {"encrypted": message, "keys": []})


def test_the_sealed_part_alone_will_do_where_nothing_stands_beside_it(three):
    three.introduce(three.bob)
    three.send(three.alice, "all of it", three.address(2), privatekey=False)
    message, _ = three.seen_by(three.carol)
    opened = three.bob.ask("peerDecrypt", [message[MEMBER]])
    assert opened == {"message": "all of it", "from": three.address(0), "by": "auth"}


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ([None], "invalid"),
        ([{}], "invalid"),
        (["text"], "invalid"),
        ([{MEMBER: {"v": 9}}], "invalid"),
        ([{}, "no list"], "invalid"),
        ([{}, [7]], "invalid"),
        ([{}, [SECRET] * 17], "invalid"),
    ],
)
def test_what_is_nothing_sealed_is_refused(three, params, code):
    assert three.bob.ask("peerDecrypt", params)["error"].startswith(f"{code}: ")


# Who is meant.


def test_a_user_id_that_showed_two_keys_is_told_and_names_nobody(three):
    three.certify(2, "bob")
    three.certify(1, "bob")
    three.introduce(three.bob)
    three.carol.ask("peerBroadcast", {"message": "I am bob", "privatekey": False})
    three.net.advance(1)
    (event,) = three.alice.received()
    assert event["user"] == {
        "address": three.address(1),
        "id": "bob@zeroid.bit",
        "provider": "zeroid.bit",
        "other_addresses": [three.address(2)],
    }
    refused = three.send(three.alice, MOVE, "bob@zeroid.bit")
    assert refused["error"].startswith("denied: bob@zeroid.bit has shown several keys")
    assert three.address(2) in refused["error"]
    # By address it is plain who is meant.
    three.bob.events.clear()
    three.send(three.alice, MOVE, three.address(2))
    assert three.seen_by(three.bob) == (MOVE, AUTH)


def test_replies_and_own_messages_tell_of_two_keys_too(three):
    three.certify(2, "bob")
    three.certify(1, "bob")
    three.introduce(three.bob, three.carol)
    told = {"id": "bob@zeroid.bit", "provider": "zeroid.bit"}
    carol = {"address": three.address(1), **told, "other_addresses": [three.address(2)]}
    bob = {"address": three.address(2), **told, "other_addresses": [three.address(1)]}
    replies = []
    for cmd, params in (
        ("peerSend", {"ip": three.net.nodes[1].name}),
        ("peerBroadcast", {"broadcast": False}),
    ):
        three.alice.call(cmd, {"message": "who?", "timeout": 5, **params}).addCallback(
            replies.append
        )
        three.net.advance(1)
        three.carol.call(
            "peerReply",
            {
                "hash": three.carol.received()[-1]["hash"],
                "message": "bob",
                "privatekey": False,
                "encrypt": PrivateKey(b"\6" * 32).public_key.hex(),
            },
        )
        three.net.advance(1)
    three.net.advance(5)
    one, gathered = replies
    users = [entry["user"] for entry in (one, *gathered) if "user" in entry]
    assert users == [carol, carol]
    three.bob.events.clear()
    three.bob.ask("peerBroadcast", {"message": "it is me", "privatekey": False})
    assert [params["user"] for _, params in three.bob.events] == [bob, bob]


def test_no_other_site_finds_out_who_its_user_is_here(three):
    three.certify(0, "alice")
    page = three.net.client(0, three.net.site(RULES))
    for named in ("alice@zeroid.bit", three.address(0)):
        call = {"message": "x", "encrypt": named}
        answer = page.ask("as", [three.site, "peerBroadcast", call])
        assert answer == {"error": f"invalid: no signed message of {named} was seen on this site"}


def test_what_was_learnt_outlives_a_restart(three):
    three.certify(2, "bob")
    three.introduce(three.bob)
    three.net.restart(0)
    three.net.connect(0, 1)
    three.net.advance(2)
    alice = three.net.client(0, three.site)
    three.send(alice, MOVE, "bob@zeroid.bit")
    assert three.seen_by(three.bob) == (MOVE, AUTH)


def test_one_may_seal_to_oneself(three):
    three.certify(0, "alice")
    second = three.net.client(0, three.site)
    for named in (three.address(0), "alice@zeroid.bit"):
        assert "error" not in three.send(second, "note", named)


@pytest.mark.parametrize(
    ("encrypt", "sentence"),
    [
        ("nobody@zeroid.bit", "no signed message of nobody@zeroid.bit was seen"),
        (PrivateKey(b"\6" * 32).address, "was seen on this site"),
        ("not an address", "is no public key, address or user ID"),
        ("", "is no public key, address or user ID"),
        ("02" + "ff" * 32, "is no point of the curve"),
        (7, "a recipient is a text"),
        (True, "a recipient is a text"),
        ([], "names no recipient"),
        ({}, "names no recipient"),
        (["02" * 33] * 129, "names no recipient, or over 128"),
        ({"key": "none"}, "this connection has no key none"),
        ({"key": 7}, "a recipient is a text"),
        ({"to": {"key": "none"}}, "this connection has no key none"),
        ({"to": [None]}, "a recipient is a text"),
        ({"two": "x"}, "encrypt has no option two"),
        ({"to": "02" * 33, "hidden": 1}, "encrypt.hidden must be true or false"),
        ({"to": "02" * 33, "fields": "move"}, "encrypt.fields must be a list"),
        ({"to": "02" * 33, "fields": ["x"]}, "fields must name members"),
        ({"to": "02" * 33, "fields": []}, "fields must name members"),
    ],
)
def test_recipients_that_cannot_be_found_are_named(three, encrypt, sentence):
    answer = three.send(three.alice, MOVE, encrypt)
    assert answer["error"].startswith("invalid: ")
    assert sentence in answer["error"]
    assert three.bob.received() == []


def test_sealed_messages_keep_to_the_sites_rules(network):
    three = Three(network, {**RULES, "size_limit": 100})
    three.introduce(three.bob)
    answer = three.send(three.alice, "x", three.address(2))
    assert answer["error"].startswith("too-big: ")


def test_a_passphrase_serves_on_its_own_site_only(three):
    other = three.net.site()
    three.alice.ask("peerKeyAdd", ["correct horse battery", "us"])
    three.alice.ask("peerKeyAdd", [SECRET, "table"])
    call = {"message": "x", "encrypt": {"key": "us"}}
    refused = three.alice.ask("as", [other, "peerBroadcast", call])
    assert refused["error"] == "invalid: a passphrase gives a key of this site only"
    call["encrypt"] = {"key": "table"}
    assert "error" not in three.alice.ask("as", [other, "peerBroadcast", call])


# Strangers.


def sealed_to_bob(three, message="hi", sender="", readers=None, **more):
    public = three.user(2).auth_key(three.site).public_key
    return seal_message(
        message,
        None,
        readers or [Recipient.of(public)],
        site=three.site,
        sender=sender,
        entropy=os.urandom,
        **more,
    )


@pytest.fixture
def outsider(three, stranger):
    peer = stranger(three.net, 2, host="203.0.113.5")
    peer.nonce = 0

    def send(message, **more):
        peer.nonce += 1
        return peer.ask(
            "peerBroadcast", peer.envelope(three.site, message, nonce=str(peer.nonce), **more)
        )

    return send


def test_a_sealed_part_that_somebody_found_is_not_opened_again(three, outsider):
    sealed = sealed_to_bob(three)
    outsider(sealed)
    assert three.seen_by(three.bob) == ("hi", AUTH)
    three.bob.events.clear()
    outsider(sealed)
    assert three.seen_by(three.bob)[1] == CLOSED
    assert three.net.nodes[2].node.status()["sealed"] == {
        "opened": 1,
        "tried": 2,
        "over_limit": 0,
        "replayed": 1,
    }


def test_what_another_signed_does_not_pass_for_the_finders(three, outsider):
    thief = PrivateKey(b"\x44" * 32)
    author = PrivateKey(b"\x45" * 32)
    sealed = sealed_to_bob(three, sender=author.address)
    outsider(sealed, key=thief)
    outsider(sealed)
    assert [event["encrypted"] for event in three.bob.received()] == [CLOSED, CLOSED]
    three.bob.events.clear()
    outsider(sealed, key=author)
    assert three.seen_by(three.bob) == ("hi", AUTH)


def test_garbage_costs_no_decryption(three, outsider):
    three.bob.ask("peerKeyAdd", [SECRET])
    for number in range(50):
        outsider(sealed_to_bob(three, readers=[SharedKey(bytes([number]) * 32)]))
    assert len(three.bob.received()) == 50
    assert three.net.nodes[2].node.secrecy.counts.tried == 0


def test_what_claims_to_be_for_us_is_tried_within_a_limit(three, outsider, monkeypatch):
    monkeypatch.setattr(three.net.nodes[2].node.secrecy, "_tries", secrecy_module.Buckets(5, 1))
    for _ in range(9):
        sealed = sealed_to_bob(three)
        sealed[MEMBER]["body"] = "A" * 88
        outsider(sealed)
    counts = three.net.nodes[2].node.secrecy.counts
    # Two more have come back while the nine were sent.
    assert (counts.opened, counts.tried, counts.over_limit) == (0, 7, 2)
    three.net.advance(5)
    three.bob.events.clear()
    outsider(sealed_to_bob(three))
    assert three.seen_by(three.bob) == ("hi", AUTH)


def test_hidden_garbage_is_looked_at_within_a_limit(three, outsider, monkeypatch):
    monkeypatch.setattr(three.net.nodes[2].node.secrecy, "_hidden", secrecy_module.Buckets(3, 0))
    other = Recipient.of(PrivateKey(b"\7" * 32).public_key)
    for _ in range(5):
        outsider(sealed_to_bob(three, readers=[other], hidden=True))
    counts = three.net.nodes[2].node.secrecy.counts
    # Each is looked at with the user's key and the site's, which this node has.
    assert (counts.tried, counts.over_limit) == (0, 7)


@pytest.mark.parametrize(
    "message",
    [
        {MEMBER: {}},
        {MEMBER: {"v": 1}},
        {MEMBER: "text"},
        {"deep": {MEMBER: {"v": 1}}},
        {MEMBER: {"v": 1, "key": "x" * 1000, "to": [], "body": ""}},
    ],
)
def test_a_member_of_that_name_may_be_anything_else(three, outsider, message):
    outsider(message)
    assert three.seen_by(three.bob) == (message, None)


# Groups.


@pytest.fixture
def club(network):
    """A site whose group has the secret; Alice and Bob know it, Carol's node does not."""
    site_key = SharedKey(b"g" * 32)
    three = Three(network, {"filter": ".*"})
    public = group_key(site_key, three.site).public_key.hex()
    three.net.set_rules(three.site, {"filter": ".*", "signed_only": {"group": public}})
    secret = (b"g" * 32).hex()
    for client in (three.alice, three.bob):
        client.ask("peerKeyAdd", [secret, "club"])
    return three


def test_members_of_a_group_write_and_relays_let_them_pass(club):
    answer = club.alice.ask("peerBroadcast", {"message": "x", "privatekey": False})
    assert answer["sent"] is True
    club.send(club.alice, MOVE, {"key": "club"})
    assert [event["message"] for event in club.bob.received()] == ["x", MOVE]
    first, second = club.carol.received()
    assert (first["message"], first["signed_by"]) == ("x", club.address(0))
    assert second["encrypted"] == CLOSED


def test_who_lacks_the_groups_key_is_told(club):
    answer = club.carol.ask("peerBroadcast", {"message": "x", "privatekey": False})
    assert answer == {"error": "unsigned: Not signed with the key of the group"}


def test_garbage_of_outsiders_dies_at_the_first_hop(club, stranger):
    peer = stranger(club.net, 1, host="203.0.113.5")
    good = []
    club.alice.ask("peerBroadcast", {"message": "x"})
    club.net.advance(1)
    for cmd, params in peer.requests:
        if cmd == "peerBroadcast":
            good.append(params)
    for number in range(10):
        answer = peer.ask("peerBroadcast", peer.envelope(club.site, "garbage", nonce=str(number)))
        # A ZeroNet node, as this one seems to be, cannot know, and is not blamed.
        assert answer == {"warning": "Not signed with the key of the group"}
    # Nor does a member's message pass under another number.
    for params in good:
        answer = peer.ask("peerBroadcast", {**params, "nonce": "77"})
        assert answer == {"warning": "Not signed with the key of the group"}
    assert [event["message"] for event in club.bob.received()] == ["x"]
    assert club.net.nodes[1].node.inbound.counters.refused["group"] >= 10
    assert club.net.nodes[2].node.inbound.counters.refused == {}
    assert club.net.nodes[2].node.secrecy.counts.tried == 0


# What a node says of its own users.


def test_a_certificate_that_nobody_vouched_for_is_shown_to_nobody(three):
    """Pages add certificates unasked: one could call itself bob on its own node."""
    assert three.alice.ask("certAdd", ["zeroid.bit", "web", "bob", "bm9uZQ=="]) == "ok"
    three.alice.events.clear()
    answer = three.alice.ask("peerBroadcast", {"message": "I am bob", "privatekey": False})
    assert answer == {"error": "invalid: Invalid signature certificate"}
    three.net.advance(1)
    assert three.alice.events == three.carol.events == []
    assert three.net.nodes[0].node.signers.users(three.site) == []
    assert three.alice.ask("peerBroadcast", {"message": "unsigned"})["sent"] is True


def test_a_page_does_not_read_what_was_written_to_its_user_on_another_site(three):
    """It could have a friend hand it what was sealed there, as a reply to a question under `as`."""
    three.certify(2, "bob")
    page = three.net.client(2, three.net.site(RULES))
    three.net.advance(2)
    # The certificate's key is the same everywhere.
    three.user(2).set_certificate(page.site, "zeroid.bit")
    page.ask("peerKeyAdd", [SECRET, "table"])
    table = shared_key(SECRET, three.site)
    replies = []
    for sealed in (sealed_to_bob(three), sealed_to_bob(three, readers=[table])):
        page.call(
            "as", [three.site, "peerSend", {"ip": three.net.nodes[1].name, "message": "?"}]
        ).addCallback(replies.append)
        three.net.advance(1)
        question = three.carol.received()[-1]
        three.carol.call("peerReply", {"hash": question["hash"], "message": sealed})
        three.net.advance(1)
    theirs, ours = replies
    assert theirs["encrypted"] == CLOSED
    # What the page itself holds a key of, it may read.
    assert ours["message"] == "hi"


@pytest.mark.parametrize("hidden", [False, True])
def test_all_that_was_kept_is_opened_however_much_it_is(network, monkeypatch, hidden):
    three = Three(network, {**RULES, "history": {"count": 1000}})
    three.introduce(three.bob)
    three.bob.close()
    monkeypatch.setattr(three.net.nodes[2].node.secrecy, "_tries", secrecy_module.Buckets(5, 0))
    monkeypatch.setattr(three.net.nodes[2].node.secrecy, "_hidden", secrecy_module.Buckets(5, 0))
    encrypt = {"to": three.address(2), "hidden": hidden}
    for number in range(20):
        three.alice.ask("peerBroadcast", {"message": number, "encrypt": encrypt, "immediate": True})
    three.net.advance(2)
    late = three.net.client(2, three.site)
    assert late.messages == list(range(20))
    assert [event["message"] for event in late.ask("peerHistory")[-20:]] == list(range(20))
    # New messages have lost nothing by it.
    late.events.clear()
    three.send(three.alice, "new", encrypt)
    assert three.seen_by(late) == ("new", AUTH)


def test_nobody_can_sign_what_another_sent_unsigned(club, stranger):
    """Not even an outsider a member's message, whose group's signature would carry the claim."""
    spy = stranger(club.net, 0, host="203.0.113.5")
    club.alice.ask("peerBroadcast", {"message": "x"})
    club.net.advance(1)
    ((_, sent),) = [each for each in spy.requests if each[0] == "peerBroadcast"]
    thief = PrivateKey(b"\x44" * 32)
    text = f"{thief.address}|{spy.hash(sent)}|{sent['raw']}"
    signed = {**sent, "signature": f"{thief.address}|{sign(text, thief)}"}
    near = stranger(club.net, 1, host="203.0.113.6")
    assert near.ask("peerBroadcast", signed) == {"warning": "Invalid signature"}
    assert [event["signed_by"] for event in club.bob.received()] == [""]
