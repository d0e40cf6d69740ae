"""The settings of a node that is about to run, and what no single value shows of them.

Found before anything is opened, with the file and the line: whoever starts a
node can tell a configuration that cannot be used from a start that failed.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from OpenSSL.SSL import Error as TlsError
from twisted.internet.endpoints import serverFromString

from zeromsg.errors import ConfigError
from zeromsg.net.tor_process import missing_binary
from zeromsg.service.config import Places, Settings, read
from zeromsg.service.toml_lines import KeyPath
from zeromsg.service.tor_only import check_tor
from zeromsg.wire.names import CONTENT_JSON


def load_to_run(reactor: Any, path: Path | None, overrides: Sequence[str] = ()) -> Settings:
    """As `config.load` does it. Raises ConfigError also for what does not go together."""
    settings, places = read(path, overrides)
    check_tor(settings, places)
    for key, endpoint in (
        (("ui", "endpoint"), settings.ui.endpoint),
        (("peers", "endpoint"), settings.peers.endpoint),
    ):
        if endpoint:
            _check_endpoint(reactor, key, endpoint, places)
    if settings.tor.mode != "off" and settings.tor.launch:
        binary = settings.tor.binary
        if shutil.which(binary) is None:
            raise ConfigError(f"{places.of(('tor', 'binary'))}{missing_binary(binary)}")
    for index, site in enumerate(settings.sites):
        if site.path is not None and not (site.path / CONTENT_JSON).is_file():
            raise ConfigError(
                f"{places.of(('site', index, 'path'))}site.path: {site.path} has no "
                f"{CONTENT_JSON}: make one with `zeromsg site new`"
            )
    return settings


def _check_endpoint(reactor: Any, key: KeyPath, endpoint: str, places: Places) -> None:
    try:
        serverFromString(reactor, endpoint)
    except (ValueError, TypeError, LookupError, OSError, TlsError) as problem:
        name = ".".join(map(str, key))
        reason = str(problem) or type(problem).__name__
        raise ConfigError(
            f'{places.of(key)}{name} = "{endpoint}" cannot be used: {reason}'
        ) from None
