"""One ZeroFrame client: its message numbers and channels, without I/O.

Numbers of the node's own messages start at 1 on each connection (a client of
multi-user nodes answers number 1 blindly) and rise by one. Source: ZeroFrame
API, messages and channels.
"""

from typing import Any

from zeromsg.wire import client_messages, json_text

CHANNEL_LIMIT = 64
"""Most channels one client may be in; the API knows five."""


class Session:
    """State of one connection. `payload` numbers what is to be sent."""

    def __init__(self) -> None:
        self._next_id = 0
        self.channels: set[str] = set()

    def join(self, channels: object) -> None:
        """Add channel names, given as text or as a list of texts; others raise ValueError."""
        names = [channels] if isinstance(channels, str) else channels
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError("channels must be a text or a list of texts")
        if len(self.channels | set(names)) > CHANNEL_LIMIT:
            raise ValueError(f"at most {CHANNEL_LIMIT} channels")
        self.channels.update(names)

    def payload(self, head: str) -> bytes:
        """Finish a message that ends before its number."""
        self._next_id += 1
        return f"{head}{self._next_id}}}".encode()

    def response(self, to: Any, result: Any) -> bytes:
        return self.payload(client_messages.response_head(to, result))

    def event(self, cmd: str, params: Any) -> bytes:
        return self.payload(client_messages.event_head(cmd, json_text.dump_compact(params)))
