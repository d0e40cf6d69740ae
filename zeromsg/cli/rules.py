"""`zeromsg rules check`: what is wrong with rules before they are published."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from zeromsg.cli.options import json_option
from zeromsg.cli.output import emit, printable
from zeromsg.errors import ConfigError
from zeromsg.policy.rule_review import Finding, replay, review
from zeromsg.wire.json_text import load

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.group()
def rules() -> None:
    """Look at the rules of a site."""


@rules.command()
@click.argument("file", type=_FILE)
@click.option(
    "--against",
    type=_FILE,
    metavar="RECORDING",
    help="Say which messages of a recording (`zeromsg listen --record`) they would refuse.",
)
@json_option
@click.pass_context
def check(ctx: click.Context, file: Path, against: Path | None, as_json: bool) -> None:
    """Check the rules in FILE, a p2p.json. Exit code 1 if nodes would take no messages."""
    compiled, findings = review(_read(file))
    events = list(_events(against)) if against is not None and compiled is not None else None
    refusals = list(replay(compiled, events)) if compiled is not None and events else []
    if as_json:
        counted = {} if events is None else {"messages": len(events)}
        emit(
            {
                "findings": [
                    {"level": found.level, "key": found.key, "text": found.text}
                    for found in findings
                ],
                "refused": [
                    {"line": refusal.line, "check": refusal.check, "text": refusal.text}
                    for refusal in refusals
                ],
                **counted,
            },
            indent=2,
        )
    else:
        show_findings(findings)
        for refusal in refusals:
            click.echo(printable(f"line {refusal.line}: {refusal.check}: {refusal.text}"))
        if not findings and not refusals:
            click.echo("nothing is wrong with these rules")
        if events is not None:
            passed = len(events) - len(refusals)
            click.echo(f"{passed} of {len(events)} messages pass")
    ctx.exit(1 if any(found.level == "error" for found in findings) else 0)


def show_findings(findings: Iterable[Finding], *, err: bool = False) -> None:
    for found in findings:
        where = f"{found.key}: " if found.key else ""
        click.echo(printable(f"{found.level}: {where}{found.text}"), err=err)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as problem:
        raise ConfigError(f"{path} cannot be read: {problem.strerror}") from None


def _events(path: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(_read(path).splitlines(), 1):
        try:
            event = load(line.decode())
        except ValueError:
            event = None
        if not isinstance(event, dict):
            raise ConfigError(f"{path} line {number} is no event of a recording")
        yield event
