import pytest

from zeromsg.protocol.aggregation import Aggregation


def reply(message, signed_by="", cert=""):
    return {
        "message": message,
        "hash": f"hash of {message}",
        "signed_by": signed_by,
        "cert": cert,
        "timestamp": None,
    }


def entry(ip, message, signed_by="", cert=""):
    return {
        "ip": ip,
        "reply": message,
        "hash": f"hash of {message}",
        "signed_by": signed_by,
        "cert": cert,
    }


def failure(ip, error):
    return {"ip": ip, "reply": {"error": error}, "hash": "", "signed_by": "", "cert": ""}


def test_nobody_asked_is_done_at_once():
    gathered = Aggregation.of([])
    assert gathered.done
    assert gathered.result("timeout") == []


def test_replies_stand_in_the_order_in_which_peers_were_asked():
    gathered = Aggregation.of(["c:1", "a:1", "b:1"])
    gathered.replied("b:1", reply("from b", "1abc", "web/bob@rig.bit"))
    gathered.replied("c:1", reply("from c"))
    gathered.replied("a:1", reply("from a"))
    assert gathered.result("timeout") == [
        entry("c:1", "from c"),
        entry("a:1", "from a"),
        entry("b:1", "from b", "1abc", "web/bob@rig.bit"),
    ]


def test_it_is_done_when_the_last_one_has_replied_or_failed():
    gathered = Aggregation.of(["a:1", "b:1"])
    assert not gathered.done
    gathered.failed("b:1", "no-peer: Connection error")
    assert not gathered.done
    gathered.replied("a:1", reply("yes"))
    assert gathered.done
    assert gathered.result("timeout") == [
        entry("a:1", "yes"),
        failure("b:1", "no-peer: Connection error"),
    ]


def test_silent_peers_are_reported():
    gathered = Aggregation.of(["a:1", "b:1"])
    gathered.replied("a:1", reply("yes"))
    assert gathered.result("timeout: no reply within 60 seconds") == [
        entry("a:1", "yes"),
        failure("b:1", "timeout: no reply within 60 seconds"),
    ]


@pytest.mark.parametrize("first", ["replied", "failed"])
@pytest.mark.parametrize("second", ["replied", "failed"])
def test_only_the_first_word_of_a_peer_counts(first, second):
    words = {"replied": lambda text: reply(text), "failed": lambda text: text}
    gathered = Aggregation.of(["a:1"])
    getattr(gathered, first)("a:1", words[first]("first"))
    (kept,) = gathered.result("timeout")
    getattr(gathered, second)("a:1", words[second]("second"))
    assert gathered.result("timeout") == [kept]
    assert "first" in repr(kept)


def test_who_was_not_asked_has_no_entry():
    gathered = Aggregation.of(["a:1"])
    gathered.replied("b:1", reply("me too"))
    gathered.failed("c:1", "no-peer")
    assert gathered.result("timeout") == [failure("a:1", "timeout")]
    assert not gathered.done


@pytest.mark.parametrize("message", [None, False, 0, "", [], {}])
def test_an_empty_reply_is_a_reply(message):
    gathered = Aggregation.of(["a:1"])
    gathered.replied("a:1", reply(message))
    assert gathered.done
    assert gathered.result("timeout") == [entry("a:1", message)]


def test_asked_twice_is_asked_once():
    gathered = Aggregation.of(["a:1", "b:1", "a:1"])
    assert [entry["ip"] for entry in gathered.result("timeout")] == ["a:1", "b:1"]
