"""The node's users, as ZeroNet keeps them in `users.json`.

The file is ZeroNet's, so one of a ZeroNet node can be put in its place. Like
ZeroNet the node acts as the first user in it unless told otherwise. It may be
under a passphrase (`crypto.container`), which ZeroNet cannot read.

The file is secret: mode 0600, in a folder of mode 0700 where we make it. It is
replaced in one step, so that a crash leaves the old file or the new one. No
error and no log entry carries a key.
"""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import attrs

from zeromsg.crypto import derivation
from zeromsg.crypto.container import (
    COST,
    PASSPHRASE_LIMIT,
    BadContainer,
    ContainerKey,
    WrongPassphrase,
    is_container,
    unseal,
)
from zeromsg.errors import CannotStore, ClientError, ConfigError
from zeromsg.store.private_file import write_private
from zeromsg.store.user import NAME_MEMBER, BrokenUser, User, is_user_name

USERS_LIMIT = 1000
"""Users of one node."""

FILE_LIMIT = 8 * 1024 * 1024
"""Bytes of a users.json; a container is a third longer than what it holds."""

DOCUMENT_LIMIT = 4 * 1024 * 1024
"""Bytes of the document in it."""

PREFIX_LENGTH = 4
"""Least letters of a master address that name a user."""

PASSPHRASE_LEAST = 8
"""Least characters of a new passphrase."""

_Json = dict[str, Any]


@attrs.frozen
class Imported:
    """What became of one user of an imported file.

    name: the master address. outcome: `refused` says why in `reason`; with the
    others it may carry a remark.
    """

    name: str
    outcome: Literal["added", "here", "refused"]
    reason: str = ""


class Users:
    """All users of a `users.json`, which is made with one user if it is missing.

    entropy: makes the master seed of a new user. passphrase: what the file is
    under, if it is; one that is made is then under it too.
    create: whether a missing file is made; without it there may be no user.
    Raises ConfigError, naming the file and the reason, if it cannot be read,
    written or understood; a change that cannot be written has not happened.
    """

    def __init__(
        self,
        path: Path,
        entropy: Callable[[int], bytes],
        passphrase: str | None = None,
        *,
        create: bool = True,
        cost: int = COST,
    ) -> None:
        self._path = path
        self._entropy = entropy
        self._cost = cost
        self._key: ContainerKey | None = None
        document = self._read(passphrase)
        if not document:
            if passphrase is not None and self._key is None:
                self._key = self._new_key(passphrase)
            if create:
                seed = derivation.new_seed(entropy)
                document = {derivation.master_address(seed): _new_user(seed)}
                self._write(document, self._key)
        self._document = document
        self._users: dict[str, User] = {}
        for name, data in document.items():
            try:
                self._users[name] = User(name, data, self._save)
            except BrokenUser as problem:
                if not self._users:
                    raise self._broken(str(problem)) from None
                # Others than the first may be of software that we do not know.

    @property
    def default(self) -> User:
        """The first user in the file."""
        return next(iter(self._users.values()))

    def get(self, name: str) -> User | None:
        """The user of a master address; "" names the default one."""
        return self._users.get(name) if name else self.default

    def all(self) -> list[User]:
        """Every user that can be used, the default one first."""
        return list(self._users.values())

    def find(self, text: str) -> User:
        """The user of a local name, of a master address, or of the beginning of one.

        A name goes before an address. Raises ClientError where none or several fit.
        """
        named = [user for user in self.all() if user.name == text and text]
        if not named and len(text) >= PREFIX_LENGTH:
            named = [user for user in self.all() if user.master_address.startswith(text)]
            # A whole address is not the beginning of a longer one.
            named = [user for user in named if user.master_address == text] or named
        if len(named) > 1:
            raise ClientError("invalid", f"several users of this node fit {text[:80]}")
        if not named:
            raise ClientError("invalid", f"this node has no user {text[:80]}")
        return named[0]

    def new(self, name: str | None = None) -> User:
        """A new user, with a seed of its own, last in the file.

        name: a local name; see `is_user_name`. Raises ClientError for one that
        is none or is taken, and beyond USERS_LIMIT.
        """
        if name is not None:
            self._check_name(name)
        seed = derivation.new_seed(self._entropy)
        data = _new_user(seed) | ({NAME_MEMBER: name} if name is not None else {})
        address = derivation.master_address(seed)
        self._add({address: User(address, data, self._save)})
        return self._users[address]

    def _check_name(self, name: str) -> None:
        if not is_user_name(name):
            raise ClientError(
                "invalid",
                "a user's name is 1 to 24 letters, digits and . _ -, the first no sign",
            )
        if self._has_name(name):
            raise ClientError("invalid", f"there is a user {name} already")

    def _has_name(self, name: str) -> bool:
        return any(user.name.lower() == name.lower() for user in self.all())

    def _add(self, users: dict[str, User]) -> None:
        if len(self._document) + len(users) > USERS_LIMIT:
            raise ClientError("too-big", f"a node has at most {USERS_LIMIT} users")
        document = {**self._document, **{name: user.data for name, user in users.items()}}
        self._write(document, self._key)
        self._document = document
        self._users |= users

    # Taking users from elsewhere, and giving them

    def import_users(self, document: object) -> list[Imported]:
        """Take over the users of a decoded users.json of ZeroNet or zeromsg.

        A user that is here already stays as it is here. All that is added is
        added at once. Raises ClientError where the whole is none.
        """
        if is_container(document):
            raise ClientError("invalid", "this users.json is under a passphrase; export it first")
        if not isinstance(document, dict) or not document:
            raise ClientError("invalid", "this is no users.json: expected an object of users")
        added: dict[str, User] = {}
        results = [self._import(name, data, added) for name, data in document.items()]
        if added:
            self._add(added)
        return results

    def _import(self, name: str, data: object, added: dict[str, User]) -> Imported:
        present = self._document.get(name)
        if not isinstance(data, dict):
            return Imported(name[:80], "refused", "this is no object")
        if present is not None:
            if _without_name(present) == _without_name(data):
                return Imported(name, "here")
            return Imported(
                name, "refused", "this user is here with other keys or certificates, which stay"
            )
        remark = ""
        if NAME_MEMBER in data:
            wanted = data[NAME_MEMBER]
            taken = any(user.name.lower() == str(wanted).lower() for user in added.values())
            if not is_user_name(wanted) or self._has_name(wanted) or taken:
                data = _without_name(data)
                remark = "without its local name, which is taken or none"
        try:
            added[name] = User(name, data, self._save)
        except BrokenUser as problem:
            return Imported(name[:80], "refused", str(problem)[:200])
        return Imported(name, "added", remark)

    def export_users(self, users: Iterable[User]) -> _Json:
        """Some users as a users.json that ZeroNet reads: their seeds and all keys."""
        return {user.master_address: user.data for user in users}

    # The passphrase

    @property
    def sealed(self) -> bool:
        """Whether the file is under a passphrase."""
        return self._key is not None

    def opens_with(self, passphrase: str) -> bool:
        """Whether the file is under this passphrase; takes a fraction of a second."""
        return self._key is not None and self._key.opens_with(passphrase)

    def set_passphrase(self, passphrase: str | None) -> None:
        """Put the file under another passphrase, or under none.

        Raises ClientError for one that is too short or too long.
        """
        key = None
        if passphrase is not None:
            if not PASSPHRASE_LEAST <= len(passphrase) <= PASSPHRASE_LIMIT:
                raise ClientError(
                    "invalid",
                    f"a passphrase has {PASSPHRASE_LEAST} to {PASSPHRASE_LIMIT} characters",
                )
            key = self._new_key(passphrase)
        self._write(self._document, key)
        self._key = key

    def _new_key(self, passphrase: str) -> ContainerKey:
        try:
            return ContainerKey.new(passphrase, self._entropy, self._cost)
        except WrongPassphrase:
            raise self._broken("the passphrase for it is no text that could be one") from None

    def _save(self, name: str, data: _Json) -> None:
        document = {**self._document, name: data}
        self._write(document, self._key)
        self._document = document

    # The file

    def _read(self, passphrase: str | None) -> _Json:
        """The document, {} where there is none."""
        try:
            data = self._bytes()
            document = self._decoded(data)
            # ZeroNet leaves its file readable to all.
            self._path.chmod(0o600)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise CannotStore(
                f"{self._path}: cannot be read and made private: {error.strerror}"
            ) from error
        if is_container(document):
            document = self._unsealed(data, passphrase)
        if not isinstance(document, dict):
            raise self._broken("expected an object with one member for each user")
        for name, user in document.items():
            if not isinstance(user, dict):
                raise self._broken(f"{name} is no object")
        return document

    def _bytes(self) -> bytes:
        data = read_bounded(self._path)
        if data is None:
            raise self._broken(f"it has over {FILE_LIMIT} bytes")
        return data

    def _decoded(self, data: bytes) -> Any:
        try:
            return json.loads(data)
        except UnicodeDecodeError:
            raise self._broken("this is no UTF-8 text") from None
        except json.JSONDecodeError as error:
            raise self._broken(f"this is no JSON: {error}") from None
        except (ValueError, RecursionError):
            raise self._broken("this JSON has numbers too long or nests too deep") from None

    def _unsealed(self, data: bytes, passphrase: str | None) -> Any:
        if passphrase is None:
            raise self._broken(
                "it is under a passphrase: name a file that holds it as passphrase_file in "
                "[users], or start `zeromsg run` on a terminal"
            )
        try:
            plain, self._key = unseal(data.decode(), passphrase)
        except UnicodeDecodeError:
            raise self._broken("this is no UTF-8 text") from None
        except (BadContainer, WrongPassphrase) as problem:
            raise self._broken(str(problem)) from None
        return self._decoded(plain)

    def _write(self, document: _Json, key: ContainerKey | None) -> None:
        """Replace the file; when this returns the new one is on the disk."""
        text = json.dumps(document, indent=2)
        if len(text) > DOCUMENT_LIMIT:
            raise ClientError("too-big", f"the users' data would take over {DOCUMENT_LIMIT} bytes")
        if key is not None:
            text = key.seal(text.encode(), self._entropy)
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(self._path, text)
        except OSError as error:
            raise CannotStore(f"{self._path}: cannot be written: {error.strerror}") from error

    def _broken(self, reason: str) -> ConfigError:
        return ConfigError(f"{self._path}: {reason}")


def _new_user(seed: str) -> _Json:
    return {"master_seed": seed, "sites": {}, "certs": {}, "settings": {}}


def _without_name(data: _Json) -> _Json:
    return {member: value for member, value in data.items() if member != NAME_MEMBER}


def is_sealed(path: Path) -> bool:
    """Whether a users.json is there and under a passphrase; what is wrong with it, `Users` says."""
    try:
        data = read_bounded(path)
        return data is not None and is_container(json.loads(data))
    except (OSError, ValueError, RecursionError):
        return False


def read_bounded(path: Path) -> bytes | None:
    """A file's bytes, None where it is larger than any users.json. Raises OSError."""
    with path.open("rb") as file:
        data = file.read(FILE_LIMIT + 1)
    return data if len(data) <= FILE_LIMIT else None
