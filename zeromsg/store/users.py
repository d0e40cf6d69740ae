"""The node's users, as ZeroNet keeps them in `users.json`.

The file is ZeroNet's, so one of a ZeroNet node can be put in its place. Like
ZeroNet the node acts as the first user in it unless told otherwise.

The file is secret: mode 0600, in a folder of mode 0700 where we make it. It is
replaced in one step, so that a crash leaves the old file or the new one. No
error and no log entry carries a key.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zeromsg.crypto import derivation
from zeromsg.errors import ConfigError
from zeromsg.store.private_file import write_private
from zeromsg.store.user import BrokenUser, User

_Json = dict[str, Any]


class Users:
    """All users of a `users.json`, which is made with one user if it is missing.

    entropy: makes the master seed of a new user.
    Raises ConfigError, naming the file and the reason, if it cannot be read,
    written or understood; a change that cannot be written has not happened.
    """

    def __init__(self, path: Path, entropy: Callable[[int], bytes]) -> None:
        self._path = path
        document = self._read()
        if not document:
            seed = derivation.new_seed(entropy)
            document = {
                derivation.master_address(seed): {
                    "master_seed": seed,
                    "sites": {},
                    "certs": {},
                    "settings": {},
                }
            }
            self._write(document)
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

    def _save(self, name: str, data: _Json) -> None:
        document = {**self._document, name: data}
        self._write(document)
        self._document = document

    # The file

    def _read(self) -> _Json:
        """The document, {} where there is none."""
        try:
            document = json.loads(self._path.read_bytes())
            # ZeroNet leaves its file readable to all.
            self._path.chmod(0o600)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise self._broken(f"cannot be read and made private: {error.strerror}") from error
        except UnicodeDecodeError:
            raise self._broken("this is no UTF-8 text") from None
        except json.JSONDecodeError as error:
            raise self._broken(f"this is no JSON: {error}") from None
        except (ValueError, RecursionError):
            raise self._broken("this JSON has numbers too long or nests too deep") from None
        if not isinstance(document, dict):
            raise self._broken("expected an object with one member for each user")
        for name, user in document.items():
            if not isinstance(user, dict):
                raise self._broken(f"{name} is no object")
        return document

    def _write(self, document: _Json) -> None:
        """Replace the file; when this returns the new one is on the disk."""
        text = json.dumps(document, indent=2)
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(self._path, text)
        except OSError as error:
            raise self._broken(f"cannot be written: {error.strerror}") from error

    def _broken(self, reason: str) -> ConfigError:
        return ConfigError(f"{self._path}: {reason}")
