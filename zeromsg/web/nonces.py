"""Wrapper nonces: each loads the html of one site into one frame, once.

In ZeroNet a nonce is good for any site and for ever. Source: ZeroFrame API, 2.5.
"""

from collections import OrderedDict
from collections.abc import Callable

import attrs

NONCES_LIMIT = 1000
"""Nonces that wait for their frame; the oldest are forgotten."""

LIFETIME = 3600.0
"""Seconds a page may take to load its frame."""

RECENT_SECONDS = 60.0


@attrs.frozen
class _Nonce:
    site: str
    until: float


class Nonces:
    """now: seconds, never decreasing."""

    def __init__(self, entropy: Callable[[int], bytes], now: Callable[[], float]) -> None:
        self._entropy = entropy
        self._now = now
        self._waiting: OrderedDict[str, _Nonce] = OrderedDict()
        self._used: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiting)

    def make(self, site: str) -> str:
        """A new nonce, 64 hex digits."""
        nonce = self._entropy(32).hex()
        self._waiting[nonce] = _Nonce(site, self._now() + LIFETIME)
        while len(self._waiting) > NONCES_LIMIT:
            self._waiting.popitem(last=False)
        return nonce

    def use(self, nonce: str, site: str) -> bool:
        """Whether it was made for this site and is unused; it is used now.

        To try it on another site costs it nothing.
        """
        found = self._waiting.get(nonce)
        if found is None or found.site != site:
            return False
        del self._waiting[nonce]
        if found.until < self._now():
            return False
        self._used[site] = self._now()
        self._used.move_to_end(site)
        while len(self._used) > NONCES_LIMIT:
            self._used.popitem(last=False)
        return True

    def used_lately(self, site: str) -> bool:
        """Whether a frame of the site was loaded within the last minute."""
        used = self._used.get(site)
        return used is not None and used + RECENT_SECONDS >= self._now()
