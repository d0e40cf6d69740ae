"""`zeromsg key`, and what the options of sealing make of a call."""

import json

import click
import pytest
from click.testing import CliRunner, Result

from zeromsg.cli import main
from zeromsg.cli.sealing import Sealing
from zeromsg.crypto.shared_keys import group_key, is_random_key, shared_key

SITE = "1HeLLo4uzjaLetFx6NH3PMwFP3qbRbTf3D"


@pytest.fixture
def key(tmp_path):
    def run(*arguments: str, input: str | None = None) -> Result:
        return CliRunner().invoke(
            main, ["key", *arguments, "--data-dir", str(tmp_path)], input=input
        )

    return run


def test_a_made_key_is_shown_only_when_asked_for(key):
    made = key("new", "club")
    assert made.exit_code == 0
    text = key("show", "club").output.strip()
    assert is_random_key(text)
    assert text not in made.output + key("list").output
    assert key("list").output == "club\n"


def test_a_key_that_was_given_is_read_from_a_pipe(key):
    assert "passphrase us" in key("add", "us", input="correct horse battery\n").output
    assert "key club" in key("add", "club", input="05" * 32 + "\n").output
    assert key("show", "us").output == "correct horse battery\n"
    assert json.loads(key("list", "--json").output) == ["club", "us"]
    assert key("remove", "us").exit_code == 0
    assert key("show", "us").exit_code == 2


def test_a_bad_key_is_wrong_use(key):
    refused = key("add", "us", input="short\n")
    assert refused.exit_code == 2
    assert "at least 8 characters" in refused.output


def test_the_groups_public_key_is_what_rules_need(key):
    key("add", "club", input="correct horse battery\n")
    expected = group_key(shared_key("correct horse battery", SITE), SITE).public_key.hex()
    rule = {"signed_only": {"group": expected}}
    assert json.loads(key("group", "club", SITE, "--json").output) == rule
    shown = key("group", "club", SITE).output
    assert json.loads(shown[shown.index("{") :]) == rule
    assert key("group", "club", "no address").exit_code == 2


def sealing(**changes):
    nothing = {"encrypt_to": (), "key": (), "group_key": (), "fields": (), "hidden": False}
    return Sealing(**{**nothing, **changes})


def test_what_the_options_make_of_a_call():
    assert sealing().parameter() is None
    assert sealing(group_key=("club",)).parameter() is None
    assert sealing(encrypt_to=("a@b", "1c")).parameter() == {"to": ["a@b", "1c"], "hidden": False}
    everything = sealing(encrypt_to=("a@b",), key=("us",), fields=("x", "y"), hidden=True)
    assert everything.parameter() == {
        "to": ["a@b", {"key": "us"}],
        "hidden": True,
        "fields": ["x", "y"],
    }


@pytest.mark.parametrize("change", [{"fields": ("x",)}, {"hidden": True}])
def test_options_that_need_a_recipient(change):
    with pytest.raises(click.UsageError, match="need --encrypt-to or --key"):
        sealing(**change).parameter()


@pytest.mark.parametrize("words", [["key", "new", "club"], ["user", "new", "bob"], ["site", "new"]])
def test_a_data_directory_that_cannot_be_written_is_a_failure_and_no_misuse(tmp_path, words):
    (tmp_path / "file").write_text("")
    folder = [str(tmp_path / "site")] if words[0] == "site" else []
    data_dir = ["--data-dir", str(tmp_path / "file" / "data")]
    result = CliRunner().invoke(main, [*words, *folder, *data_dir])
    assert result.exit_code == 1
    assert "Not a directory" in result.output or "cannot" in result.output
