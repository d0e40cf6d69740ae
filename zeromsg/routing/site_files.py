"""Files of sites for clients and pages: where they are, and waiting for those to come.

A file that is listed but not here is waited for: required ones are on their
way already, optional ones are fetched because somebody wants them.
"""

from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from zeromsg.interfaces import ISite, ISites
from zeromsg.routing.joining import Joining

WAITING_LIMIT = 500
"""Requests that may wait for files at one time."""

FETCHES_LIMIT = 16
"""Optional files that are fetched at one time."""


@attrs.define(eq=False)
class _Waiting:
    site: str
    inner_path: str
    here: Deferred[bool]
    timer: IDelayedCall


class SiteFiles:
    """clock: seconds."""

    def __init__(self, sites: ISites, joining: Joining, clock: IReactorTime) -> None:
        self._sites = sites
        self._joining = joining
        self._clock = clock
        self._waiting: dict[_Waiting, None] = {}
        self._fetching: dict[tuple[str, str], Deferred[Any]] = {}

    def stop(self) -> None:
        for fetch in list(self._fetching.values()):
            fetch.cancel()
        for waiting in list(self._waiting):
            self._end(waiting, False)

    def is_here(self, address: str, inner_path: str) -> bool:
        site = self._sites.get(address)
        return site is not None and site.holds(inner_path)

    def may_come(self, address: str, inner_path: str) -> bool:
        """Whether a file that is not here is listed, or its list is not here yet."""
        site = self._sites.get(address)
        if site is None or site.own:
            return False
        if site.content is None or site.size_of(inner_path) is not None:
            return True
        return inner_path in site.missing_contents() or any(site.missing_contents())

    def need(self, address: str, inner_path: str, seconds: float) -> Deferred[bool]:
        """Whether the file is here; fires after so many seconds at the latest.

        Cancelling ends the waiting.
        """
        here: Deferred[bool] = Deferred(lambda _: self._forget(here))
        site = self._sites.get(address)
        if site is None or self.is_here(address, inner_path):
            here.callback(site is not None)
            return here
        if len(self._waiting) >= WAITING_LIMIT or not self.may_come(address, inner_path):
            here.callback(False)
            return here
        timer = self._clock.callLater(seconds, lambda: self._end(waiting, False))
        waiting = _Waiting(address, inner_path, here, timer)
        self._waiting[waiting] = None
        if site.is_optional(inner_path):
            self._fetch(site, inner_path)
        else:
            self._joining.try_all()
        return here

    def _fetch(self, site: ISite, inner_path: str) -> None:
        which = (site.address, inner_path)
        if which in self._fetching or len(self._fetching) >= FETCHES_LIMIT:
            return
        fetch = self._fetching[which] = self._joining.fetch_file(site, inner_path)
        fetch.addBoth(self._fetched, which)

    def _fetched(self, result: Any, which: tuple[str, str]) -> None:
        self._fetching.pop(which, None)
        # An optional file that nobody has now is not waited for.
        self._settle(lambda waiting: (waiting.site, waiting.inner_path) == which, False)

    def changed(self, address: str) -> None:
        """Something of a site has arrived."""
        if self._waiting:
            self._settle(
                lambda each: each.site == address and self.is_here(address, each.inner_path), True
            )
            self._settle(
                lambda each: each.site == address and not self.may_come(address, each.inner_path),
                False,
            )

    def _settle(self, which: Callable[[_Waiting], bool], here: bool) -> None:
        for waiting in [each for each in self._waiting if which(each)]:
            self._end(waiting, here)

    def _end(self, waiting: _Waiting, here: bool) -> None:
        if self._waiting.pop(waiting, waiting) is None:
            if waiting.timer.active():
                waiting.timer.cancel()
            waiting.here.callback(here)

    def _forget(self, here: Deferred[bool]) -> None:
        for waiting in [each for each in self._waiting if each.here is here]:
            del self._waiting[waiting]
            waiting.timer.cancel()
