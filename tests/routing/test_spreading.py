"""A new version of a site reaches every peer, once each, and costs nobody anything."""

import collections

import pytest

from zeromsg.routing import spreading
from zeromsg.service.config import PeerSettings
from zeromsg.service.site_making import sign_site

OLD, NEW = {"filter": "^.old"}, {"filter": "^.new"}


def change(net, site, **files):
    """Files of the owner's directory change, and are signed."""
    folder = net._site_folders[site]
    net.advance(2)
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    sign_site(folder, net.site_key(site), net.wall)


def version(net, number, site):
    return net.nodes[number].node.sites.get(site).content["modified"]


def points(net):
    return [
        (member.number, other.number, member.node.scoring.points(other.address.host, net.wall()))
        for member in net.nodes
        for other in net.nodes
        if member.node.scoring.points(other.address.host, net.wall()) > 0
    ]


def telling(net):
    """Counts the updates that each node gets, by sender and version."""
    told = collections.Counter()
    for member in net.nodes:
        take = member.node.updating.told

        def counted(link, site, params, number=member.number, take=take):
            told[number, link.identity, params["modified"]] += 1
            return take(link, site, params)

        member.node.updating.told = counted
    return told


def holding(net, site):
    """A ZeroNet node that holds the site as it is now, and takes nothing else."""
    said = {"content.json": version(net, 0, site)}

    def respond(cmd, params):
        if cmd == "listModified":
            return {"modified_files": {n: at for n, at in said.items() if at > params["since"]}}
        return {"peers": []} if cmd == "pex" else {"ok": "thx"}

    respond.said = said
    return respond


def joined(net, site, numbers):
    for number in numbers:
        net.join(number, site)
    for number in numbers:
        assert net.nodes[number].node.sites.get(site).rules is not None, number


def test_new_rules_hold_along_a_line_at_once(network):
    net = network(4)
    site = net.site(OLD, holders=[0], files={"a.txt": b"1"})
    net.connect_line()
    joined(net, site, [1, 2, 3])
    clients = [net.client(number, site) for number in range(4)]
    assert clients[3].ask("peerBroadcast", ["old"])["sent"]
    net.advance(1)
    assert clients[0].messages == ["old"]
    net.set_rules(site, NEW)
    for client in clients:
        assert client.ask("peerBroadcast", ["old"])["error"].startswith("invalid")
    assert clients[3].ask("peerBroadcast", ["new"])["sent"]
    net.advance(1)
    assert clients[0].messages == ["old", "new"]
    assert points(net) == []


@pytest.mark.parametrize("names", [0, 200], ids=["small", "over 10 KiB"])
def test_everybody_in_a_crowd_hears_of_it_once_from_each(network, names):
    net = network(14)
    many = {f"a-file-with-a-long-name-{number:03}": b"x" for number in range(names)}
    site = net.site(OLD, holders=[0], files=many)
    net.connect_all()
    joined(net, site, range(1, 14))
    size = (net._site_folders[site] / "content.json").stat().st_size
    assert (size > spreading.BODY_LIMIT) == bool(names)
    told = telling(net)
    change(net, site, p2p_json='{"filter": "^.new"}')
    net.advance(7)
    newest = version(net, 0, site)
    # The rules came to all, by way of the few that were told first.
    for number in range(14):
        assert version(net, number, site) == newest
        assert net.nodes[number].node.sites.get(site).rules.filter.passes('"new"')
    net.advance(60)
    assert max(told.values()) == 1
    # Nobody told the owner what it had told them, or whoever told them.
    host = {member.number: member.address.host for member in net.nodes}
    pairs = {(number, sender) for number, sender, _ in told}
    both = [number for number in range(1, 14) if (0, host[number]) in pairs]
    assert all((number, host[0]) not in pairs for number in both)
    # About one for each connection, in one direction; some cross.
    assert len(pairs) < 14 * 13 * 0.6
    assert points(net) == []


def test_not_all_are_told_at_once(network, stranger):
    net = network(1)
    site = net.site(OLD)
    holder = holding(net, site)
    peers = [stranger(net, host=f"203.0.{number}.9", respond=holder) for number in range(20)]
    net.advance(10)
    change(net, site, a_txt="x")
    while not (told := sum(len(peer.asked("update")) for peer in peers)):
        net.advance(0.1)
    assert told == spreading.OWN_AT_ONCE
    net.advance(40)
    assert [len(peer.asked("update")) for peer in peers] == [1] * 20


def test_who_heard_of_it_from_another_is_asked_first_and_not_told(network, stranger):
    """To tell a ZeroNet node what it has costs a point there."""
    net = network(1)
    site = net.site(OLD)
    holder = holding(net, site)
    peers = [stranger(net, host=f"203.0.{number}.9", respond=holder) for number in range(20)]
    net.advance(10)
    change(net, site, a_txt="x")
    while not (told := sum(len(peer.asked("update")) for peer in peers)):
        net.advance(0.1)
    assert told == spreading.OWN_AT_ONCE
    holder.said["content.json"] = version(net, 0, site)
    net.advance(40)
    assert sum(len(peer.asked("update")) for peer in peers) == told


@pytest.mark.parametrize("seed", range(5))
def test_neighbours_of_one_zeronet_node_do_not_tell_it_at_the_same_moment(network, stranger, seed):
    """It needs a moment until it can say that it has the file."""
    net = network(6, seed=seed)
    site = net.site(OLD, holders=[0])
    net.connect_all()
    joined(net, site, range(1, 6))
    said = {"content.json": version(net, 0, site)}
    updates = []

    def respond(cmd, params):
        if cmd == "listModified":
            return {"modified_files": {n: at for n, at in said.items() if at > params["since"]}}
        if cmd == "update":
            updates.append(params["modified"])
            net.clock.callLater(0.1, said.__setitem__, params["inner_path"], params["modified"])
        return {"peers": []} if cmd == "pex" else {"ok": "thx"}

    for number in range(1, 6):
        stranger(net, number, host="203.0.113.77", respond=respond)
    net.advance(30)
    change(net, site, a_txt="x")
    net.advance(60)
    newest = version(net, 0, site)
    assert said["content.json"] == newest
    # Five would tell it without that.
    assert 1 <= updates.count(newest) <= 2


def test_what_is_told_is_what_zeronet_understands(network, stranger):
    net = network(1)
    site = net.site(OLD)
    one = stranger(net)
    net.advance(10)
    change(net, site, a_txt="x")
    net.advance(3)
    body = (net._site_folders[site] / "content.json").read_bytes()
    assert one.asked("update") == [
        {
            "site": site,
            "inner_path": "content.json",
            "body": body,
            "modified": version(net, 0, site),
            "diffs": {},
        }
    ]


def test_a_zeronet_node_is_told_of_a_file_once_in_twenty_seconds_and_of_the_newest(
    network, stranger
):
    net = network(1)
    site = net.site(OLD)
    one = stranger(net, respond=holding(net, site))
    net.advance(10)
    for number in range(5):
        change(net, site, a_txt=str(number))
        net.advance(1)
    assert len(one.asked("update")) == 1
    net.advance(25)
    first, second = one.asked("update")
    assert second["modified"] == version(net, 0, site) > first["modified"]
    net.advance(100)
    assert len(one.asked("update")) == 2


def test_who_named_the_version_is_not_told_of_it(network, stranger):
    net = network(1)
    site = net.site(OLD)
    one = stranger(net, host="203.0.113.1", respond=holding(net, site))
    other = stranger(net, host="203.0.113.2", respond=holding(net, site))
    net.advance(10)
    change(net, site, a_txt="x")
    modified = int(net.wall())
    one.ask("update", {"site": site, "inner_path": "content.json", "modified": modified})
    net.advance(40)
    assert version(net, 0, site) == modified
    assert (len(one.asked("update")), len(other.asked("update"))) == (0, 1)


def test_a_peer_that_refuses_is_not_told_again(network, stranger):
    net = network(1)
    site = net.site(OLD)
    one = stranger(net)  # answers Unknown command, as polite strangers do
    net.advance(10)
    change(net, site, a_txt="x")
    net.advance(3600)
    assert len(one.asked("update")) == 1
    assert not one.lost


def test_a_node_that_was_away_catches_up_when_it_is_back(network):
    net = network(3)
    site = net.site(OLD, holders=[0])
    net.connect_line()
    joined(net, site, [1, 2])
    net.stop(2)
    net.set_rules(site, NEW)
    net.restart(2)
    assert version(net, 2, site) < version(net, 0, site)
    net.connect(2, 1)
    net.advance(5)
    assert version(net, 2, site) == version(net, 0, site)
    assert net.nodes[2].node.sites.get(site).rules.filter.passes('"new"')
    assert points(net) == []


def test_an_owner_that_was_away_tells_of_what_was_signed_meanwhile(network):
    net = network(2)
    site = net.site(OLD, holders=[0])
    net.connect_all()
    joined(net, site, [1])
    net.stop(0)
    change(net, site, p2p_json='{"filter": "^.new"}')
    net.restart(0)
    net.connect(0, 1)
    net.advance(5)
    assert version(net, 1, site) == version(net, 0, site)
    assert points(net) == []


def test_a_peer_that_is_behind_is_told(network, stranger):
    """It was not there when the others were told, and does not ask by itself."""
    net = network(1)
    site = net.site(OLD)
    net.advance(5)

    def respond(cmd, params):
        if cmd == "listModified":
            return {"modified_files": {"content.json": 5}}
        return {"peers": []} if cmd == "pex" else {"ok": "thx"}

    one = stranger(net, respond=respond)
    net.advance(5)
    assert [params["modified"] for params in one.asked("update")] == [version(net, 0, site)]
    net.advance(3000)
    assert len(one.asked("update")) == 1


def test_a_version_spreads_on_when_its_files_are_here(network, stranger):
    """Whoever is told fetches the files from who told it."""
    net = network(3, latency=0.5)
    site = net.site(OLD, holders=[0], files={"big.bin": b"1"})
    net.connect_line()
    net.advance(10)
    joined(net, site, [1])
    net.advance(20)
    net.join(2, site)
    net.advance(30)
    assert net.nodes[2].node.sites.get(site).rules is not None
    told = telling(net)
    folder = net._site_folders[site]
    (folder / "big.bin").write_bytes(bytes(2_000_000))
    change(net, site)
    while not told[2, net.nodes[1].address.host, version(net, 0, site)]:
        net.advance(0.5)
    assert not list(net.nodes[1].node.sites.get(site).missing())
    net.advance(20)
    held = net.nodes[2].folder / "sites" / site / "big.bin"
    assert held.stat().st_size == 2_000_000
    assert points(net) == []


def test_a_found_peer_is_asked_too(network):
    """Peers that a node finds by itself, not only those it was told to connect to."""
    net = network(4, peers=PeerSettings(allow_private=True))
    site = net.site(OLD, holders=[0])
    net.connect_line()
    joined(net, site, [1, 2, 3])
    net.advance(30)
    net.set_rules(site, NEW)
    net.advance(5)
    assert {version(net, number, site) for number in range(4)} == {version(net, 0, site)}
