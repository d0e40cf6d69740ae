"""Shared keys that a person keeps for the command line, by name.

One JSON file, name to text: keys, or passphrases. It is as secret as
`users.json` and kept like it: mode 0600, replaced in one step. A node never
reads it; commands give the keys to their own connection.
"""

import json
from pathlib import Path

from zeromsg.crypto.shared_keys import check_text, is_random_key
from zeromsg.errors import BadKey, CannotStore, ConfigError
from zeromsg.store.private_file import write_private

KEYS_LIMIT = 1000
NAME_LIMIT = 64


class Keyring:
    """The keys of one file, which is made when the first is added.

    Raises ConfigError, naming the file and the reason, for one that cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._keys = self._read()

    def names(self) -> list[str]:
        return sorted(self._keys)

    def get(self, name: str) -> str:
        """A key or passphrase as text. Raises ConfigError for a name that is none."""
        text = self._keys.get(name)
        if text is None:
            raise ConfigError(f"{self._path}: there is no key named {name!r}")
        return text

    def add(self, name: str, text: str) -> None:
        """Keep a key under a new name. Raises ConfigError."""
        if not 0 < len(name) <= NAME_LIMIT or not name.isprintable():
            raise ConfigError(f"a name has 1 to {NAME_LIMIT} characters that can be printed")
        if name in self._keys:
            raise ConfigError(f"{self._path}: there is a key named {name!r} already")
        if len(self._keys) >= KEYS_LIMIT:
            raise ConfigError(f"{self._path}: there are {KEYS_LIMIT} keys already")
        try:
            if not is_random_key(text):
                check_text(text)
        except BadKey as problem:
            raise ConfigError(str(problem)) from None
        self._write({**self._keys, name: text})

    def remove(self, name: str) -> None:
        """Raises ConfigError for a name that is none."""
        self.get(name)
        self._write({other: text for other, text in self._keys.items() if other != name})

    def _read(self) -> dict[str, str]:
        try:
            keys = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        except OSError as problem:
            raise CannotStore(f"{self._path}: cannot be read: {problem.strerror}") from None
        except (ValueError, RecursionError):
            raise ConfigError(f"{self._path}: this is no JSON") from None
        if not isinstance(keys, dict) or not all(isinstance(text, str) for text in keys.values()):
            raise ConfigError(f"{self._path}: expected a map from names to keys")
        return keys

    def _write(self, keys: dict[str, str]) -> None:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(self._path, json.dumps(keys, indent=2))
        except OSError as problem:
            raise CannotStore(f"{self._path}: cannot be written: {problem.strerror}") from None
        self._keys = keys
