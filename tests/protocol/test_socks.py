"""The way through a SOCKS proxy, byte by byte."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeromsg.errors import NotTried
from zeromsg.protocol.socks import OURS, Problem, SocksConversation, SocksFailed

ONION = "a" * 56 + ".onion"
OPENED = b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"
CODES = {
    0x01: Problem.GENERAL,
    0x02: Problem.NOT_ALLOWED,
    0x03: Problem.NETWORK,
    0x04: Problem.HOST,
    0x05: Problem.REFUSED,
    0x06: Problem.EXPIRED,
    0x07: Problem.COMMAND,
    0x08: Problem.ADDRESS_KIND,
    0xF0: Problem.NO_DESCRIPTOR,
    0xF1: Problem.BAD_DESCRIPTOR,
    0xF2: Problem.INTRODUCTION,
    0xF3: Problem.RENDEZVOUS,
    0xF4: Problem.KEY_MISSING,
    0xF5: Problem.KEY_WRONG,
    0xF6: Problem.BAD_ADDRESS,
    0xF7: Problem.INTRODUCTION_TIMEOUT,
    0x99: Problem.UNKNOWN,
}


def test_without_a_name_no_method_is_offered_and_the_host_goes_as_a_name() -> None:
    talk = SocksConversation(ONION, 26552)
    assert talk.begin() == b"\x05\x01\x00"
    asked = talk.receive(b"\x05\x00")
    assert asked == b"\x05\x01\x00\x03\x3e" + ONION.encode() + (26552).to_bytes(2, "big")
    assert talk.receive(OPENED) == b""
    assert talk.done
    assert talk.rest == b""


def test_a_name_keeps_streams_apart() -> None:
    talk = SocksConversation("example.org", 80, "face-1")
    assert talk.begin() == b"\x05\x01\x02"
    assert talk.receive(b"\x05\x02") == b"\x01\x06face-1\x01x"
    assert talk.receive(b"\x01\x00").startswith(b"\x05\x01\x00\x03\x0bexample.org")


def test_an_ipv6_literal_goes_as_a_name_too() -> None:
    talk = SocksConversation("2001:db8::1", 80)
    talk.begin()
    assert b"\x03\x0b2001:db8::1" in talk.receive(b"\x05\x00")


REPLIES = [
    OPENED,
    b"\x05\x00\x00\x03\x04host\x00\x50",
    b"\x05\x00\x00\x04" + bytes(16) + b"\x00\x50",
]


@given(reply=st.sampled_from(REPLIES), cuts=st.lists(st.integers(0, 40), max_size=6))
def test_what_follows_the_reply_is_kept_however_it_is_cut(reply: bytes, cuts: list[int]) -> None:
    data = b"\x05\x00" + reply + b"greeting"
    talk = SocksConversation(ONION, 1)
    talk.begin()
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    rest = b""
    for start, end in pairwise(edges):
        if talk.done:
            rest += data[start:end]
        else:
            talk.receive(data[start:end])
            rest = talk.rest
    assert talk.done
    assert rest == b"greeting"


@pytest.mark.parametrize(("code", "problem"), CODES.items())
def test_each_code_is_told_apart(code: int, problem: Problem) -> None:
    talk = SocksConversation(ONION, 1)
    talk.begin()
    talk.receive(b"\x05\x00")
    with pytest.raises(SocksFailed) as caught:
        talk.receive(bytes([5, code, 0, 1]))
    assert caught.value.problem is problem
    assert caught.value.code == code
    assert (f"{code:#04x}" in str(caught.value)) == (problem is Problem.UNKNOWN)


def test_problems_of_our_own_tor_say_nothing_of_the_peer() -> None:
    for problem in Problem:
        error = SocksFailed(problem).as_unreachable()
        assert isinstance(error, NotTried) == (problem in OURS)
        assert str(error)


@pytest.mark.parametrize(
    ("user", "answers", "problem"),
    [
        ("", [b"HTTP/1.0 400"], Problem.NOT_SOCKS),
        ("", [b"\x05\xff"], Problem.LOGIN),
        ("", [b"\x05\x02"], Problem.NOT_SOCKS),
        ("me", [b"\x05\x00"], Problem.NOT_SOCKS),
        ("me", [b"\x05\x02", b"\x01\x01"], Problem.LOGIN),
        ("me", [b"\x05\x02", b"\x05\x00"], Problem.NOT_SOCKS),
        ("", [b"\x05\x00", b"\x04\x00"], Problem.NOT_SOCKS),
        ("", [b"\x05\x00", b"\x05\x00\x00\x09\x00"], Problem.NOT_SOCKS),
    ],
)
def test_nonsense_is_refused(user: str, answers: list[bytes], problem: Problem) -> None:
    talk = SocksConversation(ONION, 1, user)
    talk.begin()
    for answer in answers[:-1]:
        talk.receive(answer)
    with pytest.raises(SocksFailed) as caught:
        talk.receive(answers[-1])
    assert caught.value.problem is problem


@given(st.lists(st.binary(max_size=40), max_size=8))
def test_hostile_proxies_raise_nothing_else(chunks: list[bytes]) -> None:
    talk = SocksConversation(ONION, 1, "me")
    talk.begin()
    try:
        for chunk in chunks:
            if talk.done:
                break
            talk.receive(chunk)
    except SocksFailed:
        pass


@pytest.mark.parametrize(
    ("host", "port", "user"),
    [("", 1, ""), ("ä.org", 1, ""), ("a" * 256, 1, ""), ("a", 0, ""), ("a", 65536, ""),
     ("a", 1, "ü"), ("a", 1, "u" * 256)],
)  # fmt: skip
def test_what_socks_cannot_carry_is_refused_before(host: str, port: int, user: str) -> None:
    with pytest.raises(ValueError):
        SocksConversation(host, port, user)
