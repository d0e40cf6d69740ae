"""Whole nodes behind onions, in memory: what they tell whom, and whom they believe."""

from typing import Any

import pytest
from twisted.python.failure import Failure

from zeromsg.crypto.onion import proven_onion
from zeromsg.errors import NotTried, Unreachable
from zeromsg.policy.faces import is_pseudonym
from zeromsg.service.config import PeerSettings, TorSettings
from zeromsg.testing import Network
from zeromsg.testing.network import SETTLE_SECONDS
from zeromsg.wire.peer_messages import Handshake
from zeromsg.wire.values import PeerAddress, pack_address

MESH = PeerSettings(outgoing=3)


def errors(deferred: Any) -> list[Failure]:
    found: list[Failure] = []
    deferred.addErrback(found.append)
    return found


def only_net(nodes: int = 2, **more: Any) -> Network:
    return Network(nodes, seed=1, tor=dict.fromkeys(range(nodes), "only"), **more)


def test_two_onion_nodes_exchange_broadcasts_and_replies() -> None:
    with only_net() as net:
        site = net.site()
        net.connect_onion(0, 1, site)
        net.advance(SETTLE_SECONDS)
        first, second = net.client(0, site), net.client(1, site)
        second.answers["question"] = "answer"
        first.call("peerBroadcast", {"message": "from the one that dialled"})
        second.call("peerBroadcast", {"message": "from the other", "trace": True})
        net.advance(2)
        assert second.messages == ["from the one that dialled"]
        assert first.messages == ["from the other"]
        answers: list[Any] = []
        asking = first.call("peerBroadcast", {"message": "question", "broadcast": False})
        asking.addCallback(answers.append)
        net.advance(5)
        ((answer,),) = answers
        assert answer["reply"] == "answer"
        # Whom we reached has its name; who came in has one that we made up.
        assert answer["ip"] == str(net.onion(1, site))
        assert is_pseudonym(second.received()[0]["ip"].removesuffix(":0"))
        told = str([first.events, second.events])
        assert "198.18." not in told and "127.0.0.1" not in told


def test_the_one_that_was_dialled_can_ask_by_the_pseudonym() -> None:
    with only_net() as net:
        site = net.site()
        net.connect_onion(0, 1, site)
        net.advance(SETTLE_SECONDS)
        first, second = net.client(0, site), net.client(1, site)
        first.answers["hello"] = "here"
        (link,) = net.nodes[1].node.pool.links
        answers: list[Any] = []
        second.call("peerSend", {"ip": link.name, "message": "hello"}).addCallback(answers.append)
        net.advance(3)
        assert answers[0]["message"] == "here"


def test_nodes_find_one_another_by_claims_that_they_check_themselves() -> None:
    with only_net(3, peers=MESH) as net:
        site = net.site()
        net.connect_onion(0, 1, site)
        net.connect_onion(2, 1, site)
        net.advance(120)
        for number in range(3):
            dialled = {link.address for link in net.nodes[number].node.pool.links if link.dialled}
            others = {net.onion(other, site) for other in range(3) if other != number}
            assert dialled == others
        clients = [net.client(number, site) for number in range(3)]
        clients[0].call("peerBroadcast", {"message": "once"})
        net.advance(3)
        assert clients[1].messages == clients[2].messages == ["once"]
        # Between two nodes with a link each way a message goes one way only.
        for number in (1, 2):
            counters = net.nodes[number].node.inbound.counters
            assert counters.received - counters.duplicates <= 1
            assert counters.received <= 2


def test_two_sites_of_a_node_have_two_onions_and_circuits() -> None:
    with only_net() as net:
        one, two = net.site(), net.site()
        assert net.onion(0, one) != net.onion(0, two)
        net.connect_onion(0, 1, one)
        net.connect_onion(0, 1, two)
        net.advance(SETTLE_SECONDS)
        used = net.nodes[0].node._tor.used  # type: ignore[union-attr]
        assert {face for face, _ in used} == {one, two}
        peers = net.nodes[1].node.site_peers
        for link in net.nodes[1].node.pool.links:
            assert [site for site in (one, two) if peers.takes_part(site, link)] == [link.face]
            assert link.theirs is not None
            assert f"{link.theirs.onion}.onion" == net.onion(0, link.face).host
            assert link.theirs.peer_id == "" and link.theirs.crypt_supported == ()


def test_a_shared_onion_speaks_of_all() -> None:
    with only_net(tor_settings=TorSettings(share_onion=True)) as net:
        one, two = net.site(), net.site()
        assert net.onion(0, one) == net.onion(0, two)
        net.connect_onion(0, 1, one)
        net.advance(SETTLE_SECONDS)
        (link,) = net.nodes[1].node.pool.links
        peers = net.nodes[1].node.site_peers
        assert peers.takes_part(one, link) and peers.takes_part(two, link)


def ask(net: Network, number: int, cmd: str, params: dict[str, Any]) -> Any:
    (link,) = [link for link in net.nodes[number].node.pool.links if link.dialled]
    answers: list[Any] = []
    link.ask(cmd, params).addCallback(answers.append)
    net.advance(2)
    return {key: value for key, value in answers[0].items() if key != "to"}


@pytest.mark.parametrize("held", [True, False])
def test_an_onion_knows_nothing_of_the_sites_of_another(held: bool) -> None:
    """Whether the node holds the other site or not, each answer is the same."""
    with only_net() as net:
        one = net.site()
        two = net.site(holders=[0, 1] if held else [0])
        net.connect_onion(0, 1, one)
        net.advance(SETTLE_SECONDS)
        if held:
            # The other site's message was met there already.
            net.client(1, two)
        wire = {"raw": f'{{"message": "hi", "site": "{two}", "broadcast": true}}', "nonce": "1"}
        params = {**wire, "signature": "", "cert": None}
        before = ask(net, 0, "peerBroadcast", params)
        if held:
            stranger = net.nodes[1].node
            envelope = stranger.inbound
            net.connect_onion(0, 1, two)
            net.advance(SETTLE_SECONDS)
            named = net.nodes[0].node.pool.named(str(net.onion(1, two)), two)
            assert named is not None
            named.ask("peerBroadcast", params)
            net.advance(2)
            assert envelope.counters.accepted == 1
            named.drop("enough")
            net.advance(2)
        assert before == ask(net, 0, "peerBroadcast", params)
        assert before["error"] == "Unknown site"
        for cmd, more in (("pex", {"need": 5}), ("listModified", {"since": 0})):
            assert ask(net, 0, cmd, {"site": two, **more})["error"] == "Unknown site"
        assert ask(net, 0, "peerCarry", {"to": "x", **params}).get("error")


def test_a_claim_earns_nothing_and_costs_nobody() -> None:
    """A stranger says that it is the onion of an honest node, and misbehaves."""
    with only_net(3) as net:
        site = net.site()
        victim = net.onion(2, site)
        liar = net.nodes[0].node
        honest = liar._onion_handshake

        def lying(*args: Any) -> Handshake:
            import attrs

            return attrs.evolve(honest(*args), onion=victim.host.removesuffix(".onion"))

        liar._onion_handshake = lying  # type: ignore[method-assign]
        net.connect_onion(0, 1, site)
        net.advance(SETTLE_SECONDS)
        target = net.nodes[1].node
        (link,) = target.pool.links
        assert link.claim == victim and link.address is None
        assert target.pool.named(str(victim), site) is None
        (theirs,) = net.nodes[0].node.pool.links
        for number in range(20):
            errors(theirs.ask("peerBroadcast", {"raw": "{", "nonce": str(number)}))
        net.advance(3)
        assert list(target.pool.links) == []
        assert not target.blame.is_banned(victim.host)
        assert target.database.bans() == []
        # The true one is reached all the same, and trusted as itself.
        net.connect_onion(1, 2, site)
        net.advance(SETTLE_SECONDS)
        (link,) = target.pool.links
        assert link.identity == victim.host
        # Whoever comes now that way begins with points.
        net.connect_onion(0, 1, site)
        net.advance(SETTLE_SECONDS)
        stranger = next(link for link in target.pool.links if not link.dialled)
        assert 0 < target.scoring.points(stranger.identity, target.now()) < 100


def test_strangers_take_a_part_of_the_connections_only() -> None:
    with only_net(1, peers=PeerSettings(outgoing=0, max_connections=6)) as net:
        site = net.site()
        pool = net.nodes[0].node.pool
        taken = [pool.accept_stranger(site) for _ in range(8)]
        assert sum(link is not None for link in taken) == 3


def test_ones_own_onion_is_never_dialled() -> None:
    with only_net(1) as net:
        site = net.site()
        node, own = net.nodes[0].node, net.onion(0, site)
        assert node.pool.is_us(own)
        (failure,) = errors(node.pool.link_to(own, site))
        assert failure.check(NotTried)
        assert "this node itself" in str(failure.value)
        assert not node.book.heard(site, own, "pex", 0.0)  # type: ignore[arg-type]


def test_a_tor_only_node_dials_and_keeps_no_clear_address() -> None:
    with Network(2, seed=1, tor={1: "only"}) as net:
        site = net.site()
        node, clear = net.nodes[1].node, net.nodes[0].address
        (failure,) = errors(node.pool.link_to(clear, site))
        net.advance(1)
        assert failure.check(NotTried) or failure.check(Unreachable)
        node.site_peers.found(site, [clear], "tracker", "t")  # type: ignore[arg-type]
        assert node.book.known(site) == []
        assert node.peer_port == 0
        assert node._facts().tor_enabled


def test_pex_over_onions_drops_what_no_tor_reaches() -> None:
    with only_net() as net:
        site = net.site()
        net.connect_onion(0, 1, site)
        net.advance(SETTLE_SECONDS)
        old = PeerAddress("a" * 16 + ".onion", 1)
        spoilt = bytes(37)
        clear = PeerAddress("198.51.100.7", 80)
        good = net.onion(1, site)
        params = {
            "site": site,
            "peers": [pack_address(clear)],
            "peers_onion": [pack_address(old), spoilt, pack_address(good)],
            "need": 5,
        }
        answer = ask(net, 0, "pex", params)
        assert answer["peers"] == answer["peers_ipv6"] == []
        assert net.nodes[1].node.book.known(site) == [] or all(
            address.kind == "onion" for address in net.nodes[1].node.book.known(site)
        )
        assert old not in net.nodes[1].node.book.known(site)


def mixed(push_own: bool) -> Network:
    """One on the clear net, one on both, one behind Tor alone."""
    settings = TorSettings(push_own=push_own)
    return Network(3, seed=1, tor={1: "on", 2: "only"}, tor_settings=settings)


def test_a_mixed_site_delivers_everywhere() -> None:
    with mixed(push_own=False) as net:
        site = net.site()
        net.connect(1, 0)
        net.connect_onion(2, 1, site)
        net.advance(SETTLE_SECONDS)
        clients = [net.client(number, site) for number in range(3)]
        for number, client in enumerate(clients):
            client.call("peerBroadcast", {"message": number})
        net.advance(5)
        assert [sorted(client.messages) for client in clients] == [[1, 2], [0, 2], [0, 1]]


def test_own_messages_go_through_tor_alone_where_that_is_wanted() -> None:
    with mixed(push_own=True) as net:
        site = net.site()
        net.connect(1, 0)
        net.advance(SETTLE_SECONDS)
        clear, both, only = (net.client(number, site) for number in range(3))
        # Without any way through Tor: nothing is sent, rather than in the clear.
        answer: list[Any] = []
        both.call("peerBroadcast", {"message": "early"}).addCallback(answer.append)
        net.advance(3)
        assert answer[0]["sent"] is False and clear.messages == []
        asked: list[Any] = []
        ip = str(net.nodes[0].address)
        both.call("peerSend", {"ip": ip, "message": "hi"}).addCallback(asked.append)
        assert asked[0]["error"].startswith("denied: ")
        net.connect_onion(2, 1, site)
        net.advance(SETTLE_SECONDS)
        both.call("peerBroadcast", {"message": "hidden"})
        only.call("peerBroadcast", {"message": "relayed"})
        net.advance(3)
        assert only.messages == ["hidden"]
        # What is not its own goes everywhere, as ever.
        assert clear.messages == ["relayed"]


def test_clients_hear_that_tor_went() -> None:
    with only_net(1) as net:
        site = net.site()
        client = net.client(0, site)
        client.ask("channelJoin", {"channels": ["serverChanged"]})
        net.nodes[0].node.tor_changed()
        (info,) = [params for cmd, params in client.events if cmd == "setServerInfo"]
        assert info["tor_enabled"] is True and info["tor_status"] == "OK"


def test_onions_keep_their_names_over_a_restart() -> None:
    with only_net() as net:
        site = net.site()
        before = net.onion(0, site)
        net.restart(0)
        assert net.onion(0, site) == before


def test_a_site_that_is_left_has_no_onion_any_more() -> None:
    with only_net() as net:
        one, two = net.site(holders=[0]), net.site()
        node = net.nodes[1].node
        assert node.join(one)
        onion = net.onion(1, one)
        net.connect_onion(0, 1, one)
        net.advance(SETTLE_SECONDS)
        assert any(link.face == one for link in node.pool.links)
        node.leave(one)
        net.advance(SETTLE_SECONDS)
        assert onion not in net.onions and net.onion(1, two) in net.onions
        assert not any(link.face == one for link in node.pool.links)


def test_an_only_node_announces_its_onions_and_proves_them() -> None:
    with Network(2, seed=1, tor={0: "on", 1: "only"}) as net:
        site = net.site()
        node = net.nodes[1].node
        assert node._announced_onions() == {site: net.onion(1, site).host.removesuffix(".onion")}
        # Beside a clear-net address an onion is not named.
        assert net.nodes[0].node._announced_onions() == {}
        public, signature = node._sign_onion(node._announced_onions()[site], b"1800000000")
        assert proven_onion(public, signature, b"1800000000") == node._announced_onions()[site]
        with pytest.raises(NotTried):
            node._tracker_endpoint(PeerAddress("198.51.100.1", 80), "")
        ours = node._tracker_handshake(net.onion(0, site))
        assert ours.peer_id == "" and ours.fileserver_port == 26552 and ours.crypt_supported == ()
