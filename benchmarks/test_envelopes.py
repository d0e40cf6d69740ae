"""What a node does with a peer message, from the bytes of a connection to the answer."""

from collections.abc import Iterator

import pytest
from corpus import envelopes
from pytest_benchmark.fixture import BenchmarkFixture
from receiving import COUNT, KEY, KINDS, LOT, Receiver, check_counts, lots, receiver

from zeromsg.testing import Network


@pytest.fixture
def receiving() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


def accept(benchmark: BenchmarkFixture, receiving: Receiver, signed: bool) -> None:
    """All are different, so they come once, in one round."""
    made = lots(envelopes(receiving.site, COUNT, KEY if signed else None))

    def receive() -> None:
        for lot in made:
            receiving.receive(lot)

    benchmark.pedantic(receive, rounds=1)
    assert receiving.counts() == {"accepted": COUNT}
    benchmark.extra_info["messages"] = COUNT


def test_unsigned(benchmark: BenchmarkFixture, receiving: Receiver) -> None:
    accept(benchmark, receiving, signed=False)


def test_unsigned_to_one_client(benchmark: BenchmarkFixture, receiving: Receiver) -> None:
    net: Network = receiving.net
    client = net.client(0, receiving.site)
    accept(benchmark, receiving, signed=False)
    assert len(client.messages) == COUNT


def test_signed(benchmark: BenchmarkFixture, receiving: Receiver) -> None:
    accept(benchmark, receiving, signed=True)


@pytest.mark.parametrize("name", list(KINDS))
def test_refusals(benchmark: BenchmarkFixture, name: str) -> None:
    """One round is one lot of messages; the sender is pardoned between rounds."""
    kind = KINDS[name]
    with receiver(kind.rules) as receiving:
        before = kind.before(receiving.site) if kind.before is not None else []
        for lot in lots(before):
            receiving.receive(lot)
        made = lots(kind.make(receiving.site, COUNT))
        following = iter(made)

        def setup() -> tuple[tuple[bytes], dict[str, object]]:
            receiving.pardon()
            return (next(following),), {}

        benchmark.pedantic(receiving.receive, setup=setup, rounds=len(made))
        check_counts(receiving, kind, len(before), COUNT)
        benchmark.extra_info["messages"] = LOT
