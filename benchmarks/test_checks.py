"""What each check of a message costs, alone: microseconds for one message of about 300 bytes.

One round is all messages once, so divide by the number in `extra_info`. Filters
run on RE2 and on Python's `re`, which the PeerMessage plugin uses, side by
side: RE2 is there for its bounds.
"""

import re
from collections.abc import Callable

import pytest
from corpus import envelopes
from pytest_benchmark.fixture import BenchmarkFixture
from receiving import KEY, PROVIDER_KEY, SCHEMA

from zeromsg.crypto import cert as cert_module
from zeromsg.crypto.cert import Certificate, cert_subject, verify_cert
from zeromsg.crypto.signing import message_text, sign, verify
from zeromsg.policy.filters import Filter
from zeromsg.policy.program import Facts, Program
from zeromsg.policy.rate import Buckets, Frequency
from zeromsg.policy.rules import parse_rules
from zeromsg.policy.schema import Schema
from zeromsg.policy.seen import Met, Seen
from zeromsg.policy.validation import Accepted, Subject, check_message
from zeromsg.wire.peer_messages import Body, Envelope, parse_body, parse_envelope

COUNT = 500
SITE = "1" + "x" * 33

ORDINARY = {
    "any": ".*",
    "a key": r'^.*"text": "',
    "a form": r'^\{"n": [0-9]+, "text": "[a-z ]{1,500}"\}$',
    "one of many": r'.*"(cmd|move|say|offer|text)": "[^"]*"',
}
"""As sites have them."""

FENCED = {
    "look-ahead": r'(?!.*"never")\{"n": ',
    "look-ahead and a form": r'(?=\{"n")\{"n": [0-9]+, "text": "[a-z ]{1,500}"\}$',
}

PROGRAMS = {
    "size": "size < 1000",
    "a key of the message": "message.n >= 0",
    "a counter": {"accept": "message.n >= counters.n", "counters": {"n": "message.n"}},
    "proof of work": "zero_bits(sha256(message.text)) >= 0",
    "a loop": "['a', 'b', 'c'].exists(letter, message.text.contains(letter))",
}


@pytest.fixture(scope="module")
def arrived() -> list[Envelope]:
    return [parse_envelope(params) for params in envelopes(SITE, COUNT, KEY)]


@pytest.fixture(scope="module")
def bodies(arrived: list[Envelope]) -> list[Body]:
    return [parse_body(envelope.raw) for envelope in arrived]


def each(benchmark: BenchmarkFixture, check: Callable[[int], object]) -> None:
    """Measure a check that every message passes."""
    assert all(check(number) for number in range(COUNT))

    def all_of_them() -> None:
        for number in range(COUNT):
            check(number)

    benchmark(all_of_them)
    benchmark.extra_info["messages"] = COUNT


def test_nothing(benchmark: BenchmarkFixture) -> None:
    """What the loop itself takes, to be taken off the others."""
    each(benchmark, lambda number: True)


def test_envelope(benchmark: BenchmarkFixture) -> None:
    params = envelopes(SITE, COUNT, KEY)
    each(benchmark, lambda number: parse_envelope(params[number]))


def test_raw(benchmark: BenchmarkFixture, arrived: list[Envelope]) -> None:
    each(benchmark, lambda number: parse_body(arrived[number].raw))


def test_seen(benchmark: BenchmarkFixture, arrived: list[Envelope]) -> None:
    seen = Seen()
    for envelope in arrived:
        seen.add(envelope.digest, Met.SIGNED, 0.0)
    each(benchmark, lambda number: seen.get(arrived[number].digest))


def test_size(benchmark: BenchmarkFixture, bodies: list[Body]) -> None:
    """With what looks at a message around it, and a filter that takes anything."""
    rules = parse_rules({"filter": ".*", "size_limit": 1000})
    subjects = [Subject(SITE, body.message, body.message_text, None, "peer") for body in bodies]
    facts = Facts(None, 0, KEY.address, "", 0.0)
    each(benchmark, lambda number: check_message(subjects[number], facts, rules) is None)


def test_rate_as_freq_limit(benchmark: BenchmarkFixture) -> None:
    frequency = Frequency()

    def check(number: int) -> bool:
        allowed = frequency.allows("peer", 0.0, 0.0)
        frequency.spoke("peer", 0.0)
        return allowed

    each(benchmark, check)


def test_rate_as_bucket(benchmark: BenchmarkFixture) -> None:
    buckets = Buckets(1e9, 1.0)

    def check(number: int) -> bool:
        allowed = buckets.allows("peer", 0.0)
        buckets.spoke("peer", 0.0)
        return allowed

    each(benchmark, check)


@pytest.mark.parametrize("name", list(ORDINARY))
def test_filter_on_re2(benchmark: BenchmarkFixture, bodies: list[Body], name: str) -> None:
    compiled = Filter(ORDINARY[name])
    assert compiled.linear
    each(benchmark, lambda number: compiled.passes(bodies[number].message_text))


@pytest.mark.parametrize("name", list(ORDINARY))
def test_filter_on_python_re(benchmark: BenchmarkFixture, bodies: list[Body], name: str) -> None:
    """For comparison."""
    match = re.compile(ORDINARY[name]).match
    each(benchmark, lambda number: match(bodies[number].message_text))


@pytest.mark.parametrize("name", list(FENCED))
def test_filter_fenced(benchmark: BenchmarkFixture, bodies: list[Body], name: str) -> None:
    compiled = Filter(FENCED[name])
    assert not compiled.linear
    each(benchmark, lambda number: compiled.passes(bodies[number].message_text))


def test_schema(benchmark: BenchmarkFixture, bodies: list[Body]) -> None:
    fitting = {**SCHEMA, "properties": {**SCHEMA["properties"], "text": {"maxLength": 500}}}  # type: ignore[dict-item]
    compiled = Schema(fitting)
    each(
        benchmark,
        lambda number: compiled.passes(bodies[number].message, len(bodies[number].message_text)),
    )


def test_signature(benchmark: BenchmarkFixture, arrived: list[Envelope]) -> None:
    def check(number: int) -> bool:
        envelope = arrived[number]
        signed_by, _, signature = envelope.signature.partition("|")
        return verify(message_text(signed_by, envelope.hash, envelope.raw), signed_by, signature)

    each(benchmark, check)


@pytest.mark.parametrize("known", [True, False], ids=["met before", "new"])
def test_certificate(benchmark: BenchmarkFixture, known: bool) -> None:
    """An author attaches the same certificate to every message, so it is remembered."""
    unsigned = Certificate("web", "somebody", "example.bit", "")
    signature = sign(cert_subject(KEY.address, unsigned), PROVIDER_KEY)
    wire = Certificate("web", "somebody", "example.bit", signature).to_wire()
    issuers = {"example.bit": (PROVIDER_KEY.address,)}

    def check(number: int) -> bool:
        if not known:
            cert_module._signer.cache_clear()
        return verify_cert(KEY.address, Certificate.from_wire(wire), issuers)

    each(benchmark, check)


def test_signed_only(benchmark: BenchmarkFixture, bodies: list[Body]) -> None:
    """One of ten thousand addresses, with what stands around it as for the size."""
    others = [f"1{number:033d}" for number in range(9_999)]
    rules = parse_rules({"filter": ".*", "signed_only": [*others, KEY.address]})
    facts = Facts(None, 0, Accepted(KEY.address, None).signed_by, "", 0.0)
    subjects = [Subject(SITE, body.message, body.message_text, None, "peer") for body in bodies]
    each(benchmark, lambda number: check_message(subjects[number], facts, rules) is None)


@pytest.mark.parametrize("name", list(PROGRAMS))
def test_program(benchmark: BenchmarkFixture, bodies: list[Body], name: str) -> None:
    program = Program(PROGRAMS[name])
    facts = [
        Facts(body.message, len(body.message_text), KEY.address, "", 1_800_000_000.0)
        for body in bodies
    ]
    each(benchmark, lambda number: program.passes(facts[number]))
