"""What the person allowed a site beyond its own bounds.

Nothing is allowed at first, whatever site it is, and only the person adds
something: through a page of the node's own, or by answering a prompt.

- `Merger:<type>`: the files and messages of sites whose content.json has
  `merged_type: <type>`, also what is sealed to the person there, and to speak
  there in the person's name.
- `Cors:<address>`: to read the files of that site.
- `Sign:<address>`: to speak on that site in the person's name (ours).
- `ADMIN`: all of that for every site, and the admin commands; the permissions
  themselves and the sites' own keys stay out of its reach.

Source: ZeroFrame API, rights.
"""

import re
from collections.abc import Collection

from zeromsg.errors import ClientError
from zeromsg.interfaces import ISites, IStore

ADMIN = "ADMIN"
MERGER = "Merger:"
CORS = "Cors:"
SIGN = "Sign:"

SITE_LIMIT = 100
"""Permissions of one site."""

_FORM = re.compile(r"ADMIN|Merger:[A-Za-z0-9_.-]{1,64}|(Cors|Sign):[A-Za-z0-9]{26,35}")
_ALIAS = re.compile(r"(merged-[A-Za-z0-9_.-]{1,64}/|cors-)([A-Za-z0-9]{26,35})/(.+)")


class Permissions:
    """The permissions of all sites."""

    def __init__(self, sites: ISites, store: IStore) -> None:
        self._sites = sites
        self._store = store
        self._held: dict[str, list[str]] = {}
        for site, permission in store.permissions():
            self._held.setdefault(site, []).append(permission)

    def of(self, site: str) -> list[str]:
        """A site's permissions, in order."""
        held = self._held.get(site, ())
        # Who is merged cannot merge: its messages would be its own and another's.
        merged = bool(held) and self.merged_type(site) is not None
        return sorted(each for each in held if not (merged and each.startswith(MERGER)))

    def add(self, site: str, permission: str) -> bool:
        """Whether it is new. Raises ClientError for what is no permission."""
        check_form(permission)
        if permission in self._held.get(site, ()):
            return False
        if len(self._held.get(site, ())) >= SITE_LIMIT:
            raise ClientError("too-big", f"a site has at most {SITE_LIMIT} permissions")
        self._store.set_permission(site, permission, True)
        self._held.setdefault(site, []).append(permission)
        return True

    def remove(self, site: str, permission: str) -> bool:
        """Whether it was there."""
        if permission not in self._held.get(site, ()):
            return False
        self._store.set_permission(site, permission, False)
        self._held[site].remove(permission)
        return True

    # What follows from them.

    def is_admin(self, site: str) -> bool:
        return ADMIN in self._held.get(site, ())

    def merged_type(self, site: str) -> str | None:
        """What a site's content.json says it is merged as."""
        found = self._sites.get(site)
        kind = found.content.get("merged_type") if found is not None and found.content else None
        return kind if isinstance(kind, str) and kind else None

    def merges(self, site: str, other: str) -> bool:
        kind = self.merged_type(other)
        return kind is not None and f"{MERGER}{kind}" in self.of(site)

    def merger_types(self, site: str) -> list[str]:
        return [each.removeprefix(MERGER) for each in self.of(site) if each.startswith(MERGER)]

    def merged_sites(self, site: str) -> dict[str, str]:
        """Address to type of the sites of this node that a merger merges."""
        types = self.merger_types(site)
        kinds = {address: self.merged_type(address) for address in self._sites.addresses()}
        return {address: kind for address, kind in kinds.items() if kind in types and kind}

    def mergers(self, site: str) -> Collection[str]:
        """The sites that merge this one; asked for every message, so soon answered."""
        if not self._held:
            return ()
        kind = self.merged_type(site)
        if kind is None:
            return ()
        wanted = f"{MERGER}{kind}"
        return [
            merger
            for merger, held in self._held.items()
            if wanted in held and merger != site and self.merges(merger, site)
        ]

    def may_read(self, site: str, other: str) -> bool:
        return (
            site == other
            or self.is_admin(site)
            or f"{CORS}{other}" in self._held.get(site, ())
            or self.merges(site, other)
        )

    def may_act(self, site: str, other: str) -> bool:
        """Whether a site may run commands as another one."""
        return site == other or self.is_admin(site) or self.merges(site, other)

    def may_sign(self, site: str, other: str) -> bool:
        """Whether a site may use the person's key for another one in messages."""
        return self.may_act(site, other) or f"{SIGN}{other}" in self._held.get(site, ())

    def locate(self, site: str, inner_path: str) -> tuple[str, str]:
        """Site and path of a file that a site names.

        `merged-<type>/<address>/<path>` and `cors-<address>/<path>` lead to
        other sites. Raises ClientError where the permission is missing.
        """
        alias = _ALIAS.fullmatch(inner_path)
        if alias is None:
            return site, inner_path
        prefix, other, path = alias.groups()
        if prefix == "cors-":
            allowed = self.may_read(site, other)
        else:
            kind = prefix.removeprefix("merged-").removesuffix("/")
            allowed = kind in self.merger_types(site) and self.merged_type(other) == kind
        if not allowed:
            raise ClientError("denied", f"No permission for site {other}")
        return other, path

    def describe(self, permission: str) -> str:
        """What a permission means, in plain text. Raises ClientError."""
        check_form(permission)
        if permission == ADMIN:
            return (
                "Full access: this site could read all sites of this node and speak on them "
                "in your name, and choose your certificates"
            )
        kind, _, name = permission.partition(":")
        if kind == "Merger":
            kinds = [self.merged_type(address) for address in self._sites.addresses()]
            return (
                f"Read the files and messages of sites of the type {name} "
                f"({kinds.count(name)} on this node), also what is sealed to you, "
                "and speak there in your name"
            )
        if kind == "Cors":
            return f"Read the files of the site {self._title(name)}"
        return f"Speak in your name on the site {self._title(name)}"

    def _title(self, address: str) -> str:
        found = self._sites.get(address)
        title = found.content.get("title") if found is not None and found.content else None
        return f"{title[:80]} ({address})" if isinstance(title, str) and title else address


def check_form(permission: str) -> None:
    """Raises ClientError."""
    if not _FORM.fullmatch(permission):
        raise ClientError(
            "invalid",
            "a permission is Merger:<type>, Cors:<address>, Sign:<address> or ADMIN",
        )
