import pytest

from zeromsg.errors import ClientError
from zeromsg.routing import replies as module
from zeromsg.routing.replies import PENDING_LIMIT, Replies

REPLY = {"message": "hello"}


@pytest.fixture
def replies():
    return Replies()


@pytest.fixture
def heard():
    return []


def expect(replies, heard, hash="hash", asked=("a:1", "b:1")):
    replies.expect(hash, asked, lambda name, reply: heard.append((name, reply)))


def test_a_reply_of_who_was_asked_is_passed_on(replies, heard):
    expect(replies, heard)
    assert replies.deliver("a:1", "hash", REPLY) is True
    assert heard == [("a:1", REPLY)]


def test_every_peer_that_was_asked_may_reply(replies, heard):
    expect(replies, heard)
    assert replies.deliver("b:1", "hash", REPLY)
    assert replies.deliver("a:1", "hash", REPLY)
    assert [name for name, _ in heard] == ["b:1", "a:1"]


def test_nobody_else_may_reply(replies, heard):
    expect(replies, heard)
    assert replies.deliver("c:1", "hash", REPLY) is False
    assert replies.deliver("a", "hash", REPLY) is False
    assert heard == []
    assert replies.deliver("a:1", "hash", REPLY) is True


def test_a_reply_to_nothing_is_ignored(replies, heard):
    expect(replies, heard)
    assert replies.deliver("a:1", "other hash", REPLY) is False
    assert heard == []


def test_questions_are_kept_apart(replies, heard):
    other = []
    expect(replies, heard, "one", ("a:1",))
    expect(replies, other, "two", ("b:1",))
    assert not replies.deliver("a:1", "two", REPLY)
    assert replies.deliver("b:1", "two", REPLY)
    assert (heard, other) == ([], [("b:1", REPLY)])


def test_what_is_forgotten_is_not_passed_on(replies, heard):
    expect(replies, heard)
    replies.forget("hash")
    assert replies.deliver("a:1", "hash", REPLY) is False
    assert len(replies) == 0
    replies.forget("hash")


def test_a_question_may_be_forgotten_by_its_own_reply(replies):
    replies.expect("hash", ("a:1",), lambda name, reply: replies.forget("hash"))
    assert replies.deliver("a:1", "hash", REPLY) is True
    assert replies.deliver("a:1", "hash", REPLY) is False


def test_only_so_many_questions_wait(replies, heard, monkeypatch):
    assert PENDING_LIMIT == 10_000
    monkeypatch.setattr(module, "PENDING_LIMIT", 2)
    expect(replies, heard, "one")
    expect(replies, heard, "two")
    with pytest.raises(ClientError, match=r"^too-fast: "):
        expect(replies, heard, "three")
    assert len(replies) == 2
    assert not replies.deliver("a:1", "three", REPLY)
    replies.forget("one")
    expect(replies, heard, "three")
    assert replies.deliver("a:1", "three", REPLY)
