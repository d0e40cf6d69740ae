"""What the person is asked: only she answers, once, and what waits is bounded."""

import itertools

import pytest

from zeromsg.errors import ClientError
from zeromsg.routing import prompts as prompts_module
from zeromsg.routing.prompts import CLIENT_LIMIT, LIFETIME

CERT = ["rigid.bit", "web", "rigtester", "first"]
OTHER_CERT = ["rigid.bit", "web", "rigtester", "second"]


@pytest.fixture
def net(network):
    made = network(1)
    made.main = made.site()
    made.other = made.site()
    return made


@pytest.fixture
def node(net):
    return net.nodes[0].node


@pytest.fixture
def asked(net, node):
    """A program whose certAdd waits for the person; its answers come into `results`."""
    program = net.client(0, net.main)
    assert program.ask("certAdd", CERT) == "ok"
    program.events.clear()
    program.results = []
    program.call("certAdd", OTHER_CERT).addCallback(program.results.append)
    return program


def chosen(node):
    certificate = node.users.default.certificates()["rigid.bit"].certificate
    return certificate.cert_sign


def test_the_operator_says_yes(node, asked):
    (prompt,) = node.prompts.waiting()
    assert prompt["text"] == "Your current certificate is web/rigtester@rigid.bit."
    assert prompt["choices"] == [{"answer": "yes", "label": "Change it to web/rigtester@rigid.bit"}]
    assert prompt["site"] == asked.site
    assert prompt["user"] == node.users.default.master_address
    assert prompt["seconds"] == LIFETIME
    assert (asked.results, chosen(node)) == ([], "first")
    node.prompts.answer(prompt["id"], "yes")
    assert (asked.results, chosen(node)) == (["ok"], "second")
    assert node.prompts.waiting() == []


def test_the_operator_says_no(node, asked):
    (prompt,) = node.prompts.waiting()
    node.prompts.answer(prompt["id"], None)
    assert asked.results == [{"error": "denied: the person did not agree"}]
    assert chosen(node) == "first"


def test_an_answer_counts_once(node, asked):
    (prompt,) = node.prompts.waiting()
    node.prompts.answer(prompt["id"], None)
    with pytest.raises(ClientError, match="no such question waits"):
        node.prompts.answer(prompt["id"], "yes")
    assert chosen(node) == "first"


@pytest.mark.parametrize("answer", ["no", "", "Yes", "rigid.bit"])
def test_only_what_is_offered_can_be_chosen(node, asked, answer):
    (prompt,) = node.prompts.waiting()
    with pytest.raises(ClientError, match="the answers to choose from are 'yes'"):
        node.prompts.answer(prompt["id"], answer)
    assert len(node.prompts) == 1


def test_a_program_cannot_answer_its_own_prompt(net, node, asked):
    """Weakness 3 of the API's section 14: in ZeroNet this switched the certificate."""
    (prompt,) = node.prompts.waiting()
    accomplice = net.client(0, net.main)
    for client, to, result in itertools.product(
        (asked, accomplice),
        (1, 2, 3, 4, 5, 6, 1000000, "1", True, None, [], {}, prompt["id"]),
        (1, True, "yes", None),
    ):
        client.respond_to(to, result)
    assert (asked.results, chosen(node), len(node.prompts)) == ([], "first", 1)


def test_a_program_is_told_what_it_waits_for_and_not_the_id(node, asked):
    (prompt,) = node.prompts.waiting()
    (event,) = asked.events
    assert event == (
        "confirm",
        [
            "Your current certificate <b>web/rigtester@rigid.bit</b>",
            "Change it to web/rigtester@rigid.bit",
        ],
    )
    assert prompt["id"] not in str(asked.events)


def test_ids_cannot_be_guessed(net, node):
    program = net.client(0, net.main)
    program.ask("certAdd", CERT)
    for _ in range(CLIENT_LIMIT):
        program.call("certSelect")
    ids = [prompt["id"] for prompt in node.prompts.waiting()]
    assert len(set(ids)) == CLIENT_LIMIT
    assert all(len(id) == 32 and int(id, 16) > 2**64 for id in ids)


# The page


def test_the_page_of_the_person_is_shown_it_and_answers(net, node, asked):
    page = net.client(0, net.main, trusted=True)
    (prompt,) = page.prompts()
    assert prompt == {
        key: value
        for key, value in node.prompts.waiting()[0].items()
        if key in ("id", "kind", "text", "choices")
    }
    page.respond_to(prompt["id"], "no such choice")
    page.respond_to(prompt["id"], True)
    assert asked.results == []
    page.respond_to(prompt["id"], "yes")
    assert (asked.results, chosen(node)) == (["ok"], "second")
    assert page.events[-1] == ("zeromsgPromptOver", {"id": prompt["id"]})


def test_a_page_that_is_open_already(net, node):
    page = net.client(0, net.main, trusted=True)
    program = net.client(0, net.main)
    program.ask("certAdd", CERT)
    results = []
    program.call("certAdd", OTHER_CERT).addCallback(results.append)
    page.respond_to(page.prompts()[0]["id"], None)
    assert results == [{"error": "denied: the person did not agree"}]
    assert chosen(node) == "first"


def test_the_page_itself_may_ask(net, node):
    page = net.client(0, net.main, trusted=True)
    page.ask("certAdd", CERT)
    page.events.clear()
    results = []
    page.call("certAdd", OTHER_CERT).addCallback(results.append)
    # No event of ZeroNet beside: it would be shown twice.
    assert [cmd for cmd, _ in page.events] == ["zeromsgPrompt"]
    page.respond_to(page.prompts()[0]["id"], "yes")
    assert results == ["ok"]


def test_pages_of_other_sites_and_users_neither_see_nor_answer_it(net, node, asked):
    bob = net.nodes[0].users.new("bob").master_address
    pages = [
        net.client(0, net.other, trusted=True),
        net.client(0, net.main, user=bob, trusted=True),
    ]
    (prompt,) = node.prompts.waiting()
    for page in pages:
        assert page.events == []
        page.respond_to(prompt["id"], "yes")
    assert (asked.results, chosen(node)) == ([], "first")


def test_a_page_that_was_closed_is_told_nothing_any_more(net, node, asked):
    page = net.client(0, net.main, trusted=True)
    page.close()
    before = list(page.events)
    node.prompts.answer(node.prompts.waiting()[0]["id"], None)
    assert page.events == before


# The end


def test_a_prompt_ends_with_its_client(net, node, asked):
    page = net.client(0, net.main, trusted=True)
    (prompt,) = node.prompts.waiting()
    asked.close()
    assert len(node.prompts) == 0
    assert page.events[-1] == ("zeromsgPromptOver", {"id": prompt["id"]})
    page.respond_to(prompt["id"], "yes")
    assert chosen(node) == "first"


def test_a_prompt_ends_after_ten_minutes(net, node, asked):
    net.advance(LIFETIME - 1)
    assert asked.results == [] and node.prompts.waiting()[0]["seconds"] == 1
    net.advance(1)
    assert asked.results == [{"error": "timeout: nobody answered within 10 minutes"}]
    assert len(node.prompts) == 0 and chosen(node) == "first"


def test_nothing_of_an_answered_prompt_is_left(net, node, asked):
    timers = len(net.clock.getDelayedCalls())
    node.prompts.answer(node.prompts.waiting()[0]["id"], "yes")
    assert len(net.clock.getDelayedCalls()) == timers - 1


def test_a_client_may_have_some_waiting(net, node):
    program = net.client(0, net.main)
    for _ in range(CLIENT_LIMIT):
        program.call("certSelect")
    answer = program.ask("certSelect")
    assert answer == {"error": "too-fast: too many questions wait for the person already"}
    assert len(node.prompts) == CLIENT_LIMIT
    # Other clients still may.
    net.client(0, net.other).call("certSelect")
    assert len(node.prompts) == CLIENT_LIMIT + 1


def test_a_node_has_some_waiting(net, node, monkeypatch):
    monkeypatch.setattr(prompts_module, "PROMPTS_LIMIT", 2)
    for _ in range(2):
        net.client(0, net.main).call("certSelect")
    assert net.client(0, net.main).ask("certSelect")["error"].startswith("too-fast")
