import json
import pathlib

import attrs
import pytest

from zeromsg.protocol.handshake import (
    HANDSHAKE_SECONDS,
    QUIET_SECONDS,
    Opened,
    Refused,
    SendRequest,
    SendResponse,
    StartTls,
    handshake_machine,
)
from zeromsg.wire.peer_messages import Handshake

VECTORS = pathlib.Path(__file__).parents[1] / "vectors"
PLAIN = json.loads((VECTORS / "wire-plain.json").read_text())["connections"][0]["messages"]
SWITCHED = json.loads((VECTORS / "wire-tls.json").read_text())["connections"][1]["messages"]

OURS = Handshake("-UT3530-ourselves...", 26552, None, "192.0.2.1", ("tls-rsa",), None, 1)
THEIRS = Handshake("-UT3530-somebody....", 15441, True, "192.0.2.2", ("tls-rsa",), None, 2)
PLAIN_THEIRS = attrs.evolve(THEIRS, crypt_supported=())
NAMES_TLS = attrs.evolve(THEIRS, crypt="tls-rsa")


def dialler(can_tls=True):
    machine = handshake_machine(OURS, can_tls)
    assert machine.connected() == [SendRequest(OURS)]
    return machine


def listener(can_tls=True):
    machine = handshake_machine(OURS, can_tls)
    assert machine.accepted() == []
    return machine


def refusal(orders):
    """The one order there is must be a refusal."""
    (order,) = orders
    assert isinstance(order, Refused)
    return order


# The side that listens.


@pytest.mark.parametrize(
    ("theirs", "can_tls", "encrypted", "crypt", "upgrade"),
    [
        (THEIRS, True, False, "tls-rsa", True),
        (THEIRS, False, False, None, False),
        (PLAIN_THEIRS, True, False, None, False),
        (PLAIN_THEIRS, False, False, None, False),
        # It began with TLS: nothing is to be switched any more.
        (THEIRS, True, True, "tls-rsa", False),
        (PLAIN_THEIRS, True, True, "tls-rsa", False),
        # What else it offers is not ours.
        (attrs.evolve(THEIRS, crypt_supported=("tls-ecc", "")), True, False, None, False),
        (attrs.evolve(THEIRS, crypt_supported=("x", "tls-rsa")), True, False, "tls-rsa", True),
        # A request that names an encryption has none yet.
        (attrs.evolve(PLAIN_THEIRS, crypt="tls-rsa"), True, False, None, False),
    ],
)
def test_a_request_is_answered(theirs, can_tls, encrypted, crypt, upgrade):
    orders = listener(can_tls).requested(0, theirs, encrypted)
    wanted = [
        SendResponse(0, attrs.evolve(OURS, crypt=crypt)),
        *([StartTls(as_client=False)] if upgrade else []),
        Opened(theirs, QUIET_SECONDS),
    ]
    assert orders == wanted


@pytest.mark.parametrize("req_id", [0, 7, None])
def test_the_answer_goes_to_the_number_of_the_request(req_id):
    answer, *_ = listener().requested(req_id, THEIRS, False)
    assert answer.req_id == req_id


def test_nothing_follows_a_response_at_once():
    """ZeroNet nodes corrupt a later file when something does."""
    *_, opened = listener().requested(0, THEIRS, False)
    assert 0.1 <= opened.quiet < 1.0


def test_a_peer_has_ten_seconds():
    assert HANDSHAKE_SECONDS == 10.0


def test_a_listener_hears_itself():
    order = refusal(listener().requested(0, OURS, False))
    assert order.ourselves


def test_who_says_no_peer_id_is_not_us():
    """Over Tor both sides say none."""
    nameless = attrs.evolve(OURS, peer_id="")
    machine = handshake_machine(nameless, True)
    machine.accepted()
    assert isinstance(machine.requested(0, nameless, False)[-1], Opened)
    machine = handshake_machine(nameless, True)
    machine.connected()
    assert machine.responded(nameless, False) == [Opened(nameless, 0.0)]


def test_a_second_request_is_refused():
    machine = listener()
    machine.requested(0, THEIRS, False)
    assert not refusal(machine.requested(0, THEIRS, False)).ourselves


def test_a_listener_gets_no_response():
    refusal(listener().responded(THEIRS, False))


def test_a_listener_that_hears_nothing_closes():
    refusal(listener().timed_out())


# The side that dials.


def test_a_plain_response_opens():
    assert dialler().responded(THEIRS, False) == [Opened(THEIRS, 0.0)]


def test_a_response_that_names_tls_is_followed_by_it():
    orders = dialler().responded(NAMES_TLS, False)
    assert orders == [StartTls(as_client=True), Opened(NAMES_TLS, 0.0)]


@pytest.mark.parametrize("theirs", [THEIRS, NAMES_TLS])
def test_what_is_encrypted_already_stays_as_it_is(theirs):
    assert dialler().responded(theirs, True) == [Opened(theirs, 0.0)]


@pytest.mark.parametrize(("crypt", "can_tls"), [("tls-rsa", False), ("bogus", True)])
def test_an_encryption_that_we_cannot_do_is_refused(crypt, can_tls):
    order = refusal(dialler(can_tls).responded(attrs.evolve(THEIRS, crypt=crypt), False))
    assert crypt in order.reason


def test_a_dialler_hears_itself():
    assert refusal(dialler().responded(OURS, False)).ourselves
    assert refusal(dialler().responded(OURS, True)).ourselves


def test_a_second_response_is_refused():
    machine = dialler()
    machine.responded(THEIRS, False)
    refusal(machine.responded(THEIRS, False))


def test_a_request_instead_of_a_response_is_refused():
    refusal(dialler().requested(0, THEIRS, False))


def test_a_dialler_that_gets_no_response_closes():
    refusal(dialler().timed_out())


def test_a_request_after_the_response_is_refused():
    machine = dialler()
    machine.responded(THEIRS, False)
    refusal(machine.requested(0, THEIRS, False))


# Both.


@pytest.mark.parametrize("theirs", [THEIRS, NAMES_TLS])
def test_the_time_limit_means_nothing_once_it_is_open(theirs):
    answering, asking = listener(), dialler()
    answering.requested(0, theirs, False)
    asking.responded(theirs, False)
    assert answering.timed_out() == []
    assert asking.timed_out() == []


@pytest.mark.parametrize(
    ("dials_tls", "listens_tls", "first"),
    [(a, b, first) for a in (True, False) for b in (True, False) for first in (True, False)],
)
def test_two_of_us_agree_on_the_encryption(dials_tls, listens_tls, first):
    """first: the connection began with TLS, which takes both."""
    encrypted = first and dials_tls and listens_tls
    crypts = ("tls-rsa",) if dials_tls else ()
    asking = handshake_machine(attrs.evolve(OURS, crypt_supported=crypts), dials_tls)
    answering = handshake_machine(THEIRS, listens_tls)
    (request,) = asking.connected()
    answering.accepted()
    response, *answered = answering.requested(0, request.handshake, encrypted)
    settled = asking.responded(response.handshake, encrypted)
    assert isinstance(settled[-1], Opened)
    assert isinstance(answered[-1], Opened)
    both = dials_tls and listens_tls
    switched = both and not encrypted
    assert (StartTls(as_client=True) in settled) is switched
    assert (StartTls(as_client=False) in answered) is switched
    assert response.handshake.crypt == ("tls-rsa" if both else None)


def test_the_recorded_plain_connection():
    request, response = (message["decoded"] for message in PLAIN[:2])
    theirs = Handshake.from_wire(request["params"])
    answer, opened = listener().requested(request["req_id"], theirs, False)
    assert answer.handshake.crypt is None
    assert opened.theirs == theirs
    answered = Handshake.from_wire(response)
    assert dialler().responded(answered, False) == [Opened(answered, 0.0)]


def test_the_recorded_switch_to_tls():
    request, response = (message["decoded"] for message in SWITCHED[:2])
    theirs = Handshake.from_wire(request["params"])
    answer, start, _ = listener().requested(request["req_id"], theirs, False)
    assert answer.handshake.crypt == response["crypt"]
    assert start == StartTls(as_client=False)
    orders = dialler().responded(Handshake.from_wire(response), False)
    assert orders[0] == StartTls(as_client=True)
