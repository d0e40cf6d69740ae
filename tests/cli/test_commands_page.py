"""docs/commands.md against the commands there are: all are named, and nothing else is."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from zeromsg.cli import main

PAGE = (Path(__file__).parents[2] / "docs" / "commands.md").read_text()
SITE = "1HeLLo4uzjaLetFx6NH3PMwFP3qbRbTf3D"
OPTION = re.compile(r"(?<![\w-])(--?[a-z][a-z-]*)")

SECTIONS: dict[str, str] = dict(
    re.findall(r"^### zeromsg ([^\n]+)\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL)
)
"""What is said of each command, by its heading."""

COMMON = set(OPTION.findall(PAGE.partition("| option")[2].partition("`--help`")[0]))


def commands(
    group: click.Group = main, path: tuple[str, ...] = ()
) -> Iterator[tuple[str, click.Command]]:
    """All commands that are no groups, by their names as they are typed."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


COMMANDS = dict(commands())


def heading(name: str) -> str:
    """The command with its arguments, as its help shows them."""
    command = COMMANDS[name]
    pieces = command.collect_usage_pieces(click.Context(command))
    return " ".join([name, *(piece for piece in pieces if piece != "[OPTIONS]")])


def names_of(param: click.Option) -> set[str]:
    return {*param.opts, *param.secondary_opts}


def test_every_command_has_a_section_and_there_is_no_other():
    assert [*SECTIONS] and sorted(SECTIONS) == sorted(heading(name) for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_named_and_no_other(name):
    text = SECTIONS[heading(name)]
    rows = re.findall(r"^\| (`-.*?) \| ", text, re.MULTILINE)
    (also,) = re.findall(r"^Also (.*?)\.$", text, re.MULTILINE | re.DOTALL) or [""]
    own, common = set(OPTION.findall(" ".join(rows))), set(OPTION.findall(also))
    assert common <= COMMON
    there: set[str] = set()
    for param in COMMANDS[name].params:
        if isinstance(param, click.Option):
            there |= names_of(param)
    # A short form of a common option stands in their table.
    short = {"-c"} if "--config" in common else set()
    assert own | common | short == there


@pytest.mark.parametrize("name", COMMANDS)
def test_choices_and_defaults_are_true(name):
    text = SECTIONS[heading(name)]
    table = PAGE.partition("| option")[2].partition("`--help`")[0]
    for param in COMMANDS[name].params:
        if not isinstance(param, click.Option):
            continue
        (row,) = re.findall(rf"^\| `{param.opts[0]}[ `].*", text, re.MULTILINE) or re.findall(
            rf"^\| `{param.opts[0]}[ `].*", table, re.MULTILINE
        )
        if isinstance(param.type, click.Choice):
            assert "\\|".join(param.type.choices) in row
        if param.show_default and not param.is_flag:
            assert re.search(
                rf"\b{param.default:g}\b"
                if isinstance(param.default, float)
                else rf"\b{param.default}\b",
                row,
            )


@pytest.mark.parametrize("name", COMMANDS)
def test_there_is_an_example_that_can_be_typed(name):
    lines = re.findall(r"^    zeromsg (.*)$", SECTIONS[heading(name)], re.MULTILINE)
    assert lines
    for line in lines:
        words = shlex.split(line.replace("1...", SITE))
        path = name.split()
        assert words[: len(path)] == path
        COMMANDS[name].make_context(name, words[len(path) :])
