"""Newer versions: what is taken, from whom it is fetched, and what a claim costs."""

import pytest

from zeromsg.crypto.keys import PrivateKey
from zeromsg.routing import updating
from zeromsg.testing.network import EPOCH
from zeromsg.testing.served import serving, signed

KEY = PrivateKey(b"\x31" * 32)
OTHER_KEY = PrivateKey(b"\x32" * 32)
GOOD = {"p2p.json": b'{"filter": ".*"}', "a.txt": b"good"}
HOST = "203.0.113.9"
USER = OTHER_KEY.address
USER_PATH = f"data/users/{USER}/content.json"


@pytest.fixture
def told_by(network, stranger):
    """A node that has joined a site from a stranger, and that stranger with its files."""

    def make(files=None, **more):
        net = network(1)
        files = dict(GOOD) if files is None else files
        files.setdefault("content.json", content(files, **more))
        one = stranger(net, respond=serving(files))
        join(net)
        net.advance(5)
        return net, one, files

    return make


def newer(files, changes, modified=EPOCH - 10, **more):
    """The stranger has a new version."""
    below = {name: data for name, data in files.items() if not name.endswith("content.json")}
    below.update(changes)
    data = content({n: d for n, d in below.items() if "/" not in n}, modified=modified, **more)
    files.update({**below, "content.json": data})
    return data


def held(net, path="content.json"):
    return joined(net).version(path)


def fetched(one, path="content.json"):
    return [params for params in one.asked("streamFile") if params["inner_path"] == path]


def content(_files, key=KEY, modified=EPOCH - 100, **extra):
    """A root content.json of KEY's site, whoever signs it."""
    return signed(key, _files, modified, extra={"address": KEY.address, **extra})


def joined(net, site=KEY.address):
    return net.nodes[0].node.sites.get(site)


def join(net):
    net.join(0, KEY.address)
    net.advance(2)


def on_disk(net):
    folder = net.nodes[0].folder / "sites" / KEY.address
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


def points(net, host=HOST):
    return net.nodes[0].node.scoring.points(host, net.wall())


def updated(net, one, site=KEY.address, **params):
    return one.ask("update", {"site": site, "inner_path": "content.json", **params})


# update


def test_an_update_without_a_body_is_fetched_and_then_its_files(told_by):
    net, one, files = told_by()
    newer(files, {"p2p.json": b'{"filter": "^1$"}', "a.txt": b"better"})
    assert updated(net, one, body=b"", modified=EPOCH - 10) == {
        "ok": "Thanks, file content.json updated!"
    }
    net.advance(1)
    assert on_disk(net) == files
    assert joined(net).rules.filter.passes("1")
    assert points(net) == 0


def test_a_file_without_a_body_that_its_teller_has_not_is_fetched_from_others(told_by, stranger):
    net, _one, files = told_by()
    net.advance(60)
    data = newer(files, {"a.txt": b"better"})
    mute = stranger(net, host="203.0.113.10", respond=serving({"content.json": data}))
    mute.respond = serving({})
    got = updated(net, mute, body=b"", modified=EPOCH - 10)
    assert got == {"error": "File invalid update: Can't download updaed file"}
    net.advance(5)
    assert on_disk(net) == files
    assert points(net, "203.0.113.10") == 0


def test_a_slow_file_is_answered_for_in_time_and_taken_all_the_same(told_by):
    net, one, files = told_by()
    newer(files, {"a.txt": b"better"})
    serve = one.respond
    one.respond = lambda cmd, params: None if cmd == "streamFile" else serve(cmd, params)
    asked = one.request(
        "update", {"site": KEY.address, "inner_path": "content.json", "modified": EPOCH - 10}
    )
    net.advance(updating.ANSWER_SECONDS - 1)
    assert asked not in one.answers
    net.advance(1.5)
    assert one.answers[asked]["ok"] == "File not changed"
    (waiting,) = one.unanswered
    body = files["content.json"]
    one.respond = serve
    answer = {"size": len(body), "location": len(body), "stream_bytes": len(body)}
    one.send({"cmd": "response", "to": waiting, **answer}, body)
    net.advance(1)
    assert on_disk(net) == files


def below(path, files, key=OTHER_KEY, modified=EPOCH - 50, **more):
    return signed(key, files, modified, path, more)


WITH_INCLUDE = {"includes": {"data/content.json": {"signers": [USER]}}}
USERS = {"user_contents": {"cert_signers": {}, "permission_rules": {".*": {"max_size": 9999}}}}


def with_users():
    """A site with a folder for users, and nobody in it yet."""
    files = {
        **GOOD,
        "data/users/content.json": below("data/users/content.json", {}, KEY, EPOCH - 90, **USERS),
    }
    includes = {"includes": {"data/users/content.json": {"signers": []}}}
    files["content.json"] = content(GOOD, **includes)
    return files


@pytest.mark.parametrize("with_body", [True, False])
def test_an_included_file_is_updated(told_by, with_body):
    path = "data/content.json"
    files = {**GOOD, path: below(path, {"n.txt": b"note"}), "data/n.txt": b"note"}
    files["content.json"] = content(GOOD, **WITH_INCLUDE)
    net, one, files = told_by(files)
    assert on_disk(net) == files
    files[path] = below(path, {"n.txt": b"other"}, modified=EPOCH - 5)
    files["data/n.txt"] = b"other"
    params = {"inner_path": path, "modified": EPOCH - 5, "body": files[path] if with_body else b""}
    assert updated(net, one, **params) == {"ok": f"Thanks, file {path} updated!"}
    net.advance(1)
    assert on_disk(net) == files


@pytest.mark.parametrize("with_body", [True, False])
def test_a_users_file_is_taken_and_survives_a_restart(told_by, with_body):
    net, one, files = told_by(with_users())
    assert on_disk(net) == files
    files[USER_PATH] = below(USER_PATH, {"d.json": b"{}"}, modified=EPOCH - 5)
    files[f"data/users/{USER}/d.json"] = b"{}"
    body = files[USER_PATH] if with_body else b""
    got = updated(net, one, inner_path=USER_PATH, modified=EPOCH - 5, body=body)
    assert got == {"ok": f"Thanks, file {USER_PATH} updated!"}
    net.advance(1)
    assert on_disk(net) == files
    said = one.ask("listModified", {"site": KEY.address, "since": EPOCH - 60})
    assert said == {"modified_files": {USER_PATH: EPOCH - 5}}
    net.restart(0)
    assert held(net, USER_PATH) == EPOCH - 5
    assert points(net) == 0


def test_a_file_of_which_only_a_newer_root_speaks_comes_with_that_root(told_by):
    """The teller is not blamed for knowing more than we do."""
    net, one, files = told_by()
    net.advance(60)
    newer(files, {}, **WITH_INCLUDE)
    files["data/content.json"] = below("data/content.json", {}, modified=EPOCH - 5)
    got = updated(net, one, inner_path="data/content.json", body=files["data/content.json"])
    assert got == {"ok": "File not changed"}
    net.advance(5)
    assert on_disk(net) == files
    assert points(net) == 0


# listModified


def test_a_new_peer_is_asked_what_it_has(network, stranger):
    net = network(1)
    files = dict(GOOD)
    files["content.json"] = content(GOOD)
    stranger(net, respond=serving(files))
    join(net)
    data = content({**GOOD, "a.txt": b"better"}, modified=EPOCH - 10)
    latest = {**GOOD, "a.txt": b"better", "content.json": data}
    other = stranger(net, host="203.0.113.10", respond=serving(latest))
    net.advance(5)
    assert on_disk(net) == latest
    # From a day before the newest that we had.
    assert other.asked("listModified")[0] == {"site": KEY.address, "since": EPOCH - 100 - 86400}


def test_peers_are_asked_again_now_and_then(told_by):
    net, one, files = told_by()
    assert len(one.asked("listModified")) == 1
    newer(files, {"a.txt": b"better"})
    net.advance(updating.ROUND_SECONDS * 1.3)
    assert on_disk(net) == files
    net.advance(3600)
    assert len(one.asked("listModified")) < 10


def test_a_zeronet_node_that_refuses_is_not_asked_again(network, stranger):
    net = network(1)
    net.site(holders=[0])
    one = stranger(net)  # it answers listModified as unknown
    net.advance(10)
    assert len(one.asked("listModified")) == 1
    net.advance(7200)
    assert len(one.asked("listModified")) == 1


def test_files_are_asked_only_of_those_that_have_our_version(told_by, stranger):
    """Of a ZeroNet node that is behind a wrong size costs points; and it is no liar."""
    net, one, files = told_by()
    older = stranger(net, host="203.0.113.10", respond=serving(dict(files)))
    net.advance(10)
    # Its new file has the length of the old one, and the teller cannot give it.
    data = newer(files, {"a.txt": b"goof"})
    served = serving(files)
    one.respond = lambda cmd, params: (
        {"error": "File read error"} if params.get("inner_path") == "a.txt" else served(cmd, params)
    )
    updated(net, one, body=data)
    net.advance(600)
    assert on_disk(net)["a.txt"] == b"good"
    assert fetched(older, "a.txt") == []
    assert points(net, "203.0.113.10") == 0
    # Who has it is not asked all the time either.
    assert len(fetched(one, "a.txt")) < 10


def test_a_peer_that_has_the_new_content_and_not_yet_the_files_is_no_liar_for_long(
    told_by, stranger
):
    net, one, files = told_by()
    data = newer(files, {"a.txt": b"goof"})
    half = {**files, "a.txt": b"good"}
    one.respond = serving(half)
    updated(net, one, body=data)
    net.advance(3)
    assert points(net) == 7
    half["a.txt"] = b"goof"
    net.advance(60)
    assert on_disk(net) == files


def test_an_own_site_is_not_fetched_whatever_is_claimed(network, stranger):
    net = network(1)
    site = net.site()
    files = {"content.json": content(GOOD, modified=EPOCH + 50)}
    one = stranger(net, respond=serving(files))
    net.advance(10)
    assert one.asked("listModified") != [] and one.asked("streamFile") == []
    got = updated(net, one, site, modified=EPOCH + 50)
    assert got == {"ok": "File not changed"} and one.asked("streamFile") == []


def test_peers_are_not_given_files_of_the_version_before(told_by):
    """Pages are, until the new one is here."""
    net, one, files = told_by()
    data = newer(files, {"a.txt": b"goof"})
    one.respond = serving({"content.json": data})
    updated(net, one, body=data)
    net.advance(1)
    asked = {"site": KEY.address, "inner_path": "a.txt", "location": 0}
    assert one.ask("getFile", asked) == {"error": "File read error: no such file"}
    assert joined(net).read("a.txt", 0, 9) == (b"good", 4)


# Hostile


def test_a_flood_of_updates_costs_the_sender(told_by):
    net, one, _files = told_by()
    for _ in range(updating.UPDATE_BURST):
        one.request("update", {"site": KEY.address, "inner_path": "content.json", "modified": 5})
    net.advance(0.2)
    assert points(net) == 0
    got = updated(net, one, modified=5)
    net.advance(0)
    assert got == {"ok": "File not changed"} or got == {"warning": "Too many updates"}
    for _ in range(150):
        one.request("update", {"site": KEY.address, "inner_path": "content.json", "modified": 5})
    net.advance(1)
    assert one.lost


def test_what_a_flood_hides_is_found_by_asking(told_by):
    net, one, files = told_by()
    net.advance(60)
    for _ in range(updating.UPDATE_BURST + 5):
        one.request("update", {"site": KEY.address, "inner_path": "content.json", "modified": 5})
    net.advance(0.1)
    data = newer(files, {"a.txt": b"better"})
    assert updated(net, one, body=data, modified=EPOCH - 10) == {"warning": "Too many updates"}
    net.advance(5)
    assert on_disk(net) == files


def test_a_large_body_counts_as_several_updates(told_by):
    """A megabyte of what is held already took 0.2 s each time, and cost nothing."""
    net, one, files = told_by()
    net.advance(60)
    body = files["content.json"] + b" " * (updating.UPDATE_LIMIT // 2)
    answers = [updated(net, one, body=body, modified=None) for _ in range(5)]
    assert [answer.get("ok") for answer in answers] == ["File not changed"] * 3 + [None] * 2
    assert answers[-1] == {"warning": "Too many updates"} and points(net) == 2


def test_bodies_that_are_not_signed_get_their_sender_banned(told_by):
    net, one, _files = told_by()
    before = on_disk(net)
    for number in range(25):
        body = content(GOOD, modified=EPOCH - 90 + number, key=OTHER_KEY)
        one.request("update", {"site": KEY.address, "inner_path": "content.json", "body": body})
    net.advance(1)
    assert one.lost and on_disk(net) == before


@pytest.mark.parametrize(
    ("modified", "answer", "cost", "fetches"),
    [
        (EPOCH + 200_000, "ahead", 1, 0),
        (1e300, "ahead", 1, 0),
        (2**63, "ahead", 1, 0),
        (0, "File not changed", 0, 0),
        (-5, "File not changed", 0, 0),
        (EPOCH - 100, "File not changed", 0, 0),
        # Nothing that could be compared: it is looked for once, and is not there.
        (float("nan"), "File not changed", 1, 1),
        (float("inf"), "File not changed", 1, 1),
        ("5", "File not changed", 1, 1),
        (None, "File not changed", 1, 1),
        # A version that there is not.
        (EPOCH - 50, "File not changed", 5, 1),
    ],
)
def test_absurd_versions(told_by, modified, answer, cost, fetches):
    net, one, _files = told_by()
    before = len(fetched(one))
    got = updated(net, one, modified=modified)
    assert answer in str(got.get("ok", got.get("error")))
    assert points(net) == pytest.approx(cost, abs=0.01)
    assert len(fetched(one)) - before == fetches


def liar(files, claims):
    """Serves what it has, and claims what it likes."""
    served = serving(files)

    def respond(cmd, params):
        return {"modified_files": claims()} if cmd == "listModified" else served(cmd, params)

    return respond


def test_a_peer_that_claims_new_versions_for_ever_is_hardly_asked(told_by):
    net, one, files = told_by()
    before = len(fetched(one))
    one.respond = liar(files, lambda: {"content.json": net.wall()})
    for _ in range(360):
        one.request(
            "update", {"site": KEY.address, "inner_path": "content.json", "modified": net.wall()}
        )
        net.advance(10)
    # After one minute, two, four...
    assert 3 <= len(fetched(one)) - before <= 8
    assert points(net) > 0


def test_a_peer_that_claims_everything(told_by):
    """A thousand users of whom it has nothing: one is asked for, and then nothing for a while."""
    net, one, files = told_by(with_users())
    many = {f"data/users/1{number:030}/content.json": EPOCH - 1 for number in range(5000)}
    one.respond = liar(files, lambda: many)
    before = len(one.asked("streamFile"))
    net.advance(updating.ROUND_SECONDS * 1.3)
    assert 1 <= len(one.asked("streamFile")) - before <= 3
    assert not one.lost


def test_places_that_no_content_speaks_of_are_not_asked_for(told_by):
    net, one, files = told_by()
    one.respond = liar(
        files, lambda: {"x/content.json": EPOCH - 1, "../content.json": 1, "a.txt": 5}
    )
    before = len(one.asked("streamFile"))
    net.advance(updating.ROUND_SECONDS * 1.3)
    assert len(one.asked("streamFile")) == before


@pytest.mark.parametrize("answer", [[], {"content.json": "x"}, {5: 5}, "x"])
def test_a_malformed_answer_costs_points(told_by, answer):
    net, one, files = told_by()
    one.respond = liar(files, lambda: answer)
    net.advance(updating.ROUND_SECONDS * 1.25)
    assert points(net) > 0


def test_a_silent_liar_does_not_keep_a_good_peer_waiting(told_by, stranger):
    net, one, files = told_by()
    net.advance(60)
    silent = stranger(net, host="203.0.113.10", respond=serving(dict(files)))
    net.advance(5)
    silent.respond = lambda cmd, params: None
    silent.request(
        "update", {"site": KEY.address, "inner_path": "content.json", "modified": EPOCH - 2}
    )
    net.advance(1)
    data = newer(files, {"a.txt": b"better"})
    updated(net, one, body=data, modified=EPOCH - 10)
    net.advance(1)
    assert on_disk(net) == files


def test_nothing_is_kept_of_a_peer_that_is_gone(told_by):
    net, one, _files = told_by()
    one.respond = lambda cmd, params: None
    for number in range(10):
        one.request(
            "update",
            {"site": KEY.address, "inner_path": "content.json", "modified": EPOCH - 9 + number / 9},
        )
    net.advance(1)
    one.close()
    net.advance(30)
    node = net.nodes[0].node
    kept = node.updating
    assert not kept._seen and not kept._versions._of and not node.spreading._told
    assert not any(kept._claims.values()) and not any(kept._fetching.values())
    assert not kept._works
