"""Which peers our neighbours are connected to, by what they say: for `carrying`."""

from collections import OrderedDict
from collections.abc import Iterable

from zeromsg.interfaces import IPeerLink

NAMES_LIMIT = 200
"""Names remembered of one neighbour; the first heard of are forgotten first."""


class Neighbours:
    """Names of peers by the neighbours that know them; a neighbour is forgotten when it goes."""

    def __init__(self) -> None:
        self._of: dict[IPeerLink, OrderedDict[tuple[str, str], None]] = {}

    def opened(self, link: IPeerLink) -> None:
        self._of[link] = OrderedDict()

    def closed(self, link: IPeerLink) -> None:
        self._of.pop(link, None)

    def add(self, link: IPeerLink, site: str, names: Iterable[str]) -> None:
        known = self._of.get(link)
        if known is None:
            return
        for name in names:
            known[site, name] = None
            known.move_to_end((site, name))
            if len(known) > NAMES_LIMIT:
                known.popitem(last=False)

    def links(self, site: str, name: str) -> list[IPeerLink]:
        return [link for link, known in self._of.items() if (site, name) in known]

    def names(self, site: str) -> list[str]:
        """All names, without repeats."""
        found = {name for known in self._of.values() for held, name in known if held == site}
        return sorted(found)
