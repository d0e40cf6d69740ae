"""What a node does with a peer message, from the bytes of a connection to the answer."""

import random
from collections.abc import Iterator

import pytest
from corpus import envelopes
from pytest_benchmark.fixture import BenchmarkFixture

from zeromsg.crypto.keys import PrivateKey
from zeromsg.testing import Network
from zeromsg.testing.network import NetworkNode
from zeromsg.wire.packing import pack

COUNT = 2000
KEY = PrivateKey.generate(random.Random(7).randbytes)


@pytest.fixture
def net() -> Iterator[Network]:
    with Network(nodes=2, seed=3) as made:
        yield made


def frames(params: list[dict[str, object]], chunk: int = 16) -> list[bytes]:
    """Chunks as a busy connection brings them: several requests in each."""
    requests = [
        pack({"cmd": "peerBroadcast", "req_id": number, "params": each})
        for number, each in enumerate(params, 1)
    ]
    return [b"".join(requests[at : at + chunk]) for at in range(0, len(requests), chunk)]


def connection(net: Network, node: NetworkNode) -> object:
    """The receiving end of a link from the other node."""
    net.connect(1, node.number)
    net.advance(2)
    (link,) = node.node.pool.links
    return link


class Sink:
    """A transport that takes everything and does nothing."""

    def write(self, data: bytes) -> None:
        pass

    def loseConnection(self) -> None:
        """The network ends after the measurement."""

    abortConnection = loseConnection


def measure(benchmark: BenchmarkFixture, net: Network, chunks: list[bytes], repeat: bool) -> None:
    link = connection(net, net.nodes[0])
    inbound = net.nodes[0].node.inbound
    link.transport = Sink()  # type: ignore[attr-defined]

    def receive() -> None:
        for chunk in chunks:
            link.dataReceived(chunk)  # type: ignore[attr-defined]

    if repeat:
        receive()
        benchmark.pedantic(receive, rounds=10)
    else:
        benchmark.pedantic(receive, rounds=1)
    handled = inbound.counters
    refused = sum(handled.refused.values())
    assert handled.received == handled.accepted + handled.duplicates + refused
    benchmark.extra_info["messages"] = COUNT


def test_unsigned(benchmark: BenchmarkFixture, net: Network) -> None:
    site = net.site()
    measure(benchmark, net, frames(envelopes(site, COUNT, None)), repeat=False)


def test_unsigned_to_one_client(benchmark: BenchmarkFixture, net: Network) -> None:
    site = net.site()
    net.client(0, site)
    measure(benchmark, net, frames(envelopes(site, COUNT, None)), repeat=False)


def test_signed(benchmark: BenchmarkFixture, net: Network) -> None:
    site = net.site()
    measure(benchmark, net, frames(envelopes(site, COUNT, KEY)), repeat=False)


def test_duplicates(benchmark: BenchmarkFixture, net: Network) -> None:
    site = net.site()
    measure(benchmark, net, frames(envelopes(site, COUNT, None)), repeat=True)


def test_filter_refusals(benchmark: BenchmarkFixture, net: Network) -> None:
    site = net.site({"filter": '.*"never".*'})
    net.nodes[0].node.inbound._charge = lambda identity, points: None  # type: ignore[method-assign]
    measure(benchmark, net, frames(envelopes(site, COUNT, None)), repeat=False)


def test_signature_refusals(benchmark: BenchmarkFixture, net: Network) -> None:
    site = net.site()
    net.nodes[0].node.inbound._charge = lambda identity, points: None  # type: ignore[method-assign]
    spoilt = envelopes(site, COUNT, KEY)
    for params, other in zip(spoilt, spoilt[1:] + spoilt[:1], strict=True):
        params["signature"] = other["signature"]
    measure(benchmark, net, frames(spoilt), repeat=False)
