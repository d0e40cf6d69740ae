"""Secrets of single pages, by which the page of a person is told from a program.

The key in a page is for everybody who acts for a site, and programs keep it.
The secret beside it is new in each page that is served: a WebSocket opened
with it comes from the page itself, where a person sits who can answer prompts.

It is no wall against programs of the same person: who may load pages, and goes
to the trouble of reading the secret out of one, is taken for the person.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable

import attrs

PAGES_LIMIT = 1000
"""Pages whose secret was not used yet, and as many whose was; the oldest are forgotten."""

LIFETIME = 24 * 3600.0
"""Seconds from the making, and from each use."""


@attrs.frozen
class _Page:
    site: str
    user: str
    until: float


class PageSecrets:
    """now: Unix seconds.

    kept: (digest, site, user, end) of pages that were in use in an earlier run;
    keep: told the same of each page when it is used, so that one that is open
    goes on when the node is started again. Secrets themselves are not kept.
    """

    def __init__(
        self,
        entropy: Callable[[int], bytes],
        now: Callable[[], float],
        kept: Iterable[tuple[bytes, str, str, float]] = (),
        keep: Callable[[bytes, str, str, float], None] | None = None,
    ) -> None:
        self._entropy = entropy
        self._now = now
        self._keep = keep
        # Programs fetch pages too, for the key alone: theirs must not push out
        # the secrets of pages that people have open.
        self._fresh: OrderedDict[bytes, _Page] = OrderedDict()
        self._used: OrderedDict[bytes, _Page] = OrderedDict()
        for digest, site, user, until in kept:
            self._used[digest] = _Page(site, user, until)

    def make(self, site: str, user: str) -> str:
        """A new secret, 64 hex digits, for the page of a site that is served to a user."""
        secret = self._entropy(32).hex()
        self._put(self._fresh, _digest(secret), site, user)
        return secret

    def belongs(self, secret: str, site: str, user: str) -> bool:
        """Whether it was made for this site and user, and is still good."""
        # Looked up by a hash, so that time tells nothing about the secrets.
        digest = _digest(secret)
        page = self._used.get(digest) or self._fresh.get(digest)
        if page is None or page.until < self._now() or (page.site, page.user) != (site, user):
            return False
        self._fresh.pop(digest, None)
        self._put(self._used, digest, site, user)
        # The page at "/" asks every few seconds, and can be loaded again.
        if self._keep is not None and site:
            self._keep(digest, site, user, self._used[digest].until)
        return True

    def _put(self, pages: OrderedDict[bytes, _Page], digest: bytes, site: str, user: str) -> None:
        pages[digest] = _Page(site, user, self._now() + LIFETIME)
        pages.move_to_end(digest)
        while len(pages) > PAGES_LIMIT:
            pages.popitem(last=False)

    def __len__(self) -> int:
        return len(self._fresh) + len(self._used)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
