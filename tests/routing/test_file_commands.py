"""Commands about files: what ordinary zites read, and files that come when they are asked for."""

import gc
import json

import pytest

from zeromsg.policy.site_content import content_bytes, file_digest, parse_content, sign_content
from zeromsg.routing import file_commands
from zeromsg.routing.file_commands import FileCommands
from zeromsg.routing.slices import SLICE_SECONDS
from zeromsg.testing import Network

DATA = {"topics": [{"topic_id": 1, "title": "one"}, {"topic_id": 2, "title": "two"}]}
FILES = {
    "data/a.json": json.dumps(DATA).encode(),
    "data/users/x.json": b'{"name": "Bob"}',
    "data/bad.json": b"{",
    "hello.txt": b"hello",
}


@pytest.fixture
def net():
    with Network(nodes=2, seed=5) as net:
        net.main = net.site(files=FILES)
        net.connect_all()
        yield net


@pytest.fixture
def client(net):
    return net.client(0, net.main)


def results(deferred):
    found = []
    deferred.addCallback(found.append)
    return found


# As recorded from a real node (files_settings.json).


@pytest.mark.parametrize(
    ("params", "rows"),
    [
        (["data/a.json", "topics"], [{**row, "inner_path": ""} for row in DATA["topics"]]),
        (["data/a.json", "topics.topic_id=2"], [{**DATA["topics"][1], "inner_path": ""}]),
        (["data/a.json"], [{**DATA, "inner_path": ""}]),
        (["data/*/x.json", "name"], [{"value": "Bob", "inner_path": "users"}]),
        (["data/none.json", "x"], []),
        (["data/a.json", "zzz"], []),
        (["data/bad.json"], []),
        (["../users.json"], []),
    ],
)
def test_file_query(client, params, rows):
    assert client.ask("fileQuery", params) == rows


def test_file_query_is_bounded(client, monkeypatch):
    assert client.ask("fileQuery", ["*/*/x.json"])["error"].startswith("invalid: ")
    monkeypatch.setattr(file_commands, "QUERY_ROWS", 1)
    assert len(client.ask("fileQuery", ["data/a.json", "topics"])) == 1
    monkeypatch.setattr(file_commands, "QUERY_BYTES", 10)
    assert client.ask("fileQuery", ["data/a.json"])["error"].startswith("too-big: ")


class SlowClock:
    """On which each look at the time takes as long as half a slice."""

    def __init__(self, clock):
        self._clock = clock
        self.callLater = clock.callLater
        self._late = 0.0

    def seconds(self):
        self._late += SLICE_SECONDS / 2
        return self._clock.seconds() + self._late


@pytest.fixture
def slow(network):
    """A node that takes a while for each file of a query."""
    net = network(1)
    net.main = net.site(files={f"data/{number}/x.json": b'[{"a": 1}]' for number in range(20)})
    node = net.nodes[0].node
    node.commands._table |= FileCommands(
        sites=node.sites, files=node.files, permissions=node.permissions, clock=SlowClock(net.clock)
    ).table()
    return net


def test_long_queries_do_not_hold_others_up(slow):
    net = slow
    client, other = (net.client(0, net.main) for _ in range(2))
    first, second = (results(client.call("fileQuery", ["data/*/x.json"])) for _ in "12")
    assert first == second == [] and other.ask("ping") == "pong"
    others = results(other.call("fileQuery", ["data/0/x.json"]))
    for _ in range(100):
        net.clock.advance(0.001)
        # One after the other, for each client.
        assert not second or first
    assert others == [[{"a": 1, "inner_path": ""}]]
    assert len(first[0]) == len(second[0]) == 20


def test_queries_of_a_client_that_is_gone_are_given_up(slow):
    net = slow
    client = net.client(0, net.main)
    answers = [results(client.call("fileQuery", ["data/*/x.json"])) for _ in range(3)]
    client.close()
    net.advance(5)
    # What was left undone would be found out now.
    gc.collect()
    assert answers == [[], [], []]


def test_dir_list(client):
    assert client.ask("dirList", "data") == ["a.json", "bad.json", "users"]
    assert client.ask("dirList", ["data", True]) == [
        {"name": "a.json", "size": len(FILES["data/a.json"]), "is_dir": False},
        {"name": "bad.json", "size": 1, "is_dir": False},
        {"name": "users", "size": 0, "is_dir": True},
    ]
    assert "hello.txt" in client.ask("dirList", [""])
    missing = {"error": "FileNotFoundError: No such file or directory"}
    assert client.ask("dirList", "zzz") == missing
    assert client.ask("dirList", "../")["error"].startswith("invalid: ")


def test_file_rules(net, client):
    rules = client.ask("fileRules", "content.json")
    assert rules["signers"] == [net.main] and rules["current_size"] > 100
    assert "error" in client.ask("fileRules", "data/users/1abc/content.json")


def test_what_needs_a_database_says_that_there_is_none(client):
    assert client.ask("dbQuery", ["SELECT 1"])["error"].startswith("unsupported: ")


def test_small_ones(net, client):
    assert client.ask("siteBadFiles") == []
    assert client.ask("announcerInfo") == {"address": net.main, "stats": {}}
    assert client.ask("siteUpdate", net.main) == "Updated"
    assert client.ask("siteUpdate", "1other") == {"error": "Unknown site: 1other"}
    assert client.ask("siteReload", "content.json") == "ok"
    assert client.ask("userGetGlobalSettings") == {}
    assert client.ask("fileNeed", "hello.txt") == "ok"
    assert client.ask("fileNeed", "none.txt")["error"].startswith("timeout: ")


# Files that come when somebody wants them


def optional_site(net, name, data):
    """A site of node 0 with an optional file, which node 1 has joined."""
    site = net.site(holders=[0])
    folder = net._site_folders[site]
    (folder / name).write_bytes(data)
    content = dict(parse_content((folder / "content.json").read_bytes()))
    content["files_optional"] = {name: {"sha512": file_digest(data), "size": len(data)}}
    content["modified"] += 1
    (folder / "content.json").write_bytes(content_bytes(sign_content(content, net.site_key(site))))
    net.advance(5)
    net.join(1, site)
    return site, folder


def test_an_optional_file_is_fetched_when_it_is_needed(net):
    site, _ = optional_site(net, "film.bin", b"x" * 700_000)
    reader = net.client(1, site)
    assert "film.bin" not in reader.ask("fileList", [""])
    answered = results(reader.call("fileNeed", "film.bin"))
    again = results(reader.call("fileGet", {"inner_path": "film.bin", "format": "base64"}))
    assert answered == again == []
    net.advance(2)
    assert answered == ["ok"] and len(again[0]) == 933_336
    assert "film.bin" in reader.ask("fileList", [""])
    net.restart(1)
    assert "film.bin" in net.client(1, site).ask("fileList", [""])


def test_an_optional_file_that_is_spoilt_is_not_kept(net):
    site, folder = optional_site(net, "film.bin", b"x" * 1000)
    (folder / "film.bin").write_bytes(b"y" * 1000)
    reader = net.client(1, site)
    answered = results(reader.call("fileGet", ["film.bin"]))
    net.advance(2)
    assert answered == [None] and "film.bin" not in reader.ask("fileList", [""])


def test_a_new_version_of_an_optional_file_is_fetched_again(net):
    site, folder = optional_site(net, "film.bin", b"x" * 1000)
    reader = net.client(1, site)
    reader.call("fileNeed", "film.bin")
    net.advance(2)
    content = dict(parse_content((folder / "content.json").read_bytes()))
    (folder / "film.bin").write_bytes(b"second")
    content["files_optional"] = {"film.bin": {"sha512": file_digest(b"second"), "size": 6}}
    content["modified"] += 10
    data = content_bytes(sign_content(content, net.site_key(site)))
    (folder / "content.json").write_bytes(data)
    net.advance(5)
    answered = results(reader.call("fileGet", ["film.bin"]))
    net.advance(2)
    assert answered == ["second"]


def test_optional_files_have_a_bound(net):
    site, _ = optional_site(net, "film.bin", b"x" * 1000)
    net.nodes[1].node.sites.get(site).size_limit = 999
    answered = results(net.client(1, site).call("fileNeed", "film.bin"))
    net.advance(2)
    assert answered[0]["error"].startswith("timeout: ")


def test_waiting_ends(net):
    net.nodes[1].node.join("1" + "f" * 30)
    reader = net.client(1, "1" + "f" * 30)
    answered = results(reader.call("fileNeed", ["index.html", 10]))
    unasked = results(reader.call("fileGet", {"inner_path": "index.html", "required": False}))
    assert unasked == [None]
    net.advance(9)
    assert answered == []
    net.advance(2)
    assert answered[0]["error"].startswith("timeout: ")


def test_who_leaves_waits_no_longer(net):
    node = net.nodes[1].node
    node.join("1" + "f" * 30)
    reader = net.client(1, "1" + "f" * 30)
    reader.call("fileNeed", ["index.html", 100])
    reader.close()
    assert not node.files._waiting
