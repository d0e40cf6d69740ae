"""On which line each key of a TOML document stands, which tomllib does not keep."""

import re
import tomllib
from collections.abc import Iterator

KeyPath = tuple[str | int, ...]
"""A key's place in the document; numbers count the tables of a [[list]]."""

BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_TOKEN = re.compile(
    r'"""(?:\\.|[^\\])*?"""(?:"{0,2})'
    r"|'''.*?'''(?:'{0,2})"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'"
    r"|#[^\n]*"
    r"|[ \t\r]+"
    r"|[\n\[\]{}=.,]"
    r"|[^\s\[\]{}=.,#\"']+",
    re.DOTALL,
)


def line_numbers(text: str) -> dict[KeyPath, int]:
    """On which line each key and each table header of valid TOML first stands.

    The paths are those of the parsed document, with a number after the name of
    a [[list]]. Keys inside inline tables are left out.
    """
    lines: dict[KeyPath, int] = {}
    last_index: dict[KeyPath, int] = {}
    table: KeyPath = ()
    for line, brackets, names in _statements(text):
        path = () if brackets else table
        for position, name in enumerate(names, 1):
            path = (*path, name)
            lines.setdefault(path, line)
            if brackets == 2 and position == len(names):
                last_index[path] = last_index.get(path, -1) + 1
            if path in last_index:
                path = (*path, last_index[path])
                lines.setdefault(path, line)
        if brackets:
            table = path
    return lines


def _statements(text: str) -> Iterator[tuple[int, int, list[str]]]:
    """Cut valid TOML into (line, brackets, dotted name).

    brackets: 0 for `key = value`, 1 for `[table]`, 2 for `[[list]]`.
    """
    line, brackets, depth, in_name = 1, 0, 0, True
    names: list[str] = []
    for match in _TOKEN.finditer(text):
        token = match[0]
        if not in_name:
            depth += (token in "[{") - (token in "]}")
            if token == "\n" and depth == 0:
                brackets, names, in_name = 0, [], True
        elif token == "[":
            brackets += 1
        elif token in ("=", "]"):
            yield line, brackets, names
            # The other bracket of a [[list]] header is still to come.
            depth, in_name = max(0, brackets - 1), False
        elif token[0] in "\"'":
            names.append(tomllib.loads(f"name = {token}")["name"])
        elif BARE_KEY.fullmatch(token):
            names.append(token)
        line += token.count("\n")
