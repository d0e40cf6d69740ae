"""Options that several commands share, and the kinds of their arguments."""

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import attrs
import click
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificate

from zeromsg.client import NodeUrl
from zeromsg.errors import ConfigError
from zeromsg.service import config
from zeromsg.service.config import Settings
from zeromsg.wire.json_text import load
from zeromsg.wire.names import SELF
from zeromsg.wire.values import PeerAddress, is_site_address

SIGNERS = {"none": None, "user": False, "site": "stored"}
"""What --sign says, as the `privatekey` of a call."""

_EVERYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}

_Command = TypeVar("_Command", bound=Callable[..., Any])


# Kinds of arguments


# click calls these with the text of the command line, and shows a BadParameter.


def site_address(value: str) -> str:
    if not is_site_address(value):
        raise click.BadParameter(f"{value!r} is no address of a site.")
    return value


def peer_name(value: str) -> str:
    try:
        return SELF if value == SELF else str(PeerAddress.parse(value))
    except ValueError as problem:
        raise click.BadParameter(f"{value!r} is no peer: {problem}.") from None


def node_address(value: str) -> str:
    try:
        return str(NodeUrl.parse(value))
    except ValueError as problem:
        raise click.BadParameter(f"{problem}.") from None


def json_or_text(value: str) -> Any:
    """JSON; what is none is taken as the text that it is."""
    try:
        return load(value)
    except ValueError:
        return value


def seconds_up_to(most: int) -> Callable[[str], float]:
    def seconds(value: str) -> float:
        try:
            number = float(value)
        except ValueError:
            number = -1.0
        if not 0 <= number <= most:  # nan is in no range
            raise click.BadParameter(f"{value!r} is no number of seconds from 0 to {most}.")
        return number

    return seconds


# Options


config_option = click.option(
    "--config",
    "-c",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The node's configuration file (TOML).",
)
data_dir_option = click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="The node's data directory, instead of the configuration's.",
)
site_argument = click.argument("site", type=site_address, metavar="SITE")
message_argument = click.argument(
    "message", metavar="JSON", callback=lambda ctx, param, value: json_or_text(value)
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def node_options(command: _Command) -> _Command:
    """--node and --config; the command gets `node` and `config`, for `node_url`."""
    node = click.option(
        "--node",
        type=node_address,
        metavar="URL",
        help="Where the node serves pages; by default what --config says, "
        "or http://127.0.0.1:43110.",
    )
    return config_option(node(command))


def sign_option(command: _Command) -> _Command:
    """--sign; the command gets `privatekey`."""
    return click.option(
        "--sign",
        "privatekey",
        type=click.Choice(list(SIGNERS)),
        default="none",
        show_default=True,
        callback=lambda ctx, param, value: SIGNERS[value],
        help="Sign with your key on the site, or with the site's own.",
    )(command)


def settings_of(config_file: Path | None, data_dir: Path | None = None) -> Settings:
    """The settings of the node that a command is about. Raises ConfigError."""
    settings = config.load(config_file)
    return settings if data_dir is None else attrs.evolve(settings, data_dir=data_dir.absolute())


def node_url(node: str | None, settings: Settings) -> NodeUrl:
    """Where the node serves pages: as told, or where its settings say. Raises ConfigError."""
    if node is None:
        return endpoint_url(settings.ui.endpoint)
    told = NodeUrl.parse(node)
    if told.secure:
        # Whoever says where the configured node is means that node, and its certificate.
        with suppress(ConfigError):
            own = endpoint_url(settings.ui.endpoint)
            if own.secure and own.port == told.port and told.host in (own.host, "localhost"):
                return own
    return told


def endpoint_url(endpoint: str) -> NodeUrl:
    """How this machine reaches a listening endpoint. Raises ConfigError.

    Of a secure one, trust goes to the very certificate that it names.
    """
    kind, *arguments = (part.replace("\\", "") for part in re.split(r"(?<!\\):", endpoint))
    first = arguments[0] if arguments else ""
    named = dict(argument.partition("=")[::2] for argument in arguments[1:])
    if kind == "unix" and first:
        path = first.removeprefix("address=")
        return NodeUrl(False, "127.0.0.1", 80, socket=path)
    if kind not in ("tcp", "tcp4", "tcp6", "ssl") or not first.isdigit() or int(first) == 0:
        raise ConfigError(f"ui.endpoint {endpoint!r} has no fixed TCP port: say --node URL")
    listening = named.get("interface", "::" if kind == "tcp6" else "")
    host = _EVERYWHERE.get(listening) or listening
    if kind != "ssl":
        return NodeUrl(False, host, int(first))
    # As Twisted has it.
    path = named.get("certKey") or named.get("privateKey") or "server.pem"
    return NodeUrl(True, host, int(first), certificate=_certificate(Path(path)))


def _certificate(path: Path) -> bytes:
    """The first certificate of a PEM file, as DER. Raises ConfigError."""
    try:
        return load_pem_x509_certificate(path.read_bytes()).public_bytes(Encoding.DER)
    except OSError as problem:
        reason = problem.strerror or "it cannot be read"
    except ValueError:
        reason = "it holds no certificate"
    raise ConfigError(f"{path}, the certificate of ui.endpoint, cannot be used: {reason}")
