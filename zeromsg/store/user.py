"""One user: a master seed, a key for each site, certificates.

Keys of sites follow from the seed, so they are written only where ZeroNet
needs them: in entries that hold something else too. Members that we do not
know stay as they are. No error carries a key.
Source: ZeroNet peer protocol, section 13.
"""

import copy
import functools
import re
from collections.abc import Callable
from typing import Any, Literal, TypeGuard

import attrs

from zeromsg.crypto import derivation
from zeromsg.crypto.cert import Certificate
from zeromsg.crypto.keys import PrivateKey
from zeromsg.errors import BadKey, ClientError

NAME_MEMBER = "zeromsg_name"
"""Where a user's local name stands, beside `master_seed`.

ZeroNet and its forks read the file again before they save a user, set
`master_seed`, `sites`, `certs` and `settings`, and keep every other member.
Within `settings` pages could see the name, and replace it.
"""

CERTIFICATES_LIMIT = 200
"""Certificates of one user; sites may add some without asking."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,23}", re.IGNORECASE)

CHOSEN_MEMBER = "zeromsg_chosen"
"""Where a site's entry lists the domains that were selected there before, the latest last."""

CHOSEN_LIMIT = 16
"""Certificates selected before whose keys sealed messages are tried with."""

_Json = dict[str, Any]


def is_user_name(text: object) -> TypeGuard[str]:
    """Whether a user may be called so: too short to be taken for an address."""
    return isinstance(text, str) and _NAME.fullmatch(text) is not None


class BrokenUser(Exception):
    """What is wrong with a user's data; the text carries no key."""


@attrs.frozen
class OwnedCertificate:
    """A certificate together with the key it speaks for."""

    certificate: Certificate
    key: PrivateKey


class User:
    """A user as `users.json` files one (`interfaces.IUser`).

    data: what stands under master_address. save: writes both to disk, or
    raises, and then the change has not happened.
    Raises BrokenUser, so that nothing fails later.
    """

    def __init__(
        self, master_address: str, data: _Json, save: Callable[[str, _Json], None]
    ) -> None:
        self._master_address = master_address
        self._user = data
        self._save = save
        self._check_user()

    @property
    def master_address(self) -> str:
        """What the user is filed under. It names the user to nobody else."""
        return self._master_address

    @property
    def master_seed(self) -> str:
        """64 hex digits from which all keys follow: as secret as any of them."""
        seed: str = self._user["master_seed"]
        return seed

    @property
    def name(self) -> str:
        """What the operator calls the user; "" if nothing usable stands in the file."""
        name = self._user.get(NAME_MEMBER)
        return name if is_user_name(name) else ""

    @property
    def data(self) -> _Json:
        """A copy of what the file holds of the user, the seed included."""
        return copy.deepcopy(self._user)

    @property
    def sites(self) -> int:
        """How many sites the file has an entry of."""
        return len(self._user.get("sites", {}))

    def auth_key(self, site: str) -> PrivateKey:
        """The key the user signs with on a site: the selected certificate's, or the site's own."""
        owned = self._selected(site)
        return self._plain_key(site) if owned is None else owned.key

    def auth_address(self, site: str) -> str:
        """The address of `auth_key`."""
        return self.auth_key(site).address

    def reading_keys(self, site: str) -> list[PrivateKey]:
        """All keys that messages on a site may be sealed to, the present auth key first.

        Whoever chose a certificate still reads what is sealed to the address
        without it, or with one chosen there before; the owner of a site what is
        sealed to it. Not with a certificate that was never chosen there: from
        what it opens, the site could tell whose it is.
        """
        filed = self._user.get("certs", {})
        before = [self._owned(domain).key for domain in self._chosen(site) if domain in filed]
        found = [self.auth_key(site), self._plain_key(site), *before]
        site_key = self.site_key(site)
        return list(dict.fromkeys(found if site_key is None else [*found, site_key]))

    def encryption_key(self, site: str, index: int) -> PrivateKey:
        """The key the user decrypts with on a site; index is 0 to 1000, ValueError beyond.

        It follows the site and the domain of the selected certificate, not the
        certificate's address.
        """
        # As in ZeroNet the domain counts even where its certificate is gone.
        domain = self._entry(site).get("cert") or ""
        return derivation.encryption_key(self.master_seed, site, domain, index)

    # Keys of sites the user owns

    def site_key(self, site: str) -> PrivateKey | None:
        """The site's own key, if the user has it."""
        return self._key_in(self._entry(site), "privatekey")

    def set_site_key(self, site: str, key: PrivateKey) -> None:
        """Keep a site's own key; whether it may sign for the site, its content.json decides."""
        self._change_entry(site, {"privatekey": key.wif})

    # Certificates

    def certificate(self, site: str) -> Certificate | None:
        """The certificate selected for a site."""
        owned = self._selected(site)
        return None if owned is None else owned.certificate

    def certificates(self) -> dict[str, OwnedCertificate]:
        """All certificates, by domain."""
        return {domain: self._owned(domain) for domain in self._user.get("certs", {})}

    def add_certificate(
        self, site: str, certificate: Certificate, *, replace: bool = False
    ) -> Literal["added", "unchanged", "conflict"]:
        """Keep a certificate for the user's present auth address on a site.

        It is filed under its issuer, and not selected. Where another one is
        filed there, nothing changes unless `replace`, and the answer is
        "conflict": ask the person. The issuer's signature is not checked.
        ClientError beyond CERTIFICATES_LIMIT.
        """
        key = self.auth_key(site)
        filed = {
            "auth_address": key.address,
            "auth_privatekey": key.wif,
            "auth_type": certificate.auth_type,
            "auth_user_name": certificate.auth_user_name,
            "cert_sign": certificate.cert_sign,
        }
        present = self._user.get("certs", {}).get(certificate.issuer)
        if present is not None:
            if all(present.get(name) == value for name, value in filed.items()):
                return "unchanged"
            if not replace:
                return "conflict"
        elif len(self._user.get("certs", {})) >= CERTIFICATES_LIMIT:
            raise ClientError("too-big", f"a user has at most {CERTIFICATES_LIMIT} certificates")

        def change(user: _Json) -> None:
            user.setdefault("certs", {})[certificate.issuer] = filed

        self._change(change)
        return "added"

    def set_certificate(self, site: str, domain: str | None) -> None:
        """Select a certificate for a site by its domain; None or "" selects none.

        ClientError if there is none of that domain.
        """
        if domain and domain not in self._user.get("certs", {}):
            raise ClientError("invalid", f"no certificate of {domain[:80]}")
        before = self._entry(site).get("cert")
        if domain or "cert" in self._entry(site):
            chosen = [each for each in (*self._chosen(site), before) if each and each != domain]
            chosen = list(dict.fromkeys(reversed(chosen)))[:CHOSEN_LIMIT][::-1]
            self._change_entry(site, {"cert": domain or None, CHOSEN_MEMBER: chosen or None})

    def remove_certificate(self, domain: str) -> None:
        """Forget a certificate and its key, and select it nowhere any more.

        ClientError if there is none of that domain.
        """
        if domain not in self._user.get("certs", {}):
            raise ClientError("invalid", f"no certificate of {domain[:80]}")

        def change(user: _Json) -> None:
            del user["certs"][domain]
            for entry in user.get("sites", {}).values():
                if entry.get("cert") == domain:
                    del entry["cert"]

        self._change(change)

    # Reading what the document holds

    def _entry(self, site: str) -> _Json:
        entry: _Json = self._user.get("sites", {}).get(site, {})
        return entry

    def _plain_key(self, site: str) -> PrivateKey:
        # A file made by other software may hold another key than the seed's:
        # pages know the user by it.
        key = self._key_in(self._entry(site), "auth_privatekey")
        return key or derivation.auth_key(self.master_seed, site)

    def _chosen(self, site: str) -> list[str]:
        """Domains that were selected on a site before."""
        chosen = self._entry(site).get(CHOSEN_MEMBER)
        if not isinstance(chosen, list) or not all(isinstance(each, str) for each in chosen):
            return []
        return chosen[-CHOSEN_LIMIT:]

    def _key_in(self, entry: _Json, member: str) -> PrivateKey | None:
        wif = entry.get(member)
        return _key_of(wif) if wif else None

    def _selected(self, site: str) -> OwnedCertificate | None:
        domain = self._entry(site).get("cert")
        if domain is None or domain not in self._user.get("certs", {}):
            return None  # as in ZeroNet, where the selected certificate is gone
        return self._owned(domain)

    def _owned(self, domain: str) -> OwnedCertificate:
        filed = self._user["certs"][domain]
        certificate = Certificate(
            filed["auth_type"], filed["auth_user_name"], domain, filed["cert_sign"]
        )
        return OwnedCertificate(certificate, _key_of(filed["auth_privatekey"]))

    # Checking it, once, so that nothing above can fail

    def _check_user(self) -> None:
        user, name = self._user, self._master_address
        seed = user.get("master_seed")
        if not isinstance(seed, str):
            raise BrokenUser(f"{name}: master_seed is missing")
        try:
            if derivation.master_address(seed) != name:
                raise BrokenUser(f"{name}: master_seed belongs to another address")
            derivation.child_key(seed, 0)
        except BadKey as error:
            raise BrokenUser(f"{name}: master_seed: {error}") from None
        for site, entry in self._objects("sites"):
            self._check_texts(f"sites: {site}", entry, "auth_address", "cert", optional=True)
            self._check_key(f"sites: {site}", entry, "privatekey")
            self._check_key(f"sites: {site}", entry, "auth_privatekey", "auth_address")
        for domain, filed in self._objects("certs"):
            members = ("auth_address", "auth_privatekey", "auth_type", "auth_user_name")
            self._check_texts(f"certs: {domain}", filed, *members, "cert_sign")
            self._check_key(f"certs: {domain}", filed, "auth_privatekey", "auth_address")
            try:
                self._owned(domain)
            except ValueError as error:
                raise BrokenUser(f"certs: {domain}: {error}") from None
            except BadKey as error:  # an empty key, which only a site may have
                raise BrokenUser(f"certs: {domain}: auth_privatekey: {error}") from None

    def _objects(self, member: str) -> list[tuple[str, _Json]]:
        objects = self._user.get(member, {})
        if not isinstance(objects, dict) or not all(
            isinstance(entry, dict) for entry in objects.values()
        ):
            raise BrokenUser(f"{member} is not an object of objects")
        return list(objects.items())

    def _check_texts(self, where: str, entry: _Json, *members: str, optional: bool = False) -> None:
        for member in members:
            value = entry.get(member)
            if not (isinstance(value, str) or (optional and value is None)):
                raise BrokenUser(f"{where}: {member} is no text")

    def _check_key(self, where: str, entry: _Json, member: str, address: str = "") -> None:
        """Check a key that may be missing, and that its address, where one stands, is its own."""
        wif = entry.get(member)
        if wif is None or wif == "":  # ZeroNet's way to forget a key
            return
        if not isinstance(wif, str):
            raise BrokenUser(f"{where}: {member} is no text")
        try:
            key = _key_of(wif)
        except BadKey as error:
            raise BrokenUser(f"{where}: {member}: {error}") from None
        if entry.get(address, key.address) != key.address:
            raise BrokenUser(f"{where}: {member} belongs to another address than {address}")

    # Changing it

    def _change_entry(self, site: str, values: _Json) -> None:
        """Set members of a site's entry, or remove those that are None."""

        def change(user: _Json) -> None:
            entry = user.setdefault("sites", {}).setdefault(site, {})
            if not entry.get("auth_privatekey"):
                # ZeroNet fails on an entry without them.
                key = derivation.auth_key(self.master_seed, site)
                entry |= {"auth_address": key.address, "auth_privatekey": key.wif}
            entry |= values
            for member in [member for member in values if values[member] is None]:
                del entry[member]

        self._change(change)

    def _change(self, change: Callable[[_Json], None]) -> None:
        user = copy.deepcopy(self._user)
        change(user)
        self._save(self._master_address, user)
        self._user = user


@functools.lru_cache(maxsize=512)
def _key_of(wif: str) -> PrivateKey:
    """Cached: a user signs every message on a site with the same key."""
    return PrivateKey.from_wif(wif)
