"""A site that is updated goes on remembering: rates and counters outlive its new versions."""

import json

from zeromsg.crypto.keys import PrivateKey
from zeromsg.service.site_making import sign_site

KEY = PrivateKey(b"\7" * 32)
NUMBERED = {
    "filter": ".*",
    "program": {"accept": "message > counters.n", "counters": {"n": "message"}},
}


def publish(net, site, **files):
    """The owner changes files and signs; the node takes them up."""
    folder = net.nodes[0].node.sites.get(site).path
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    net.advance(1)
    sign_site(folder, net.site_key(site), net.wall)
    net.advance(5)


def test_a_replay_does_not_pass_after_an_update(network, stranger):
    net = network(1)
    site = net.site(NUMBERED)
    client = net.client(0, site)
    peer = stranger(net)

    def say(number, nonce):
        return peer.ask("peerBroadcast", peer.envelope(site, number, nonce=nonce, key=KEY))

    assert say(5, "1") == {"ok": "thx"}
    before = net.nodes[0].node.sites.get(site).content["modified"]
    publish(net, site, page_html="a new page")
    assert net.nodes[0].node.sites.get(site).content["modified"] > before
    # The signer says the same again, as a new message.
    assert "its program refuses it" in str(say(5, "2"))
    publish(net, site, p2p_json=json.dumps(NUMBERED | {"size_limit": 100}))
    assert net.nodes[0].node.sites.get(site).rules.size_limit == 100
    assert "its program refuses it" in str(say(5, "3"))
    assert say(6, "4") == {"ok": "thx"}
    assert client.messages == [5, 6]
