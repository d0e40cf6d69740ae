"""A whole node: what its parts make together, and what survives a restart."""

import json
import random
from collections.abc import Mapping

import pytest
from twisted.internet.defer import fail, succeed
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.task import Clock

from zeromsg import __version__
from zeromsg.errors import CannotStore, ConfigError
from zeromsg.policy.seen import Met
from zeromsg.service.config import PeerSettings, Settings, SiteSettings, UiSettings
from zeromsg.service.node import Edges, Node
from zeromsg.service.peer_report import report
from zeromsg.service.site_making import new_site, sign_site
from zeromsg.store.database import Database
from zeromsg.store.users import Users
from zeromsg.testing import MemoryClient, Network
from zeromsg.wire.values import PeerAddress

NOW = 1_800_000_000.0


class Stand:
    """What a node stands on, kept over its restarts."""

    def __init__(self, folder):
        self.folder = folder
        self.clock = Clock()
        self.random = random.Random(5)
        self.dialled = []
        self.database = Database(folder / "zeromsg.sqlite3")
        self.users = Users(folder / "users.json", self.random.randbytes)

    def wall(self):
        return NOW + self.clock.seconds()

    def node(self, sites=(), load=True, **settings):
        edges = Edges(
            clock=self.clock,
            wall=self.wall,
            rng=random.Random(1),
            entropy=self.random.randbytes,
            connector=self._connector,
            heavy=lambda work: succeed(work()),
        )
        values = Settings(data_dir=self.folder, sites=tuple(sites), **settings)
        node = Node(values, edges, self.database, self.users)
        if load:
            node.load()
            node.start()
        return node

    def _connector(self, address):
        self.dialled.append(address)

        class Endpoint:
            def connect(self, factory):
                return fail(ConnectionRefusedError())

        return Endpoint()

    def site(self, name="site", rules=None):
        """A site's directory and settings."""
        folder = self.folder / name
        folder.mkdir()
        if rules is not None:
            (folder / "p2p.json").write_text(rules)
        key = new_site(folder, f"Title of {name}", self.random.randbytes, self.wall)
        return SiteSettings(address=key.address, path=folder), key

    def run(self, seconds):
        for _ in range(int(seconds)):
            self.clock.advance(1)


@pytest.fixture
def stand(tmp_path):
    made = Stand(tmp_path)
    yield made
    made.database.close()


def client(node, site):
    made = MemoryClient(node, site, None)
    node.commands.client_opened(made)
    return made


# Starting and stopping


def test_a_node_holds_the_sites_of_its_settings(stand):
    own, _ = stand.site()
    joined = SiteSettings(address="1" + "e" * 30)
    node = stand.node([own, joined])
    assert node.sites.addresses() == [own.address, joined.address]
    assert node.title(own.address) == "Title of site"
    # Without a content.json there is no title.
    assert node.title(joined.address) == joined.address
    assert node.title("nobody's") == "nobody's"
    assert client(node, own.address).ask("siteInfo")["settings"]["own"] is True


def test_a_site_that_cannot_be_served_stops_the_start(stand):
    with pytest.raises(ConfigError, match="zeromsg site new"):
        stand.node([SiteSettings(address="1" + "e" * 30, path=stand.folder / "none")])


def test_configured_peers_are_dialled(stand):
    peer = PeerAddress("203.0.113.9", 7)
    stand.node(peers=PeerSettings(connect=(peer,)))
    assert stand.dialled == [peer]
    stand.run(10)
    assert stand.dialled.count(peer) > 2


def test_a_configured_onion_is_shown_though_it_was_not_reached(stand):
    own, _ = stand.site()
    onion = PeerAddress("vww6ybal4bd7szmgncyruucpgfkqahzddi37ktceo3ah7ngmcopnpyyd.onion", 26552)
    node = stand.node([own], peers=PeerSettings(connect=(onion,)))
    (entry,) = report(node, [own.address], NOW)
    assert (entry["peer"], entry["connected"]) == (str(onion), False)
    assert list(entry["sources"]) == ["configured"]


def test_a_stopped_node_leaves_no_timer(stand):
    own, _ = stand.site()
    node = stand.node([own], peers=PeerSettings(connect=(PeerAddress("203.0.113.9", 7),)))
    stand.run(5)
    client(node, own.address).call("peerBroadcast", {"message": 1, "broadcast": False})
    node.stop()
    stand.run(200)
    assert stand.clock.getDelayedCalls() == []


def test_a_node_may_be_stopped_before_it_was_started(stand):
    stand.node(load=False).stop()


def test_ids_of_nodes_are_new_at_each_start(stand):
    first, second = stand.node(), stand.node()
    assert first.peer_id != second.peer_id
    for node in (first, second):
        assert node.peer_id.startswith("-UT3530-") and len(node.peer_id) == 20
        assert node.peer_id[8:].isalnum() and node.peer_id.isascii()


# What survives


def test_keys_of_sites_stay_the_same(stand):
    own, _ = stand.site()
    other, _ = stand.site("other")
    node = stand.node([own, other])
    keys = [node.key_of(own.address), node.key_of(other.address)]
    assert len(set(keys)) == 2
    assert all(len(key) == 64 and int(key, 16) >= 0 for key in keys)
    node.stop()
    again = stand.node([other, own])
    assert [again.key_of(own.address), again.key_of(other.address)] == keys


def test_a_key_opens_its_own_site_only(stand):
    own, _ = stand.site()
    other, _ = stand.site("other")
    node = stand.node([own, other])
    key = node.key_of(own.address)
    assert node.opens(key) == (own.address, "")
    assert node.opens(node.key_of(other.address)) == (other.address, "")
    for wrong in ("", "0" * 64, key[:-1], key + "0", key.upper() + " ", "é", "\ud7ff", own.address):
        assert node.opens(wrong) is None
    assert node.key_of("1" + "e" * 30) is None


def test_each_user_has_a_key_of_a_site(stand):
    own, _ = stand.site()
    other, _ = stand.site("other")
    node = stand.node([own, other])
    bob = node.users.new("bob").master_address
    default = node.key_of(own.address)
    key = node.key_of(own.address, bob)
    assert len({default, key, node.key_of(other.address, bob)}) == 3
    assert node.key_of(own.address, bob) == key
    assert node.key_of(own.address) == default
    assert node.opens(key) == (own.address, bob)
    assert node.key_of(own.address, "1nobody") is None
    assert node.key_of("1" + "e" * 30, bob) is None
    node.stop()
    # Before any page was fetched: programs keep their key.
    again = stand.node([own, other])
    assert again.opens(key) == (own.address, bob)
    assert again.key_of(own.address) == default


def test_what_connections_call_a_user(stand):
    node = stand.node()
    bob = node.users.new("bob").master_address
    assert node.user_of(bob) == bob
    assert node.user_of(node.users.default.master_address) == ""
    for unknown in ("", "bob", bob[:-1], "1nobody"):
        assert node.user_of(unknown) is None


def test_a_key_of_a_user_who_is_gone_opens_nothing(stand):
    own, _ = stand.site()
    node = stand.node([own])
    bob = node.users.new("bob").master_address
    key = node.key_of(own.address, bob)
    node.stop()
    path = stand.folder / "users.json"
    document = json.loads(path.read_text())
    del document[bob]
    path.write_text(json.dumps(document))
    stand.users = Users(path, stand.random.randbytes)
    assert stand.node([own]).opens(key) is None


def test_a_site_that_is_gone_has_no_key_any_more(stand):
    own, _ = stand.site()
    node = stand.node([own])
    key = node.key_of(own.address)
    node.stop()
    assert stand.node().opens(key) is None


def test_hashes_are_on_disk_within_a_second_and_at_the_stop(stand):
    own, _ = stand.site()
    node = stand.node([own])
    sender = client(node, own.address)
    sender.call("peerBroadcast", {"message": 1})
    stand.run(1)
    assert len(list(stand.database.seen_since(0))) == 1
    sender.call("peerBroadcast", {"message": 2})
    node.stop()
    assert len(list(stand.database.seen_since(0))) == 2
    again = stand.node([own])
    assert len(again.seen) == 2
    again.stop()
    assert len(list(stand.database.seen_since(0))) == 2, "nothing is written twice"


def test_hashes_of_the_day_before_yesterday_are_not_read(stand):
    own, _ = stand.site()
    node = stand.node([own])
    client(node, own.address).call("peerBroadcast", {"message": 1})
    node.stop()
    stand.clock.advance(25 * 3600)
    assert len(stand.node([own]).seen) == 0


# A site signed anew


def test_a_new_version_counts_within_seconds_and_clients_are_told(stand):
    own, key = stand.site()
    node = stand.node([own])
    page, quiet = client(node, own.address), client(node, own.address)
    page.ask("channelJoin", "siteChanged")
    (own.path / "p2p.json").write_text('{"filter": "^1$"}')
    sign_site(own.path, key, lambda: stand.wall() + 60)
    stand.run(3)
    assert page.ask("peerBroadcast", ["x"])["error"].startswith("invalid: ")
    (info,) = [params for cmd, params in page.events if cmd == "setSiteInfo"]
    assert info["settings"]["modified"] == int(stand.wall() + 60 - 3)
    assert quiet.events == []
    stand.run(10)
    assert len(page.events) == 1


# What the web pages and the operator ask


def test_hosts_that_pages_may_be_asked_under(stand):
    node = stand.node(ui=UiSettings(hosts=("node.example",)))
    node.ui = ("127.0.0.1", 43110)
    assert node.host_allowed("127.0.0.1:43110") and node.host_allowed("localhost:43110")
    assert node.host_allowed("node.example") and not node.host_allowed("evil.example")
    assert not node.host_allowed("localhost:43111")


@pytest.mark.parametrize("title", ["", None, 5, ["x"]])
def test_a_title_that_is_none(stand, title):
    own, _ = stand.site()
    node = stand.node([own])
    node.sites.get(own.address)._held["content.json"] = {"title": title}
    assert node.title(own.address) == own.address


def test_the_status_of_a_node_alone(stand):
    own, _ = stand.site()
    silent, _ = stand.site("silent", '{"filter": ".*", "freq_limit": 1}')
    joined = SiteSettings(address="1" + "e" * 30)
    node = stand.node([own, silent, joined])
    client(node, own.address)
    client(node, silent.address).call(
        "as", [own.address, "peerBroadcast", {"message": 1, "immediate": True}]
    )
    status = node.status()
    assert status["version"] == __version__ and status["peer_id"] == node.peer_id
    first, second, third = status["sites"]
    assert first["address"] == own.address and first["title"] == "Title of site"
    assert (first["own"], first["complete"], first["takes_messages"]) == (True, True, True)
    assert (first["clients"], first["peers"], first["queued"]) == (1, 0, 0)
    assert second["problem"] == ""
    assert (third["complete"], third["takes_messages"]) == (False, False)
    assert third["problem"] == "the site's content.json is not here yet"
    assert status["links"] == [] and status["clients"] == 2
    assert status["messages"]["received"] == 0


def test_the_status_counts_what_happens():
    with Network(nodes=2, seed=1) as net:
        site = net.site({"filter": "^1$"})
        net.connect_all()
        sender = net.client(0, site)
        sender.call("peerBroadcast", {"message": 1, "immediate": True})
        sender.call("peerSend", [net.nodes[1].name, 1])
        net.advance(1)
        first, second = (member.node.status() for member in net.nodes)
        assert second["messages"]["received"] == second["messages"]["accepted"] == 2
        assert second["sites"][0]["queued"] == 1
        assert first["messages"]["waiting_for_reply"] == 1
        ((link,),) = [first["links"]]
        assert (link["peer"], link["encrypted"], link["zeromsg"]) == (
            net.nodes[1].name,
            False,
            True,
        )
        assert first["sites"][0]["peers"] == 1 and first["seen"] == 2
        assert isinstance(first, Mapping)


def test_the_status_holds_no_secret():
    with Network(nodes=2, seed=1) as net:
        site = net.site()
        net.connect_all()
        member = net.nodes[0]
        told = repr(member.node.status())
        for secret in (
            member.node.key_of(site),
            net.site_key(site).wif,
            member.users.default.master_seed,
        ):
            assert secret not in told


def test_what_a_node_says_of_itself(stand):
    node = stand.node()
    ours = node._handshake(PeerAddress("203.0.113.9", 7), "")
    assert ours.target_ip == "203.0.113.9"
    # Without a listener the port is closed; with one we do not know.
    assert (ours.fileserver_port, ours.port_opened) == (0, False)
    node.peer_port = 26552
    ours = node._handshake(PeerAddress("203.0.113.9", 7), "")
    assert (ours.fileserver_port, ours.port_opened) == (26552, None)
    assert ours.crypt_supported == ()
    assert ours.time == int(stand.wall())


# A disk that is full


@pytest.fixture
def full(stand, monkeypatch):
    """Whether the disk is full: true in `full[0]`."""
    state = [False]
    whole = Database._transaction

    def transaction(self):
        if state[0]:
            raise CannotStore("the disk is full")
        return whole(self)

    monkeypatch.setattr(Database, "_transaction", transaction)
    return state


def test_a_disk_that_was_full_for_a_moment_ends_nothing(stand, full):
    node = stand.node()
    full[0] = True
    for second in range(3):
        node.seen.add(bytes([second]) * 32, Met.SIGNED, stand.wall())
        stand.run(1)
    assert node.status()["storage"]["problem"] == "the disk is full"
    assert list(stand.database.seen_since(0)) == []
    full[0] = False
    node.seen.add(b"z" * 32, Met.SIGNED, stand.wall())
    stand.run(2)
    assert node.status()["storage"] == {"problem": "", "waiting": 0}
    assert len(list(stand.database.seen_since(0))) == 4


def test_a_node_that_stops_on_a_full_disk_does_stop(stand, full):
    node = stand.node()
    node.seen.add(b"z" * 32, Met.SIGNED, stand.wall())
    full[0] = True
    node.stop()
    assert stand.clock.getDelayedCalls() == []
