"""A node in this process, fed with the bytes of a connection, and messages that it refuses.

What a sender is charged is charged, as always. So that it is not banned, which
would be another measurement, messages come in lots that cost less than a ban,
and between them, outside of the measurement, it is pardoned.
"""

import json
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import attrs
from corpus import envelopes

from zeromsg.crypto.cert import Certificate, cert_subject
from zeromsg.crypto.keys import PrivateKey
from zeromsg.crypto.signing import sign
from zeromsg.testing import Network
from zeromsg.wire.packing import pack

KEY = PrivateKey.generate(random.Random(7).randbytes)
PROVIDER_KEY = PrivateKey.generate(random.Random(8).randbytes)

LOT = 14
"""Messages in one piece of what a busy connection brings. Fourteen of seven points are no ban."""

COUNT = 100 * LOT

Params = dict[str, Any]


class Sink:
    """A transport that takes everything and does nothing."""

    disconnecting = False

    def write(self, data: bytes) -> None:
        pass

    def loseConnection(self) -> None:
        """The network ends after the measurement."""

    abortConnection = loseConnection


class Receiver:
    """The receiving end of a link to a node that holds one site."""

    def __init__(self, net: Network, rules: Mapping[str, Any] | None = None) -> None:
        self.net = net
        self.node = net.nodes[0].node
        self.site = net.site(rules or {"filter": ".*"})
        net.connect(1, 0)
        net.advance(2)
        (self.link,) = self.node.pool.links
        self.link.transport = Sink()  # type: ignore[attr-defined]

    def receive(self, lot: bytes) -> None:
        self.link.dataReceived(lot)  # type: ignore[attr-defined]

    def pardon(self) -> None:
        assert not self.node.scoring.banned(self.link.identity, self.net.wall())
        self.node.scoring.pardon(self.link.identity)

    def counts(self) -> dict[str, int]:
        """What became of the messages, by name."""
        counters = self.node.inbound.counters
        counts = {"accepted": counters.accepted, "duplicate": counters.duplicates}
        counts.update(counters.refused)
        assert counters.received == sum(counts.values())
        return {name: count for name, count in counts.items() if count}


@contextmanager
def receiver(rules: Mapping[str, Any] | None = None) -> Iterator[Receiver]:
    with Network(nodes=2, seed=3) as net:
        yield Receiver(net, rules)


def lots(params: list[Params], size: int = LOT) -> list[bytes]:
    """Messages as requests, so many in each piece."""
    requests = [
        pack({"cmd": "peerBroadcast", "req_id": number, "params": each})
        for number, each in enumerate(params, 1)
    ]
    return [b"".join(requests[at : at + size]) for at in range(0, len(requests), size)]


# Kinds of refusals.


@attrs.frozen
class Kind:
    """Messages that one check refuses.

    check: the name of the check. make: from site and number to messages.
    before: what has to be received first, not measured.
    """

    check: str
    rules: Mapping[str, Any]
    make: Callable[[str, int], list[Params]]
    before: Callable[[str], list[Params]] | None = None


def _plain(site: str, count: int) -> list[Params]:
    return envelopes(site, count, None)


def _signed(site: str, count: int) -> list[Params]:
    return envelopes(site, count, KEY)


def _same(site: str, count: int) -> list[Params]:
    return envelopes(site, 1, None) * count


def _spoilt(site: str, count: int) -> list[Params]:
    """Each with the signature of the next: a good one, of something else."""
    made = _signed(site, count)
    signatures = [params["signature"] for params in made]
    for params, signature in zip(made, signatures[1:] + signatures[:1], strict=True):
        params["signature"] = signature
    return made


def _stripped(site: str, count: int) -> list[Params]:
    """The signer named inside `raw`, and no signature."""
    return _with(_plain(site, count), signer=KEY.address)


def _uncertified(site: str, count: int) -> list[Params]:
    """Certificates that somebody else than the provider signed, all different."""
    made = _signed(site, count)
    for number, params in enumerate(made):
        cert = Certificate("web", f"user{number}", "example.bit", "")
        signature = sign(cert_subject(KEY.address, cert), KEY)
        params["cert"] = [cert.auth_type, cert.auth_user_name, cert.issuer, signature]
    return made


def _with(made: list[Params], **more: Any) -> list[Params]:
    for params in made:
        params["raw"] = json.dumps({**json.loads(params["raw"]), **more})
    return made


def _old(site: str, count: int) -> list[Params]:
    return _with(_plain(site, count), timestamp=1_000_000_000)


def _broken(site: str, count: int) -> list[Params]:
    return [{**params, "nonce": None} for params in _plain(site, count)]


def _no_json(site: str, count: int) -> list[Params]:
    return [{**params, "raw": params["raw"][:-1]} for params in _plain(site, count)]


def _elsewhere(site: str, count: int) -> list[Params]:
    return _plain("1" + "x" * 33, count)


ANY = {"filter": ".*"}
SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}, "text": {"type": "string", "maxLength": 100}},
    "required": ["n", "text"],
}
FENCED = '(?!.*"never").*"text": "(?!x).*"never"'
"""What RE2 cannot do, and no message of ours matches."""

KINDS: Mapping[str, Kind] = {
    "duplicate": Kind("duplicate", ANY, _same, before=lambda site: _same(site, 1)),
    "broken envelope": Kind("envelope", ANY, _broken),
    "raw that is no JSON": Kind("raw", ANY, _no_json),
    "unknown site": Kind("site", ANY, _elsewhere),
    "oversize": Kind("size", {**ANY, "size_limit": 100}, _plain),
    "too fast": Kind(
        "rate", {**ANY, "freq_limit": 1000}, _plain, before=lambda site: envelopes(site, 1, None, 2)
    ),
    "stale": Kind("age", {**ANY, "max_age": 60}, _old),
    "bad filter": Kind("filter", {"filter": '.*"never"'}, _plain),
    "bad fenced filter": Kind("filter", {"filter": FENCED}, _plain),
    "bad schema": Kind("schema", {**ANY, "schema": SCHEMA}, _plain),
    "bad signature": Kind("signature", ANY, _spoilt),
    "stripped signature": Kind("signature", ANY, _stripped),
    "bad certificate": Kind(
        "certificate", {**ANY, "cert_signers": {"example.bit": PROVIDER_KEY.address}}, _uncertified
    ),
    "not signed": Kind("signed-only", {**ANY, "signed_only": True}, _plain),
    "signed by another": Kind(
        "signed-only", {**ANY, "signed_only": [PROVIDER_KEY.address]}, _signed
    ),
    "bad program": Kind("program", {**ANY, "program": "message.n < 0"}, _plain),
}


def measure(name: str, count: int = COUNT) -> float:
    """Seconds for each refused message. The refusals counted are the ones meant, all of them."""
    kind = KINDS[name]
    with receiver(kind.rules) as receiving:
        before = kind.before(receiving.site) if kind.before is not None else []
        for lot in lots(before):
            receiving.receive(lot)
        made = lots(kind.make(receiving.site, count))
        took = 0.0
        for lot in made:
            receiving.pardon()
            begin = perf_counter()
            receiving.receive(lot)
            took += perf_counter() - begin
        check_counts(receiving, kind, len(before), count)
    return took / count


def check_counts(receiving: Receiver, kind: Kind, accepted: int, refused: int) -> None:
    """Raises AssertionError where another check refused than the one that is measured."""
    wanted = {"accepted": accepted, kind.check: refused}
    counts = receiving.counts()
    assert counts == {name: count for name, count in wanted.items() if count}, counts
