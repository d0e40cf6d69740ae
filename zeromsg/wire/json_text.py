"""JSON as Python writes it by default, which other nodes hash, filter and measure.

Python's own module is used, not a faster one, because the exact text matters:
`", "` and `": "`, non-ASCII as `\\uXXXX`, floats in shortest form, keys in
order. NaN and infinities, which are no JSON, are refused both ways.
"""

import json
import math
from typing import Any

NESTING_LIMIT = 256
"""Deepest nesting that is decoded. Python's own limit depends on the calls that are under
way, so that what passed in one place could be too deep to encode in another."""

COLLECTIONS_LIMIT = 200_000
"""Most brackets that are opened in one text. An empty list takes three characters, and 70 bytes
and half a microsecond to decode."""

DEPTH_ERRORS = (ValueError, RecursionError)
"""What decoding or encoding a stranger's JSON can raise."""


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError("a number is too large")
    return value


_decode = json.JSONDecoder(parse_float=_finite, parse_constant=_refuse_constant).decode
dump = json.JSONEncoder(allow_nan=False).encode
"""The default style. Raises ValueError (an infinity) or RecursionError."""

dump_compact = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode
"""For clients, who do not care about spaces."""


def load(text: str) -> Any:
    """Decode a stranger's JSON.

    Raises ValueError with a sentence on anything that is wrong, deep nesting
    and integers of thousands of digits included.
    """
    if len(text) > COLLECTIONS_LIMIT and text.count("[") + text.count("{") > COLLECTIONS_LIMIT:
        raise ValueError("too many lists and maps")
    try:
        value = _decode(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if len(text) > 2 * NESTING_LIMIT and _is_too_deep(text, value):
        raise ValueError("nested too deeply")
    return value


def _is_too_deep(text: str, value: Any) -> bool:
    if text.count("[") + text.count("{") <= NESTING_LIMIT:
        return False
    level = [value]
    for _ in range(NESTING_LIMIT):
        level = [
            inner
            for outer in level
            if isinstance(outer, list | dict)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return any(isinstance(item, list | dict) for item in level)
