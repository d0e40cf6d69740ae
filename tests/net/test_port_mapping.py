"""Asking a router to let connections in: NAT-PMP and UPnP, and keeping what it gave."""

import struct
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from zeromsg.errors import Unreachable
from zeromsg.net.port_mapping import (
    LIFETIME_SECONDS,
    NAT_PMP_TRIES,
    RETRY_SECONDS,
    Mapped,
    NatPmp,
    PortMapping,
    default_gateway,
)
from zeromsg.net.upnp import Upnp

ROUTER = ("192.0.2.1", 5351)
PORT = 26552


class Udp(Clock):
    """A clock with UDP sockets that note what is sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[tuple[bytes, Any]] = []
        self.open: list[Any] = []
        self.problem: OSError | None = None

    def listenUDP(self, port: int, protocol: Any) -> "Udp":
        if self.problem is not None:
            raise self.problem
        assert port == 0
        self.open.append(protocol)
        protocol.makeConnection(self)
        return self

    def write(self, data: bytes, address: Any) -> None:
        self.sent.append((data, address))

    def stopListening(self) -> None:
        self.open.clear()

    def says(self, data: bytes, address: Any = ROUTER) -> None:
        for protocol in list(self.open):
            protocol.datagramReceived(data, address)


@pytest.fixture
def udp():
    return Udp()


def ask(udp, seconds=LIFETIME_SECONDS, gateway=ROUTER[0]):
    found: list[Any] = []
    asked = NatPmp(udp, lambda: gateway).map(PORT, seconds)
    asked.addCallbacks(found.append, lambda failure: found.append(failure.value))
    return found


def answer(operation=130, result=0, inner=PORT, outer=40000, seconds=3600, version=0):
    return struct.pack("!BBHIHHI", version, operation, result, 7, inner, outer, seconds)


# NAT-PMP


def test_a_mapping_is_asked_for_and_given(udp):
    found = ask(udp)
    # Version 0, map TCP, reserved, inner and outer port, seconds.
    assert udp.sent == [(bytes.fromhex("00 02 0000 67b8 67b8 00000e10"), ROUTER)]
    udp.says(answer())
    assert found == [Mapped(40000, 3600)]
    assert udp.open == [] and udp.getDelayedCalls() == []


def test_a_mapping_is_taken_back(udp):
    found = ask(udp, seconds=0)
    assert udp.sent == [(bytes.fromhex("00 02 0000 67b8 0000 00000000"), ROUTER)]
    udp.says(answer(outer=0, seconds=0))
    assert found == [Mapped(0, 0)]


def test_it_is_asked_again_and_then_given_up(udp):
    found = ask(udp)
    times = []
    while not found:
        before = len(udp.sent)
        udp.advance(0.25)
        if len(udp.sent) > before:
            times.append(udp.seconds())
    assert times == [0.25, 0.75, 1.75, 3.75] and len(udp.sent) == NAT_PMP_TRIES
    assert isinstance(found[0], Unreachable) and "does not answer" in str(found[0])
    assert udp.open == []


@pytest.mark.parametrize(
    ("datagram", "sender"),
    [
        (answer(), ("192.0.2.9", 5351)),
        (answer(), ("192.0.2.1", 5350)),
        (answer(operation=129), ROUTER),
        (answer(operation=2), ROUTER),
        (answer(version=2), ROUTER),
        (answer(inner=1), ROUTER),
        (answer()[:-1], ROUTER),
        (answer()[:3], ROUTER),
        (b"", ROUTER),
    ],
)
def test_what_is_no_answer_changes_nothing(udp, datagram, sender):
    found = ask(udp)
    udp.says(datagram, sender)
    assert found == []
    udp.says(answer())
    udp.says(answer(outer=5))
    assert found == [Mapped(40000, 3600)]


@pytest.mark.parametrize("code", [1, 2, 3, 4, 5, 65535])
def test_a_refusal_is_told(udp, code):
    found = ask(udp)
    udp.says(answer(result=code))
    assert str(found[0]) == f"the router refuses, with code {code}"
    assert udp.open == [] and udp.getDelayedCalls() == []


def test_a_router_that_does_not_know_nat_pmp(udp):
    found = ask(udp)
    udp.open[0].connectionRefused()
    assert "does not know" in str(found[0]) and udp.open == []


def test_no_router_and_no_socket(udp):
    assert "not known" in str(ask(udp, gateway=None)[0])
    udp.problem = OSError("none left")
    assert "none left" in str(ask(udp)[0])


def test_the_gateway_of_the_default_route(tmp_path):
    routes = tmp_path / "route"
    gateway = struct.unpack("=I", bytes([192, 0, 2, 1]))[0]
    routes.write_text(
        "Iface\tDestination\tGateway\tFlags\n"
        "eth0\t000200C0\t00000000\t0001\n"
        f"eth0\t00000000\t{gateway:08X}\t0003\n"
    )
    assert default_gateway(routes) == "192.0.2.1"
    routes.write_text("Iface\tDestination\tGateway\tFlags\n")
    assert default_gateway(routes) is None
    assert default_gateway(tmp_path / "nothing") is None


# Keeping it


class Way:
    """A router that says what it is told to say."""

    name = "a way"

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[int, int]] = []

    def map(self, port: int, seconds: int) -> Deferred[Mapped]:
        self.asked.append((port, seconds))
        said = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(said, Deferred):
            return said
        return fail(said) if isinstance(said, Exception) else succeed(said)


NO = Unreachable("no")


def kept(*ways):
    clock, told = Clock(), []
    mapping = PortMapping(clock, ways, told.append)
    mapping.start(PORT)
    return mapping, clock, told


def test_the_first_way_that_works_is_used_and_renewed():
    first, second = Way(NO), Way(Mapped(PORT, 3600))
    _, clock, told = kept(first, second)
    assert told == [PORT] and len(first.asked) == 1
    clock.advance(1799)
    assert len(second.asked) == 1
    clock.advance(1)
    assert second.asked == [(PORT, LIFETIME_SECONDS)] * 2 and len(first.asked) == 1


def test_a_short_lifetime_is_renewed_sooner():
    way = Way(Mapped(40000, 120))
    _, clock, told = kept(way)
    clock.advance(60)
    assert len(way.asked) == 2 and told == [40000, 40000]


def test_a_router_that_forgets_us_is_told_and_asked_again():
    way = Way(Mapped(PORT, 3600), NO, Mapped(PORT + 1, 3600))
    _, clock, told = kept(way)
    clock.advance(1800)
    assert told == [PORT, 0]
    clock.advance(RETRY_SECONDS)
    assert told == [PORT, 0, PORT + 1]


def test_nobody_to_ask_is_tried_again_later():
    way = Way(NO)
    _, clock, told = kept(way)
    assert told == [0]
    clock.advance(RETRY_SECONDS)
    assert len(way.asked) == 2


def test_the_mapping_is_taken_back_at_the_end():
    way = Way(Mapped(PORT, 3600), Mapped(0, 0))
    mapping, clock, _ = kept(way)
    ended = mapping.stop()
    assert ended.called and way.asked[-1] == (PORT, 0)
    assert clock.getDelayedCalls() == []


@pytest.mark.parametrize("last", [NO, Deferred()])
def test_a_router_that_is_gone_does_not_hold_up_the_end(last):
    way = Way(Mapped(PORT, 3600), last)
    mapping, clock, _ = kept(way)
    ended = mapping.stop()
    clock.advance(2)
    assert ended.called and clock.getDelayedCalls() == []


def test_the_end_comes_while_a_router_is_asked():
    waiting: Deferred[Mapped] = Deferred()
    mapping, clock, told = kept(Way(waiting))
    assert mapping.stop().called
    assert told == [] and clock.getDelayedCalls() == []


# UPnP, with the library replaced; tests/integration asks a responder


class Router:
    """What miniupnpc knows of a router."""

    lanaddr = "192.0.2.7"

    def __init__(self, found: Any = 1, problems: Any = ()) -> None:
        self.found = found
        self.problems = list(problems)
        self.calls: list[Any] = []

    def UPnP(self, **arguments: Any) -> "Router":
        self.arguments = arguments
        return self

    def discover(self) -> Any:
        if isinstance(self.found, Exception):
            raise self.found
        return self.found

    def selectigd(self) -> str:
        return "http://192.0.2.1/"

    def addportmapping(self, *arguments: Any) -> bool:
        self.calls.append(arguments)
        if self.problems:
            raise self.problems.pop(0)
        return True

    def deleteportmapping(self, *arguments: Any) -> bool:
        self.calls.append(arguments)
        return True


def upnp(router):
    return Upnp(None, "192.0.2.7", lambda: router)._map


def test_upnp_maps_and_takes_back():
    router = Router()
    assert upnp(router)(PORT, 3600) == Mapped(PORT, 3600)
    assert upnp(router)(PORT, 0) == Mapped(0, 0)
    where = (PORT, "TCP", "192.0.2.7", PORT, "zeromsg", "")
    assert router.calls == [(*where, 3600), (PORT, "TCP")]
    assert router.arguments["multicastif"] == "192.0.2.7"


def test_a_router_that_keeps_mappings_for_good():
    router = Router(problems=[Exception("OnlyPermanentLeasesSupported")])
    assert upnp(router)(PORT, 3600) == Mapped(PORT, 0)
    assert [call[-1] for call in router.calls] == [3600, 0]


@pytest.mark.parametrize(
    "router",
    [Router(found=0), Router(found=Exception("x")), Router(problems=[Exception("Conflict")])],
)
def test_upnp_that_does_not_work(router):
    with pytest.raises(Unreachable, match=r"no router answers|refuses: Conflict"):
        upnp(router)(PORT, 3600)


def test_upnp_without_the_library():
    def missing():
        raise ImportError("miniupnpc")

    with pytest.raises(Unreachable, match=r"zeromsg\[upnp\]"):
        Upnp(None, None, missing)._map(PORT, 3600)
