"""One connection to a peer: its handshake, its TLS, its bounds, its end."""

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import ConnectionAborted

from zeromsg.errors import Unreachable
from zeromsg.net.peer_protocol import Limits, OwnAddress, TlsFailed, remote_of
from zeromsg.net.tls import tls_options
from zeromsg.wire.values import PeerAddress

OURS = "-UT3530-ours00000000"


def turn(clock, times=30):
    for _ in range(times):
        clock.advance(0)


def failure_of(deferred):
    caught = []
    deferred.addErrback(caught.append)
    return caught


@pytest.fixture
def accepted(link):
    """A link that somebody opened to us, with the handshake done and its silence over."""

    def make(**more):
        made, owner, other = link(dialled=False, **more)
        other.greet()
        made._clock.advance(0.2)
        turn(made._clock)
        other.messages.clear()
        return made, owner, other

    return make


# The handshake


def test_a_dialler_speaks_first_and_then_waits(link, clock):
    made, owner, other = link(dialled=True)
    answered = made.ask("ping", {})
    made.respond(7, {"ok": "x"})
    turn(clock)
    ((_, greeting),) = other.messages
    assert (greeting["cmd"], greeting["req_id"]) == ("handshake", 0)
    assert greeting["params"]["peer_id"] == OURS
    assert greeting["params"]["fileserver_port"] == 26552
    assert greeting["params"]["target_ip"] == "203.0.113.9"
    clock.advance(5)
    assert len(other.messages) == 1 and owner.opened == []
    other.greet()
    turn(clock)
    assert other.commands() == ["handshake", "ping", "response"]
    assert owner.opened == [made] and made.open
    other.send({"cmd": "response", "to": 1, "body": b"Pong!"})
    assert answered.result["body"] == b"Pong!"


def test_a_listener_is_silent_until_it_is_greeted(link, clock):
    _, owner, other = link(dialled=False)
    clock.advance(5)
    assert other.messages == [] and owner.opened == []


def test_a_handshake_response_travels_alone_for_a_tenth_of_a_second(link, clock):
    made, owner, other = link(dialled=False)
    owner.respond = lambda cmd, params: {"body": b"Pong!"}
    # A request in the very chunk of the handshake, and requests of ours at once.
    greeting = {"cmd": "handshake", "req_id": 0, "params": {"fileserver_port": 5}}
    other.send(greeting, {"cmd": "ping", "req_id": 1, "params": {}})
    for _ in range(3):
        failure_of(made.ask("pex", {"site": "x"}))
        turn(clock)
    ((at, data),) = made.transport.writes
    (message,) = [message for _, message in other.messages]
    assert (message["cmd"], message["to"]) == ("response", 0)
    assert msgpack.unpackb(data) == message
    clock.advance(0.099)
    assert len(made.transport.writes) == 1
    clock.advance(0.002)
    turn(clock)
    assert made.transport.writes[1][0] - at >= 0.1
    assert other.commands() == ["response", "response", "pex", "pex", "pex"]


@pytest.mark.parametrize(
    ("more", "address", "name"),
    [
        ({"fileserver_port": 7}, "203.0.113.9:7", "203.0.113.9:7"),
        ({"fileserver_port": "7"}, "203.0.113.9:7", "203.0.113.9:7"),
        ({"fileserver_port": 7, "port_opened": True}, "203.0.113.9:7", "203.0.113.9:7"),
        ({"fileserver_port": 7, "port_opened": False}, None, "203.0.113.9:40000"),
        ({"fileserver_port": 0}, None, "203.0.113.9:40000"),
        ({"fileserver_port": 7, "onion": "x" * 56}, "203.0.113.9:7", "203.0.113.9:7"),
        ({"fileserver_port": 7, "target_ip": "1.2.3.4"}, "203.0.113.9:7", "203.0.113.9:7"),
    ],
)
def test_what_a_peer_is_called(link, more, address, name):
    """The host is proven, the port is its own claim, an onion claims nothing here."""
    made, _, other = link(dialled=False)
    other.greet(**more)
    assert made.address == (PeerAddress.parse(address) if address else None)
    assert (made.name, made.identity) == (name, "203.0.113.9")


def test_a_closed_port_on_a_private_network_can_be_dialled_there(link):
    made, _, other = link(dialled=False, remote="192.168.1.5:40000")
    other.greet(port_opened=False)
    assert made.address == PeerAddress("192.168.1.5", 15441)


def test_whom_we_dialled_is_called_as_we_dialled_it(link, clock):
    made, _, other = link(dialled=True, remote="203.0.113.9:7")
    other.greet(fileserver_port=9, port_opened=False)
    turn(clock)
    assert made.name == "203.0.113.9:7"
    assert made.address == PeerAddress("203.0.113.9", 7)


def test_a_zeromsg_node_is_known_by_its_extension(link):
    made, _, other = link(dialled=False)
    assert made.extension == 0
    other.greet()
    assert made.extension == 1
    made, _, other = link(dialled=False)
    other.greet(zeromsg=None)
    assert made.extension == 0


@pytest.mark.parametrize("dialled", [True, False])
@pytest.mark.parametrize("port", [None, "x", -1, 65536, b"7", 7.0, True])
def test_a_handshake_without_a_port_costs_the_connection(link, clock, dialled, port):
    made, owner, other = link(dialled=dialled)
    other.greet(fileserver_port=port)
    clock.advance(2)
    turn(clock)
    assert other.lost and owner.opened == [] and owner.lost == [(made, False)]
    assert made.theirs is None


def test_our_own_id_is_ourselves(link, clock):
    made, owner, other = link(dialled=True)
    problems = []
    made.ready.addBoth(problems.append)
    other.greet(peer_id=OURS)
    turn(clock)
    assert other.lost and owner.opened == []
    made, owner, other = link(dialled=False)
    other.greet(peer_id=OURS)
    turn(clock)
    # It is told nothing, as by a real node.
    assert other.lost and other.messages == [] and owner.opened == []


def test_the_dialler_learns_that_it_dialled_itself(clock, link):
    made, _, other = link(dialled=True)
    made.ready = ready = type(made.ready)()
    problems = failure_of(ready)
    other.greet(peer_id=OURS)
    assert problems[0].check(OwnAddress)


def test_no_peer_id_is_nobody(link):
    made, _, other = link(dialled=False)
    other.greet(peer_id="")
    assert made.open


@pytest.mark.parametrize("dialled", [True, False])
def test_a_second_handshake_costs_the_connection(link, clock, dialled):
    made, owner, other = link(dialled=dialled)
    other.greet()
    turn(clock)
    assert made.open
    other.send({"cmd": "handshake", "req_id": 0, "params": {"fileserver_port": 5}})
    turn(clock)
    assert other.lost and owner.lost == [(made, True)]


def test_a_dialler_that_is_greeted_with_a_request_hangs_up(link, clock):
    made, owner, other = link(dialled=True)
    other.send({"cmd": "handshake", "req_id": 0, "params": {"fileserver_port": 5}})
    turn(clock)
    assert other.lost and owner.opened == [] and not made.open


def test_a_response_that_nobody_asked_for_is_ignored(link, clock):
    made, _, other = link(dialled=False)
    other.send({"cmd": "response", "to": 0, "fileserver_port": 5})
    other.send({"cmd": "response", "to": 99}, {"cmd": "response"})
    turn(clock)
    assert not other.lost
    other.greet()
    assert made.open


@pytest.mark.parametrize("dialled", [True, False])
def test_a_handshake_may_take_ten_seconds(link, clock, dialled):
    made, owner, other = link(dialled=dialled)
    clock.advance(9.9)
    turn(clock)
    assert not other.lost
    clock.advance(0.2)
    turn(clock)
    assert other.lost and owner.lost == [(made, False)]


def test_an_opened_link_lives_on_after_ten_seconds(link, clock):
    made, _, other = link(dialled=False)
    other.greet()
    clock.advance(11)
    turn(clock)
    assert made.open and not other.lost


def test_requests_before_the_handshake_are_handed_on(link):
    _, owner, other = link(dialled=False)
    owner.respond = lambda cmd, params: {"body": b"Pong!"}
    other.send({"cmd": "ping", "req_id": 5, "params": {}})
    assert [message["to"] for _, message in other.messages] == [5]


def test_an_impatient_peers_request_waits_for_its_handshake_response(link, clock):
    """Real nodes sometimes ask before they answered our handshake."""
    _, owner, other = link(dialled=True)
    owner.respond = lambda cmd, params: {"peers": []}
    other.send({"cmd": "pex", "req_id": 1, "params": {}})
    turn(clock)
    assert other.commands() == ["handshake"]
    other.greet()
    turn(clock)
    assert other.commands() == ["handshake", "response"]


# TLS


def test_a_listener_that_can_answers_an_offer_with_tls(link, clock, pem):
    made, _, other = link(dialled=False, tls=tls_options(pem))
    other.greet(crypt_supported=["tls-rsa"])
    # The response is the last plain word.
    (plain,) = [data for _, data in made.transport.writes]
    response = msgpack.unpackb(plain)
    assert (response["crypt"], response["crypt_supported"]) == ("tls-rsa", ["tls-rsa"])
    assert made.encrypted and made.transport.TLS
    clock.advance(0.2)
    assert all(data[:1] in b"\x14\x15\x16\x17" for _, data in made.transport.writes[1:])


@pytest.mark.parametrize("offer", [[], ["x"], None, "tls-rsa", [b"other"]])
def test_without_the_offer_it_stays_plain(link, pem, offer):
    made, _, other = link(dialled=False, tls=tls_options(pem))
    other.greet(crypt_supported=offer)
    assert other.messages[0][1]["crypt"] is None
    assert not made.encrypted and made.open


def test_old_peers_offer_in_bytes(link, pem):
    made, _, other = link(dialled=False, tls=tls_options(pem))
    other.greet(crypt_supported=[b"tls-rsa"])
    assert made.encrypted


def test_without_options_there_is_no_tls(link):
    made, _, other = link(dialled=False)
    other.greet(crypt_supported=["tls-rsa"])
    assert other.messages[0][1]["crypt"] is None
    assert other.messages[0][1]["crypt_supported"] == []
    assert not made.encrypted


@pytest.mark.parametrize("crypt", ["bogus", "tls-rsa"])
def test_a_response_that_names_encryption_we_lack_is_refused(link, clock, crypt):
    _, owner, other = link(dialled=True)
    other.greet(crypt=crypt)
    turn(clock)
    assert other.lost and owner.opened == []


def test_a_greeting_in_tls_where_we_have_none(link, clock):
    _, owner, other = link(dialled=False)
    other.transport.write(b"\x16\x03\x01\x00\x05hello")
    turn(clock)
    clock.advance(2)
    assert other.lost and owner.mistakes == []


def test_garbage_in_tls_ends_the_connection(link, clock, pem):
    _, owner, other = link(dialled=False, tls=tls_options(pem))
    other.transport.write(b"\x16\x03\x01\x02\x00" + bytes(512))
    turn(clock)
    clock.advance(11)
    turn(clock)
    assert other.lost and owner.opened == []


def test_a_dialler_in_tls_begins_with_it(link, clock, pem):
    made, _, other = link(dialled=True, tls=tls_options(pem), tls_first=True)
    turn(clock)
    assert other.raw[:1] == b"\x16"
    assert b"handshake" not in other.raw
    assert made.encrypted


@pytest.mark.parametrize("end", ["close", "silence", "plain"])
def test_a_dialler_in_tls_learns_that_the_peer_has_none(link, clock, pem, end):
    made, _, other = link(dialled=True, tls=tls_options(pem), tls_first=True)
    made.ready = ready = type(made.ready)()
    problems = failure_of(ready)
    turn(clock)
    if end == "close":
        other.transport.loseConnection()
    elif end == "plain":
        other.transport.write(b"\x83\xa3cmd\xa8response")
    else:
        clock.advance(10.1)
    turn(clock)
    clock.advance(2)
    assert problems and problems[0].check(TlsFailed)


# Requests and answers


def test_answers_may_come_in_any_order(accepted):
    made, _, other = accepted()
    first, second = made.ask("a", {}), made.ask("b", {"x": 1})
    turn(made._clock)
    assert [(message["req_id"], message["params"]) for _, message in other.messages] == [
        (1, {}),
        (2, {"x": 1}),
    ]
    other.send({"cmd": "response", "to": 2, "n": 2}, {"cmd": "response", "to": 1, "n": 1})
    assert (first.result["n"], second.result["n"]) == (1, 2)
    other.send({"cmd": "response", "to": 2, "n": 3})
    assert second.result["n"] == 2


def test_a_request_is_given_up_after_its_time(accepted, clock):
    made, _, _ = accepted()
    short, usual = failure_of(made.ask("a", {}, 2.0)), failure_of(made.ask("b", {}))
    clock.advance(2)
    made.tick(clock.seconds())
    assert short[0].check(Unreachable) and usual == []
    assert made.open  # something was heard less than ten seconds ago
    clock.advance(8.2)
    made.tick(clock.seconds())
    assert usual[0].check(Unreachable)


def test_an_unanswered_request_closes_a_silent_link(accepted, clock):
    made, owner, other = accepted()
    failed = failure_of(made.ask("ping", {}))
    clock.advance(10.5)
    made.tick(clock.seconds())
    turn(clock)
    assert failed[0].check(Unreachable)
    assert other.lost and owner.lost == [(made, True)]


def test_an_unanswered_request_leaves_a_busy_link_open(accepted, clock):
    made, _, other = accepted()
    failed = failure_of(made.ask("ping", {}))
    for _ in range(11):
        clock.advance(1)
        other.send({"cmd": "ping", "req_id": 1, "params": {}})
        made.tick(clock.seconds())
    assert failed[0].check(Unreachable)
    assert made.open


@pytest.mark.parametrize(
    "half",
    [
        msgpack.packb({"cmd": "ping", "req_id": 1, "params": {}})[:-1],
        b"\x81\xa3cmd\xdb\xff\xff\xff\xff",
    ],
)
def test_half_a_message_closes_a_silent_link(accepted, clock, half):
    made, _, other = accepted()
    other.transport.write(half)
    turn(clock)
    clock.advance(9)
    made.tick(clock.seconds())
    assert made.open
    clock.advance(2)
    made.tick(clock.seconds())
    turn(clock)
    assert other.lost


def test_the_end_of_a_link_fails_what_waits(accepted, clock):
    made, _, other = accepted()
    waiting = [failure_of(made.ask("a", {})) for _ in range(3)]
    other.transport.loseConnection()
    turn(clock)
    assert all(failed[0].check(Unreachable) for failed in waiting)
    assert failure_of(made.ask("a", {}))[0].check(Unreachable)
    made.respond(5, {"ok": "x"})  # to nobody; no error


def test_only_so_many_requests_are_in_flight(accepted):
    made, _, other = accepted(limits=Limits(in_flight=3))
    waiting = [failure_of(made.ask("a", {})) for _ in range(4)]
    assert [bool(failed) for failed in waiting] == [False, False, False, True]
    assert "too many requests" in str(waiting[3][0].value)
    turn(made._clock)
    other.send({"cmd": "response", "to": 1})
    assert failure_of(made.ask("a", {})) == []


def test_a_cancelled_request_ignores_its_answer(accepted):
    made, _, other = accepted()
    asked = made.ask("a", {})
    asked.addErrback(lambda failure: None)
    asked.cancel()
    turn(made._clock)
    other.send({"cmd": "response", "to": 1})
    assert made.open


def test_streamed_bodies_go_out_behind_their_message(accepted):
    made, _, other = accepted()
    made.respond_stream(5, {"body": b"12345", "size": 5, "location": 5})
    made.respond(6, {"ok": "x"})
    turn(made._clock)
    ((_, stream), (_, after)) = other.messages
    assert stream == {
        "cmd": "response",
        "to": 5,
        "size": 5,
        "location": 5,
        "stream_bytes": 5,
        "body": b"12345",
    }
    assert after["ok"] == "x"


# Who does not read


def test_what_a_peer_does_not_read_waits_in_order(accepted, clock):
    made, _, other = accepted()
    made.transport.stuck = True
    for number in range(20):
        made.respond(number, {"body": bytes(10_000)})
    assert made.transport.buffer and len(made.transport.buffer) < 90_000
    assert other.messages == []
    made.transport.unstick()
    turn(clock)
    assert [message["to"] for _, message in other.messages] == list(range(20))


def test_a_peer_that_leaves_too_much_unread_is_dropped(accepted, clock):
    made, owner, _ = accepted(limits=Limits(unsent=100_000))
    made.transport.stuck = True
    waiting = failure_of(made.ask("ping", {}))
    written = 0
    while not made.transport.aborted:
        made.respond(1, {"body": bytes(10_000)})
        written += 10_000
        assert written < 300_000
    # A TCP buffer, and what may be left beyond it.
    assert 160_000 <= written <= 190_000
    turn(clock)
    assert owner.lost == [(made, True)]
    assert "does not read" in str(waiting[0].value)
    assert made._held == []


def test_requests_beyond_what_a_peer_reads_are_not_looked_at(accepted, clock):
    """A chunk may hold thousands that each ask for half a megabyte."""
    made, owner, other = accepted(limits=Limits(unsent=100_000))
    owner.respond = lambda cmd, params: {"body": bytes(50_000)}
    made.transport.stuck = True
    request = {"cmd": "getFile", "params": {}}
    other.send(*({**request, "req_id": number} for number in range(100)))
    assert made.transport.aborted and not made.open
    assert len(owner.requests) < 10


def slowly(clock, seconds, answer):
    """What answers a request and takes so long for it."""

    def respond(cmd, params):
        clock.rightNow += seconds
        return answer

    return respond


def chunk(*messages):
    return b"".join(map(msgpack.packb, messages))


def pings(count, start=0):
    return [
        {"cmd": "ping", "params": {}, "req_id": number} for number in range(start, start + count)
    ]


def test_a_chunk_of_many_messages_lets_others_have_their_turn(accepted, clock):
    made, owner, other = accepted()
    owner.respond = slowly(clock, 0.01, {"ok": "x"})
    made.dataReceived(chunk(*pings(100)))
    assert 4 <= len(owner.requests) <= 6 and not made.transport.reading
    # What comes meanwhile, as TLS may have had some of it already, waits behind it.
    made.dataReceived(chunk(*pings(10, 100)))
    assert len(owner.requests) <= 6
    turn(clock, 60)
    assert [number for number, _, _ in owner.requests] == list(range(110))
    assert [message["to"] for _, message in other.messages] == list(range(110))
    assert made.transport.reading


def test_who_is_to_rest_while_it_waits_for_its_turn_rests_then(accepted, clock):
    made, owner, _ = accepted()
    owner.respond = slowly(clock, 0.05, {"ok": "x"})
    made.dataReceived(chunk(*pings(3)))
    made.rest(0.25)
    clock.advance(0)
    assert len(owner.requests) == 1
    clock.advance(0.26)
    turn(clock)
    assert len(owner.requests) == 3


def test_who_is_gone_when_its_turn_comes_is_not_heard(accepted, clock):
    made, owner, _ = accepted()
    owner.respond = slowly(clock, 0.05, {"ok": "x"})
    made.dataReceived(chunk(*pings(3)))
    made.transport.end(ConnectionAborted())
    turn(clock)
    assert len(owner.requests) == 1 and owner.lost == [(made, True)]


def test_nothing_is_held_once_it_was_read(accepted, clock):
    made, _, _ = accepted(limits=Limits(unsent=100_000))
    for _ in range(20):
        made.transport.stuck = True
        for _ in range(12):
            made.respond(1, {"body": bytes(10_000)})
        made.transport.unstick()
        turn(clock)
    assert made.open and not made.transport.aborted


def test_what_waits_for_a_handshake_is_bounded_too(link, clock):
    made, owner, _ = link(dialled=True, limits=Limits(unsent=50_000))
    for _ in range(20):
        made.respond(1, {"body": bytes(10_000)})
    turn(clock)
    assert owner.lost == [(made, False)]


# Closing


def test_drop_lets_what_was_said_arrive(accepted, clock):
    made, owner, other = accepted()
    made.respond(1, {"error": "why"})
    made.drop("test")
    made.drop("again")
    assert not made.open
    turn(clock)
    assert other.messages[0][1]["error"] == "why"
    assert other.lost and len(owner.lost) == 1


def test_drop_in_the_silence_after_the_handshake_says_what_was_held(link, clock):
    made, _, other = link(dialled=False)
    other.greet()
    made.respond(1, {"error": "why"})
    made.drop("test")
    turn(clock)
    assert [message.get("error") for _, message in other.messages] == [None, "why"]
    assert other.lost


def test_a_dropped_peer_that_does_not_read_has_a_second(accepted, clock):
    made, owner, _ = accepted()
    made.transport.stuck = True
    made.respond(1, {"ok": "x"})
    made.drop("test")
    clock.advance(0.9)
    assert owner.lost == []
    clock.advance(0.2)
    turn(clock)
    assert made.transport.aborted and owner.lost == [(made, True)]


def test_a_dropped_peer_that_was_paused_is_cut_at_once(accepted, clock):
    made, owner, _ = accepted()
    made.transport.stuck = True
    made.respond(1, {"body": bytes(100_000)})
    made.drop("test")
    turn(clock)
    assert owner.lost == [(made, True)]


def test_a_dropped_link_hears_nothing_more(accepted, clock):
    made, owner, other = accepted()
    made.drop("test")
    other.transport.write(msgpack.packb({"cmd": "ping", "req_id": 1, "params": {}}))
    other.transport.write(b"garbage")
    turn(clock)
    assert owner.requests == [] and owner.mistakes == []


def test_dropping_before_the_connection_is_there(clock, link):
    """A dial that is not wanted any more."""
    made, owner, other = link(dialled=True)
    assert other.messages == []
    made.drop("test")
    turn(clock)
    assert owner.opened == [] and other.lost


def test_no_timer_is_left_behind(accepted, clock):
    made, _, other = accepted()
    made.ask("ping", {}).addErrback(lambda failure: None)
    other.transport.loseConnection()
    turn(clock)
    assert clock.getDelayedCalls() == []
    assert not made.open


# Strangers' bytes


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xc1",
        b"\xff" * 100,
        b"\x80",
        msgpack.packb([1, 2]),
        msgpack.packb({"cmd": "ping"}),
        msgpack.packb({"cmd": "ping", "req_id": "x", "params": {}}),
        msgpack.packb({"cmd": "response", "to": 0, "stream_bytes": 5}),
    ],
)
@pytest.mark.parametrize("greeted", [True, False])
def test_garbage_costs_the_connection_and_is_told_to_the_owner(link, clock, data, greeted):
    made, owner, other = link(dialled=False)
    if greeted:
        other.greet()
    other.transport.write(data)
    turn(clock)
    clock.advance(2)
    turn(clock)
    assert other.lost and len(owner.mistakes) == 1
    assert owner.lost == [(made, greeted)]


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    chunks=st.lists(
        st.binary(min_size=1, max_size=80)
        | st.builds(
            msgpack.packb,
            st.fixed_dictionaries(
                {"cmd": st.sampled_from(["handshake", "response", "ping", "x"])},
                optional={
                    "req_id": st.none() | st.integers(0, 3),
                    "to": st.none() | st.integers(0, 3) | st.text(max_size=2),
                    "params": st.dictionaries(
                        st.sampled_from(["fileserver_port", "crypt_supported", "peer_id", "crypt"]),
                        st.none() | st.integers(-1, 70000) | st.text(max_size=8) | st.just(["x"]),
                    ),
                    "fileserver_port": st.integers(0, 70000),
                    "crypt": st.none() | st.just("tls-rsa") | st.text(max_size=3),
                    "stream_bytes": st.integers(-1, 10),
                },
            ),
        ),
        max_size=8,
    ),
    dialled=st.booleans(),
)
def test_any_chunks_leave_an_open_link_or_none(link, errors, chunks, dialled):
    made, owner, other = link(dialled=dialled)
    clock = made._clock
    for chunk in chunks:
        if other.transport.connected:
            other.transport.write(chunk)
        turn(clock, 3)
        clock.advance(0.3)
        made.tick(clock.seconds())
    clock.advance(12)
    made.tick(clock.seconds())
    clock.advance(2)
    turn(clock)
    assert len(owner.opened) <= 1 and len(owner.lost) <= 1
    assert made.open or other.lost
    if not made.open:
        assert owner.lost == [(made, made.theirs is not None)]
    assert errors == []


# Addresses of transports


@pytest.mark.parametrize(
    ("address", "remote"),
    [
        (IPv4Address("TCP", "203.0.113.9", 5), "203.0.113.9:5"),
        (IPv6Address("TCP", "2001:db8::1", 5), "[2001:db8::1]:5"),
        (IPv6Address("TCP", "::ffff:203.0.113.9", 5), "203.0.113.9:5"),
        (IPv6Address("TCP", "fe80::1%eth0", 5), "[fe80::1]:5"),
        (UNIXAddress("/run/peer.sock"), "0.0.0.0:0"),
        (None, "0.0.0.0:0"),
    ],
)
def test_the_far_end_of_a_transport(address, remote):
    assert remote_of(address) == PeerAddress.parse(remote)
