"""The table of commands, and what becomes of their errors."""

import errno
import io
import sys
import traceback
from importlib import import_module
from typing import Any

import click

from zeromsg import __version__
from zeromsg.errors import CannotStore, ConfigError, ZeromsgError

_MODULES = {
    "bans": "operating",
    "broadcast": "messages",
    "confirm": "confirm",
    "demo": "demo",
    "identities": "identities",
    "key": "key",
    "leaktest": "leaktest",
    "listen": "listen",
    "peers": "peers",
    "rules": "rules",
    "run": "run",
    "send": "messages",
    "site": "site",
    "status": "status",
    "user": "user",
    "why": "operating",
}
"""In which module of this package each command is: only one is loaded, as a whole
node takes half a second, and scripts call `zeromsg send` often."""


class Failed(click.ClickException):
    """It did not work: exit code 1."""

    exit_code = 1


class Misused(click.ClickException):
    """It could not even be tried: exit code 2."""

    exit_code = 2


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _MODULES:
            return None
        module = import_module(f"zeromsg.cli.{_MODULES[cmd_name]}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Errors of this package become sentences with an exit code."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except CannotStore as problem:
            raise Failed(str(problem)) from None
        except ConfigError as problem:
            raise Misused(str(problem)) from None
        except ZeromsgError as problem:
            raise Failed(str(problem)) from None
        except OSError as problem:
            if problem.errno == errno.EPIPE:
                raise  # whoever read our output has enough; click ends quietly
            raise Failed(str(problem)) from None
        except Exception as problem:
            place = traceback.extract_tb(problem.__traceback__)[-1]
            raise Failed(
                f"this is a fault of zeromsg, please report it: {type(problem).__name__} "
                f"in {place.name}, {place.filename} line {place.lineno}: {problem}"
            ) from problem


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="zeromsg", message="%(prog)s %(version)s")
def main() -> None:
    """Peer-to-peer messages for ZeroNet sites and programs."""
    for stream in (sys.stdout, sys.stderr):
        # A stranger's message must not fail where the terminal lacks its letters.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
