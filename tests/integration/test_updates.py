"""A site that is signed anew while its nodes run: every node has it, and its rules, at once."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from zeromsg.service.site_making import sign_site
from zeromsg.testing.plain_peer import PlainPeer
from zeromsg.testing.processes import RunningNode, wait_for
from zeromsg.testing.zeroframe_client import ZeroFrameProgram

pytestmark = pytest.mark.integration

SECONDS = 10
"""Own directories are looked at every two seconds."""


@pytest.fixture
def line(new_node: Callable[..., RunningNode], site: Any) -> Iterator[list[RunningNode]]:
    """Three nodes: one with the site's directory, and each of the others knows the one before."""
    nodes = [new_node(sites={site.address: site.folder}).start()]
    for _ in range(2):
        nodes.append(new_node(sites={site.address: None}, connect=[nodes[-1].peer]).start())
        wait_for(lambda: whole(nodes[-1], site.address), 20, "the site is there")
    yield nodes
    for node in nodes:
        assert "Traceback" not in node.log


def whole(node: RunningNode, site: str) -> bool:
    part = node.site(site)
    return bool(part["complete"] and part["takes_messages"] and part["peers"])


def text(node: RunningNode, site: str, name: str) -> str | None:
    try:
        return (node.data_dir / "sites" / site / name).read_text()
    except FileNotFoundError:
        return None


def publish(site: Any, **files: str) -> None:
    for name, content in files.items():
        (site.folder / name.replace("_", ".")).write_text(content)
    sign_site(site.folder, site.key, time.time)


def assert_nobody_paid(*nodes: RunningNode) -> None:
    for node in nodes:
        status = node.status()
        assert status["bans"] == 0
        assert [link["points"] for link in status["links"] if link["points"] > 0] == []


def test_new_rules_and_files_reach_the_end_of_the_line(line: list[RunningNode], site: Any) -> None:
    long = "long " * 50
    with ExitStack() as stack:
        programs = [
            stack.enter_context(
                ZeroFrameProgram(node.host, node.ui_port, site.address, verdict="peerValid")
            )
            for node in line
        ]
        assert programs[2].ask("peerBroadcast", {"message": long})["sent"]
        programs[0].wait_for_message(long)
        rules = json.dumps({"filter": ".*", "size_limit": 20})
        publish(site, p2p_json=rules, index_html="v2")
        wait_for(lambda: text(line[2], site.address, "index.html") == "v2", SECONDS, "the new page")
        for program in programs:
            assert "error" in program.ask("peerBroadcast", {"message": long})
        assert programs[2].ask("peerBroadcast", {"message": "short"})["sent"]
        programs[0].wait_for_message("short")
        # A content.json too big to be sent along is fetched.
        for number in range(200):
            (site.folder / f"a-file-with-a-long-name-{number:03}").write_text("x")
        publish(site, index_html="v3")
        assert (site.folder / "content.json").stat().st_size > 10 * 1024
        wait_for(
            lambda: text(line[2], site.address, "index.html") == "v3", SECONDS, "the newest page"
        )
    assert_nobody_paid(*line)


def test_who_was_away_catches_up(line: list[RunningNode], site: Any) -> None:
    assert line[2].stop() == 0
    publish(site, index_html="v2")
    wait_for(lambda: text(line[1], site.address, "index.html") == "v2", SECONDS, "the new page")
    line[2].start()
    wait_for(lambda: text(line[2], site.address, "index.html") == "v2", SECONDS, "the new page")
    # And the owner, who signs while its node does not run.
    assert line[0].stop() == 0
    publish(site, index_html="v3")
    line[0].start()
    for node in line[1:]:
        wait_for(
            lambda node=node: text(node, site.address, "index.html") == "v3", 30, "the newest page"
        )
    assert_nobody_paid(*line)


def test_a_stranger_sees_a_truthful_node(line: list[RunningNode], site: Any) -> None:
    with PlainPeer(line[1].peer, "127.0.2.7") as stranger:
        stranger.greet()
        asked = {"site": site.address, "since": 0}
        before = stranger.ask("listModified", asked)["modified_files"]["content.json"]
        publish(site, index_html="v2")
        told = stranger.wait_for_request("update", SECONDS)
        assert told["inner_path"] == "content.json" and told["diffs"] == {}
        assert told["modified"] > before
        assert json.loads(told["body"])["modified"] == told["modified"]
        said = stranger.ask("listModified", asked)["modified_files"]
        assert said == {"content.json": told["modified"]}
        again = stranger.ask("update", {**told, "body": told["body"]})
        assert again["ok"] == "File not changed"
