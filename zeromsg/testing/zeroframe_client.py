"""The unmodified `zeroframe-ws-client` of PyPI, with what a test needs around it.

    with ZeroFrameProgram(node.host, node.ui_port, site, verdict="peerValid") as program:
        assert program.ask("ping") == "pong"
        program.wait_for("peerReceive", lambda params: params["message"] == "hello")

The package is an extra of the tests, so nothing else imports this module.
"""

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from zeroframe_ws_client import ZeroFrame

ASK_SECONDS = 10.0

Params = Mapping[str, Any]


class ZeroFrameProgram(ZeroFrame):
    """One client of a node; it is open when the constructor returns.

    verdict: a command such as "peerValid" with which it judges what peers send.
    replies: message -> what it answers by `peerReply`, or a function of the
        event that returns it; None stays silent.
    master_address: of the user to act for, on a node with several.
    events: everything but responses, as (command, params), in order.
    """

    # The parent answers unknown attributes with commands, so every name must be
    # there before its constructor connects.
    def __init__(
        self,
        host: str,
        port: int,
        site: str,
        *,
        verdict: str | None = None,
        replies: Callable[[Params], Any] | None = None,
        reconnect_seconds: float = 0.2,
        master_address: str | None = None,
    ) -> None:
        self.events: list[tuple[str, Any]] = []
        self.opened = 0
        self._verdict = verdict
        self._replies = replies
        self._lock = threading.RLock()
        self._changed = threading.Condition()
        super().__init__(
            site,
            instance_host=host,
            instance_port=port,
            reconnect_delay=int(reconnect_seconds * 1000),
            multiuser_master_address=master_address,
        )
        self._wait(lambda: self.opened, ASK_SECONDS, "the WebSocket is open")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.websocket_closing = True
        # Its own reader may be closing at this moment, in another thread.
        with suppress(Exception):
            self.websocket.close(timeout=0.5)

    # What the library calls, in its own thread.

    def on_open_websocket(self) -> None:
        with self._changed:
            self.opened += 1
            self._changed.notify_all()

    def on_close_websocket(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def on_request(self, cmd: str, message: Mapping[str, Any]) -> None:
        params = message["params"]
        with self._changed:
            self.events.append((cmd, params))
            self._changed.notify_all()
        if cmd != "peerReceive" or params.get("ip") == "self":
            return
        reply = self._replies(params) if self._replies is not None else None
        if reply is not None:
            self.send("peerReply", {"hash": params["hash"], "message": reply})
        if self._verdict is not None:
            self.send(self._verdict, [params["hash"]])

    # What a test uses.

    def send(self, cmd: str, params: Any = None) -> Future[Any]:
        """Run a command; the result arrives in the future.

        The library notes a callback only after it sent the call, and two of its
        threads may draw one number: noting it before, under a lock, keeps tests
        from what is the library's own fault.
        """
        result: Future[Any] = Future()
        with self._lock:
            self.waiting_callbacks[self.next_message_id] = result.set_result
            self.cmd(cmd, params)
        return result

    def send_response(self, to: Any, result: Any = 1) -> None:
        """Answer something that the node asked."""
        with self._lock:
            self.response(to, result)

    def ask(self, cmd: str, params: Any = None, seconds: float = ASK_SECONDS) -> Any:
        return self.send(cmd, params).result(seconds)

    def received(self, message: Any) -> list[Params]:
        """The `peerReceive` events of a message so far."""
        return [
            params
            for cmd, params in list(self.events)
            if cmd == "peerReceive" and params["message"] == message
        ]

    def messages(self) -> list[Any]:
        """All messages that `peerReceive` brought so far."""
        return [params["message"] for cmd, params in list(self.events) if cmd == "peerReceive"]

    def wait_for_message(self, message: Any, seconds: float = ASK_SECONDS) -> Params:
        """The first `peerReceive` of a message, once it is there."""
        self._wait(lambda: self.received(message), seconds, f"a peerReceive of {message!r}")
        return self.received(message)[0]

    def wait_for_reopening(self, opened: int, seconds: float = ASK_SECONDS) -> None:
        """Wait until the WebSocket was opened more often than `opened` times."""
        self._wait(lambda: self.opened > opened, seconds, "the WebSocket is open again")

    def _wait(self, condition: Callable[[], Any], seconds: float, what: str) -> None:
        deadline = time.monotonic() + seconds
        with self._changed:
            while not condition():
                if not self._changed.wait(deadline - time.monotonic()):
                    assert condition(), f"not within {seconds:g} s: {what}"
