"""`zeromsg key`: shared keys for messages that only some can read."""

import secrets
import sys
from pathlib import Path

import click

from zeromsg.cli.options import (
    config_option,
    data_dir_option,
    json_option,
    settings_of,
    site_argument,
)
from zeromsg.cli.output import emit, printable
from zeromsg.crypto.shared_keys import group_key, is_random_key, random_key, shared_key
from zeromsg.store.keyring import Keyring

KEYRING_FILE = "keys.json"


def keyring(config: Path | None, data_dir: Path | None) -> Keyring:
    """The person's keys. Raises ConfigError."""
    return Keyring(settings_of(config, data_dir).data_dir / KEYRING_FILE)


@click.group()
def key() -> None:
    """Make and keep shared keys, for --key and --group-key."""


@key.command()
@click.argument("name")
@config_option
@data_dir_option
def new(name: str, config: Path | None, data_dir: Path | None) -> None:
    """Make a random key. `key show` prints it, to give it to others."""
    keyring(config, data_dir).add(name, random_key(secrets.token_bytes))
    click.echo(f"Made the key {printable(name)}.")


@key.command()
@click.argument("name")
@config_option
@data_dir_option
def add(name: str, config: Path | None, data_dir: Path | None) -> None:
    """Keep a key or passphrase that somebody gave you; it is asked for, or read from a pipe."""
    keys = keyring(config, data_dir)
    if sys.stdin.isatty():
        text = click.prompt("Key or passphrase", hide_input=True)
    else:
        text = sys.stdin.readline().rstrip("\r\n")
    keys.add(name, text)
    kind = "key" if is_random_key(text) else "passphrase"
    click.echo(f"Keeping the {kind} {printable(name)}.")


@key.command(name="list")
@config_option
@data_dir_option
@json_option
def list_(config: Path | None, data_dir: Path | None, as_json: bool) -> None:
    """Print the names of all keys."""
    names = keyring(config, data_dir).names()
    if as_json:
        emit(names)
        return
    for name in names:
        click.echo(printable(name))


@key.command()
@click.argument("name")
@config_option
@data_dir_option
def show(name: str, config: Path | None, data_dir: Path | None) -> None:
    """Print a key itself: who sees it can read and write like you."""
    click.echo(printable(keyring(config, data_dir).get(name)))


@key.command()
@click.argument("name")
@config_option
@data_dir_option
def remove(name: str, config: Path | None, data_dir: Path | None) -> None:
    """Forget a key."""
    keyring(config, data_dir).remove(name)
    click.echo(f"Forgot {printable(name)}.")


@key.command()
@click.argument("name")
@site_argument
@config_option
@data_dir_option
@json_option
def group(name: str, site: str, config: Path | None, data_dir: Path | None, as_json: bool) -> None:
    """Print what a site's rules need so that only holders of a key may write."""
    text = keyring(config, data_dir).get(name)
    public_key = group_key(shared_key(text, site), site).public_key.hex()
    rule = {"signed_only": {"group": public_key}}
    if as_json:
        emit(rule)
        return
    click.echo("Put this into the site's p2p.json, and sign the site:\n")
    emit(rule)
