"""Asking a router by UPnP to let connections in, with the library of the MiniUPnP project.

It waits for the network in its calls, so each runs in a thread. It is optional
(`pip install zeromsg[upnp]`): not every system has it ready built.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool

from zeromsg.errors import Unreachable
from zeromsg.net.port_mapping import Mapped

DISCOVER_MILLISECONDS = 1500
DESCRIPTION = "zeromsg"
_ONLY_FOR_GOOD = "OnlyPermanentLeasesSupported"
"""The refusal of routers that keep a mapping until it is taken back."""


class Upnp:
    """Asks the first router that answers.

    interface: address to look from, or None for the system's choice.
    library: the module miniupnpc.
    """

    name = "UPnP"

    def __init__(
        self,
        reactor: Any,
        interface: str | None = None,
        library: Callable[[], Any] = lambda: import_module("miniupnpc"),
    ) -> None:
        self._reactor = reactor
        self._interface = interface
        self._library = library

    def map(self, port: int, seconds: int) -> Deferred[Mapped]:
        pool = self._reactor.getThreadPool()
        asked: Deferred[Mapped] = deferToThreadPool(self._reactor, pool, self._map, port, seconds)
        return asked

    def _map(self, port: int, seconds: int) -> Mapped:
        """In a thread. Raises Unreachable."""
        router = self._router()
        try:
            if not seconds:
                router.deleteportmapping(port, "TCP")
                return Mapped(0, 0)
            return self._add(router, port, seconds)
        except Exception as problem:
            raise Unreachable(f"the router refuses: {problem}") from None

    def _router(self) -> Any:
        try:
            library = self._library()
        except ImportError:
            raise Unreachable("the package miniupnpc is missing: zeromsg[upnp]") from None
        router = library.UPnP(multicastif=self._interface, discoverdelay=DISCOVER_MILLISECONDS)
        try:
            if not router.discover():
                raise Unreachable("no router answers")
            router.selectigd()
        except Unreachable:
            raise
        except Exception as problem:
            # The library raises plain exceptions for whatever goes wrong.
            raise Unreachable(f"no router answers: {problem}") from None
        return router

    def _add(self, router: Any, port: int, seconds: int) -> Mapped:
        where = (port, "TCP", router.lanaddr, port, DESCRIPTION, "")
        try:
            router.addportmapping(*where, seconds)
        except Exception as problem:
            if _ONLY_FOR_GOOD not in str(problem):
                raise
            router.addportmapping(*where, 0)
            return Mapped(port, 0)
        return Mapped(port, seconds)
