"""Keys of onions on disk."""

import base64
import os
from pathlib import Path

import pytest

from zeromsg.crypto.onion import OnionKey
from zeromsg.errors import ConfigError
from zeromsg.store.onion_keys import OnionKeys

SITE = "1" * 34
OTHER = OnionKey.from_seed(bytes(32)).onion


def keys(folder: Path) -> OnionKeys:
    return OnionKeys(folder / "onions", os.urandom)


def test_a_key_is_made_once_and_kept_for_its_owner_alone(tmp_path: Path) -> None:
    made = keys(tmp_path).get(SITE)
    assert keys(tmp_path).get(SITE) == made
    assert keys(tmp_path).get("shared") != made
    path = tmp_path / "onions" / f"{SITE}.key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "onions").stat().st_mode & 0o777 == 0o700
    path.chmod(0o644)
    keys(tmp_path).get(SITE)
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["", "nonsense", "RSA1024:abcd", "ED25519-V3:AAAA", "\xff"])
def test_a_spoilt_key_stops_the_start_and_names_the_file(tmp_path: Path, text: str) -> None:
    folder = tmp_path / "onions"
    folder.mkdir()
    (folder / f"{SITE}.key").write_text(text, encoding="latin-1")
    with pytest.raises(ConfigError, match=SITE):
        keys(tmp_path).get(SITE)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "onions").write_text("a file")
    with pytest.raises(ConfigError, match="onions"):
        keys(tmp_path).get(SITE)


def test_keys_to_others_are_read_as_tor_writes_them(tmp_path: Path) -> None:
    assert keys(tmp_path).keys_to_others() == {}
    folder = tmp_path / "onions"
    folder.mkdir()
    private = bytes(range(32))
    text = base64.b32encode(private).decode().rstrip("=")
    (folder / "friend.auth_private").write_text(f"{OTHER}:descriptor:x25519:{text}\n")
    assert keys(tmp_path).keys_to_others() == {OTHER: base64.b64encode(private).decode()}


@pytest.mark.parametrize(
    "text",
    ["", "x", f"{OTHER}:descriptor:x25519:AAAA", f"{OTHER}:descriptor:rsa:{'A' * 52}",
     f"{'a' * 56}:descriptor:x25519:{'A' * 52}", f"{OTHER}:descriptor:x25519:{'1' * 52}"],
)  # fmt: skip
def test_a_key_to_others_in_no_format_stops_the_start(tmp_path: Path, text: str) -> None:
    folder = tmp_path / "onions"
    folder.mkdir()
    (folder / "friend.auth_private").write_text(text)
    with pytest.raises(ConfigError, match="friend"):
        keys(tmp_path).keys_to_others()
