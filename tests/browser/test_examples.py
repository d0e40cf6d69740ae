"""The smaller zites: a game of two, and a question to the peers."""

import secrets
import time
from typing import Any

import pytest

from zeromsg.service.site_making import new_site
from zeromsg.service.site_templates import SITE_EXTRAS, copy_template
from zeromsg.testing.processes import wait_for

pytestmark = pytest.mark.browser

FITS = "() => document.documentElement.scrollWidth <= innerWidth"
PHONE = {"width": 360, "height": 740}


@pytest.fixture
def served(new_node, tmp_path):
    """Has nodes hold a new site of a template: the site, and the nodes."""

    def make(template: str, count: int) -> tuple[str, list[Any]]:
        folder = tmp_path / "site"
        copy_template(template, folder)
        site = new_site(folder, "", secrets.token_bytes, time.time, SITE_EXTRAS).address
        nodes = [new_node(sites={site: folder}).start()]
        for _ in range(count - 1):
            nodes.append(new_node(sites={site: None}, connect=[nodes[0].peer]).start())
        for node in nodes:
            wait_for(
                lambda node=node: (
                    node.site(site)["complete"] and (node.site(site)["peers"] or count == 1)
                ),
                20,
                "the nodes hold the site",
            )
        return site, nodes

    return make


def zite_of(tab: Any, node: Any, site: str) -> Any:
    tab.page.goto(f"{node.url}/{site}/")
    return tab.page.frame_locator("#inner-iframe")


def test_a_game_of_tic_tac_toe(served, tab):
    site, (first, second) = served("tictactoe", 2)
    wide, phone = tab(color_scheme="light"), tab(color_scheme="dark")
    phone.page.set_viewport_size(PHONE)
    ann, bert = zite_of(wide, first, site), zite_of(phone, second, site)
    ann.locator("#people button").first.click()
    ann.get_by_role("button", name="Invite").click()
    bert.get_by_role("button", name="Accept").click()

    def move(player: Any, place: str) -> None:
        player.get_by_role("button", name=f"{place}: free").and_(player.locator(":enabled")).click()

    move(ann, "row 2, column 2")
    move(bert, "row 1, column 1")
    move(ann, "row 1, column 3")
    bert.get_by_text("Your turn: O").wait_for()
    # The wrapper kept the game for the page.
    phone.page.reload()
    bert.get_by_text("Your turn: O").wait_for()
    assert bert.get_by_role("button", name="row 2, column 2: X").is_visible()
    move(bert, "row 3, column 1")
    ann.get_by_text("Your turn: X").wait_for()
    wide.shot("tictactoe-wide-light")
    phone.shot("tictactoe-phone-dark")
    assert bert.locator("html").evaluate(FITS)
    # The opponent's page is closed: the next moves wait for it.
    phone.page.goto("about:blank")
    move(ann, "row 2, column 1")
    wait_for(lambda: second.site(site)["queued"] >= 1, 10, "the move waits for the page")
    bert = zite_of(phone, second, site)
    move(bert, "row 3, column 3")
    move(ann, "row 2, column 3")
    ann.get_by_text("You won!").wait_for()
    bert.get_by_text("You lost").wait_for()
    wide.page.emulate_media(color_scheme="dark")
    wide.shot("tictactoe-wide-dark")


def test_an_opponent_who_was_never_heard_of_cannot_be_invited(served, tab):
    site, (node,) = served("tictactoe", 1)
    zite = zite_of(tab(), node, site)
    zite.get_by_label("Address or user ID").fill("1HeLLo4uzjaLetFx6NH3PMwFP3qbRbTf3D")
    zite.get_by_role("button", name="Invite").click()
    zite.get_by_text("no signed message of 1HeLLo").wait_for()
    assert zite.locator("#games > li").count() == 0


def test_peers_are_asked_and_the_silent_ones_named(served, tab):
    site, (first, second, _silent) = served("ask", 3)
    wide, phone = tab(color_scheme="light"), tab(color_scheme="dark")
    phone.page.set_viewport_size(PHONE)
    ann, bert = zite_of(wide, first, site), zite_of(phone, second, site)
    bert.locator("#ask button:enabled").wait_for()
    ann.get_by_label("Question", exact=True).fill("Where does the <i>sun</i> shine?")
    ann.get_by_label("Time to answer").select_option("5")
    ann.get_by_role("button", name="Ask").click()
    bert.get_by_label("Your answer").fill("Here it does.")
    phone.shot("ask-phone-dark")
    assert bert.locator("html").evaluate(FITS)
    bert.get_by_role("button", name="Answer").click()
    ann.get_by_text("1 of 2 peers answered, 1 silent.").wait_for()
    assert ann.locator(".reply.answer .theirs").inner_text() == "Here it does."
    assert ann.locator(".reply.silent .theirs").inner_text() == "no reply within 5 seconds"
    wide.shot("ask-wide-light")
    # By itself, from now on.
    bert.get_by_label("Answer each by itself").fill("Still here.")
    ann.get_by_label("Question", exact=True).fill("And now?")
    ann.get_by_role("button", name="Ask").click()
    bert.get_by_text("You answered: Still here.").wait_for()
    ann.get_by_text("Still here.").wait_for()
