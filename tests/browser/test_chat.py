"""The chat zite as people use it: typed in a page of one node, read in another's."""

import json
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from zeromsg.service.site_making import new_site
from zeromsg.service.site_templates import SITE_EXTRAS, copy_template
from zeromsg.testing.processes import RunningNode, wait_for

pytestmark = pytest.mark.browser

NODE_GONE = r"WebSocket connection to .* failed: .*(REFUSED|RESET|CLOSED)|WebSocket is closed"


@attrs.frozen
class Person:
    """Somebody at a page of the chat."""

    tab: Any
    page: Any
    zite: Any

    @classmethod
    def at(cls, tab: Any, node: RunningNode, site: str, name: str = "") -> "Person":
        tab.page.goto(f"{node.url}/{site}/")
        person = cls(tab, tab.page, tab.page.frame_locator("#inner-iframe"))
        person.zite.locator("#me:enabled").wait_for()
        person.zite.get_by_text(re.compile(r"^\d+ peers?$")).wait_for()
        if name:
            person.zite.locator("#me").click()
            person.zite.get_by_role("textbox", name="Name", exact=True).fill(name)
            person.zite.get_by_role("button", name="Save").click()
        return person

    def say(self, text: str) -> None:
        self.zite.get_by_role("textbox", name="Message").fill(text)
        self.zite.get_by_role("textbox", name="Message").press("Enter")

    def entry(self, text: str) -> Any:
        """The entry of the log that says this, once it is there."""
        found = self.zite.locator("#log > li").filter(has_text=text)
        found.first.wait_for()
        return found

    def meet(self, name: str) -> Any:
        """Somebody's button in the list of people, once they are there."""
        button = self.zite.locator("#people-list button").filter(has_text=name)
        button.wait_for()
        return button


@pytest.fixture(scope="module")
def chat(tmp_path_factory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp("chat") / "site"
    copy_template("chat", folder)
    # These people say in a minute what others say in an hour, and open pages all the time.
    rules = json.loads((folder / "p2p.json").read_text())
    rules["rate"] = {"per_peer": [1000, 100], "per_signer": [1000, 100]}
    (folder / "p2p.json").write_text(json.dumps(rules))
    key = new_site(folder, "Chat", secrets.token_bytes, time.time, SITE_EXTRAS)
    return key.address, folder


@pytest.fixture(scope="module")
def nodes(new_node, chat) -> list[RunningNode]:
    """Three nodes that hold the chat and know each other; the first has the site's directory."""
    site, folder = chat
    first = new_node(sites={site: folder}).start()
    second = new_node(sites={site: None}, connect=[first.peer]).start()
    third = new_node(sites={site: None}, connect=[first.peer, second.peer]).start()
    running = [first, second, third]
    for node in running:
        wait_for(lambda node=node: takes_part(node, site), 20, "the nodes hold the site")
    return running


def takes_part(node: RunningNode, site: str) -> bool:
    state = node.site(site)
    return bool(state["complete"] and state["takes_messages"] and state["peers"] == 2)


@pytest.fixture
def person(tab, nodes, chat) -> Callable[..., Person]:
    """Opens the chat at a node, for a visitor of a name."""

    def make(number: int, name: str = "", **options: Any) -> Person:
        return Person.at(tab(**options), nodes[number], chat[0], name)

    return make


@pytest.fixture
def ann(person) -> Person:
    return person(0, "Ann")


@pytest.fixture
def bert(person) -> Person:
    return person(1, "Bert")


def test_what_is_typed_in_one_page_is_read_in_another(ann, bert):
    ann.say("Hello <b>Bert</b> & all")
    read = bert.entry("Hello")
    assert read.locator(".bubble > .theirs").inner_text() == "Hello <b>Bert</b> & all"
    assert read.locator(".name").inner_text() == "Ann"
    assert "valid" in read.locator(".fate").inner_text()
    ann.entry("Hello").get_by_text("sent to 2 peers").wait_for()
    bert.say("Hi")
    assert "other" in ann.entry("Hi").get_attribute("class")


def test_repeating_oneself_is_ignored_and_breaking_rules_is_shown_as_such(ann, bert, nodes, chat):
    bert.say("Again and again")
    ann.entry("Again and again")
    bert.say("Again and again")
    assert "the same was said a moment ago" in ann.entry("ignored").inner_text()
    # A page that is not ours says what no page of ours would.
    nasty = {"cmd": "say", "nick": "root@zeroid.bit", "text": "<img src=x onerror=alert(1)>"}
    sent = subprocess.run(
        [
            *(sys.executable, "-m", "zeromsg.cli", "broadcast", chat[0], json.dumps(nasty)),
            *("--sign", "user", "--config", str(nodes[2].config)),
        ],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert sent.returncode == 0, sent.stderr
    invalid = ann.entry("the name looks like a user ID")
    assert not invalid.get_by_text("onerror").is_visible()
    assert ann.zite.locator("img").count() == 0


def test_private_messages_are_read_by_one_person(ann, bert, person):
    cleo = person(2, "Cleo")
    ann.meet("Bert").click()
    assert ann.zite.get_by_text("only they can read it").is_visible()
    ann.say("Between you and me")
    assert "for you alone" in bert.entry("Between you and me").inner_text()
    assert "for Bert alone" in ann.entry("Between you and me").inner_text()
    cleo.entry("a private message for somebody else")
    assert cleo.zite.get_by_text("Between you and me").count() == 0
    # And after a reload the one who wrote it can still read it.
    ann.page.reload()
    assert "for Bert alone" in ann.entry("Between you and me").inner_text()


def test_a_poll_gathers_votes(ann, bert, person):
    cleo = person(2, "Cleo")
    ann.zite.get_by_role("button", name="Poll").click()
    ann.zite.get_by_role("textbox", name="Question").fill("Tea or coffee?")
    ann.zite.get_by_role("textbox", name="Answers").fill("Tea\nCoffee")
    ann.zite.get_by_role("button", name="Ask").click()
    for voter in (bert, cleo):
        voter.zite.get_by_role("button", name="Coffee").click()
        voter.zite.get_by_text("You answered: Coffee").wait_for()
    result = ann.entry("Tea or coffee?")
    result.get_by_text("2 of 2 peers answered").wait_for()
    assert result.locator(".count").all_inner_texts() == ["Tea\n0", "Coffee\n2"]


def test_nothing_is_lost_while_the_node_is_away(ann, bert, nodes, chat):
    bert.tab.allowed.append(NODE_GONE)
    nodes[1].kill()
    bert.zite.get_by_text("Node is gone").wait_for()
    bert.say("Typed while the node was away")
    bert.zite.get_by_text("waiting for the node").wait_for()
    bert.tab.shot("chat-node-gone")
    nodes[1].start()
    read = ann.zite.locator("#log > li").filter(has_text="Typed while the node was away")
    read.wait_for(timeout=40_000)
    assert read.count() == 1
    bert.entry("Typed while the node was away").get_by_text(re.compile("^sent to")).wait_for()
    assert bert.zite.locator("#outbox > li").count() == 0
    wait_for(lambda: takes_part(nodes[1], chat[0]), 30, "the node knows its peers again")


def test_a_closed_tab_gets_later_what_was_said(ann, bert, tab, nodes, chat):
    site = chat[0]
    context = bert.page.context
    bert.page.close()
    wait_for(lambda: nodes[1].site(site)["clients"] == 0, 10, "the page's clients are gone")
    ann.say("Said while Bert was out")
    wait_for(lambda: nodes[1].site(site)["queued"] >= 1, 10, "the message waits for a client")
    back = Person.at(tab(context), nodes[1], site)
    assert back.entry("Said while Bert was out").count() == 1
    # The name was kept by the node.
    assert back.zite.locator("#my-name").inner_text() == "Bert"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_on_a_phone_and_works_by_keyboard(person, scheme):
    ann = person(0, "Ann", color_scheme=scheme)
    bert = person(1, "Bert", color_scheme=scheme)
    bert.page.set_viewport_size({"width": 360, "height": 740})
    wide = "document.documentElement.scrollWidth <= innerWidth"
    bert.zite.get_by_role("button", name="people here").press("Enter")
    bert.meet("Ann").press("Enter")
    assert bert.zite.get_by_role("textbox", name="Message").evaluate(
        "e => e === document.activeElement"
    )
    bert.page.keyboard.type(f"A secret in the {scheme}, with averyveryverylongword" + "x" * 60)
    bert.page.keyboard.press("Enter")
    ann.entry(f"A secret in the {scheme}")
    bert.entry(f"A secret in the {scheme}").get_by_text("sent to").wait_for()
    assert bert.zite.locator("html").evaluate(f"() => {wide}")
    bert.tab.shot(f"chat-phone-{scheme}")
    bert.zite.get_by_role("button", name="people here").press("Enter")
    bert.zite.locator("#people.open").wait_for()
    bert.tab.shot(f"chat-phone-people-{scheme}")
    bert.page.keyboard.press("Escape")
    bert.zite.locator("#people:not(.open)").wait_for(state="attached")
    ann.tab.shot(f"chat-wide-{scheme}")


@pytest.fixture
def demo(tmp_path) -> Iterator[Callable[[], str]]:
    """`zeromsg demo`; gives what it has shown."""
    shown = tmp_path / "shown"
    with shown.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "zeromsg.cli", "demo", "--port", "0"], stdout=out
        )
    yield shown.read_text
    process.terminate()
    assert process.wait(10) == 0


def test_the_demo_takes_part(demo, tab):
    pages = r"Node \w +(http://127\.0\.0\.1:\d+)/(\w+)"
    wait_for(lambda: len(re.findall(pages, demo())) == 2, 30, "the addresses")
    url, site = re.findall(pages, demo())[0]
    page = tab().page
    page.goto(f"{url}/{site}")
    zite = page.frame_locator("#inner-iframe")
    zite.locator("#people-list li").filter(has_text="terminal A").wait_for()
    zite.get_by_text(re.compile(r"Hello number \d+ from node A")).wait_for()
    zite.get_by_role("textbox", name="Message").fill("typed in a page")
    zite.get_by_role("textbox", name="Message").press("Enter")
    wait_for(lambda: re.search("A (→|->) B  guest .*: typed in a page", demo()), 15, "the line")
