"""How large the body of an HTTP request may be.

Twisted takes any: it keeps bodies in a temporary file, and forms it reads into
memory, before a page can look at the request. Any page of the web can send one
to this machine, so who sends no token has room for a password and no more.
"""

from typing import Any

from twisted.web.server import Request

FORM_LIMIT = 64 * 1024
"""Bytes of a body without an Authorization header, and of any form."""

OPERATION_LIMIT = 8 * 1024 * 1024
"""Bytes of a command of the operator; the users of another node may come in one."""

_ANSWER = b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
_FORMS = (b"application/x-www-form-urlencoded", b"multipart/form-data")


class BoundedRequest(Request):
    """A request that is refused as soon as its body is, or says that it is, too large."""

    _left = 0
    _refused = False

    def gotLength(self, length: int | None) -> None:
        self._left = self._most()
        super().gotLength(0 if length is not None and length > self._left else length)
        if length is not None and length > self._left:
            self._refuse()

    def _most(self) -> int:
        kind = (self.getHeader(b"content-type") or b"").partition(b";")[0].strip().lower()
        if kind in _FORMS or self.getHeader(b"authorization") is None:
            return FORM_LIMIT
        return OPERATION_LIMIT

    def handleContentChunk(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            self._refuse()
        if not self._refused:
            super().handleContentChunk(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        if not self._refused:
            super().requestReceived(command, path, version)

    def _refuse(self) -> None:
        if self._refused:
            return
        self._refused = True
        channel: Any = self.channel
        channel.transport.write(_ANSWER)
        channel.loseConnection()
