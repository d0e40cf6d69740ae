"""An unmodified zite in the wrapper: what it asks for, and what the person sees of it."""

import json

import pytest

from zeromsg.testing.processes import wait_for

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def site(zite):
    return zite({"data/a.json": '{"topics": [{"id": 1}]}', "page2.html": "<h1>Second</h1>"})


@pytest.fixture(scope="module")
def node(new_node, site):
    return new_node(sites={site.address: site.folder}).start()


@pytest.fixture
def opened(tab, node, site):
    return tab().open(f"{node.url}/{site.address}/")


def test_the_npm_library_works_unmodified(opened, site):
    info = opened.ask("siteInfo")
    assert info["address"] == site.address and info["settings"]["own"] is True
    assert "PeerMessage" in opened.ask("serverInfo")["plugins"]
    assert opened.ask("ping") == "pong"
    assert opened.frame.evaluate("z.cmdp('fileGet', ['data/a.json'])") == (
        '{"topics": [{"id": 1}]}'
    )
    assert opened.ask("fileQuery", ["data/a.json", "topics"]) == [{"id": 1, "inner_path": ""}]
    assert opened.ask("nosuch") == {"error": "Unknown command: nosuch"}
    assert opened.ask("wrapperNoSuch") == {"error": "Unknown command: wrapperNoSuch"}
    sent = opened.ask("peerBroadcast", {"message": {"hello": "world"}, "privatekey": False})
    assert sent["peers"] == 0 and len(sent["hash"]) == 64
    opened.wait("received.some((e) => e.cmd === 'peerReceive')")
    assert opened.messages() == [{"hello": "world"}]
    opened.shot("zite")


def test_it_lives_in_a_sandbox_of_its_own(opened):
    assert opened.frame.evaluate("window.origin") == "null"
    for reach in ("localStorage", "document.cookie", "parent.document", "top.wrapper_key"):
        script = f"(() => {{ try {{ {reach}; return 'open' }} catch (e) {{ return e.name }} }})()"
        assert opened.frame.evaluate(script) == "SecurityError"


def test_storage_state_title_and_address(opened, tab, node, site):
    assert opened.ask("wrapperGetLocalStorage") is None
    opened.ask("wrapperSetLocalStorage", {"score": 5})
    assert opened.ask("wrapperGetLocalStorage") == {"score": 5}
    assert opened.ask("wrapperGetState") is None
    opened.frame.evaluate("z.cmd('wrapperReplaceState', [{at: 0}, 'Start', null])")
    opened.frame.evaluate("z.cmd('wrapperPushState', [{at: 1}, 'Sub', 'Page:1'])")
    assert opened.ask("wrapperGetState") == {"at": 1}
    assert opened.page.title() == "Sub"
    assert opened.page.url == f"{node.url}/{site.address}/?Page:1"
    opened.page.go_back()
    opened.wait("received.some((e) => e.cmd === 'wrapperPopState')")
    (moved,) = opened.frame.evaluate("received.filter((e) => e.cmd === 'wrapperPopState')")
    assert moved["params"]["state"] == {"at": 0}
    opened.frame.evaluate("z.cmd('wrapperSetTitle', 'Named')")
    opened.until("document.title === 'Named'")
    opened.frame.evaluate("z.cmd('wrapperSetViewport', 'width=500')")
    opened.until("document.getElementById('viewport').content === 'width=500'")
    # It is kept for the site and the user.
    again = tab(opened.page.context).open(f"{node.url}/{site.address}/")
    assert again.ask("wrapperGetLocalStorage") == {"score": 5}
    keys = again.page.evaluate("Object.keys(localStorage)")
    assert keys == [f"site.{site.address}.{again.ask('siteInfo')['auth_address']}"]


def test_files_are_read_with_the_ajax_key(opened):
    key = opened.ask("wrapperGetAjaxKey")
    read = "(key) => fetch('data/a.json?ajax_key=' + key).then((r) => r.json())"
    assert opened.frame.evaluate(read, key) == {"topics": [{"id": 1}]}


def test_a_hash_reaches_the_page(tab, node, site):
    opened = tab().open(f"{node.url}/{site.address}/#part")
    opened.frame.evaluate("z.cmd('wrapperInnerLoaded', [])")
    opened.wait("location.hash === '#part'")


def test_links_within_the_frame_end_in_a_page_of_their_own(opened, node, site):
    opened.frame.evaluate("location.href = 'page2.html'")
    opened.page.wait_for_url(f"{node.url}/{site.address}/page2.html")
    opened.page.frame_locator("#inner-iframe").get_by_role("heading", name="Second").wait_for()


def test_notices_show_text_and_five_tags(opened):
    evil = '<img src=x onerror=alert(1)><b>bold</b> <i>x</i><a href="javascript:alert(1)">y</a>'
    opened.frame.evaluate("(text) => z.cmd('wrapperNotification', ['info', text])", evil)
    opened.frame.evaluate("z.cmd('wrapperNotification', ['error', 'It <u>failed</u>'])")
    opened.frame.evaluate("z.cmd('wrapperProgress', ['load', 'Loading', 40])")
    notices = opened.page.locator("#notices .notice")
    notices.nth(2).wait_for()
    assert "<img src=x onerror=alert(1)>bold" in notices.first.inner_text()
    names = opened.page.evaluate(
        "[...new Set([...document.querySelectorAll('#notices *')].map((e) => e.localName))].sort()"
    )
    assert names == ["b", "button", "div", "i", "progress", "u"]
    assert notices.nth(1).get_attribute("role") == "alert"
    opened.shot("notices")
    opened.frame.evaluate("z.cmd('wrapperProgress', ['load', 'Loaded', 100])")
    opened.page.get_by_text("Loaded").wait_for()
    assert notices.count() == 3
    opened.page.get_by_role("button", name="Close").first.click()
    opened.until("document.querySelectorAll('#notices .notice').length === 2")


def test_confirmations_take_a_click_or_keys(opened):
    opened.tell("wrapperConfirm", ["Really <i>sure</i>?", "Yes"])
    opened.page.get_by_role("button", name="Yes").click()
    opened.wait("answers.length === 1")
    opened.tell("wrapperConfirm", ["Which?", ["First", "Second"]])
    opened.page.get_by_role("dialog").wait_for()
    assert opened.page.locator("#asker").inner_text() == "Bench asks"
    second = opened.page.get_by_role("button", name="Second")
    second.click(trial=True)
    opened.page.keyboard.press("Tab")
    second.focus()
    opened.page.keyboard.press("Enter")
    opened.wait("answers.length === 2")
    opened.tell("wrapperPrompt", ["Your name?", "text", "Save"])
    opened.page.get_by_role("textbox").fill("Bob")
    opened.shot("prompt")
    opened.page.keyboard.press("Enter")
    opened.wait("answers.length === 3")
    assert opened.frame.evaluate("answers") == [1, 2, "Bob"]
    # A no is silent: pages take any answer for a yes.
    opened.tell("wrapperConfirm", ["Delete everything?", "Yes"])
    opened.page.get_by_role("dialog").wait_for()
    opened.page.keyboard.press("Escape")
    opened.page.get_by_role("dialog").wait_for(state="hidden")
    assert opened.ask("ping") == "pong"
    assert len(opened.frame.evaluate("answers")) == 3


def test_a_permission_is_granted_by_the_person(opened):
    opened.tell("wrapperPermissionAdd", "Merger:Chat")
    dialog = opened.page.get_by_role("dialog")
    dialog.get_by_text("sites of the type Chat").wait_for()
    opened.page.get_by_role("button", name="Refuse").click()
    assert opened.ask("siteInfo")["settings"]["permissions"] == []
    assert opened.ask("mergerSiteList") == {"error": "Not a merger site"}
    opened.tell("wrapperPermissionAdd", "Merger:Chat")
    opened.page.get_by_role("button", name="Grant").click(trial=True)
    opened.shot("permission")
    opened.page.get_by_role("button", name="Grant").click()
    opened.wait("answers.length === 1")
    assert opened.frame.evaluate("answers") == ["ok"]
    assert opened.ask("siteInfo")["settings"]["permissions"] == ["Merger:Chat"]
    assert opened.ask("mergerSiteList") == {}
    opened.wait("received.some((e) => e.cmd === 'setSiteInfo' && e.params.event)")
    # What is held is not asked for again.
    assert opened.ask("wrapperPermissionAdd", "Merger:Chat") == "ok"


def test_a_certificate_is_chosen_by_the_person(opened):
    signature = "G" + "A" * 86 + "="
    assert opened.ask("certAdd", ["id.bit", "web", "bob", signature]) == "ok"
    opened.page.locator("#notices").get_by_text("New certificate added").wait_for()
    assert opened.ask("siteInfo")["cert_user_id"] == "bob@id.bit"
    opened.tell("certSelect", {"accept_any": True})
    dialog = opened.page.get_by_role("dialog")
    dialog.get_by_role("button", name="No certificate").click(trial=True)
    opened.shot("certificate")
    dialog.get_by_role("button", name="No certificate").click()
    opened.wait("answers.length === 1")
    assert opened.ask("siteInfo")["cert_user_id"] is None


def test_a_page_that_is_not_there_says_so(tab, node, site):
    page = tab().page
    page.goto(f"{node.url}/{site.address}/nowhere.html")
    page.get_by_text("This site has no such page.").wait_for()
    page.get_by_role("link", name="Show its messages").click()
    page.get_by_role("heading", name="Bench").wait_for()
    page.get_by_text("connected").wait_for()


def test_the_console_sends_and_shows(opened, tab, node, site):
    console = tab().page
    console.goto(f"{node.url}/console/{site.address}")
    console.get_by_text("connected").wait_for()
    console.get_by_label("Message (JSON or text)").fill('{"from": "console"}')
    console.keyboard.press("Enter")
    opened.wait("received.some((e) => e.cmd === 'peerReceive')")
    assert opened.messages() == [{"from": "console"}]


def test_a_page_in_the_dark(tab, node, site):
    dark = tab(color_scheme="dark")
    dark.page.goto(f"{node.url}/{site.address}/nowhere.html")
    dark.page.get_by_text("This site has no such page.").wait_for()
    dark.shot("missing-dark")
    back = dark.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert back == "rgb(20, 23, 28)"


def test_nothing_waits_at_the_node_afterwards(node):
    wait_for(lambda: node.status()["clients"] == 0, 10, "all pages are gone")
    assert json.loads(json.dumps(node.status()))["messages"]["waiting_for_reply"] == 0
