"""certAdd, certSelect, certSet, certList: as ZeroNet's, but only the person chooses."""

import json
from pathlib import Path

import pytest

from zeromsg.crypto.cert import Certificate

RECORDED = json.loads((Path(__file__).parents[1] / "vectors" / "ui" / "certs.json").read_text())[
    "steps"
]
GOOD_SIGN = (
    "GzJh/ayTLAMkpLnQvDsYMPOEadCkssYmB1SttR4icLsQfTa7k0Cqd00hn7HoU+3J87k0XW3w12oRCi/XYP2KYIM="
)
CERT = ["rigid.bit", "web", "rigtester", "BADSIGN"]
NO_RIGHT = "denied: You don't have permission to run "


@pytest.fixture
def net(network):
    made = network(2)
    made.main = made.site()
    made.other = made.site()
    made.connect_all()
    return made


@pytest.fixture
def node(net):
    return net.nodes[0].node


@pytest.fixture
def user(net):
    return net.nodes[0].users.default


@pytest.fixture
def client(net):
    return net.client(0, net.main)


@pytest.fixture
def page(net):
    """The node's own page of the site, where the person is."""
    return net.client(0, net.main, trusted=True)


def watching(net, site, **more):
    client = net.client(0, site, **more)
    client.ask("channelJoin", {"channels": ["siteChanged"]})
    client.events.clear()
    return client


def changes(client):
    return [
        (params["event"], params["cert_user_id"], params["auth_address"])
        for cmd, params in client.events
        if cmd == "setSiteInfo"
    ]


def waits(client, cmd, params):
    """A call that the person is asked about; its result will be in the list."""
    results = []
    client.call(cmd, params).addCallback(results.append)
    assert results == []
    return results


def answer(node, choice):
    node.prompts.answer(node.prompts.waiting()[-1]["id"], choice)


# Against the recording


def recorded_events(cmd):
    return [
        step["msg"]["params"]
        for step in RECORDED
        if step.get("conn") == "A" and step.get("msg", {}).get("cmd") == cmd
    ]


def test_the_recorded_course(net, node, user, client, page):
    """certs.json; where there a `response` answers, here the person does."""
    watcher = watching(net, net.main)
    plain = user.auth_address(net.main)
    refusal = client.ask("certSet", ["rigid.bit"])
    assert refusal == {"error": NO_RIGHT + "certSet"}
    assert client.ask("certAdd", CERT) == "ok"
    assert client.ask("certAdd", CERT) == "Not changed"
    replacing = waits(client, "certAdd", [*CERT[:3], GOOD_SIGN])
    client.respond_to(8, 1)
    assert replacing == []
    answer(node, "yes")
    assert replacing == ["ok"]
    selecting = waits(client, "certSelect", {"accepted_domains": ["rigid.bit", "more.bit"]})
    answer(node, "")
    assert selecting == ["ok"]
    selecting = waits(client, "certSelect", {"accepted_domains": ["rigid.bit", "more.bit"]})
    answer(node, "rigid.bit")
    assert selecting == ["ok"]
    assert page.ask("certList", []) == [
        {
            "auth_address": plain,
            "auth_type": "web",
            "auth_user_name": "rigtester",
            "domain": "rigid.bit",
            "selected": True,
        }
    ]
    assert page.ask("certSet", [""]) == "ok"

    sent = [params for cmd, params in client.events if cmd == "notification"]
    recorded = [params for params in recorded_events("notification") if params[0] == "done"]
    assert [params for params in sent if params[0] == "done"] == recorded
    assert [params for cmd, params in client.events if cmd == "confirm"] == recorded_events(
        "confirm"
    )
    asks = [params[1] for params in sent if params[0] == "ask"]
    assert "title='rigid.bit'><b>rigtester@rigid.bit</b>" in asks[0]
    assert "href='/more.bit'" in asks[0]
    # ZeroNet sends scripts to its wrapper; none of ours runs what a message brings.
    assert "injectScript" not in {cmd for cmd, _ in client.events}
    told = [
        step["msg"]["params"]["event"]
        for step in RECORDED
        if step.get("conn") == "A2" and step.get("msg", {}).get("cmd") == "setSiteInfo"
    ]
    assert [event for event, _, _ in changes(watcher)] == told
    assert [id for _, id, _ in changes(watcher)] == [
        "rigtester@rigid.bit",
        "rigtester@rigid.bit",
        None,
        "rigtester@rigid.bit",
        None,
    ]


# Adding


def test_an_added_certificate_is_kept_and_chosen(net, user, client):
    plain = user.auth_address(net.main)
    assert client.ask("certAdd", CERT) == "ok"
    assert user.certificate(net.main) == Certificate("web", "rigtester", "rigid.bit", "BADSIGN")
    info = client.ask("siteInfo")
    assert (info["cert_user_id"], info["auth_address"]) == ("rigtester@rigid.bit", plain)
    assert user.certificate(net.other) is None


def test_messages_carry_it_then(net, client):
    reader = net.client(1, net.main)
    client.ask("certAdd", CERT)
    client.call("peerBroadcast", {"message": "x", "privatekey": False})
    net.advance(1)
    (event,) = reader.received()
    assert event["signed_by"] == client.ask("siteInfo")["auth_address"]


@pytest.mark.parametrize(
    "params",
    [
        [],
        ["rigid.bit", "web", "name"],
        ["", "web", "name", "x"],
        ["rigid.bit", "", "name", "x"],
        ["rigid.bit", "web", "", "x"],
        ["rigid@bit", "web", "name", "x"],
        ["rigid.bit", "we/b", "name", "x"],
        ["x" * 256, "web", "name", "x"],
        ["rigid.bit", "web", "name", "x" * 2000],
        ["rigid.bit", "web", "\ud800", "x"],
        ["rigid.bit", "web", None, "x"],
        [5, "web", "name", "x"],
    ],
)
def test_what_is_no_certificate(user, client, params):
    assert client.ask("certAdd", params)["error"].startswith("invalid: ")
    assert user.certificates() == {}


def test_there_is_a_most(net, user, client, monkeypatch):
    monkeypatch.setattr("zeromsg.store.user.CERTIFICATES_LIMIT", 1)
    client.ask("certAdd", CERT)
    assert client.ask("certAdd", ["more.bit", "web", "a", "b"])["error"].startswith("too-big")
    assert user.certificate(net.main).issuer == "rigid.bit"


def test_what_became_the_same_meanwhile(node, client, net):
    client.ask("certAdd", CERT)
    first = waits(client, "certAdd", [*CERT[:3], GOOD_SIGN])
    second = waits(client, "certAdd", [*CERT[:3], GOOD_SIGN])
    answer(node, "yes")
    answer(node, "yes")
    assert (second, first) == (["ok"], ["Not changed"])


# Choosing


def test_nothing_to_choose_yet(node, client):
    results = waits(client, "certSelect", {"accepted_domains": ["rigid.bit"]})
    (prompt,) = node.prompts.waiting()
    assert [choice["answer"] for choice in prompt["choices"]] == [""]
    assert prompt["choices"][0]["label"] == "No certificate (currently selected)"
    assert "rigid.bit" in prompt["text"]
    answer(node, "")
    assert results == ["ok"]


@pytest.fixture
def three(net, user):
    for domain in ("a.bit", "b.bit", "b.id"):
        user.add_certificate(net.main, Certificate("web", domain[0], domain, "x"))


@pytest.mark.parametrize(
    ("params", "offered"),
    [
        ({}, ["a.bit", "b.bit", "b.id"]),
        ([], ["a.bit", "b.bit", "b.id"]),
        ({"accepted_domains": []}, ["a.bit", "b.bit", "b.id"]),
        ({"accepted_domains": ["b.id", "c.bit"]}, ["b.id"]),
        ([["a.bit"]], ["a.bit"]),
        ({"accepted_domains": ["b.id"], "accept_any": True}, ["a.bit", "b.bit", "b.id"]),
        ({"accepted_pattern": r"b\."}, ["b.bit", "b.id"]),
        ({"accepted_pattern": r".*\.bit$"}, ["a.bit", "b.bit"]),
        ({"accepted_pattern": "bit"}, []),
        ({"accepted_domains": ["b.id"], "accepted_pattern": "a"}, ["a.bit", "b.id"]),
    ],
)
def test_what_is_offered(node, client, three, params, offered):
    waits(client, "certSelect", params)
    (prompt,) = node.prompts.waiting()
    assert [choice["answer"] for choice in prompt["choices"]] == ["", *offered]


def test_what_is_not_offered_cannot_be_chosen(net, node, user, page, client, three):
    results = waits(client, "certSelect", {"accepted_domains": ["a.bit"]})
    prompt = page.prompts()[0]
    page.respond_to(prompt["id"], "b.bit")
    assert results == [] and user.certificate(net.main) is None
    page.respond_to(prompt["id"], "a.bit")
    assert results == ["ok"] and user.certificate(net.main).issuer == "a.bit"


def test_a_certificate_that_went_meanwhile(node, user, client, three):
    results = waits(client, "certSelect", {})
    user.remove_certificate("a.bit")
    answer(node, "a.bit")
    assert results == [{"error": "invalid: no certificate of a.bit"}]


@pytest.mark.parametrize(
    "params",
    [
        {"accepted_pattern": "("},
        {"accepted_pattern": "(?=a)b"},
        {"accepted_pattern": "x" * 256},
        {"accepted_pattern": "(((((a{1,100}){1,100}){1,100}){1,100}))"},
        {"accepted_pattern": "\ud800"},
        {"accepted_pattern": 5},
        {"accepted_domains": "rigid.bit"},
        {"accepted_domains": [5]},
        {"accepted_domains": [""]},
        {"accepted_domains": ["x"] * 51},
        {"accepted_domains": ["x" * 256]},
        {"accept_any": 1},
        {"more": 1},
    ],
)
def test_bad_wishes(node, client, params):
    assert client.ask("certSelect", params)["error"].startswith("invalid: ")
    assert len(node.prompts) == 0


def test_a_pattern_that_stalls_other_engines(node, client, user, net):
    user.add_certificate(net.main, Certificate("web", "x", "a" * 250, "x"))
    waits(client, "certSelect", {"accepted_pattern": "(a+)+$b"})
    assert [choice["answer"] for choice in node.prompts.waiting()[0]["choices"]] == [""]


# Markup


NASTY = "<img src=x onerror=alert(1)>'\"&"


def test_no_markup_of_a_site_reaches_a_page(node, client):
    assert client.ask("certAdd", [NASTY, "web", NASTY, "x"]) == "ok"
    waits(client, "certAdd", [NASTY, "web", NASTY, "y"])
    waits(client, "certSelect", {"accepted_domains": [NASTY, NASTY + "2"]})
    shown = [params for cmd, params in client.events if cmd in ("confirm", "notification")]
    assert len(shown) == 3
    text = json.dumps(shown)
    assert "<img" not in text and "alert(1)>" not in text
    assert text.count("&lt;img") >= 6
    assert "title='&lt;img src=x onerror=alert(1)&gt;&#x27;&quot;&amp;'" in shown[2][1]
    # Pages show plain text as text, and answer with the domain itself.
    prompt = node.prompts.waiting()[1]
    assert prompt["choices"][1]["answer"] == NASTY


# Rights


@pytest.mark.parametrize("cmd", ["certSet", "certList", "CertSet", "CertList"])
@pytest.mark.parametrize("call_id", [1, -1, 10**6, 10**6 + 1, 10**30])
def test_no_number_gives_a_right(net, node, user, client, cmd, call_id):
    client.ask("certAdd", CERT)
    client._last_id = call_id - 1
    params = ["rigid.bit"] if cmd.endswith("Set") else []
    answer = client.ask(cmd, params)
    assert answer["error"].lower() == (NO_RIGHT + cmd).lower()


def test_rights_are_not_had_through_as(net, user, client):
    client.ask("certAdd", CERT)
    for site in (net.main, net.other):
        for cmd in ("certSet", "certList"):
            params = ["rigid.bit"] if cmd == "certSet" else []
            assert client.ask("as", [site, cmd, params])["error"].startswith("denied: ")
    assert user.certificate(net.other) is None


@pytest.mark.parametrize("cmd", ["certAdd", "certSelect", "certSet", "certList"])
@pytest.mark.parametrize("trusted", [False, True])
def test_no_certificate_of_another_site(net, user, cmd, trusted):
    client = net.client(0, net.main, trusted=trusted)
    params = CERT if cmd == "certAdd" else []
    answer = client.ask("as", [net.other, cmd, params])
    assert answer == {"error": f"denied: No permission for site {net.other}"}
    assert user.certificates() == {}


def test_the_page_may_set_and_list(net, user, page, client):
    client.ask("certAdd", CERT)
    assert page.ask("certSet", [""]) == "ok"
    assert user.certificate(net.main) is None
    assert [entry["selected"] for entry in page.ask("certList")] == [False]
    assert page.ask("certSet", {"domain": "rigid.bit"}) == "ok"
    assert user.certificate(net.main).issuer == "rigid.bit"
    unknown = page.ask("certSet", ["none.bit"])
    assert unknown == {"error": "invalid: no certificate of none.bit"}
    assert user.certificate(net.main).issuer == "rigid.bit"


# Whom it concerns


def test_only_clients_of_this_site_and_user_hear_of_it(net, client):
    bob = net.nodes[0].users.new("bob").master_address
    same, other_user = watching(net, net.main), watching(net, net.main, user=bob)
    other_site = watching(net, net.other)
    client.ask("certAdd", CERT)
    assert len(changes(same)) == 1
    assert changes(other_user) == changes(other_site) == []
    assert [cmd for cmd, _ in client.events] == ["notification"]  # it joined nothing


def test_each_user_has_certificates_of_its_own(net, client):
    bob = net.nodes[0].users.new("bob")
    as_bob = net.client(0, net.main, user=bob.master_address)
    assert as_bob.ask("certAdd", ["rigid.bit", "web", "bob", "x"]) == "ok"
    assert client.ask("certAdd", CERT) == "ok"
    assert as_bob.ask("siteInfo")["cert_user_id"] == "bob@rigid.bit"
    assert client.ask("siteInfo")["cert_user_id"] == "rigtester@rigid.bit"
    assert as_bob.ask("siteInfo")["auth_address"] != client.ask("siteInfo")["auth_address"]


def test_the_file_that_cannot_be_written(net, node, user, client, monkeypatch, errors):
    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("zeromsg.store.users.write_private", fail)
    assert client.ask("certAdd", CERT)["error"].startswith("internal: ")
    assert user.certificates() == {}
    errors.clear()
