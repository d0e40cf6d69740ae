"""Recent messages of sites whose rules keep history, for clients that come later.

Kept in memory: bounded by the site's own rules, and by bytes whatever these
say. What a client of the node sent itself is part of it.
"""

import json
from collections import deque
from typing import Any

import attrs

from zeromsg.interfaces import ISites, Wall

SITE_BYTES = 4 * 1024 * 1024
"""Most characters of events kept for one site."""


@attrs.define
class _Kept:
    """One site's events as JSON text, oldest first, with the times they came."""

    events: deque[tuple[float, str]] = attrs.field(factory=deque)
    size: int = 0

    def drop_oldest(self) -> None:
        self.size -= len(self.events.popleft()[1])


class History:
    """Keeps accepted broadcasts where a site's rules ask for it."""

    def __init__(self, sites: ISites, wall: Wall) -> None:
        self._sites = sites
        self._wall = wall
        self._sites_kept: dict[str, _Kept] = {}

    def wanted(self, site: str) -> bool:
        """Whether the site's rules keep history."""
        held = self._sites.get(site)
        return held is not None and held.rules is not None and held.rules.history is not None

    def add(self, site: str, event: str) -> None:
        """Keep the parameters of a `peerReceive` event, as JSON text."""
        kept = self._sites_kept.setdefault(site, _Kept())
        kept.events.append((self._wall(), event))
        kept.size += len(event)
        self._trim(site, kept)

    def recent(self, site: str, since: float, limit: int) -> list[dict[str, Any]]:
        """Events after a Unix time, the newest `limit`, oldest first, each with `received`."""
        kept = self._sites_kept.get(site)
        if kept is None:
            return []
        self._trim(site, kept)
        newest = [(at, event) for at, event in kept.events if at > since][-limit:]
        return [{**json.loads(event), "received": at} for at, event in newest]

    def _trim(self, site: str, kept: _Kept) -> None:
        held = self._sites.get(site)
        rules = held.rules.history if held is not None and held.rules is not None else None
        if rules is None:
            self._sites_kept.pop(site, None)
            return
        oldest = self._wall() - rules.seconds
        while kept.events and (
            len(kept.events) > rules.count or kept.size > SITE_BYTES or kept.events[0][0] < oldest
        ):
            kept.drop_oldest()
