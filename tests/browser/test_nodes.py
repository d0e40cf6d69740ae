"""Pages over the life of nodes: joining, messages between two, restarts, figures, a password."""

import datetime
import json
import urllib.request

import pytest

from zeromsg.net.tls import load_certificate
from zeromsg.store.private_file import write_private
from zeromsg.testing.processes import wait_for

pytestmark = pytest.mark.browser

PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def site(zite):
    return zite({f"data/{number}.txt": "x" * 1000 for number in range(5)}, title="Two nodes")


@pytest.fixture(scope="module")
def pair(new_node, site):
    """The first holds the site; the second is connected to it, and holds nothing yet."""
    first = new_node(sites={site.address: site.folder}).start()
    second = new_node(connect=[first.peer]).start()
    wait_for(lambda: second.status()["links"], 15, "the nodes are connected")
    return first, second


def joined(tab, node, site):
    """Join by the page of the node, and open the site."""
    home = tab()
    home.page.goto(f"{node.url}/")
    home.page.get_by_label("Address of a site").fill(site.address)
    home.page.get_by_role("button", name="Join").click()
    home.page.get_by_role("link", name="Two nodes").wait_for()
    home.page.get_by_text("ready", exact=True).wait_for()
    return home


def test_a_site_is_joined_used_and_counted(tab, pair, site):
    first, second = pair
    # Nobody adds a site by a mere look at its address.
    visitor = tab()
    visitor.allowed.append("404 .Not Found")
    assert visitor.page.goto(f"{second.url}/{site.address}/").status == 404
    home = joined(tab, second, site)
    home.page.get_by_role("link", name="Two nodes").click()
    home.page.wait_for_selector("#inner-iframe:not([hidden])")
    reader = tab().open(f"{second.url}/{site.address}/")
    writer = tab().open(f"{first.url}/{site.address}/")
    wait_for(lambda: first.site(site.address)["peers"], 10, "the nodes share the site")
    before = second.status()["messages"]["received"]
    for number in range(3):
        sent = writer.ask("peerBroadcast", {"message": {"n": number}, "privatekey": False})
        assert sent["sent"] is True and sent["peers"] == 1
    reader.wait("received.filter((e) => e.cmd === 'peerReceive').length === 3")
    assert reader.messages() == [{"n": 0}, {"n": 1}, {"n": 2}]
    reader.shot("reader")
    refused = writer.ask("peerBroadcast", {"message": "x" * 20_000})
    assert refused["error"].startswith("too-big: ")
    home.page.goto(f"{second.url}/")
    counts = home.page.locator("#counts div")
    counts.filter(has_text="received").get_by_text(str(before + 3), exact=True).wait_for()
    assert second.status()["messages"]["received"] == before + 3
    home.page.locator("#peer-list").get_by_text("zeromsg").first.wait_for()
    home.shot("home")


def test_messages_wait_for_a_closed_page(tab, pair, site):
    first, second = pair
    writer = tab().open(f"{first.url}/{site.address}/")
    wait_for(lambda: second.site(site.address)["clients"] == 0, 10, "its pages are closed")
    assert writer.ask("peerBroadcast", {"message": "for later", "immediate": True})["sent"] is True
    wait_for(lambda: second.site(site.address)["queued"] == 1, 10, "the message waits")
    reader = tab().open(f"{second.url}/{site.address}/")
    reader.wait("received.some((e) => e.cmd === 'peerReceive')")
    assert reader.messages() == ["for later"]


def test_a_ban_is_pardoned_by_the_page(tab, pair):
    _, second = pair
    home = tab(color_scheme="dark", reduced_motion="reduce")
    home.page.goto(f"{second.url}/")
    home.page.locator("#no-ban-list").wait_for()
    banned = home.page.evaluate(
        "fetch('/ZeroMsg-Internal/operator', {method: 'POST', headers: {Authorization:"
        " 'Page ' + node_secret}, body: JSON.stringify({cmd: 'ban', params: {identity: 'x'}})})"
        ".then((r) => r.json())"
    )
    assert banned == {"error": "denied: the page may not do this"}
    token = (second.data_dir / "status.token").read_text().strip()
    operate(second, token, "ban", {"identity": "192.0.2.7", "reason": "sends nonsense"})
    home.page.get_by_text("sends nonsense").wait_for()
    home.shot("home-dark")
    home.page.get_by_role("button", name="Pardon 192.0.2.7").click()
    home.page.locator("#no-ban-list").wait_for()
    assert operate(second, token, "bans", {}) == {"bans": []}


def operate(node, token, cmd, params):
    request = urllib.request.Request(
        f"{node.url}/ZeroMsg-Internal/operator",
        data=json.dumps({"cmd": cmd, "params": params}).encode(),
        headers={"Authorization": f"Bearer {token}"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=5) as response:
        return json.load(response)


def test_a_page_outlives_its_node(tab, new_node, site):
    node = new_node(sites={site.address: site.folder}).start()
    page = tab().open(f"{node.url}/{site.address}/")
    page.allowed.append("WebSocket connection to .* failed")
    # An answer that can only come after its time is in flight when the node goes.
    page.tell("peerBroadcast", {"message": "?", "broadcast": False, "timeout": 60})
    page.tell("certSelect", {"accept_any": True})
    page.page.get_by_role("dialog").wait_for()
    page.page.keyboard.press("Escape")
    page.wait("answers.length === 2")
    page.tell("certSelect", {"accept_any": True})
    page.page.get_by_role("dialog").wait_for()
    node.kill()
    page.page.get_by_text("The node does not answer.").wait_for()
    page.wait("closed === 1")
    page.tell("peerBroadcast", {"message": "sent while it was away"})
    page.tell("ping")
    page.shot("node-gone")
    node.start()
    page.wait("opened === 2")
    page.wait("answers.length === 5")
    answers = page.frame.evaluate("answers")
    assert answers[1] == {"error": "denied: the person did not agree"}
    lost = [each for each in answers[2:] if isinstance(each, dict) and "error" in each]
    assert len(lost) == 1 and lost[0]["error"].startswith("closed: ")
    assert "pong" in answers
    assert page.messages() == ["sent while it was away"]
    page.page.get_by_text("The node does not answer.").wait_for(state="hidden")
    page.page.get_by_role("dialog").wait_for(state="hidden")
    # The page is still the one where the person is.
    page.tell("certSelect", {"accept_any": True})
    page.page.get_by_role("button", name="No certificate").click()
    page.wait("answers.length === 6")
    assert page.frame.evaluate("answers[5]") == "ok"


def test_a_site_that_was_left_is_said_to_be_gone(tab, pair, site):
    _, second = pair
    page = tab().open(f"{second.url}/{site.address}/")
    home = tab()
    home.page.on("dialog", lambda dialog: dialog.accept())
    home.page.goto(f"{second.url}/")
    home.page.get_by_role("button", name="Leave Two nodes").click()
    home.page.locator("#no-site-list").wait_for()
    page.page.get_by_text("This node does not hold the site any more.").wait_for()
    page.shot("site-gone")
    assert not (second.data_dir / "sites" / site.address).exists()
    page.page.get_by_role("button", name="All sites").click()
    page.page.get_by_role("heading", name="Sites").wait_for()


def test_a_site_that_nobody_has_is_looked_for(tab, new_node, site, zite):
    lonely = new_node().start()
    home = tab()
    home.page.goto(f"{lonely.url}/")
    home.page.get_by_label("Address of a site").fill(site.address)
    home.page.keyboard.press("Enter")
    link = home.page.get_by_role("link", name=site.address)
    link.click()
    home.page.get_by_text("Looking for peers that have the site").wait_for()
    home.shot("looking")


def test_a_password_is_asked_for(tab, new_node, site):
    node = new_node(sites={site.address: site.folder}, settings={"ui.password": PASSWORD}).start()
    visitor = tab()
    visitor.allowed.append("401 .Unauthorized|403 .Forbidden")
    visitor.page.goto(f"{node.url}/{site.address}/")
    assert "wrapper_key" not in visitor.page.content()
    visitor.page.get_by_label("Password of this node").fill("wrong password")
    visitor.shot("password")
    visitor.page.get_by_role("button", name="Log in").click()
    visitor.page.get_by_text("That is not the password.").wait_for()
    visitor.page.get_by_label("Password of this node").fill(PASSWORD)
    visitor.page.keyboard.press("Enter")
    # Its files come into a frame that has no cookies.
    visitor.wait("opened > 0")
    assert visitor.ask("ping") == "pong"
    cookies = visitor.page.context.cookies()
    assert [(c["httpOnly"], c["sameSite"]) for c in cookies] == [(True, "Strict")]
    stranger = tab()
    stranger.allowed.append("401 .Unauthorized")
    assert stranger.page.goto(f"{node.url}/").status == 401


def test_everything_works_over_tls(tab, new_node, site, tmp_path):
    pem = tmp_path / "ui.pem"
    load_certificate(pem, datetime.datetime.now(datetime.UTC), write_private)
    node = new_node(sites={site.address: site.folder})
    endpoint = f"ssl:0:privateKey={pem}:certKey={pem}:interface={node.host}"
    node.settings["ui.endpoint"] = endpoint
    node.start()
    page = tab(ignore_https_errors=True).open(f"https://{node.host}:{node.ui_port}/{site.address}/")
    assert page.ask("ping") == "pong"
    key = page.ask("wrapperGetAjaxKey")
    read = "(key) => fetch('data/0.txt?ajax_key=' + key).then((r) => r.text())"
    assert page.frame.evaluate(read, key) == "x" * 1000
