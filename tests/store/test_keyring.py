"""The keys that a person keeps for the command line."""

import json
import stat

import pytest

from zeromsg.errors import ConfigError
from zeromsg.store.keyring import KEYS_LIMIT, Keyring

KEY = "k" * 43 + "="


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data" / "keys.json"


def test_keys_are_kept_for_their_owner_alone(path):
    Keyring(path).add("club", KEY)
    Keyring(path).add("us", "correct horse battery")
    keys = Keyring(path)
    assert keys.names() == ["club", "us"]
    assert keys.get("us") == "correct horse battery"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    keys.remove("club")
    assert Keyring(path).names() == ["us"]


def test_reading_makes_no_file(path):
    assert Keyring(path).names() == []
    assert not path.exists()


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("club", KEY, "there is a key named 'club' already"),
        ("", KEY, "a name has 1 to 64"),
        ("x" * 65, KEY, "a name has 1 to 64"),
        ("a\nb", KEY, "can be printed"),
        ("new", "short", "at least 8 characters"),
        ("new", "x" * 1025, "at most 1024 characters"),
    ],
)
def test_what_cannot_be_kept_is_told(path, name, text, sentence):
    keys = Keyring(path)
    keys.add("club", KEY)
    with pytest.raises(ConfigError, match=sentence):
        keys.add(name, text)
    assert Keyring(path).names() == ["club"]


def test_there_are_not_too_many(path):
    path.parent.mkdir()
    path.write_text(json.dumps({f"k{number}": KEY for number in range(KEYS_LIMIT)}))
    with pytest.raises(ConfigError, match="there are 1000 keys already"):
        Keyring(path).add("one more", KEY)


@pytest.mark.parametrize("action", ["get", "remove"])
def test_a_name_that_is_none_is_told(path, action):
    with pytest.raises(ConfigError, match="there is no key named 'nobody'"):
        getattr(Keyring(path), action)("nobody")


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1}', "{", "\xff"])
def test_a_file_of_another_kind_is_refused(path, text):
    path.parent.mkdir()
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"keys\.json"):
        Keyring(path)


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be"):
        Keyring(tmp_path / "file" / "keys.json").add("club", KEY)
