"""The `filter` of a site's rules: a stranger's regular expression, matched in bounded time.

RE2 never backtracks, so no pattern and no message can make it slow. What it
cannot do (look-around, back-references), which some sites' filters use, runs on
the `regex` package, fenced by a timeout of milliseconds. Patterns and messages
are given to RE2 as bytes: it takes bytes five times faster than str, and
messages are ASCII anyway.
"""

import re
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
"""What one match of such a filter may take; after it the message does not match."""

_MEMORY_LIMIT = 8 * 1024 * 1024
"""Bytes one compiled filter may take; RE2 refuses patterns that need more."""


# What is escaped or stands in a class is taken along, so that it is left alone.
_OPEN_REPEAT = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\{,(?=[0-9]+\})", re.DOTALL)


_REPEAT = re.compile(r"\{([0-9]+)")
# In a verbose pattern counts can be written in ways that `_REPEAT` does not see.
_VERBOSE = re.compile(r"\(\?[a-zA-Z]*x")


class BadFilter(ValueError):
    """A filter that cannot be used; the text says why."""


def _options() -> re2.Options:
    options = re2.Options()
    options.max_mem = _MEMORY_LIMIT
    options.log_errors = False
    # Nobody reads what groups matched, and without them RE2 is faster.
    options.never_capture = True
    return options


class Filter:
    """One compiled filter.

    linear: whether it runs on RE2; if not, each match is fenced by time.
    """

    def __init__(self, pattern: object) -> None:
        """Raises BadFilter."""
        if not isinstance(pattern, str):
            raise BadFilter("filter must be a text")
        if len(pattern) > PATTERN_LIMIT:
            raise BadFilter(f"filter is longer than {PATTERN_LIMIT} characters")
        self.pattern = pattern
        self.linear = True
        try:
            self._match: Any = re2.compile(_as_re2(pattern).encode(), _options()).match
        except (re2.error, UnicodeEncodeError, OverflowError) as problem:
            self._match = _fenced(pattern, _sentence(problem))
            self.linear = False

    def passes(self, message_text: str) -> bool:
        """Whether it matches from the start of the text; it need not reach the end."""
        if self.linear:
            return self._match(message_text.encode("ascii")) is not None
        try:
            return self._match(message_text, timeout=FENCE_SECONDS) is not None
        except TimeoutError:
            return False


def _fenced(pattern: str, reason: str) -> Any:
    """The match function for what RE2 refused for this reason. Raises BadFilter."""
    refused = BadFilter(f"filter does not compile: {reason}")
    if len(pattern) > FENCED_PATTERN_LIMIT or _VERBOSE.search(pattern):
        raise refused
    if _written_out(pattern) > FENCED_SIZE_LIMIT:
        raise BadFilter("filter repeats too much for one that RE2 cannot do")
    try:
        # Python's own syntax decides whether it is a pattern at all to other nodes.
        re.compile(pattern)
        return regex.compile(pattern, regex.VERSION0).match
    except (re.error, regex.error, OverflowError, RecursionError, MemoryError):
        raise refused from None


def _written_out(pattern: str) -> int:
    """At most how many characters a pattern has when each `a{3}` is `aaa`."""
    size = len(pattern)
    for count in _REPEAT.findall(pattern):
        size *= max(int(count), 1)
    return size


def _as_re2(pattern: str) -> str:
    """`{,9}` is `{0,9}` to Python and to other nodes, but plain text to RE2."""
    return _OPEN_REPEAT.sub(lambda found: "{0," if found[0] == "{," else found[0], pattern)


def _sentence(problem: Exception) -> str:
    first = problem.args[0] if problem.args else problem
    return first.decode("utf-8", "replace") if isinstance(first, bytes) else str(first)
