"""The `filter` of a site's rules: a stranger's regular expression, matched in linear time.

RE2 never backtracks, so no pattern and no message can make it slow; what it
cannot do (look-around, back-references) is refused when the rules are read.
Patterns and messages are given to RE2 as bytes: it takes bytes five times
faster than str, and messages are ASCII anyway.
"""

import re

import re2

PATTERN_LIMIT = 4096
"""Most characters of a filter. Nodes with the PeerMessage plugin refuse over 255."""

_MEMORY_LIMIT = 8 * 1024 * 1024
"""Bytes one compiled filter may take; RE2 refuses patterns that need more."""


# What is escaped or stands in a class is taken along, so that it is left alone.
_OPEN_REPEAT = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\{,(?=[0-9]+\})", re.DOTALL)


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
    """One compiled filter."""

    def __init__(self, pattern: object) -> None:
        """Raises BadFilter."""
        if not isinstance(pattern, str):
            raise BadFilter("filter must be a text")
        if len(pattern) > PATTERN_LIMIT:
            raise BadFilter(f"filter is longer than {PATTERN_LIMIT} characters")
        try:
            compiled = re2.compile(_as_re2(pattern).encode(), _options())
        except (re2.error, UnicodeEncodeError, OverflowError) as problem:
            raise BadFilter(f"filter does not compile: {_sentence(problem)}") from None
        self.pattern = pattern
        self._match = compiled.match

    def passes(self, message_text: str) -> bool:
        """Whether it matches from the start of the text; it need not reach the end."""
        return self._match(message_text.encode("ascii")) is not None


def _as_re2(pattern: str) -> str:
    """`{,9}` is `{0,9}` to Python and to other nodes, but plain text to RE2."""
    return _OPEN_REPEAT.sub(lambda found: "{0," if found[0] == "{," else found[0], pattern)


def _sentence(problem: Exception) -> str:
    first = problem.args[0] if problem.args else problem
    return first.decode("utf-8", "replace") if isinstance(first, bytes) else str(first)
