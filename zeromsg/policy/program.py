"""The `program` of a site's rules: a stranger's CEL expression, bounded in cost.

    "program": "message.n > counters.n"
    "program": {"accept": "size < 500 && message.n > counters.n", "counters": {"n": "message.n"}}

`accept` must give true. `counters` are numbers kept for each signer: after a
message was accepted each becomes what its expression gives. An expression sees

    message   the message          size      characters of the message as JSON
    signer    address, or ""       cert      "type/name@provider", or ""
    now       Unix seconds         counters  this signer's numbers, 0 at first

and, beside CEL's operators and its functions size, contains, startsWith, endsWith,
int, uint, double, string, type, has, all, exists, exists_one, map and filter,
`sha256(text)` in hex, `zero_bits(hex)` (leading zero bits, for proofs of work such as
`zero_bits(sha256(message.text + message.work)) >= 16`), `verify(text, address, signature)`,
`base64_decode(text)`. A key that the message lacks, a division by zero and the like are a no,
unless `||` makes them superfluous. `size(text)` counts bytes of UTF-8.

The library is common-expression-language: some 20 µs an evaluation, most of it to
hand a small message over; cel-python takes ten to twenty times that. It has no cost
limit of its own, so cost is bounded before: one loop at most (`all`, `exists`,
`map` …), and no messages on which the expression could take too long
(`program_cost`). Functions of ours are counted. Source: the Common Expression
Language.
"""

import base64
import binascii
import hashlib
import logging
import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import attrs

from zeromsg.crypto.signing import verify
from zeromsg.policy.cost import count_values, most_values
from zeromsg.policy.program_cost import STEPS_LIMIT, Cost, Unmeasured

SOURCE_LIMIT = 2048
"""Most characters of one expression."""

COUNTERS_LIMIT = 8
"""Most counters of a program."""

SIGNERS_LIMIT = 10_000
"""Signers whose counters are remembered for each site; silent ones are forgotten first."""

CALLS_LIMIT = 64
"""Most calls of our functions in one evaluation."""

_DIGITS = re.compile(r"[0-9a-fA-F]*")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,31}")


class BadProgram(ValueError):
    """A program that cannot be used; the text says why."""


@attrs.frozen
class Facts:
    """What a program may look at."""

    message: Any
    size: int
    signer: str
    cert: str
    now: float


class Program:
    """One compiled program, and the counters it keeps."""

    def __init__(self, source: object) -> None:
        """Raises BadProgram."""
        accept, counters = _parts(source)
        self._accept = _Expression("program", accept)
        self._updates = {
            name: _Expression(f"counter {name}", text) for name, text in counters.items()
        }
        expressions = (self._accept, *self._updates.values())
        self._costs = [expression.cost for expression in expressions]
        # Whether other nodes may answer otherwise, as they met other messages, or later.
        self.depends_on_the_past = not self._accept.cost.names.isdisjoint({"counters", "now"})
        self._kept: OrderedDict[str, dict[str, int]] = OrderedDict()
        self._fresh = dict.fromkeys(counters, 0)

    def passes(self, facts: Facts) -> bool:
        """Whether the message is accepted; an error in the program is a no."""
        if not self.can_afford(facts):
            return False
        try:
            return self._accept.run(self._variables(facts)) is True
        except ProgramFailed:
            return False

    def accepted(self, facts: Facts) -> None:
        """Keep the counters of an accepted message; a failing expression keeps the old number."""
        if not self._updates or not facts.signer:
            return
        variables = self._variables(facts)
        kept = dict(self._kept.get(facts.signer, self._fresh))
        for name, update in self._updates.items():
            try:
                value = update.run(variables)
            except ProgramFailed:
                continue
            if type(value) is int:
                kept[name] = value
        self._kept[facts.signer] = kept
        self._kept.move_to_end(facts.signer)
        if len(self._kept) > SIGNERS_LIMIT:
            self._kept.popitem(last=False)

    def continue_from(self, old: "Program") -> None:
        """Take over an older version's counters, those that this one has as well."""
        names = self._fresh.keys() & old._fresh.keys()
        if names:
            for signer, kept in old._kept.items():
                self._kept[signer] = {**self._fresh, **{name: kept[name] for name in names}}

    def can_afford(self, facts: Facts) -> bool:
        """Whether looking at the message is sure to take no longer than it may."""
        size = facts.size
        # Counting is for the few messages that could have too many values.
        if self._steps(most_values(size), size) <= STEPS_LIMIT:
            return True
        return self._steps(count_values(facts.message), size) <= STEPS_LIMIT

    def _steps(self, values: int, size: int) -> int:
        """Of all expressions together."""
        return sum(cost.steps(values, size) for cost in self._costs)

    def _variables(self, facts: Facts) -> dict[str, Any]:
        return {
            "message": facts.message,
            "size": facts.size,
            "signer": facts.signer,
            "cert": facts.cert,
            "now": facts.now,
            "counters": self._kept.get(facts.signer, self._fresh),
        }


class ProgramFailed(Exception):
    """An expression did not give a value."""


class _Expression:
    def __init__(self, name: str, source: object) -> None:
        if not isinstance(source, str) or not source.strip():
            raise BadProgram(f"{name} must be a text")
        if len(source) > SOURCE_LIMIT:
            raise BadProgram(f"{name} is longer than {SOURCE_LIMIT} characters")
        try:
            self.cost = Cost(source)
        except Unmeasured as problem:
            raise BadProgram(f"{name} {problem}") from None
        cel = _library()
        self._context = cel.Context
        try:
            self._program = cel.compile(source)
        except ValueError as problem:
            raise BadProgram(f"{name} does not compile: {_first_line(problem)}") from None
        except BaseException as problem:
            # The parser panics on some texts, and a panic is no Exception.
            if type(problem).__name__ != "PanicException":
                raise
            raise BadProgram(f"{name} does not compile") from None

    def run(self, variables: Mapping[str, Any]) -> Any:
        """Raises ProgramFailed."""
        try:
            seen = {name: value for name, value in variables.items() if name in self.cost.names}
            functions = _Functions().table() if self.cost.calls_ours else None
            return self._program.execute(self._context(variables=seen, functions=functions))
        except Exception as problem:
            # Whatever a stranger's expression can do inside the library.
            raise ProgramFailed(_first_line(problem)) from None
        except BaseException as problem:
            if type(problem).__name__ != "PanicException":
                raise
            raise ProgramFailed("it panicked") from None


class _Functions:
    """Our functions for one evaluation, which may call them so many times and no more."""

    def __init__(self) -> None:
        self._calls = 0

    def table(self) -> dict[str, Any]:
        return {
            "sha256": self._sha256,
            "zero_bits": self._zero_bits,
            "verify": self._verify,
            "base64_decode": self._base64_decode,
        }

    def _count(self, *texts: object) -> None:
        self._calls += 1
        if self._calls > CALLS_LIMIT:
            raise RuntimeError("too many function calls")
        if not all(isinstance(text, str) for text in texts):
            raise TypeError("a text is needed")

    def _sha256(self, text: Any) -> str:
        self._count(text)
        return hashlib.sha256(text.encode(errors="replace")).hexdigest()

    def _zero_bits(self, digits: Any) -> int:
        self._count(digits)
        if not _DIGITS.fullmatch(digits):
            raise ValueError("no digits of hex")
        number = int(digits[:128] or "0", 16)
        return 4 * len(digits[:128]) - number.bit_length()

    def _verify(self, text: Any, address: Any, signature: Any) -> bool:
        self._count(text, address, signature)
        try:
            return verify(text, address, signature)
        except ValueError:
            return False

    def _base64_decode(self, text: Any) -> str:
        self._count(text)
        try:
            return base64.b64decode(text).decode()
        except (binascii.Error, ValueError):
            raise ValueError("no base64 of a text") from None


def _library() -> Any:
    # Late, because it brings its command line along: 30 MB and half a second.
    import cel

    # It warns of each failing call, which is any stranger's to cause.
    logging.getLogger("cel").setLevel(logging.CRITICAL + 1)
    return cel


def _parts(source: object) -> tuple[object, dict[str, object]]:
    if not isinstance(source, dict):
        return source, {}
    unknown = set(source) - {"accept", "counters"}
    if unknown:
        raise BadProgram(f"program has accept and counters, not {min(unknown)[:64]}")
    counters = source.get("counters", {})
    if not isinstance(counters, dict) or len(counters) > COUNTERS_LIMIT:
        raise BadProgram(f"counters must be a map of at most {COUNTERS_LIMIT} expressions")
    for name in counters:
        if not _NAME.fullmatch(name):
            raise BadProgram("a counter's name has letters, digits and _ only")
    return source.get("accept"), counters


def _first_line(problem: BaseException) -> str:
    return str(problem).partition("\n")[0][:200]
