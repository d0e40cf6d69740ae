"""The faces of a node: as whom it is known on each way that leads to it.

A node has one face on the clear net, which speaks of all its sites, and one
face for each onion. What reaches an onion speaks of the sites of that onion
alone, or one could link the onions of a node by asking one about the sites of
another. With `share_onion` all sites have one onion.

Whoever comes in through an onion is nobody: Tor hides where it comes from, and
what it says of its own onion is only said. Such a connection is named by a
pseudonym, made up here and good for that connection. It is written like an
onion of version 2, which no Tor serves any more, with port 0: so it is taken
for what it is, a peer behind Tor that cannot be dialled.
"""

import base64
from collections import OrderedDict, deque
from collections.abc import Callable

import attrs

from zeromsg.wire.values import PeerAddress

CLEAR = ""
"""The face on the clear net."""

SHARED = "shared"
"""The face of all sites, where they share an onion."""

_PSEUDONYM_BYTES = 10
_PSEUDONYM_CHARACTERS = 22


@attrs.frozen
class Faces:
    """Which onion face speaks of which site. shared: one onion for all."""

    shared: bool = False

    def of(self, site: str) -> str:
        """The onion face of a site."""
        return SHARED if self.shared else site


def speaks_of(face: str, site: str) -> bool:
    """Whether a link of this face may hear of the site."""
    return face in (CLEAR, SHARED, site)


def make_pseudonym(entropy: Callable[[int], bytes]) -> PeerAddress:
    """A name for a connection whose other end is nobody known."""
    name = base64.b32encode(entropy(_PSEUDONYM_BYTES)).decode("ascii").lower()
    return PeerAddress(f"{name}.onion", 0)


def is_pseudonym(identity: str) -> bool:
    """Whether points of this identity are gone with its connection."""
    return identity.endswith(".onion") and len(identity) == _PSEUDONYM_CHARACTERS


# Nobody's misdeeds.

SUSPICION_SECONDS = 3600.0
SUSPICION_POINTS = 20.0
SUSPICION_MOST = 80.0
"""For each stranger of a face that was banned lately newcomers begin with so many points,
and at most with so many: an honest one does nothing that takes the rest."""

ACCEPTS = 60
ACCEPT_SECONDS = 15.0
"""Connections that one face takes in a time."""

FACES_LIMIT = 10_000


@attrs.define
class _Door:
    banned: deque[float] = attrs.field(factory=deque)
    accepted: deque[float] = attrs.field(factory=lambda: deque(maxlen=ACCEPTS))


class Doors:
    """What came in at each face lately, in sum.

    A stranger that was banned comes again under another pseudonym at no cost,
    so what strangers did is remembered of the door: the more of them had to be
    thrown out, the less it takes to throw the next one out. Their number is
    bounded too. Nobody whom we reached ourselves is touched by either.
    Times are seconds of one clock.
    """

    def __init__(self) -> None:
        self._doors: OrderedDict[str, _Door] = OrderedDict()

    def _door(self, face: str) -> _Door:
        door = self._doors.setdefault(face, _Door())
        if len(self._doors) > FACES_LIMIT:
            self._doors.popitem(last=False)
        return door

    def may_enter(self, face: str, now: float) -> bool:
        """Whether one more connection is taken; it counts as taken then."""
        accepted = self._door(face).accepted
        if len(accepted) == ACCEPTS and now - accepted[0] < ACCEPT_SECONDS:
            return False
        accepted.append(now)
        return True

    def banned(self, face: str, now: float) -> None:
        """A stranger that came in here was banned."""
        door = self._door(face)
        door.banned.append(now)
        if len(door.banned) > SUSPICION_MOST / SUSPICION_POINTS:
            door.banned.popleft()

    def points(self, face: str, now: float) -> float:
        """What a newcomer begins with."""
        banned = self._door(face).banned
        while banned and now - banned[0] > SUSPICION_SECONDS:
            banned.popleft()
        return min(len(banned) * SUSPICION_POINTS, SUSPICION_MOST)
