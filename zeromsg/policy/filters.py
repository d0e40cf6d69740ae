"""The `filter` of a site's rules: a stranger's regular expression, matched in bounded time.

RE2 never backtracks: its time grows with the length of the message times that of
the compiled pattern, at worst, and with nothing else. But repeats make a short
pattern long inside; 700 characters of `(?:a?){1000}` took two minutes on a message
of 64 KiB. So RE2 is used while that product is small (`STEPS_LIMIT`), as it is for
ordinary filters. What goes beyond, and what RE2 cannot do at all (look-around,
back-references), which some sites' filters use, runs on the `regex` package,
fenced by a timeout of milliseconds.

Patterns and messages are given to RE2 as bytes: it takes bytes five times faster
than str, and messages are ASCII anyway.
"""

import contextlib
import re
import warnings
from typing import Any

import re2
import regex

PATTERN_LIMIT = 4096
"""Most characters of a filter. Nodes with the PeerMessage plugin refuse over 255."""

FENCED_PATTERN_LIMIT = 255
"""Most characters of a filter that RE2 cannot do; the plugin's own bound."""

FENCED_SIZE_LIMIT = 100_000
"""Most characters of such a filter with its counted repeats written out. `regex` does
write them out when it compiles, and 25 characters could take all memory."""

FENCE_SECONDS = 0.005
"""What one match of such a filter may take; after it the message does not match. `regex`
looks at its clock only now and then, so that it may take a few times as long."""

STEPS_LIMIT = 8_000_000
"""Most instructions of a compiled filter times characters of a message for RE2: a tenth
of a second at worst, usually a thousandth of that."""

_MEMORY_LIMIT = 8 * 1024 * 1024
"""Bytes one compiled filter may take; RE2 refuses patterns that need more."""

_REASON_LIMIT = 200


# What is escaped or stands in a class is taken along, so that it is left alone.
_OPEN_REPEAT = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\{,(?=[0-9]+\})", re.DOTALL)


_LITERAL_BRACE = re.compile(
    r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\{(?!(?:[0-9]+(?:,[0-9]*)?|,[0-9]*)\})", re.DOTALL
)
_REPEAT = re.compile(r"\{([0-9]+)")
# In a verbose pattern counts can be written in ways that `_REPEAT` does not see.
_VERBOSE = re.compile(r"\(\?[a-zA-Z]*x")


class BadFilter(ValueError):
    """A filter that cannot be used; the text says why."""


def _options(pattern: str) -> re2.Options:
    options = re2.Options()
    options.max_mem = _MEMORY_LIMIT
    options.log_errors = False
    # Nobody reads what groups matched, and without them RE2 is faster.
    options.never_capture = True
    if pattern.isascii():
        # As messages are: a dot need not know all of Unicode.
        options.encoding = re2.Options.Encoding.LATIN1
    return options


class Filter:
    """One compiled filter.

    linear: whether RE2 can do it; if not, each match is fenced by time.
    longest: characters of a message up to which RE2 is used.
    """

    def __init__(self, pattern: object) -> None:
        """Raises BadFilter."""
        if not isinstance(pattern, str):
            raise BadFilter("filter must be a text")
        if len(pattern) > PATTERN_LIMIT:
            raise BadFilter(f"filter is longer than {PATTERN_LIMIT} characters")
        self.pattern = pattern
        self._fenced: Any = None
        try:
            compiled = re2.compile(_as_re2(pattern).encode(), _options(pattern))
        except (re2.error, UnicodeEncodeError, OverflowError) as problem:
            self._fenced = _fenced(pattern, _sentence(problem))
            self.linear = False
            self.longest = -1
        else:
            self._match: Any = compiled.match
            self.linear = True
            self.longest = STEPS_LIMIT // compiled.programsize

    def passes(self, message_text: str) -> bool:
        """Whether it matches from the start of the text; it need not reach the end."""
        if len(message_text) <= self.longest:
            return self._match(message_text.encode("ascii")) is not None
        if self._fenced is None:
            self._fenced = _fallback(self.pattern)
        try:
            return self._fenced(message_text, timeout=FENCE_SECONDS) is not None
        except TimeoutError:
            return False


def _fenced(pattern: str, reason: str) -> Any:
    """The match function for what RE2 refused for this reason. Raises BadFilter."""
    if len(pattern) > FENCED_PATTERN_LIMIT:
        raise BadFilter(f"filter does not compile: {reason}")
    return _backtracking(pattern, f"filter does not compile: {reason}")


def _fallback(pattern: str) -> Any:
    """The match function for messages too long for RE2; what has none matches none of them."""
    # `regex` takes a minute over the tables of a literal of 4096 characters, and its
    # clock does not run meanwhile.
    if len(pattern) <= FENCED_PATTERN_LIMIT:
        with contextlib.suppress(BadFilter):
            return _backtracking(pattern, "")
    return lambda text, timeout: None


def _backtracking(pattern: str, otherwise: str) -> Any:
    """The match function of the `regex` package. Raises BadFilter with this text."""
    if _VERBOSE.search(pattern):
        raise BadFilter(otherwise)
    if _written_out(pattern) > FENCED_SIZE_LIMIT:
        raise BadFilter("filter repeats too much for one that RE2 cannot do")
    try:
        with warnings.catch_warnings():
            # Of sets that may mean something else in a Python to come.
            warnings.simplefilter("ignore")
            # Python's own syntax decides whether it is a pattern at all to other nodes.
            re.compile(pattern)
        return regex.compile(_as_regex(pattern), regex.VERSION0).match
    except (re.error, regex.error, OverflowError, RecursionError, MemoryError):
        raise BadFilter(otherwise) from None


def _written_out(pattern: str) -> int:
    """At most how many characters a pattern has when each `a{3}` is `aaa`."""
    size = len(pattern)
    for count in _REPEAT.findall(pattern):
        size *= max(int(count), 1)
    return size


def _as_re2(pattern: str) -> str:
    """`{,9}` is `{0,9}` to Python and to other nodes, but plain text to RE2."""
    return _OPEN_REPEAT.sub(lambda found: "{0," if found[0] == "{," else found[0], pattern)


def _as_regex(pattern: str) -> str:
    """`{e}` is plain text to Python and to other nodes, but allows for errors in `regex`."""
    return _LITERAL_BRACE.sub(lambda found: r"\{" if found[0] == "{" else found[0], pattern)


def _sentence(problem: Exception) -> str:
    first = problem.args[0] if problem.args else problem
    text = first.decode("utf-8", "replace") if isinstance(first, bytes) else str(first)
    return text[:_REASON_LIMIT]
