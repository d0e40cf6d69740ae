"""The examples of docs/api.md, run on nodes in memory: each is answered, and none is missing."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

import zeromsg
from zeromsg.testing import MemoryClient, Network

PAGE = Path(__file__).parents[2] / "docs" / "api.md"
RULES = {"filter": ".*", "history": {"count": 10}}
FILES = {
    "index.html": b"<h1>chat</h1>",
    "data/rooms.json": b'[{"name": "lobby"}]',
    "img/board.png": b"png",
}
FOR_THE_PERSON = {
    *("certSet", "certList", "siteList"),
    *("permissionAdd", "permissionRemove", "permissionDetails"),
}
REFUSED = {
    "dbQuery": "unsupported: this node keeps no databases of sites",
    # Only who has the permission may; the examples show it granted.
    "mergerSiteAdd": "Not a merger site",
    "mergerSiteList": "Not a merger site",
    "mergerSiteDelete": "Merged type (None) not in []",
}


@attrs.frozen
class Example:
    cmd: str
    wire: str
    page: str
    answer: str


def examples() -> list[Example]:
    text = PAGE.read_text().partition("## Every command by example")[2]
    blocks = re.findall(
        r'    (\{"cmd": "(\w+)".*\})\n    (zeroFrame\.cmd\(.*, show\))\n    → (.+)', text
    )
    return [Example(cmd, wire, page, answer) for wire, cmd, page, answer in blocks]


EXAMPLES = examples()


@attrs.define
class Stage:
    """Two nodes: the examples run at the first, somebody replies at the second."""

    net: Network
    site: str
    other: str
    page: MemoryClient
    person: MemoryClient
    event: dict[str, Any]
    sealed: dict[str, Any]

    def run(self, example: Example) -> Any:
        text = example.wire
        # What the page writes as a sample stands for something that is there.
        elsewhere = example.cmd in ("as", "corsPermission", "mergerSiteAdd", "mergerSiteDelete")
        for sample, real in {
            "6b1c…": self.event["hash"],
            "192.0.2.1:26552": self.event["ip"],
            "1HeLLo4uzjaLetFx6NH3PMwFP3qbRbTf3D": self.other
            if elsewhere
            else self.event["signed_by"],
            "1Chat…": self.site,
        }.items():
            text = text.replace(sample, real)
        params = json.loads(text)["params"]
        if example.cmd == "peerDecrypt":
            params = {"encrypted": self.sealed}
        # And what an example takes for granted was done before.
        if '"us"' in text or example.cmd == "peerKeyList":
            self.page.ask("peerKeyAdd", ["correct horse battery staple", "us"])
        if example.cmd == "certSet":
            self.page.ask("certAdd", ["zeroid.bit", "web", "ann", "G7B2WcLWzbdV6o7WMhtJ3QJFcJNq1c"])
        client = self.person if example.cmd in FOR_THE_PERSON else self.page
        answers: list[Any] = []
        client.call(example.cmd, params).addCallback(answers.append)
        self.net.advance(1)
        if not answers and self.person.prompts():
            prompt = self.person.prompts()[-1]
            self.person.respond_to(prompt["id"], prompt["choices"][0]["answer"])
        self.net.advance(10)
        (answer,) = answers
        return answer


@pytest.fixture
def stage() -> Iterator[Stage]:
    with Network(nodes=2, seed=1) as net:
        other, site = net.site(), net.site(RULES, files=FILES)
        net.connect_all()
        page, person = net.client(0, site), net.client(0, site, trusted=True)
        there = net.client(1, site)
        there.answers.update({"who is there?": "me", "are you there?": "yes"})
        there.call("peerBroadcast", {"message": "hello", "privatekey": False})
        net.advance(1)
        (event,) = page.received()
        there.ask("peerDecryptMode", ["off"])
        address = page.ask("siteInfo")["auth_address"]
        page.call("peerBroadcast", {"message": "psst", "encrypt": [address]})
        net.advance(1)
        sealed = there.messages[-1]["encrypted"]
        yield Stage(net, site, other, page, person, event, sealed)


def test_every_command_has_an_example():
    with Network(nodes=1) as net:
        table = net.nodes[0].node.commands._table
    assert {example.cmd for example in EXAMPLES} == set(table)


def test_every_command_of_the_wrapper_has_an_example():
    script = (Path(zeromsg.__file__).parent / "web" / "static" / "wrapper.js").read_text()
    carried_out = set(re.findall(r"^  (?:async )?(wrapper\w+)\(", script, re.MULTILINE))
    line = r'^    zeroFrame\.cmd\("(wrapper\w+)", (.*?)(?:, show)?\)(?: +→.*)?$'
    shown = re.findall(line, PAGE.read_text(), re.MULTILINE)
    assert carried_out and {cmd for cmd, _ in shown} == carried_out
    for _, params in shown:
        json.loads(params)


@pytest.mark.parametrize(
    "example", EXAMPLES, ids=[f"{n}-{each.cmd}" for n, each in enumerate(EXAMPLES, 1)]
)
def test_example(stage, example):
    # The page's form says the same as the wire's.
    params = example.wire.partition('"params": ')[2].rpartition(', "id": ')[0]
    assert example.page == f'zeroFrame.cmd("{example.cmd}", {params}, show)'
    answer = stage.run(example)
    if example.cmd in REFUSED:
        assert answer == {"error": REFUSED[example.cmd]}
        return
    assert not (isinstance(answer, dict) and "error" in answer), answer
    # A whole answer is the very one; of a shortened one the kind is right.
    shown = example.answer
    if "…" not in shown and not re.search(r"\d{10}", shown) and shown != '{"nick": "Ann"}':
        assert answer == json.loads(shown)
    else:
        kind = {'"': str, "[": list, "{": dict}[shown[0]]
        assert isinstance(answer, kind)


def test_the_texts_without_a_code_are_told():
    """Programs look at the code; where there is none, the page has to say so."""
    table = PAGE.read_text().partition("without a code:")[2].partition("## Sending")[0]
    columns = re.findall(r"^\| .+ \| (.+) \|$", table, re.MULTILINE)
    texts = re.findall(r"`([^`<]*)[^`]*`", " ".join(columns[1:]))
    with Network(nodes=1, seed=1) as net:
        other = net.site()
        site = net.site(RULES, files={**FILES, "board": b"\xff"})
        merger = net.site(RULES)
        net.nodes[0].node.permissions.add(merger, "Merger:Chat")
        page, merging = net.client(0, site), net.client(0, merger)
        answers = [
            page.ask("shout"),
            page.ask("siteUpdate", [other]),
            page.ask("mergerSiteAdd", [other]),
            page.ask("mergerSiteList"),
            merging.ask("mergerSiteDelete", ["1HeLLo4uzjaLetFx6NH3PMwFP3qbRbTf3D"]),
            merging.ask("mergerSiteDelete", [other]),
            page.ask("dirList", ["nowhere"]),
            page.ask("fileGet", ["board"]),
        ]
    said = [answer["error"] for answer in answers]
    for text in said:
        assert any(text.startswith(shown) for shown in texts), text
    for shown in texts:
        assert any(text.startswith(shown) for text in said), shown


@pytest.mark.parametrize(
    ("cmd", "params", "allowed"),
    [
        ("certSet", [""], True),
        ("certList", [], True),
        ("siteList", [], True),
        ("permissionDetails", ["ADMIN"], True),
        ("permissionAdd", ["Merger:Chat"], False),
        ("permissionRemove", ["Merger:Chat"], False),
    ],
)
def test_what_a_site_with_admin_may_run(cmd, params, allowed):
    with Network(nodes=1, seed=1) as net:
        site = net.site(RULES)
        net.nodes[0].node.permissions.add(site, "ADMIN")
        answer = net.client(0, site).ask(cmd, params)
    refused = isinstance(answer, dict) and answer.get("error", "").startswith("denied: ")
    assert refused is not allowed
