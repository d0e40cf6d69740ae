"""`zeromsg confirm`: what sites ask the person, and her answer."""

from pathlib import Path
from typing import Any

import click

from zeromsg.cli.operating import ask
from zeromsg.cli.options import data_dir_option, json_option, node_options
from zeromsg.cli.output import emit, printable


@click.command()
@click.argument("id", required=False)
@click.argument("answer", required=False)
@click.option("--no", is_flag=True, help="Say no.")
@node_options
@data_dir_option
@json_option
def confirm(
    id: str | None,
    answer: str | None,
    no: bool,
    node: str | None,
    config: Path | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """Answer what a site asks you; without ID, list what waits.

    ANSWER may be left out where there is one choice only. "" is an answer too:
    no certificate.
    """
    if no and (id is None or answer is not None):
        raise click.UsageError("--no goes with an ID, and without an ANSWER")
    if id is None:
        _show(ask(node, config, data_dir, "prompts", {})["prompts"], as_json)
        return
    found = ask(node, config, data_dir, "prompt_answer", {"id": id, "answer": answer, "no": no})
    if as_json:
        emit(found)
    else:
        click.echo("refused" if no else "answered")


def _show(prompts: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        emit(prompts, indent=2)
        return
    if not prompts:
        click.echo("Nothing waits for you.")
    for prompt in prompts:
        click.echo(
            printable(f"{prompt['id']}  site {prompt['site']}, for user {prompt['user']}")
            + f", {prompt['seconds']} s left"
        )
        click.echo(f"    {printable(prompt['text'])}")
        for choice in prompt["choices"]:
            text = f"      {choice['answer'] or repr('')}  {choice['label']}"
            click.echo(printable(text))
