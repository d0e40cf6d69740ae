"""Which versions of content.json files others say they hold, and what they say it with.

A version is the `modified` of a file. What a peer says of its own proves
nothing: it only decides who is told of a new version, and who is asked for
its files. Source: ZeroNet peer protocol, section 8, listModified.
"""

import math
from collections import OrderedDict
from collections.abc import Mapping
from itertools import islice
from typing import Any, Generic, TypeVar

from zeromsg.errors import ContentRefused
from zeromsg.policy.site_content import ROOT, is_safe_path

HOLDINGS_LIMIT = 2000
"""Versions remembered of one holder; those heard of first are forgotten first."""

SAID_LIMIT = 1000
"""Files looked at in one answer to `listModified`, the root beside them."""

_MALFORMED_POINTS = 5

T = TypeVar("T")


class Versions(Generic[T]):
    """What holders have, as far as it was heard of."""

    def __init__(self) -> None:
        self._of: dict[T, OrderedDict[tuple[str, str], float]] = {}

    def learn(self, holder: T, site: str, inner_path: str, modified: float | None) -> None:
        """It has this version now; None changes nothing."""
        if modified is None:
            return
        known = self._of.setdefault(holder, OrderedDict())
        known[site, inner_path] = modified
        known.move_to_end((site, inner_path))
        if len(known) > HOLDINGS_LIMIT:
            known.popitem(last=False)

    def of(self, holder: T, site: str, inner_path: str) -> float | None:
        known = self._of.get(holder)
        return known.get((site, inner_path)) if known is not None else None

    def forget(self, holder: T) -> None:
        self._of.pop(holder, None)


def version(value: object) -> float | None:
    """A `modified` that somebody sent, or None for what is no finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:
        return None


def parse_modified(answer: Mapping[str, Any]) -> dict[str, float] | None:
    """The versions in an answer to `listModified`; None where it has none.

    Paths that nobody may write are passed over. Raises ContentRefused for
    what is no map of paths to times.
    """
    files = answer.get("modified_files")
    if files is None:
        return None
    if not isinstance(files, dict):
        raise ContentRefused("modified_files is no map", _MALFORMED_POINTS)
    said: dict[str, float] = {}
    root = [(ROOT, files[ROOT])] if ROOT in files else []
    for inner_path, value in (*root, *islice(files.items(), SAID_LIMIT)):
        modified = version(value)
        if not isinstance(inner_path, str) or modified is None:
            raise ContentRefused("modified_files maps no paths to times", _MALFORMED_POINTS)
        if is_safe_path(inner_path) and inner_path.rpartition("/")[2] == ROOT:
            said[inner_path] = modified
    return said
