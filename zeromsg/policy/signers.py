"""The directory of keys: what verified signatures on a site showed.

A signature shows the public key of its address; a certificate beside it says
which user ID the address belongs to. So a message can be sealed to everybody
who was heard of. What is known belongs to one site: the providers that a site
lists may vouch for any name on it, and on no other.

A user ID that shows a second address is not taken over by it: both are kept,
and whoever asks is told of both. Bounded for each site: addresses without a
user ID are forgotten first, those unheard of longest before the others.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable

import attrs

from zeromsg.crypto.keys import compressed

SIGNERS_LIMIT = 5000
"""Addresses remembered of a site."""

ADDRESSES_LIMIT = 8
"""Addresses remembered of one user ID; the first ones stay."""

CHANGES_LIMIT = 100_000
"""Most changes of a kind that wait to be taken; the oldest fall off. Then the directory
on disk has a little more, or less, than the one in memory."""

NOTED_SECONDS = 3600.0
"""How exactly it is known when an address was heard last."""


@attrs.frozen
class Signer:
    """An address of a site. public_key: 33 bytes. first, last: Unix seconds."""

    site: str
    address: str
    public_key: bytes
    first: float
    last: float


@attrs.frozen
class Named:
    """A user ID that an address showed with a certificate. first: Unix seconds."""

    site: str
    user_id: str
    address: str
    first: float


@attrs.define
class Changes:
    """What is to be kept on disk, and what no longer.

    signers, forgotten: by site and address. unnamed: taken back after `named`.
    """

    signers: dict[tuple[str, str], Signer] = attrs.field(factory=dict)
    named: deque[Named] = attrs.field(factory=lambda: deque(maxlen=CHANGES_LIMIT))
    forgotten: OrderedDict[tuple[str, str], None] = attrs.field(factory=OrderedDict)
    unnamed: deque[Named] = attrs.field(factory=lambda: deque(maxlen=CHANGES_LIMIT))

    def __bool__(self) -> bool:
        return bool(self.signers or self.named or self.forgotten or self.unnamed)


@attrs.define
class _Site:
    plain: OrderedDict[str, Signer] = attrs.field(factory=OrderedDict)
    certified: OrderedDict[str, Signer] = attrs.field(factory=OrderedDict)
    users: dict[str, dict[str, Named]] = attrs.field(factory=dict)


class Signers:
    """Who signed what could be verified, on every site."""

    def __init__(self, capacity: int = SIGNERS_LIMIT) -> None:
        self._capacity = capacity
        self._sites: dict[str, _Site] = {}
        self._changes = Changes()

    def met(
        self, site: str, address: str, public_key: bytes, user_id: str | None, now: float
    ) -> tuple[str, ...]:
        """A signature was verified; which other addresses its user ID has shown.

        public_key: in either form. user_id: of a verified certificate, or None.
        """
        known = self._sites.get(site)
        if known is None:
            known = self._sites[site] = _Site()
        signer = known.certified.get(address) or known.plain.get(address)
        if signer is None:
            signer = Signer(site, address, compressed(public_key), now, now)
            # Where it belongs at once, or it might be forgotten before it is named.
            self._put(known, known.certified if user_id else known.plain, signer)
        elif now - signer.last >= NOTED_SECONDS:
            where = known.certified if address in known.certified else known.plain
            signer = attrs.evolve(signer, last=now)
            self._put(known, where, signer)
        if user_id is None:
            return ()
        shown = known.users.get(user_id)
        if shown is None or address not in shown:
            shown = self._name(known, signer, user_id, now)
        return tuple(other for other in shown if other != address) if len(shown) > 1 else ()

    def _put(self, known: _Site, where: OrderedDict[str, Signer], signer: Signer) -> None:
        where[signer.address] = signer
        where.move_to_end(signer.address)
        key = (signer.site, signer.address)
        self._changes.signers[key] = signer
        self._changes.forgotten.pop(key, None)
        if len(known.plain) + len(known.certified) > self._capacity:
            self._forget(signer.site, known)

    def _name(self, known: _Site, signer: Signer, user_id: str, now: float) -> dict[str, Named]:
        shown = known.users.setdefault(user_id, {})
        if len(shown) < ADDRESSES_LIMIT:
            named = Named(signer.site, user_id, signer.address, now)
            shown[signer.address] = named
            self._changes.named.append(named)
            if known.plain.pop(signer.address, None) is not None:
                known.certified[signer.address] = signer
        return shown

    def _forget(self, site: str, known: _Site) -> None:
        """Make room: whom nobody vouched for first, then who was silent longest."""
        named = not known.plain
        address, _ = (known.plain or known.certified).popitem(last=False)
        self._changes.signers.pop((site, address), None)
        self._changes.forgotten[(site, address)] = None
        if len(self._changes.forgotten) > CHANGES_LIMIT:
            self._changes.forgotten.popitem(last=False)
        if named:
            self._unname(known, list(known.users), address)

    def _unname(self, known: _Site, user_ids: Iterable[str], address: str) -> None:
        for user_id in user_ids:
            taken = known.users[user_id].pop(address, None)
            if taken is not None:
                self._changes.unnamed.append(taken)
            if not known.users[user_id]:
                del known.users[user_id]

    # Looking up

    def public_key(self, site: str, address: str) -> bytes | None:
        """33 bytes, None for who was not heard of."""
        known = self._sites.get(site)
        if known is None:
            return None
        signer = known.certified.get(address) or known.plain.get(address)
        return None if signer is None else signer.public_key

    def addresses(self, site: str, user_id: str) -> tuple[str, ...]:
        """The addresses that a user ID has shown, the first one first."""
        known = self._sites.get(site)
        return () if known is None else tuple(known.users.get(user_id, ()))

    def users(self, site: str) -> list[Named]:
        """All user IDs of a site with their addresses."""
        known = self._sites.get(site)
        if known is None:
            return []
        return [named for shown in known.users.values() for named in shown.values()]

    def keep_only(self, site: str, user_id: str, address: str) -> bool:
        """Settle which address a user ID means; whether it was one of several."""
        known = self._sites.get(site)
        shown = known.users.get(user_id, {}) if known is not None else {}
        if known is None or address not in shown or len(shown) < 2:
            return False
        for other in [each for each in shown if each != address]:
            self._unname(known, [user_id], other)
            if not any(other in each for each in known.users.values()):
                known.plain[other] = known.certified.pop(other)
                known.plain.move_to_end(other, last=False)
        return True

    # Disk

    def restore(self, signers: Iterable[Signer], named: Iterable[Named]) -> None:
        """Take over what an earlier run kept; signers unheard of longest first."""
        for signer in signers:
            known = self._sites.setdefault(signer.site, _Site())
            self._put(known, known.plain, signer)
        for name in named:
            known = self._sites.setdefault(name.site, _Site())
            found = known.certified.get(name.address) or known.plain.get(name.address)
            if found is not None:
                self._name(known, found, name.user_id, name.first)
        self._changes = Changes()

    def take_changes(self) -> Changes:
        """What changed since the last call, for whoever keeps it on disk."""
        changes, self._changes = self._changes, Changes()
        return changes
