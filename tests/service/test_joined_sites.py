"""Sites that come and go while a node runs."""

import json

import pytest

from zeromsg.errors import ClientError
from zeromsg.service import node as node_module
from zeromsg.service.operator import operate
from zeromsg.testing import Network


@pytest.fixture
def net():
    with Network(nodes=2, seed=1) as net:
        net.main = net.site(holders=[0], files={"a.txt": b"a"})
        net.connect_all()
        yield net


def ask(net, cmd, **params):
    return json.loads(json.dumps(operate(net.nodes[1].node, cmd, params)))


def refused(net, cmd, **params):
    with pytest.raises(ClientError) as caught:
        ask(net, cmd, **params)
    return str(caught.value)


def test_a_site_is_joined_and_stays_over_a_restart(net):
    assert ask(net, "site_join", address=net.main) == {"joined": net.main, "new": True}
    assert ask(net, "site_join", address=net.main) == {"joined": net.main, "new": False}
    net.advance(3)
    assert net.nodes[1].node.sites.get(net.main).files() == ["a.txt", "content.json", "p2p.json"]
    member = net.nodes[1]
    # A node that starts with what is in its database, and no configuration.
    member.node.stop()
    member.node = net._start(member.address, member.folder, member.database, member.users, (), True)
    (site,) = member.node.status()["sites"]
    assert (site["address"], site["complete"], site["configured"]) == (net.main, True, False)


def test_a_site_that_is_left_is_gone_with_what_it_had(net):
    ask(net, "site_join", address=net.main)
    net.advance(3)
    node, gone = net.nodes[1].node, []
    node.on_left = gone.append
    node.permissions.add(net.main, "ADMIN")
    key = node.key_of(net.main)
    folder = net.nodes[1].folder / "sites" / net.main
    assert folder.exists()
    assert ask(net, "site_leave", address=net.main) == {"left": net.main}
    assert gone == [net.main] and not folder.exists()
    assert node.opens(key) is None and node.key_of(net.main) is None
    assert node.status()["sites"] == []
    assert net.nodes[1].database.permissions() == net.nodes[1].database.joined_sites() == []
    # It may come back, without what it was allowed.
    ask(net, "site_join", address=net.main)
    net.advance(3)
    assert node.permissions.of(net.main) == [] and node.key_of(net.main) == key
    sender, reader = net.client(0, net.main), net.client(1, net.main)
    sender.call("peerBroadcast", {"message": "x"})
    net.advance(1)
    assert reader.messages == ["x"]


def test_what_cannot_be_joined_or_left(net, monkeypatch):
    assert refused(net, "site_join", address="x").startswith("invalid: address must be")
    assert refused(net, "site_leave", address=net.main).startswith("invalid: this node does not")
    monkeypatch.setattr(node_module, "JOINED_LIMIT", 1)
    ask(net, "site_join", address="1" + "g" * 30)
    assert refused(net, "site_join", address=net.main).startswith("too-big: ")
    first = net.nodes[0]
    net.restart(0)  # with its site in the configuration
    with pytest.raises(ClientError, match="configuration"):
        operate(first.node, "site_leave", {"address": net.main})
