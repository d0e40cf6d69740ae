"""Where commands about users are carried out: by the node if it runs, else here.

A node has the file in memory and would write over what somebody else changed in
it, so it is asked to; where none runs, the file is changed under the data
directory's lock. A desk does one command, as the reactor runs once.
"""

from pathlib import Path
from typing import Any

from zeromsg.cli.acting import asked_passphrase
from zeromsg.cli.operating import ask
from zeromsg.cli.options import settings_of
from zeromsg.errors import ConfigError
from zeromsg.service.assembly import (
    USERS_FILE,
    FolderInUse,
    configured_passphrase,
    lock_folder,
    make_private_folder,
    open_users,
    read_passphrase,
)
from zeromsg.service.user_admin import administer
from zeromsg.store.users import is_sealed


class Desk:
    """node, config, data_dir: as the options of these names say it."""

    def __init__(self, node: str | None, config: Path | None, data_dir: Path | None) -> None:
        self._node = node
        self._config = config
        self._data_dir = data_dir
        self.settings = settings_of(config, data_dir)
        self.passphrase: str | None = None

    @property
    def path(self) -> Path:
        return self.settings.data_dir / USERS_FILE

    def show_passphrase(self, file: Path | None = None) -> str | None:
        """The passphrase that the users are under, None where they are under none.

        From a file, or as the settings say, or from the terminal.
        """
        if not is_sealed(self.path):
            return None
        if file is not None:
            self.passphrase = read_passphrase(file)
        else:
            self.passphrase = configured_passphrase(self.settings) or asked_passphrase(
                self.settings
            )
        return self.passphrase

    def do(self, cmd: str, params: dict[str, Any], *, create: bool = False) -> dict[str, Any]:
        """Run one of `user_admin.administer`'s commands.

        create: whether a data directory that is missing is made.
        """
        if self._node is not None:
            return ask(self._node, self._config, self._data_dir, cmd, params)
        folder = self.settings.data_dir
        if create:
            make_private_folder(folder)
        elif not folder.is_dir():
            raise ConfigError(
                f"there is no data directory {folder}: name one by --config or --data-dir"
            )
        try:
            lock = lock_folder(folder)
        except FolderInUse:
            return ask(None, self._config, self._data_dir, cmd, params)
        with lock:
            passphrase = self.passphrase or asked_passphrase(self.settings)
            users = open_users(self.settings, passphrase, create=False)
            result = administer(users, cmd, params)
        return dict(result or {})
