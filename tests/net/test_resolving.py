import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from zeromsg.errors import Unreachable
from zeromsg.net.resolving import ADDRESSES_LIMIT, RESOLVE_SECONDS, Resolver
from zeromsg.wire.values import PeerAddress

DUCK = "duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad.onion"


class Names:
    """A reactor's resolver that knows these hosts; None never answers."""

    def __init__(self, *hosts):
        self.hosts = hosts
        self.asked = []
        self.receiver = None

    def resolveHostName(self, receiver, host, port=0, types=None, semantics="TCP"):
        self.asked.append(host)
        self.receiver = receiver
        receiver.resolutionBegan(None)
        for known in self.hosts:
            if known is None:
                return receiver
            kind = IPv6Address if ":" in known else IPv4Address
            receiver.addressResolved(kind("TCP", known, port))
        receiver.resolutionComplete()
        return receiver


def look_up(names, host="tracker.example", allow_private=False, clock=None):
    resolver = Resolver(names, clock or Clock(), allow_private)
    results = []
    Deferred.fromCoroutine(resolver.addresses(host, 80)).addBoth(results.append)
    return results


def found(results):
    assert results
    if hasattr(results[0], "raiseException"):
        results[0].raiseException()
    return [address.host for address in results[0]]


def test_ipv4_comes_first_and_nothing_twice():
    names = Names("2001:db8::1", "203.0.113.9", "203.0.113.9")
    assert found(look_up(names)) == ["203.0.113.9", "2001:db8::1"]
    assert names.asked == ["tracker.example"]


@pytest.mark.parametrize("host", ["203.0.113.9", "127.0.0.1", "2001:db8::1", DUCK])
def test_an_address_is_not_looked_up(host):
    results = look_up(None, host)
    assert results == [[PeerAddress(host, 80)]]


def test_where_nothing_may_be_looked_up():
    with pytest.raises(Unreachable, match="not looked up in this mode"):
        found(look_up(None))


@pytest.mark.parametrize("host", ["127.0.0.1", "192.168.0.1", "::1", "fe80::1", "::ffff:10.0.0.1"])
def test_a_name_does_not_lead_into_this_network(host):
    with pytest.raises(Unreachable, match="private network"):
        found(look_up(Names(host)))
    assert found(look_up(Names(host, "203.0.113.9"))) == ["203.0.113.9"]
    assert len(found(look_up(Names(host), allow_private=True))) == 1


def test_a_name_without_address():
    with pytest.raises(Unreachable, match="has no address"):
        found(look_up(Names()))


def test_addresses_with_a_zone_are_passed_over():
    assert found(look_up(Names("fe80::1%2", "203.0.113.9"), allow_private=True)) == ["203.0.113.9"]


def test_other_kinds_of_addresses_are_passed_over():
    names = Names(None)
    results = look_up(names)
    names.receiver.addressResolved(UNIXAddress(b"/tmp/x"))
    names.receiver.resolutionComplete()
    with pytest.raises(Unreachable, match="has no address"):
        found(results)


def test_many_addresses():
    names = Names(*(f"203.0.113.{number}" for number in range(1, 100)))
    assert len(found(look_up(names))) == ADDRESSES_LIMIT


def test_a_look_up_that_hangs():
    clock, names = Clock(), Names(None)
    results = look_up(names, clock=clock)
    clock.advance(RESOLVE_SECONDS - 0.1)
    assert not results
    clock.advance(0.2)
    with pytest.raises(Unreachable, match="takes too long"):
        found(results)
    names.receiver.resolutionComplete()  # too late
