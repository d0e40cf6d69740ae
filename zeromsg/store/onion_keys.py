"""Private keys of the node's onions, and its keys to onions of others.

Each lies in a file of its own, for its owner to read only: `<face>.key` as Tor
writes keys, and `<anything>.auth_private` in the very format of Tor's own
folder of client keys, `<onion>:descriptor:x25519:<base32 of the private key>`.
Who has the key of an onion is that onion.
"""

import base64
from collections.abc import Callable, Mapping
from pathlib import Path

from zeromsg.crypto.onion import OnionKey, public_of
from zeromsg.errors import BadKey, CannotStore, ConfigError
from zeromsg.store.private_file import write_private

_SUFFIX = ".key"
_AUTH_SUFFIX = ".auth_private"
_SEED_BYTES = 32
_X25519_BYTES = 32
_FILE_LIMIT = 4096


class OnionKeys:
    """A folder of keys.

    entropy: bytes nobody can guess.
    """

    def __init__(self, folder: Path, entropy: Callable[[int], bytes]) -> None:
        self._folder = folder
        self._entropy = entropy

    def get(self, face: str) -> OnionKey:
        """The key of a face, made on first use. Raises ConfigError."""
        path = self._folder / f"{face}{_SUFFIX}"
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            if path.exists():
                return OnionKey.from_tor(_read(path))
            key = OnionKey.from_seed(self._entropy(_SEED_BYTES))
            write_private(path, key.to_tor() + "\n")
        except OSError as problem:
            raise CannotStore(f"cannot use {path}: {problem.strerror}") from None
        except BadKey as problem:
            raise ConfigError(f"{path}: {problem}") from None
        return key

    def keys_to_others(self) -> Mapping[str, str]:
        """Onions of others (without `.onion`) to the X25519 keys they want, as base64.

        Raises ConfigError for a file that is not in Tor's format.
        """
        keys = {}
        try:
            for path in sorted(self._folder.glob(f"*{_AUTH_SUFFIX}")):
                onion, key = _parse_auth(path)
                keys[onion] = key
        except OSError as problem:
            raise CannotStore(f"cannot read {self._folder}: {problem.strerror}") from None
        return keys


def _read(path: Path) -> str:
    # Tightened, for it may have been copied here without care.
    path.chmod(0o600)
    try:
        return path.read_bytes()[:_FILE_LIMIT].decode("ascii").strip()
    except UnicodeDecodeError:
        raise BadKey("that is no key") from None


def _parse_auth(path: Path) -> tuple[str, str]:
    try:
        onion, *kind, text = _read(path).split(":")
        public_of(onion)
        key = base64.b32decode(text.upper() + "=" * (-len(text) % 8))
    except (BadKey, ValueError):
        raise ConfigError(f"{path}: {_EXPECTED}") from None
    if kind != ["descriptor", "x25519"] or len(key) != _X25519_BYTES:
        raise ConfigError(f"{path}: {_EXPECTED}")
    return onion, base64.b64encode(key).decode("ascii")


_EXPECTED = "expected <onion>:descriptor:x25519:<base32 of a private key>"
