"""Joining a site by address: what is fetched, what is refused, and what stays when it is."""

import json
import shutil

import pytest
from twisted.logger import LogLevel, formatEvent, globalLogPublisher

from zeromsg.crypto.keys import PrivateKey
from zeromsg.policy.site_content import content_bytes, sign_content
from zeromsg.protocol.conversation import STREAM_LIMIT
from zeromsg.testing.network import EPOCH
from zeromsg.testing.served import fact, serving, signed

KEY = PrivateKey(b"\x31" * 32)
OTHER_KEY = PrivateKey(b"\x32" * 32)
RULES = b'{"filter": ".*"}'


def content(_files, key=KEY, modified=EPOCH - 100, **extra):
    """A signed content.json of KEY's site."""
    return signed(key, _files, modified, extra={"address": KEY.address, **extra})


def joined(net, number, site):
    return net.nodes[number].node.sites.get(site)


def is_complete(net, number, site):
    (status,) = [
        told for told in net.nodes[number].node.status()["sites"] if told["address"] == site
    ]
    return status["complete"]


def on_disk(net, number, site):
    folder = net.nodes[number].folder / "sites" / site
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


def points(net, number, identity):
    return net.nodes[number].node.scoring.points(identity, net.wall())


def join(net, site=KEY.address, number=0, seconds=2.0):
    net.join(number, site)
    net.advance(seconds)
    return joined(net, number, site)


# What works


def test_a_site_is_fetched_whole_checked_and_served_on(network):
    files = {"index.html": b"<p>hi", "js/all.js": b"1;" * 10, "empty": b""}
    net = network(3)
    site = net.site(holders=[0], files=files)
    net.connect_line()
    net.join(1, site)
    assert is_complete(net, 1, site)
    held = on_disk(net, 1, site)
    assert {name: held[name] for name in files} == files
    assert set(held) == {*files, "content.json", "p2p.json"}
    # The third gets it from the second, and messages cross.
    net.join(2, site)
    assert on_disk(net, 2, site) == held
    sender, end = net.client(0, site), net.client(2, site)
    sender.call("peerBroadcast", {"message": "x"})
    net.advance(1)
    assert end.messages == ["x"]


@pytest.mark.parametrize("size", [512 * 1024 - 1, 512 * 1024, 512 * 1024 + 1, 3_000_000])
def test_big_files_come_in_chunks(network, size):
    net = network(2)
    data = bytes(number % 251 for number in range(1000)) * (size // 1000 + 1)
    site = net.site(holders=[0], files={"big.bin": data[:size]})
    net.connect_all()
    net.join(1, site)
    assert on_disk(net, 1, site)["big.bin"] == data[:size]


def test_a_joined_site_survives_a_restart(network):
    net = network(2)
    site = net.site(holders=[0], files={"a.txt": b"a"})
    net.connect_all()
    net.join(1, site)
    net.restart(1)
    assert is_complete(net, 1, site)
    assert joined(net, 1, site).rules is not None


def test_a_spoilt_file_on_disk_is_fetched_again(network):
    net = network(2)
    site = net.site(holders=[0], files={"a.txt": b"good"})
    net.connect_all()
    net.join(1, site)
    file = net.nodes[1].folder / "sites" / site / "a.txt"
    file.write_bytes(b"evil")
    net.restart(1)
    assert not is_complete(net, 1, site)
    net.connect(1, 0)
    net.advance(2)
    assert file.read_bytes() == b"good"


def test_joining_before_there_is_a_peer(network):
    net = network(2)
    site = net.site(holders=[0])
    net.join(1, site)
    assert not is_complete(net, 1, site)
    assert joined(net, 1, site).rules_problem == "the site's content.json is not here yet"
    net.connect_all()
    assert is_complete(net, 1, site)


def test_a_peer_that_gets_the_site_later_is_asked_again(network):
    net = network(3)
    site = net.site(holders=[0])
    net.connect(1, 2)
    net.advance(2)
    net.join(2, site)
    net.join(1, site)
    assert not is_complete(net, 2, site)
    net.connect(0, 1)
    net.advance(40)
    assert is_complete(net, 1, site)
    net.advance(20 * 60)
    assert is_complete(net, 2, site)


def test_clients_are_told_of_new_content(network):
    net = network(2)
    site = net.site(holders=[0], files={"a.txt": b"a"})
    net.connect_all()
    net.nodes[1].node.add_site(site, None, 10_000_000)
    page, silent = net.client(1, site), net.client(1, site)
    page.ask("channelJoin", ["siteChanged"])
    net.join(1, site)
    infos = [params for cmd, params in page.events if cmd == "setSiteInfo"]
    # content.json, p2p.json, a.txt
    assert [info["bad_files"] for info in infos] == [2, 1, 0]
    assert infos[-1]["address"] == site
    assert infos[-1]["p2p"] == {"supported": True, "problem": ""}
    assert silent.events == []


def test_included_contents_are_fetched_too(network, stranger):
    net = network(1)
    below = {
        "inner_path": "data/content.json",
        "files": {"note.txt": fact(b"note")},
        "modified": EPOCH - 50,
    }
    files = {
        "p2p.json": RULES,
        "data/content.json": content_bytes(sign_content(below, OTHER_KEY)),
        "data/note.txt": b"note",
    }
    files["content.json"] = content(
        {"p2p.json": RULES}, includes={"data/content.json": {"signers": [OTHER_KEY.address]}}
    )
    stranger(net, respond=serving(files))
    join(net)
    assert is_complete(net, 0, KEY.address)
    assert on_disk(net, 0, KEY.address) == files


# What is refused

GOOD = {"p2p.json": RULES, "a.txt": b"good"}


@pytest.fixture
def warnings():
    told = []

    def observe(event):
        if event.get("log_level") is LogLevel.warn:
            told.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield told
    globalLogPublisher.removeObserver(observe)


def tampered(data):
    values = json.loads(data)
    values["title"] = "another"
    return json.dumps(values).encode()


BAD_CONTENTS = {
    "signed by another": (content(GOOD, key=OTHER_KEY), "no valid signature"),
    "changed after signing": (tampered(content(GOOD)), "no valid signature"),
    "unsigned": (json.dumps({"files": {}, "modified": 1}).encode(), "no signs"),
    "no JSON": (b"{", "no JSON"),
    "no map": (b"[]", "no map"),
    "of another site": (content(GOOD, address=OTHER_KEY.address), "another site|address"),
    "from the future": (content(GOOD, modified=EPOCH + 100_000), "future"),
    "with a path upwards": (content({**GOOD, "../../evil": b"x"}), "unsafe"),
    "with an absolute path": (content({**GOOD, "/etc/passwd": b"x"}), "unsafe"),
    "with a backslash": (content({**GOOD, "a\\..\\b": b"x"}), "unsafe"),
    "with a hidden step": (content({**GOOD, "a/../../b": b"x"}), "unsafe"),
    "with too many bytes": (
        content(GOOD, files={"big": {"sha512": "0" * 64, "size": 10**9}}),
        "over 10000000",
    ),
}


@pytest.mark.parametrize("name", BAD_CONTENTS)
def test_a_bad_content_json_is_refused_and_blamed(network, stranger, warnings, name):
    data, why = BAD_CONTENTS[name]
    net = network(1)
    bad = stranger(net, respond=serving({**GOOD, "content.json": data, "big": b"x"}))
    site = join(net)
    assert site.content is None and site.rules is None
    assert on_disk(net, 0, KEY.address) == {}
    assert any(part in told for told in warnings for part in why.split("|")), warnings
    # Too many bytes may be our own limit: that is nobody's fault.
    assert (points(net, 0, "203.0.113.9") > 0) == (name != "with too many bytes")
    assert not bad.lost
    outside = [file.name for file in net.nodes[0].folder.rglob("*") if "evil" in file.name]
    assert outside == []


@pytest.mark.parametrize(
    "told",
    [b"gooD", b"goo", b"good, and more", b"", None],
    ids=["hash", "short", "long", "empty", "none"],
)
def test_a_file_that_is_not_as_signed_is_refused_and_another_peer_is_asked(network, stranger, told):
    net = network(1)
    listed = {**GOOD, "content.json": content(GOOD)}
    files = {name: data for name, data in listed.items() if name != "a.txt"}
    if told is not None:
        files["a.txt"] = told
    bad = stranger(net, respond=serving(files))
    site = join(net)
    assert not is_complete(net, 0, KEY.address)
    assert "a.txt" not in on_disk(net, 0, KEY.address)
    # The rules came whole: the site takes messages.
    assert site.rules is not None
    assert (points(net, 0, "203.0.113.9") > 0) == (told is not None)
    assert not bad.lost
    stranger(net, host="203.0.113.10", respond=serving(listed))
    net.advance(35)
    assert on_disk(net, 0, KEY.address) == listed


@pytest.mark.parametrize(
    "answer",
    [
        {"size": 4, "location": 4},
        {"body": "text", "size": 4},
        {"body": b"good", "size": "4"},
        {"body": b"good", "size": True},
        {"body": b"good"},
        {"body": b"", "size": 4},
        {"body": b"go", "size": 4},
        {"body": b"good", "size": -1},
        {"body": b"good!", "size": 4},
        {},
    ],
)
def test_a_mad_answer_is_refused(network, stranger, answer):
    net = network(1)
    served = serving({**GOOD, "content.json": content(GOOD)})

    def respond(cmd, params):
        if cmd == "streamFile" and params["inner_path"] == "a.txt":
            return dict(answer)
        return served(cmd, params)

    stranger(net, respond=respond)
    site = join(net)
    good = answer == {"body": b"good", "size": -1}
    assert is_complete(net, 0, KEY.address) == good
    assert site.rules is not None
    assert (points(net, 0, "203.0.113.9") > 0) == (not good)


def test_a_source_that_announces_more_than_was_asked_loses_the_connection(network, stranger):
    net = network(1)
    one = stranger(net)

    def respond(cmd, params):
        if cmd != "streamFile":
            return {"peers": []}
        return {"size": 1, "location": 1, "stream_bytes": STREAM_LIMIT + 1, "body": b""}

    one.respond = respond
    join(net)
    assert one.lost


def test_a_declared_size_bounds_what_is_fetched(network, stranger):
    """A peer that serves an endless file is stopped at the signed size."""
    net = network(1)
    fetched = []
    served = serving({"content.json": content(GOOD), "p2p.json": RULES})

    def respond(cmd, params):
        if cmd == "streamFile" and params["inner_path"] == "a.txt":
            fetched.append(params["location"])
            body = b"x" * 100_000
            return {"size": 10**9, "location": 0, "stream_bytes": len(body), "body": body}
        return served(cmd, params)

    stranger(net, respond=respond)
    join(net)
    assert fetched == [0]


@pytest.mark.parametrize("crumb", [1, 1000])
def test_a_source_that_gives_crumbs_does_not_hold_up_the_others(network, stranger, crumb):
    net = network(1)
    files = {"p2p.json": RULES, "big.bin": bytes(200_000)}
    files["content.json"] = content(files)
    slow = stranger(net, respond=serving(files, chunk=crumb))
    stranger(net, host="203.0.113.10", respond=serving(files))
    join(net)
    assert is_complete(net, 0, KEY.address)
    assert len(slow.asked("streamFile")) < 10


def test_a_source_that_vanishes_midway(network, stranger):
    net = network(1)
    files = {"p2p.json": RULES, "big.bin": bytes(1_300_000)}
    files["content.json"] = content(files)
    served = serving(files)
    dying = stranger(net)

    def respond(cmd, params):
        if cmd == "streamFile" and params.get("location"):
            dying.close()
            return None
        return served(cmd, params)

    dying.respond = respond
    site = join(net)
    assert dying.lost and site.rules is not None
    assert "big.bin" not in on_disk(net, 0, KEY.address)
    assert points(net, 0, "203.0.113.9") == 0
    stranger(net, host="203.0.113.10", respond=served)
    net.advance(35)
    assert is_complete(net, 0, KEY.address)


def test_a_source_that_is_silent_holds_nothing_up_for_long(network, stranger):
    net = network(1)
    files = {**GOOD, "content.json": content(GOOD)}
    about_sites = ("pex", "getPiecefields")
    stranger(net, respond=lambda cmd, params: {"peers": []} if cmd in about_sites else None)
    stranger(net, host="203.0.113.10", respond=serving(files))
    join(net, seconds=0)
    assert not is_complete(net, 0, KEY.address)
    net.advance(12)
    assert is_complete(net, 0, KEY.address)


def test_fetching_is_tried_again_after_half_a_minute(network, stranger):
    net = network(1)
    files = {"content.json": content(GOOD), "p2p.json": RULES}
    stranger(net, respond=serving(files))
    join(net)
    assert not is_complete(net, 0, KEY.address)
    files["a.txt"] = b"good"
    net.advance(35)
    assert is_complete(net, 0, KEY.address)


def test_stopping_the_node_ends_what_is_being_fetched(network, stranger, errors):
    net = network(1)
    about_sites = ("pex", "getPiecefields")
    stranger(net, respond=lambda cmd, params: {"peers": []} if cmd in about_sites else None)
    join(net, seconds=1)
    net.stop(0)
    net.advance(60)
    assert on_disk(net, 0, KEY.address) == {}


# The operator's own directory


def test_an_own_directory_is_never_written(network):
    """A file changed since signing is the operator's work in progress."""
    net = network(2)
    site = net.site(holders=[0], files={"a.txt": b"old", "b.txt": b"b"})
    net.connect_all()
    own = net.nodes[1].folder / "own"
    shutil.copytree(net._folder / "site0", own)
    (own / "a.txt").write_bytes(b"my edit")
    (own / "b.txt").unlink()
    before = {file.name: file.read_bytes() for file in own.iterdir()}
    net.nodes[1].node.add_site(site, own, 10_000_000)
    net.nodes[1].node.site_peers.introduce(site)
    net.nodes[1].node.joining.try_all()
    net.advance(65)
    assert {file.name: file.read_bytes() for file in own.iterdir()} == before
    assert not is_complete(net, 1, site)


# update


def updated(net, one, site=KEY.address, **params):
    return one.ask("update", {"site": site, "inner_path": "content.json", **params})


def test_update_with_a_newer_content_changes_the_rules_at_once(network, stranger):
    net = network(1)
    files = {**GOOD, "content.json": content(GOOD)}
    one = stranger(net, respond=serving(files))
    site = join(net)
    client = net.client(0, KEY.address)
    client.ask("channelJoin", "siteChanged")
    assert site.rules.filter.passes('"x"')
    newer = {"p2p.json": b'{"filter": "^1$"}', "a.txt": b"better"}
    data = content(newer, modified=EPOCH - 10)
    files.update({**newer, "content.json": data})
    assert updated(net, one, body=data, modified=EPOCH - 10) == {
        "ok": "Thanks, file content.json updated!"
    }
    net.advance(1)
    assert not site.rules.filter.passes('"x"') and site.rules.filter.passes("1")
    assert on_disk(net, 0, KEY.address) == files
    assert client.ask("peerBroadcast", ["x"])["error"].startswith("invalid: ")
    assert [cmd for cmd, _ in client.events] == ["setSiteInfo"] * 3


def test_the_old_rules_hold_until_the_new_ones_are_here(network, stranger):
    net = network(1)
    files = {**GOOD, "content.json": content(GOOD)}
    one = stranger(net, respond=serving(files))
    site = join(net)
    rules = site.rules
    data = content({"p2p.json": b'{"filter": "^1$"}'}, modified=EPOCH - 10)
    updated(net, one, body=data)
    net.advance(1)
    assert site.content["modified"] == EPOCH - 10
    assert site.rules is rules


def test_rules_that_are_gone_from_the_content_are_gone(network, stranger):
    net = network(1)
    files = {**GOOD, "content.json": content(GOOD)}
    one = stranger(net, respond=serving(files))
    site = join(net)
    updated(net, one, body=content({"a.txt": b"good"}, modified=EPOCH - 10))
    assert site.rules is None
    assert site.rules_problem == "the site has no p2p.json"


def test_rules_that_do_not_compile_silence_the_site(network, stranger):
    net = network(1)
    files = {**GOOD, "content.json": content(GOOD)}
    one = stranger(net, respond=serving(files))
    site = join(net)
    bad = {**GOOD, "p2p.json": b'{"filter": "("}'}
    files.update(bad)
    updated(net, one, body=content(bad, modified=EPOCH - 10))
    net.advance(1)
    assert site.rules is None
    assert "filter does not compile" in site.rules_problem
    client = net.client(0, KEY.address)
    assert "filter does not compile" in client.ask("siteInfo")["p2p"]["problem"]


@pytest.mark.parametrize(
    ("params", "answer", "cost"),
    [
        ({"body": content(GOOD)}, {"ok": "File not changed"}, 0),
        ({"body": content(GOOD, modified=EPOCH - 200)}, "older", 1),
        # As a real node says it: who is behind the times has done no wrong.
        (
            {"body": content(GOOD, modified=EPOCH - 200), "modified": EPOCH - 200},
            {"ok": "File not changed"},
            0,
        ),
        ({"body": content(GOOD), "modified": EPOCH + 5}, {"ok": "File not changed"}, 0),
        ({"body": content(GOOD, modified=EPOCH - 9, key=OTHER_KEY)}, "no valid signature", 5),
        ({"body": b"{"}, "no JSON", 5),
        # Without a body it is fetched from the teller, which has none here.
        ({"body": b""}, {"error": "File invalid update: Can't download updaed file"}, 0),
        ({}, {"error": "File invalid update: Can't download updaed file"}, 0),
        ({"inner_path": "a.txt"}, {"error": "Only content.json update allowed"}, 0),
        ({"inner_path": "data/content.json", "body": b"{}"}, {"ok": "File not changed"}, 0),
    ],
)
def test_updates_that_change_nothing(network, stranger, params, answer, cost):
    net = network(1)
    files = {**GOOD, "content.json": content(GOOD)}
    stranger(net, respond=serving(files))
    join(net)
    other = stranger(net, host="203.0.113.10")
    before = on_disk(net, 0, KEY.address)
    got = updated(net, other, **params)
    if isinstance(answer, str):
        assert got["error"].startswith("File content.json invalid: ") and answer in got["error"]
    else:
        assert got == answer
    assert on_disk(net, 0, KEY.address) == before
    assert points(net, 0, "203.0.113.10") == pytest.approx(cost, abs=0.01)


def test_an_own_site_takes_no_update(network, stranger):
    net = network(1)
    site = net.site(files={"a.txt": b"a"})
    one = stranger(net)
    key = net.site_key(site)
    values = {"address": site, "inner_path": "content.json", "files": {}, "modified": EPOCH + 5}
    data = content_bytes(sign_content(values, key))
    assert updated(net, one, site, body=data) == {"ok": "File not changed"}
    assert joined(net, 0, site).rules is not None
