"""Many replies to one question, gathered in the order in which peers were asked."""

from collections.abc import Iterable, Mapping
from typing import Any

import attrs


@attrs.define
class Aggregation:
    """Who was asked, and what came back. Done once nobody is awaited any more.

    Entries of the result: `{"ip", "reply", "hash", "signed_by", "cert"}`; who
    failed or was silent has `{"error": "<code>: <sentence>"}` as reply and
    empty texts beside it. A reply's `user`, if it has one, goes along.
    """

    _entries: dict[str, dict[str, Any] | None]

    @classmethod
    def of(cls, addresses: Iterable[str]) -> "Aggregation":
        return cls(dict.fromkeys(addresses))

    @property
    def done(self) -> bool:
        return all(entry is not None for entry in self._entries.values())

    def replied(self, address: str, reply: Mapping[str, Any]) -> None:
        """Only the first answer of a peer that was asked counts."""
        if address in self._entries and self._entries[address] is None:
            self._entries[address] = {
                "ip": address,
                "reply": reply["message"],
                "hash": reply["hash"],
                "signed_by": reply["signed_by"],
                "cert": reply["cert"],
                **({"user": reply["user"]} if "user" in reply else {}),
            }

    def failed(self, address: str, error: str) -> None:
        if address in self._entries and self._entries[address] is None:
            self._entries[address] = self._failure(address, error)

    @staticmethod
    def _failure(address: str, error: str) -> dict[str, Any]:
        return {"ip": address, "reply": {"error": error}, "hash": "", "signed_by": "", "cert": ""}

    def result(self, missing: str) -> list[dict[str, Any]]:
        """The entries; `missing` is the error of those that are still awaited."""
        return [
            entry if entry is not None else self._failure(address, missing)
            for address, entry in self._entries.items()
        ]
