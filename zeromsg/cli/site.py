"""`zeromsg site`: make, sign, join, leave and list sites."""

import json
import secrets
import time
from pathlib import Path
from typing import Any

import attrs
import click

from zeromsg.cli.acting import asked_passphrase
from zeromsg.cli.desk import Desk
from zeromsg.cli.operating import ask
from zeromsg.cli.options import (
    config_option,
    data_dir_option,
    json_option,
    node_options,
    settings_of,
)
from zeromsg.cli.output import emit, table
from zeromsg.cli.peers import peers
from zeromsg.cli.rules import show_findings
from zeromsg.cli.status import fetch_status, show_sites
from zeromsg.cli.working import hush, work
from zeromsg.client import CallRefused, NodeUnreachable
from zeromsg.errors import ConfigError, ContentRefused
from zeromsg.policy.rule_review import review
from zeromsg.policy.site_content import ROOT, file_entries, parse_content
from zeromsg.service.assembly import USERS_FILE, open_users
from zeromsg.service.config import Settings
from zeromsg.service.site_making import must_be_no_site, new_site, or_nothing, sign_site
from zeromsg.service.site_templates import SITE_EXTRAS, TEMPLATES, copy_template, template_files
from zeromsg.store.sites import SIZE_LIMIT
from zeromsg.wire.names import P2P_JSON

_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.group()
def site() -> None:
    """Make, sign, join, leave and list sites, and show their peers."""


site.add_command(peers)


@site.command()
@click.argument("folder", type=_FOLDER, metavar="DIR")
@click.option(
    "--title", default="", help="The site's title; by default the template's or directory's name."
)
@click.option(
    "--template",
    type=click.Choice(list(TEMPLATES)),
    help="Begin with a copy of a zite that comes with zeromsg: "
    + "; ".join(f"{name}, {template.about}" for name, template in TEMPLATES.items()),
)
@config_option
@data_dir_option
@json_option
def new(
    folder: Path,
    title: str,
    template: str | None,
    config: Path | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """Make a site of a directory: its key, its rules, its content.json."""
    desk = Desk(None, config, data_dir)
    users_file = desk.path
    must_be_no_site(folder)
    extras = None
    # A site whose key could not be kept would be nobody's.
    with or_nothing(folder, template_files(template) if template is not None else ()):
        if template is not None:
            copy_template(template, folder)
            title, extras = title or TEMPLATES[template].title, SITE_EXTRAS
        key = new_site(folder, title, secrets.token_bytes, time.time, extras)
        desk.do("site_key_add", {"key": key.wif}, create=True)
    path = str(folder.absolute())
    _warn_of_rules(folder)
    size = sum(entry.size for entry in file_entries(ROOT, _content_of(folder)))
    if as_json:
        emit({"address": key.address, "path": path, "users_file": str(users_file), "size": size})
        return
    click.echo(f"Made the site {key.address}")
    click.echo(f"Its key is in {users_file}: whoever has it owns the site.")
    click.echo("Add these lines to the configuration file, and restart the node:\n")
    # JSON's strings are TOML's too.
    click.echo(f"[[site]]\naddress = {json.dumps(key.address)}\npath = {json.dumps(path)}")
    if size > SIZE_LIMIT:
        click.echo(f"size_limit = {2 * size}    # its files have {size} bytes")
        click.echo(
            f"Nodes take {SIZE_LIMIT} bytes of a site where size_limit says nothing else: "
            "everybody who is to hold it needs that line.",
            err=True,
        )


@site.command()
@click.argument("folder", type=_FOLDER, metavar="DIR")
@config_option
@data_dir_option
@json_option
def sign(folder: Path, config: Path | None, data_dir: Path | None, as_json: bool) -> None:
    """Sign a site's directory as it is now; a running node takes it up by itself."""
    settings = settings_of(config, data_dir)
    users_file = settings.data_dir / USERS_FILE
    address = _address_of(folder)
    key = (
        open_users(settings, asked_passphrase(settings)).default.site_key(address)
        if users_file.exists()
        else None
    )
    if key is None:
        raise ConfigError(
            f"{users_file} has no key of the site {address}: "
            "name the node that made the site by --config or --data-dir"
        )
    limits = {site.address: site.size_limit for site in settings.sites}
    limit = limits.get(address, SIZE_LIMIT)
    content = sign_site(folder, key, time.time, size_limit=limit)
    _warn_of_rules(folder)
    size = sum(entry.size for entry in file_entries(ROOT, content))
    if size > SIZE_LIMIT:
        click.echo(
            f"Its files have {size} bytes: only nodes that have a larger size_limit than "
            f"{SIZE_LIMIT} for the site take it.",
            err=True,
        )
    if as_json:
        files = sorted(content["files"])
        emit({"address": address, "modified": content["modified"], "files": files})
    else:
        click.echo(f"Signed {len(content['files'])} file(s) of the site {address}")


def _warn_of_rules(folder: Path) -> None:
    """Say what `zeromsg rules check` says of the rules that were signed."""
    rules = folder / P2P_JSON
    if rules.exists():
        _, findings = review(rules.read_bytes())
        show_findings(
            [attrs.evolve(found, key=f"{P2P_JSON}: {found.key}") for found in findings], err=True
        )


def _content_of(folder: Path) -> dict[str, Any]:
    """A directory's content.json. Raises ConfigError."""
    path = folder / ROOT
    try:
        return parse_content(path.read_bytes())
    except OSError:
        raise ConfigError(f"{folder} is no site: there is no {ROOT}") from None
    except ContentRefused as problem:
        raise ConfigError(f"{path}: {problem}") from None


def _address_of(folder: Path) -> str:
    """The address in a directory's content.json. Raises ConfigError."""
    address = _content_of(folder).get("address")
    if not isinstance(address, str):
        raise ConfigError(f"{folder / ROOT}: it has no address")
    return address


@site.command()
@click.argument("address")
@node_options
@data_dir_option
def join(address: str, node: str | None, config: Path | None, data_dir: Path | None) -> None:
    """Let a running node fetch the site of ADDRESS, and hold it from now on."""
    new = ask(node, config, data_dir, "site_join", {"address": address})["new"]
    click.echo("The node looks for peers that have it." if new else "The node holds it already.")


@site.command()
@click.argument("address")
@node_options
@data_dir_option
def leave(address: str, node: str | None, config: Path | None, data_dir: Path | None) -> None:
    """Let a running node hold a joined site no more; what it fetched of it is deleted."""
    ask(node, config, data_dir, "site_leave", {"address": address})
    click.echo("The node does not hold the site any more.")


@site.command("list")
@node_options
@data_dir_option
@json_option
@click.pass_context
def list_sites(
    ctx: click.Context,
    node: str | None,
    config: Path | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """List the sites of a running node, or those of the configuration when it does not run."""
    settings = settings_of(config, data_dir)

    async def job(reactor: Any) -> int:
        try:
            status = await fetch_status(reactor, node, settings)
        except (NodeUnreachable, CallRefused, ConfigError):
            if node is not None:
                raise  # that node was asked for, and no other
            status = None
        _show_sites(_configured(settings) if status is None else status["sites"], as_json)
        return 0

    hush()
    ctx.exit(work(job))


def _configured(settings: Settings) -> list[dict[str, Any]]:
    return [
        {"address": held.address, "path": str(held.path) if held.path else None}
        for held in settings.sites
    ]


def _show_sites(sites: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        emit(sites)
    elif not sites:
        click.echo("There is no site.")
    elif "clients" in sites[0]:
        show_sites(sites)
    else:
        click.echo("The node does not run; its configuration has:", err=True)
        table(("address", "directory"), [(held["address"], held["path"] or "") for held in sites])
