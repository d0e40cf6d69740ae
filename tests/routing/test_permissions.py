"""What sites may do beyond their bounds: who grants it, and what follows."""

import pytest
from twisted.logger import capturedLogs

from zeromsg.crypto.cert import Certificate
from zeromsg.errors import ClientError
from zeromsg.policy.site_content import content_bytes, parse_content, sign_content
from zeromsg.routing import permissions as permissions_module
from zeromsg.routing.permissions import check_form
from zeromsg.service.operator import operate
from zeromsg.testing import Network

ABSENT = "1" + "e" * 30


@pytest.fixture
def net():
    with Network(nodes=2, seed=3) as net:
        net.hub = merged_site(net, "Chat", {"data.json": b'{"a": [1, 2]}'})
        net.main = net.site(files={"hello.txt": b"hello"})
        net.other = net.site(files={"own.txt": b"other's"})
        net.connect_all()
        yield net


def merged_site(net, kind, files=None):
    """A site whose content.json has a merged_type."""
    address = net.site(files=files)
    folder = net._site_folders[address]
    content = dict(parse_content((folder / "content.json").read_bytes()))
    content |= {"merged_type": kind, "modified": content["modified"] + 1}
    (folder / "content.json").write_bytes(
        content_bytes(sign_content(content, net.site_key(address)))
    )
    net.advance(5)
    return address


def grant(net, permission, site=None):
    """As the person does, through the node's own page."""
    page = net.client(0, site or net.main, trusted=True)
    assert page.ask("permissionAdd", permission) == "ok"
    page.close()


def results(deferred):
    found = []
    deferred.addCallback(found.append)
    return found


# Granting


@pytest.mark.parametrize(
    "permission", ["Merger:Chat", f"Cors:{ABSENT}", f"Sign:{ABSENT}", "ADMIN", "Merger:a.b_c-1"]
)
def test_forms_of_permissions(net, permission):
    check_form(permission)
    grant(net, permission)
    assert net.client(0, net.main).ask("siteInfo")["settings"]["permissions"] == [permission]


@pytest.mark.parametrize(
    "permission",
    [
        "",
        "admin",
        "Merger:",
        "Merger:a b",
        "Merger:<b>",
        "Cors:x",
        "NOSANDBOX",
        "Merger:" + "x" * 65,
    ],
)
def test_other_texts_are_none(net, permission):
    page = net.client(0, net.main, trusted=True)
    assert page.ask("permissionAdd", [permission])["error"].startswith("invalid: a permission is")


@pytest.mark.parametrize("cmd", ["permissionAdd", "permissionRemove", "permissionDetails"])
def test_sites_grant_themselves_nothing(net, cmd):
    client = net.client(0, net.main)
    assert client.ask(cmd, "ADMIN") == {"error": f"denied: You don't have permission to run {cmd}"}


@pytest.mark.parametrize("cmd", ["permissionAdd", "permissionRemove"])
def test_nor_with_admin_or_through_another_site(net, cmd):
    grant(net, "ADMIN")
    client = net.client(0, net.main)
    assert "denied" in client.ask(cmd, "Merger:x")["error"]
    assert "denied" in client.ask("as", [net.other, cmd, ["ADMIN"]])["error"]
    assert net.client(0, net.other).ask("siteInfo")["settings"]["permissions"] == []


def test_permissions_survive_a_restart_and_are_taken_back(net):
    grant(net, "Merger:Chat")
    net.restart(0)
    page = net.client(0, net.main, trusted=True)
    page.join(["siteChanged"])
    assert page.ask("siteInfo")["settings"]["permissions"] == ["Merger:Chat"]
    assert page.ask("permissionRemove", "Merger:Chat") == "ok"
    assert page.events[-1][1]["event"] == ["permission_removed", "Merger:Chat"]
    net.restart(0)
    assert net.client(0, net.main).ask("siteInfo")["settings"]["permissions"] == []


def test_a_site_has_only_so_many(net, monkeypatch):
    monkeypatch.setattr(permissions_module, "SITE_LIMIT", 2)
    page = net.client(0, net.main, trusted=True)
    for number in range(2):
        assert page.ask("permissionAdd", f"Merger:{number}") == "ok"
    assert page.ask("permissionAdd", "Merger:0") == "ok"
    assert page.ask("permissionAdd", "Merger:2")["error"].startswith("too-big: ")


def test_details_are_text_for_the_person(net):
    page = net.client(0, net.main, trusted=True)
    assert "sites of the type Chat (1 on this node)" in page.ask("permissionDetails", "Merger:Chat")
    assert net.other in page.ask("permissionDetails", f"Cors:{net.other}")
    assert "in your name" in page.ask("permissionDetails", f"Sign:{net.other}")


# Reading another site


def test_cors_is_asked_for_and_then_reads(net):
    client, page = net.client(0, net.main), net.client(0, net.main, trusted=True)
    path = f"cors-{net.other}/own.txt"
    denied = {"error": f"denied: No permission for site {net.other}"}
    assert client.ask("fileGet", path) == denied
    answered = results(client.call("corsPermission", net.other))
    (prompt,) = page.prompts()
    assert net.other in prompt["text"] and "Read the files" in prompt["text"]
    # Whatever the site itself answers.
    for to in (prompt["id"], 1, 2, 3):
        client.respond_to(to, "yes")
    assert answered == [] and client.ask("fileGet", path) == denied
    page.respond_to(prompt["id"], "yes")
    assert answered == ["ok"]
    assert client.ask("fileGet", path) == "other's"
    assert client.ask("corsPermission", net.other) == "ignored"
    assert client.ask("as", [net.other, "fileGet", ["own.txt"]]) == "other's"
    assert client.ask("as", [net.other, "siteInfo"])["address"] == net.other
    for cmd, params in (("userSetSettings", [{}]), ("ping", []), ("ecdsaSign", ["x"])):
        assert client.ask("as", [net.other, cmd, params]) == denied


def test_a_refused_permission_is_none(net):
    client, page = net.client(0, net.main), net.client(0, net.main, trusted=True)
    answered = results(client.call("corsPermission", [net.other]))
    page.respond_to(page.prompts()[0]["id"], None)
    assert answered == [{"error": "denied: the person did not agree"}]
    assert client.ask("siteInfo")["settings"]["permissions"] == []


# Speaking on another site


def test_a_signature_elsewhere_needs_a_grant(net):
    client = net.client(0, net.main)
    forged = [net.other, "peerBroadcast", {"message": "x", "privatekey": False}]
    denied = {"error": f"denied: No permission for site {net.other}"}
    assert client.ask("as", forged) == denied
    grant(net, f"Cors:{net.other}")
    assert client.ask("as", forged) == denied
    grant(net, f"Sign:{net.other}")
    heard = net.client(0, net.other)
    assert client.ask("as", forged)["sent"] is True
    (event,) = [params for cmd, params in heard.events if cmd == "peerReceive"]
    assert event["signed_by"] == net.nodes[0].users.default.auth_address(net.other)
    assert client.ask("as", [net.other, "userSetSettings", [{}]]) == denied


@pytest.mark.parametrize("permission", ["ADMIN", "Sign", "Merger:Chat"])
def test_the_key_of_another_site_is_out_of_reach(net, permission):
    grant(net, f"Sign:{net.hub}" if permission == "Sign" else permission)
    client = net.client(0, net.main)
    for cmd, params in (
        ("peerBroadcast", ["x", "stored"]),
        ("peerBroadcast", {"message": "x", "privatekey": "stored"}),
        ("peerSend", {"ip": "self", "message": "x", "privatekey": "stored"}),
    ):
        assert client.ask("as", [net.hub, cmd, params]) == {
            "error": f"denied: No permission for site {net.hub}"
        }


def test_admin_runs_commands_as_any_site(net):
    client = net.client(0, net.main)
    assert "denied" in client.ask("certList")["error"]
    grant(net, "ADMIN")
    assert client.ask("certList") == []
    assert len(client.ask("siteList")) == 3
    assert client.ask("as", [net.other, "userSetSettings", [{"a": 1}]]) == "ok"
    assert net.client(0, net.other).ask("userGetSettings") == {"a": 1}
    # Rights are judged before it is told what is here.
    assert client.ask("as", [ABSENT, "siteInfo"])["error"].startswith("unsupported: ")
    assert "denied" in net.client(0, net.other).ask("as", [net.main, "certList"])["error"]


# Mergers


def test_a_merger_hears_speaks_and_reads(net):
    client, elsewhere = net.client(0, net.main), net.client(1, net.hub)
    assert client.ask("mergerSiteList") == {"error": "Not a merger site"}
    grant(net, "Merger:Chat")
    assert client.ask("mergerSiteList") == {net.hub: "Chat"}
    assert client.ask("mergerSiteList", [True])[net.hub]["address"] == net.hub
    path = f"merged-Chat/{net.hub}/data.json"
    assert client.ask("fileGet", path) == '{"a": [1, 2]}'
    assert client.ask("fileQuery", [path, "a"]) == [
        {"value": 1, "inner_path": ""}, {"value": 2, "inner_path": ""}
    ]  # fmt: skip
    assert client.ask("dirList", f"merged-Chat/{net.hub}") == [
        "content.json", "data.json", "p2p.json"
    ]  # fmt: skip
    sent = client.ask("as", [net.hub, "peerBroadcast", {"message": "in", "privatekey": False}])
    assert sent["peers"] == 1
    net.advance(1)
    (event,) = elsewhere.received()
    assert event["signed_by"] == net.nodes[0].users.default.auth_address(net.hub)
    elsewhere.call("peerBroadcast", {"message": "out"})
    net.advance(1)
    assert client.messages == ["out"] and client.received()[0]["site"] == net.hub
    # Its verdict counts like that of the site's own clients.
    record = net.nodes[0].node.why(client.received()[0]["hash"])
    assert record["verdict"] == "accept" and record["clients"] == 1


def test_without_the_permission_nothing_of_it_is_heard(net):
    client, elsewhere = net.client(0, net.main), net.client(1, net.hub)
    client.join(["peerReceive"])
    elsewhere.call("peerBroadcast", {"message": "out"})
    net.advance(1)
    assert client.messages == []
    grant(net, "Merger:Other")
    elsewhere.call("peerBroadcast", {"message": "out"})
    net.advance(1)
    assert client.messages == []
    assert "denied" in client.ask("fileGet", f"merged-Chat/{net.hub}/data.json")["error"]
    assert "denied" in client.ask("fileGet", f"merged-Other/{net.hub}/data.json")["error"]


def test_who_is_merged_does_not_merge(net):
    grant(net, "Merger:Chat", net.hub)
    assert net.client(0, net.hub).ask("mergerSiteList") == {"error": "Not a merger site"}
    # Nor does it hear its siblings.
    sibling = merged_site(net, "Chat")
    grant(net, "Merger:Chat", sibling)
    client = net.client(0, sibling)
    net.client(1, net.hub).call("peerBroadcast", {"message": "out"})
    net.advance(1)
    assert client.messages == []


AUTH = {"opened": True, "by": "auth"}
CLOSED = {"opened": False}


def seal(net, message, *keys, **more):
    """Send a message to the hub's clients, sealed to some keys; its hash."""
    sender = net.client(1, net.hub)
    readers = [key.public_key.hex() for key in keys]
    answer = sender.ask("peerBroadcast", {"message": message, "encrypt": readers, **more})
    net.advance(1)
    sender.close()
    return answer["hash"]


def shown(client):
    return [
        event["message"] if event["encrypted"] == AUTH else event["encrypted"]
        for event in client.received()
    ]


def test_a_merger_reads_what_is_sealed_to_its_user_on_the_sites_it_merges(net):
    alice, bob = net.nodes[0].users.default, net.nodes[0].users.new("bob")
    grant(net, "Merger:Chat")
    mine, bobs = (net.client(0, net.main, user=user.master_address) for user in (alice, bob))
    own = net.client(0, net.hub, user=bob.master_address)
    seal(net, "psst", bob.auth_key(net.hub))
    # Of each user what a client of the site itself would read.
    assert shown(mine) == [CLOSED]
    assert shown(bobs) == shown(own) == ["psst"]
    # What is sealed to the user's key on another site binds nobody here.
    seal(net, "psst", bob.auth_key(net.main))
    assert shown(bobs) == shown(own) == ["psst", CLOSED]


def test_a_merger_reads_with_the_keys_of_the_merged_site_only(net):
    """As for the site itself, certificates that were never chosen there are not tried."""
    user = net.nodes[0].users.default
    grant(net, "Merger:Chat")
    cert = Certificate("web", "alice", "zeroid.bit", "c2lnbg==")
    user.add_certificate(net.other, cert)
    owned = user.certificates()["zeroid.bit"].key
    client = net.client(0, net.main)
    user.set_certificate(net.main, "zeroid.bit")
    seal(net, "1", owned)
    user.set_certificate(net.hub, "zeroid.bit")
    seal(net, "2", owned)
    user.set_certificate(net.hub, None)
    seal(net, "3", owned)
    assert shown(client) == [CLOSED, "2", "3"]


def test_a_merger_does_not_read_what_is_sealed_to_the_sites_own_key(net):
    """No other site may use that, whatever its permission."""
    client, own = net.client(0, net.main), net.client(0, net.hub)
    grant(net, "Merger:Chat")
    assert net.nodes[0].users.default.site_key(net.hub) == net.site_key(net.hub)
    seal(net, "psst", net.site_key(net.hub))
    assert (shown(client), shown(own)) == ([CLOSED], ["psst"])


def test_a_merger_reads_nothing_more_once_the_permission_is_taken_back(net):
    key = net.nodes[0].users.default.auth_key(net.hub)
    grant(net, "Merger:Chat")
    client = net.client(0, net.main)
    seal(net, "1", key)
    net.client(0, net.main, trusted=True).ask("permissionRemove", "Merger:Chat")
    seal(net, "2", key)
    assert shown(client) == ["1"]


@pytest.mark.parametrize("permission", ["", "Merger:Other", "ADMIN"])
def test_no_other_permission_opens_what_is_sealed_on_another_site(net, permission):
    key = net.nodes[0].users.default.auth_key(net.hub)
    replies = asked_for_sealed(net, permission, key)
    assert [reply["encrypted"] for reply in replies] == [CLOSED]


def asked_for_sealed(net, permission, key):
    """What comes of a question on the hub under `as` that is answered sealed to a key."""
    if permission:
        grant(net, permission)
    client, elsewhere = net.client(0, net.main), net.client(1, net.hub)
    question = {"ip": net.nodes[1].name, "message": "?", "timeout": 5}
    replies = results(client.call("as", [net.hub, "peerSend", question]))
    net.advance(1)
    hash = elsewhere.received()[-1]["hash"]
    reply = {"hash": hash, "message": "!", "encrypt": key.public_key.hex()}
    elsewhere.call("peerReply", reply)
    net.advance(1)
    return replies


def test_a_merger_reads_replies_and_history_and_by_hand_too(net):
    net.set_rules(net.hub, {"filter": ".*", "history": {"count": 10}})
    key = net.nodes[0].users.default.auth_key(net.hub)
    (reply,) = asked_for_sealed(net, "Merger:Chat", key)
    assert (reply["message"], reply["encrypted"]) == ("!", AUTH)
    client = net.client(0, net.main)
    client.ask("peerDecryptMode", "off")
    seal(net, "psst", key)
    (event,) = client.received()
    assert event["encrypted"] == CLOSED
    by_hand = ["peerDecrypt", [event["message"]]]
    assert client.ask("as", [net.hub, *by_hand])["message"] == "psst"
    assert "denied" in client.ask(*by_hand)["error"]
    client.ask("peerDecryptMode", "auto")
    (kept,) = client.ask("as", [net.hub, "peerHistory"])
    assert (kept["message"], kept["encrypted"]) == ("psst", AUTH)


def test_who_is_merged_reads_nothing_sealed_of_its_siblings(net):
    sibling = merged_site(net, "Chat")
    grant(net, "Merger:Chat", sibling)
    client = net.client(0, sibling)
    seal(net, "psst", net.nodes[0].users.default.auth_key(net.hub))
    assert "psst" not in [event["message"] for event in client.received()]


def test_what_a_merger_heard_does_not_wait_for_the_same_user(net):
    alice, bob = net.nodes[0].users.default, net.nodes[0].users.new("bob")
    grant(net, "Merger:Chat")
    client = net.client(0, net.main, user=bob.master_address)
    seal(net, "psst", bob.auth_key(net.hub), alice.auth_key(net.hub), immediate=True)
    assert shown(client) == ["psst"]
    assert net.client(0, net.hub, user=bob.master_address).events == []
    assert shown(net.client(0, net.hub)) == ["psst"]


def test_sites_are_added_and_removed_with_the_person(net):
    new = merged_site(net, "Chat")
    net.nodes[1].node.sites.get(new)
    lonely = net.site(holders=[1])
    client, page = net.client(0, net.main), net.client(0, net.main, trusted=True)
    assert client.ask("mergerSiteAdd", lonely) == {"error": "Not a merger site"}
    grant(net, "Merger:Chat")
    assert client.ask("mergerSiteAdd", [net.hub]) == "ok"
    answered = results(client.call("mergerSiteAdd", [lonely]))
    assert net.nodes[0].node.sites.get(lonely) is None
    page.respond_to(page.prompts()[-1]["id"], "yes")
    assert answered == ["ok"]
    net.advance(3)
    assert net.nodes[0].node.sites.get(lonely).content is not None
    assert client.ask("mergerSiteDelete", ABSENT) == {"error": f"No site found: {ABSENT}"}
    (refused,) = results(client.call("mergerSiteDelete", lonely))
    assert refused == {"error": "Merged type (None) not in ['Chat']"}


def test_the_persons_own_connection_reads_no_messages(net):
    """It would be waited for, and would take what waits for the page."""
    page = net.client(0, net.main, trusted=True)
    net.client(1, net.main).call("peerBroadcast", {"message": "x", "immediate": True})
    net.advance(1)
    assert page.messages == []
    assert net.client(0, net.main).messages == ["x"]


def test_paths_of_other_sites(net):
    locate = net.nodes[0].node.permissions.locate
    assert locate(net.main, "js/a.js") == (net.main, "js/a.js")
    assert locate(net.main, f"cors-{net.main}/a.js") == (net.main, "a.js")
    for path in (f"cors-{net.other}/a.js", f"merged-Chat/{net.hub}/a.js"):
        with pytest.raises(ClientError):
            locate(net.main, path)
    # What has not the form is a path of the site's own, where it is not found.
    assert locate(net.main, "merged-Chat/x/a") == (net.main, "merged-Chat/x/a")


def test_a_site_hears_of_a_full_disk_and_not_where_it_is(net):
    node = net.nodes[0]
    node.database._path = "/home/bob/zeromsg.sqlite3"
    (pages,) = node.database._connection.execute("PRAGMA page_count").fetchone()
    node.database._connection.execute(f"PRAGMA max_page_count = {pages}")
    page = net.client(0, net.main)
    with capturedLogs() as logged:
        answer = page.ask("userSetSettings", {"settings": {"x": "y" * 60_000}})
    assert answer == {"error": "internal: this node cannot write to its disk"}
    (entry,) = [each for each in logged if each["log_level"].name == "warn"]
    assert "/home/bob/" in entry["problem"] and "log_failure" not in entry
    # The operator, who may know where it is, is told.
    with pytest.raises(ClientError, match=r"internal: /home/bob/.*disk is full"):
        for number in range(100):
            operate(
                node.node, "site_join", {"address": f"1{'e' * 28}{number:02}".replace("0", "z")}
            )
    node.database._connection.execute("PRAGMA max_page_count = 1000000")
