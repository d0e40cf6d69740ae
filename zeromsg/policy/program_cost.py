"""What a program may cost, found from its source before it runs.

The CEL library runs to the end whatever it takes, and copies: each `+` all that
is on its left, each `.` what it leads to, a loop its list in every round. So
two hundred times `message + ` took a minute on a list of 60 KB. Here a source is
cut into tokens, which gives names that stand for values, operators that may copy
them, and the range and the body of a loop; from these an upper bound of the
copying follows, for any message of a given weight. It is far above what ordinary
programs take, and those are far below the limit.

The tokens are a part of CEL's: no raw, triple-quoted or bytes literals, and only
functions that are known to be cheap. What is read here as one token is one for
the library too; otherwise a loop could hide in what looks like a text.
Source: the Common Expression Language, lexis.
"""

import re

import attrs

STEPS_LIMIT = 1_000_000
"""Most steps for one message, some tens of nanoseconds each: a tenth of a second at worst."""

NESTING_LIMIT = 50

_CHARACTERS = 64
"""So many characters are copied in the time of one value."""

_CONVERSION_STEPS = 15
"""What it costs to hand one value to the library."""

_COUNTERS_STEPS = 10
"""What looking at the counters costs; there are eight at most."""

_CALL_STEPS = 100
"""What a call of one of our functions costs, beside its own work."""

OURS = frozenset(["sha256", "zero_bits", "verify", "base64_decode"])
_THEIRS = frozenset(
    ["size", "contains", "startsWith", "endsWith", "string", "int", "uint", "double", "type", "has"]
)
_COLLECTING = frozenset(["map", "filter"])
_LOOPS = _COLLECTING | {"all", "exists", "exists_one", "existsOne"}
_LARGE = frozenset(["message"])
_TYPES = frozenset(["int", "uint", "double", "bool", "string", "list", "map"])
_SMALL = _TYPES | {"counters", "size", "signer", "cert", "now", "true", "false", "null"}
_COPYING = frozenset("+?([{")
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_OPENING = {closing: opening for opening, closing in _CLOSING.items()}
_TEXT = '""'

_TOKEN = re.compile(
    r"""
    (?P<space> (?: [ \t\r\n\f] | //[^\n]* )+ )
  | (?P<text>  "(?!"") (?: [^"\\\r\n] | \\ESCAPED )* "(?!")
            |  '(?!'') (?: [^'\\\r\n] | \\ESCAPED )* '(?!') )
  | (?P<number> (?: 0[xX][0-9a-fA-F]+ | [0-9]+ (?: \.[0-9]+ )? (?: [eE][+-]?[0-9]+ )? ) [uU]?
            (?![A-Za-z0-9_]) )
  | (?P<name>  [A-Za-z_][A-Za-z0-9_]* (?![A-Za-z0-9_"']) )
  | (?P<sign>  && | \|\| | [=!<>]= | [-+*/%!<>?:.,()[\]{}] )
    """.replace(
        "ESCAPED",
        r"""(?: [abfnrtv"'`\\?] | u[0-9a-fA-F]{4} | x[0-9a-fA-F]{2} | [0-3][0-7]{2} )""",
    ),
    re.VERBOSE,
)


class Unmeasured(ValueError):
    """A source whose cost cannot be told; the text says why, after the name of the source."""


@attrs.frozen
class _Part:
    """Counts of some tokens: all; names of what may be large; operators that may copy."""

    tokens: int
    names: int
    copying: int
    selects: int
    calls: int


@attrs.frozen
class _Loop:
    """own: how often its body names the element; around: what may copy the list it collects."""

    range: _Part
    body: _Part
    own: int
    collects: bool
    around: int


class Cost:
    """Upper bound of what an expression costs.

    names: of all that it may look at. calls_ours: whether it calls functions of ours.
    """

    def __init__(self, source: str) -> None:
        """Raises Unmeasured."""
        reader = _Reader(_tokens(source))
        self.names = frozenset(reader.tokens)
        self.calls_ours = bool(self.names & OURS)
        self._loop = reader.loop
        parts = reader.conjuncts()
        self._fixed = sum(part.tokens * (1 + part.copying) for part in parts)
        self._fixed += sum(part.calls * _CALL_STEPS for part in parts)
        self._for_weight = sum(part.selects + part.names * (1 + part.copying) for part in parts)
        if "message" in self.names:
            self._for_weight += _CONVERSION_STEPS

    def steps(self, values: int, size: int) -> int:
        """At most, for a message of so many values and characters."""
        weight = 1 + values + size // _CHARACTERS
        steps = self._fixed + self._for_weight * weight
        return steps if self._loop is None else steps + _loop_steps(self._loop, values, weight)


def _loop_steps(loop: _Loop, values: int, weight: int) -> int:
    body, copies = loop.body, 1 + loop.body.copying
    rounds = loop.range.names * values + loop.range.tokens
    elements = loop.range.names * weight + loop.range.tokens
    # The body may look at the whole message in each round, at each element in its round only.
    others = body.names - loop.own
    steps = rounds * weight * (others * copies + (body.selects if others else 0))
    steps += rounds * (body.tokens * copies + body.calls * _CALL_STEPS)
    steps += elements * (1 + body.selects + loop.own * copies)
    if not loop.collects:
        return steps
    collected = rounds * (others * weight + body.tokens) + loop.own * elements
    return steps + collected * (rounds + loop.around)


def _tokens(source: str) -> list[str]:
    tokens, position = [], 0
    while position < len(source):
        found = _TOKEN.match(source, position)
        if found is None:
            raise Unmeasured(f"is not understood from {source[position : position + 20]!r} on")
        position = found.end()
        if found.lastgroup == "text":
            tokens.append(_TEXT)
        elif found.lastgroup != "space":
            tokens.append(found[0])
    return tokens


class _Reader:
    """Finds what belongs together. Raises Unmeasured for what is not understood."""

    def __init__(self, tokens: list[str]) -> None:
        # Something before and after, so that neighbours can be looked at.
        self.tokens = ["", *tokens, ""]
        self._partners = self._brackets()
        self._element = ""
        self.loop = self._find_loop()
        self._check_names()

    def _brackets(self) -> dict[int, int]:
        """Where each closing bracket was opened, and the other way round."""
        partners, waiting = dict[int, int](), list[int]()
        for index, token in enumerate(self.tokens):
            if token in _CLOSING:
                waiting.append(index)
                if len(waiting) > NESTING_LIMIT:
                    raise Unmeasured(f"is nested more than {NESTING_LIMIT} deep")
            elif token in _OPENING:
                if not waiting or self.tokens[waiting[-1]] != _OPENING[token]:
                    raise Unmeasured(f"has a {token} that nothing opened")
                partners[index] = waiting.pop()
                partners[partners[index]] = index
        if waiting:
            raise Unmeasured(f"has a {self.tokens[waiting[-1]]} that nothing closes")
        return partners

    def _find_loop(self) -> _Loop | None:
        tokens = self.tokens
        found = [at for at in range(len(tokens)) if tokens[at] in _LOOPS and tokens[at + 1] == "("]
        if not found:
            return None
        if len(found) > 1:
            raise Unmeasured("has more than one loop, which could take too long")
        (at,) = found
        if tokens[at - 1] != "." or not _is_name(tokens[at + 2]) or tokens[at + 3] != ",":
            raise Unmeasured(f"has a loop other than list.{tokens[at]}(name, …)")
        start, end = self._start_of_range(at - 2), self._partners[at + 1]
        self._element = tokens[at + 2]
        body = range(at + 4, end)
        return _Loop(
            range=self._part(range(start, at - 1), ""),
            body=self._part(body, self._element),
            own=sum(self._is_reference(index, {self._element}) for index in body),
            collects=tokens[at] in _COLLECTING,
            around=1 + sum(token in _COPYING for token in tokens),
        )

    def _start_of_range(self, at: int) -> int:
        """Where the operand that ends here begins: `message.tags`, `(a + b)[0]`, `["x", "y"]`."""
        while True:
            if self.tokens[at] in _OPENING:
                at = self._partners[at]
                if self.tokens[at] != "{" and _is_operand(self.tokens[at - 1]):
                    at -= 1
                    continue
            if self.tokens[at - 1] != "." or at < 3:
                return at
            at -= 2

    def conjuncts(self) -> list[_Part]:
        """The parts between `&&` and `||` that are in no brackets: no large value leaves them."""
        parts, start, at = [], 1, 1
        while at < len(self.tokens) - 1:
            if self.tokens[at] in ("&&", "||"):
                parts.append(self._part(range(start, at), self._element))
                start = at + 1
            at = self._partners.get(at, at) + 1
        return [*parts, self._part(range(start, at), self._element)]

    def _part(self, indexes: range, element: str) -> _Part:
        tokens = [self.tokens[index] for index in indexes]
        return _Part(
            tokens=len(tokens) + tokens.count("counters") * _COUNTERS_STEPS,
            names=sum(self._is_reference(index, _LARGE | {element}) for index in indexes),
            copying=sum(token in _COPYING for token in tokens),
            selects=tokens.count("."),
            calls=sum(token in OURS for token in tokens),
        )

    def _is_reference(self, index: int, names: frozenset[str] | set[str]) -> bool:
        return (
            self.tokens[index] in names
            and self.tokens[index - 1] != "."
            and self.tokens[index + 1] != "("
        )

    def _check_names(self) -> None:
        for index, token in enumerate(self.tokens):
            if not _is_name(token) or token == "in":
                continue
            following = self.tokens[index + 1]
            if following == "{":
                raise Unmeasured(f"has {token}{{, and there are no such values")
            if following == "(":
                if token not in OURS | _THEIRS | _LOOPS:
                    raise Unmeasured(
                        f"calls {token}, which is not among the functions{_hint(token)}"
                    )
            elif self.tokens[index - 1] != "." and token not in _LARGE | _SMALL | {self._element}:
                raise Unmeasured(f"names {token}, which is not there")


def _hint(name: str) -> str:
    return "; filter and schema know patterns" if name == "matches" else ""


def _is_name(token: str) -> bool:
    return token[:1].isidentifier()


def _is_operand(token: str) -> bool:
    return _is_name(token) or token in _OPENING
