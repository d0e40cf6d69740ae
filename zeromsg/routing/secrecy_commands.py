"""Commands about reading sealed messages: keys of the connection, and opening by hand."""

from typing import Any

from zeromsg.errors import ClientError
from zeromsg.routing.binding import Parameter, anything, optional_text, text
from zeromsg.routing.calling import Command, Context, Table
from zeromsg.routing.secrecy import KEYS_LIMIT, Secrecy
from zeromsg.wire import names

_MODES = {"auto": True, "off": False}


class SecrecyCommands:
    """peerKeyAdd and the like."""

    def __init__(self, secrecy: Secrecy) -> None:
        self._secrecy = secrecy

    def table(self) -> Table:
        return {
            names.PEER_KEY_ADD: Command(
                (Parameter("key", text), Parameter("name", optional_text, None)), self._key_add
            ),
            names.PEER_KEY_REMOVE: Command((Parameter("name", text),), self._key_remove),
            names.PEER_KEY_LIST: Command((), self._key_list),
            names.PEER_DECRYPT_MODE: Command((Parameter("mode", text),), self._decrypt_mode),
            names.PEER_DECRYPT: Command(
                (Parameter("encrypted", anything), Parameter("keys", anything, None)),
                self._decrypt,
            ),
        }

    # Each handler below is one command of the API.

    async def _key_add(self, context: Context, key: str, name: str | None) -> dict[str, Any]:
        return {"name": await self._secrecy.add_key(context.client, key, name)}

    def _key_remove(self, context: Context, name: str) -> str:
        self._secrecy.remove_key(context.client, name)
        return "ok"

    def _key_list(self, context: Context) -> list[str]:
        return self._secrecy.key_names(context.client)

    def _decrypt_mode(self, context: Context, mode: str) -> str:
        if mode not in _MODES:
            raise ClientError("invalid", f"mode must be one of {', '.join(_MODES)}")
        self._secrecy.set_opening(context.client, _MODES[mode])
        return "ok"

    async def _decrypt(self, context: Context, encrypted: Any, keys: Any) -> dict[str, Any]:
        if keys is not None and (
            not isinstance(keys, list)
            or len(keys) > KEYS_LIMIT
            or not all(isinstance(key, str) for key in keys)
        ):
            raise ClientError("invalid", f"keys must be a list of at most {KEYS_LIMIT} texts")
        return await self._secrecy.open_by_hand(context.client, context.site, encrypted, keys)
