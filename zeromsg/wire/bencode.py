"""Bencode, read within bounds: what HTTP trackers answer.

Whole numbers come out as int, strings as bytes, lists and maps as list and
dict with keys of bytes. Libraries for this exist, but leave depth, count or
the length of numbers open; a tracker is a stranger. Source: BEP 3.
"""

import re
from typing import Any

from zeromsg.errors import TheirMistake

DEPTH_LIMIT = 8
"""Levels of nesting; answers of trackers have three."""

ITEMS_LIMIT = 20_000
"""Values in all."""

# Longer numbers would be slow to read, and nothing that is counted needs them.
_INTEGER = re.compile(rb"i(-?[0-9]{1,19})e")
_LENGTH = re.compile(rb"([0-9]{1,10}):")


def decode(data: bytes) -> Any:
    """One bencoded value; white space may follow it. Raises TheirMistake."""
    reader = _Reader(data)
    value = reader.value(0)
    if data[reader.at :].strip():
        raise TheirMistake("something follows the bencoded value")
    return value


class _Reader:
    """A place in the bytes, which moves on as values are read."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0
        self._items = 0

    def value(self, depth: int) -> Any:
        self._items += 1
        if depth > DEPTH_LIMIT or self._items > ITEMS_LIMIT:
            raise TheirMistake("bencode is nested too deeply or has too many values")
        kind = self._data[self.at : self.at + 1]
        if kind == b"i":
            return self._integer()
        if kind == b"l":
            return self._list(depth)
        if kind == b"d":
            return self._map(depth)
        return self._string()

    def _integer(self) -> int:
        match = _INTEGER.match(self._data, self.at)
        if match is None:
            raise TheirMistake("bencode has a number that is none")
        self.at = match.end()
        return int(match[1])

    def _string(self) -> bytes:
        match = _LENGTH.match(self._data, self.at)
        if match is None:
            raise TheirMistake("this is no bencode")
        end = match.end() + int(match[1])
        if end > len(self._data):
            raise TheirMistake("bencode ends within a string")
        self.at = end
        return self._data[match.end() : end]

    def _list(self, depth: int) -> list[Any]:
        self.at += 1
        values: list[Any] = []
        while not self._ended():
            values.append(self.value(depth + 1))
        return values

    def _map(self, depth: int) -> dict[bytes, Any]:
        self.at += 1
        values: dict[bytes, Any] = {}
        while not self._ended():
            key = self._string()
            values[key] = self.value(depth + 1)
        return values

    def _ended(self) -> bool:
        """Whether the list or map ends here; if so, step over its end."""
        if self._data[self.at : self.at + 1] != b"e":
            return False
        self.at += 1
        return True
