"""JSON as Python writes it by default, which other nodes hash, filter and measure.

Python's own module is used, not a faster one, because the exact text matters:
`", "` and `": "`, non-ASCII as `\\uXXXX`, floats in shortest form, keys in
order. NaN and infinities, which are no JSON, are refused both ways.
"""

import json
from typing import Any

DEPTH_ERRORS = (ValueError, RecursionError)
"""What decoding or encoding a stranger's JSON can raise."""


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


_decode = json.JSONDecoder(parse_constant=_refuse_constant).decode
dump = json.JSONEncoder(allow_nan=False).encode
"""The default style. Raises ValueError (a float overflowed) or RecursionError."""

dump_compact = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode
"""For clients, who do not care about spaces."""


def load(text: str) -> Any:
    """Decode a stranger's JSON.

    Raises ValueError with a sentence on anything that is wrong, deep nesting
    and integers of thousands of digits included.
    """
    try:
        return _decode(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
