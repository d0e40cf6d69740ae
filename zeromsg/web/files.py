"""Files of sites over HTTP: inner html with a nonce, everything else fenced in.

- Html with a good nonce goes into the wrapper's frame. A policy in its headers
  sandboxes it there and anywhere else, and lets it load what lies below its own
  site's address alone: neither another site's files nor anything from outside.
- Every other file may be opened by itself, but runs no script when it is.
- Reading a file by script takes the site's `ajax_key`. Requests that a browser
  makes for pages of other origins, which are those of sandboxed frames too, are
  answered only for a site that is open at that time: no page can find out which
  sites a node holds by trying.

Source: ZeroFrame API, HTTP.
"""

import hmac
import re
from collections.abc import Callable
from typing import BinaryIO, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import Request
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer

from zeromsg.log import leveled
from zeromsg.web.http import argument, header, refuse

NEED_SECONDS = 30.0
"""What a request waits for a file that is on its way."""

HTML_LIMIT = 10 * 1024 * 1024
"""Bytes of an html file, which is held in memory while its variables are replaced."""

CHUNK = 64 * 1024

SANDBOX = (
    "allow-forms allow-scripts allow-top-navigation allow-popups allow-modals "
    "allow-presentation allow-pointer-lock allow-popups-to-escape-sandbox"
)

RAW_POLICY = (
    "default-src 'none'; sandbox allow-top-navigation allow-forms; img-src 'self' data:; "
    "font-src 'self' data:; media-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'self'"
)

HTML = ("html", "htm", "xhtml")

_TEXT = "text/plain; charset=utf-8"
_TYPES = {
    "html": "text/html; charset=utf-8",
    "htm": "text/html; charset=utf-8",
    "xhtml": "application/xhtml+xml; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "application/javascript; charset=utf-8",
    "mjs": "application/javascript; charset=utf-8",
    "json": "application/json; charset=utf-8",
    "map": "application/json; charset=utf-8",
    "webmanifest": "application/manifest+json; charset=utf-8",
    "wasm": "application/wasm",
    "txt": _TEXT,
    "md": _TEXT,
    "csv": "text/csv; charset=utf-8",
    "vtt": "text/vtt; charset=utf-8",
    "xml": "application/xml",
    "svg": "image/svg+xml",
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "gif": "image/gif",
    "webp": "image/webp",
    "avif": "image/avif",
    "ico": "image/vnd.microsoft.icon",
    "bmp": "image/bmp",
    "woff": "font/woff",
    "woff2": "font/woff2",
    "ttf": "font/ttf",
    "otf": "font/otf",
    "mp3": "audio/mpeg",
    "ogg": "audio/ogg",
    "oga": "audio/ogg",
    "opus": "audio/ogg",
    "wav": "audio/wav",
    "flac": "audio/flac",
    "m4a": "audio/mp4",
    "mp4": "video/mp4",
    "m4v": "video/mp4",
    "webm": "video/webm",
    "ogv": "video/ogg",
    "pdf": "application/pdf",
    "zip": "application/zip",
    "gz": "application/gzip",
    "swf": "application/x-shockwave-flash",
}
_DOWNLOADED = ("svg", "xml", "xhtml", "pdf", "swf")
"""What a browser may make more of than a picture, so that it is saved instead of opened."""

_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")


class IFiles(Protocol):
    """What is asked of the node about files."""

    def locate(self, site: str, inner_path: str) -> tuple[str, str] | None:
        """Site and path that a site's path leads to; None where it may not go there."""

    def may_come(self, site: str, inner_path: str) -> bool:
        """Whether a file that is not here is on its way, or could be fetched."""

    def need(self, site: str, inner_path: str, seconds: float) -> Deferred[bool]:
        """Fires with whether the file is here, after so many seconds at the latest."""

    def open_file(self, site: str, inner_path: str) -> tuple[BinaryIO, int, str] | None:
        """The file, its size and a mark of its content."""

    def is_folder(self, site: str, inner_path: str) -> bool: ...

    def ajax_key(self, site: str) -> str: ...

    def modified(self, site: str) -> int:
        """When the site was signed last, in Unix seconds."""


def content_type(inner_path: str) -> str:
    """By the end of the name."""
    return _TYPES.get(_ending(inner_path), "application/octet-stream")


def is_html(inner_path: str) -> bool:
    """Whether a path is shown in the wrapper; a folder's index.html is meant by it."""
    return inner_path == "" or inner_path.endswith("/") or _ending(inner_path) in HTML


def _ending(inner_path: str) -> str:
    name = inner_path.rpartition("/")[2]
    return name.rpartition(".")[2].lower() if "." in name else ""


def inner_policy(origin: str, site: str) -> str:
    """The policy of html in the frame: itself alone, and no way out of the sandbox.

    origin: scheme and host of this node as the browser has them.
    """
    own = f"{origin}/{site}/"
    return (
        f"default-src {own} data: blob: 'unsafe-inline' 'unsafe-eval'; "
        f"form-action {own}; base-uri {own}; frame-ancestors 'self'; sandbox {SANDBOX}"
    )


class FilePages:
    """Serves files. is_open: whether a site is open in a browser right now."""

    _log = Logger(observer=leveled)

    def __init__(self, files: IFiles, is_open: Callable[[str], bool]) -> None:
        self._files = files
        self._is_open = is_open

    def options(self, request: Request) -> bytes:
        """What a browser asks before it lets a sandboxed page read a file. Always the same."""
        _fence(request)
        request.setHeader("Access-Control-Allow-Origin", "null")
        request.setHeader("Access-Control-Allow-Methods", "GET, HEAD")
        request.setHeader("Access-Control-Allow-Headers", "X-Requested-With, Content-Type, Range")
        return b""

    def inner(self, request: Request, site: str, inner_path: str, host: str) -> bytes | int:
        """Html whose nonce was good."""
        scheme = "https" if request.isSecure() else "http"
        path = f"{inner_path}index.html" if inner_path[-1:] in ("", "/") else inner_path
        _fence(request, inner_policy(f"{scheme}://{host}", site))
        return self._when_here(request, site, path, lambda: self._html(request, site, path))

    def file(self, request: Request, site: str, inner_path: str, raw: bool) -> bytes | int:
        """Any file, without scripts of its own."""
        _fence(request)
        found = self._files.locate(site, inner_path)
        if found is None or not self._may_have(request, site, raw):
            return refuse(request, 403, "This page may not have that file.")
        if "ajax_key" in _names(request):
            if not self._has_key(request, site):
                return refuse(request, 403, "Invalid ajax_key")
            request.setHeader("Access-Control-Allow-Origin", "null")
        elif header(request, b"origin") == "null" and header(request, b"sec-fetch-dest") in (
            "font",
            "script",
        ):
            # Fonts and modules of a sandboxed page; scripts cannot read either as text.
            request.setHeader("Access-Control-Allow-Origin", "null")
        address, path = found
        if self._files.is_folder(address, path):
            # Relative, so that it leads nowhere else.
            name = path.rstrip("/").rpartition("/")[2]
            if inner_path[-1:] not in ("", "/"):
                request.setResponseCode(301)
                request.setHeader("Location", f"./{name}/")
                return b""
            path = f"{path.rstrip('/')}/index.html".lstrip("/")
        return self._when_here(request, address, path, lambda: self._send(request, address, path))

    def _may_have(self, request: Request, site: str, raw: bool) -> bool:
        where = header(request, b"sec-fetch-site")
        if where in (None, "same-origin", "none"):
            return True
        opened = header(request, b"sec-fetch-dest") == "document"
        return opened or "ajax_key" in _names(request) or self._is_open(site)

    def _has_key(self, request: Request, site: str) -> bool:
        given = argument(request, b"ajax_key").encode("latin-1")
        return hmac.compare_digest(given, self._files.ajax_key(site).encode())

    def _when_here(
        self, request: Request, site: str, path: str, send: Callable[[], bytes | int | None]
    ) -> bytes | int:
        """Answer now, or as soon as a file that is on its way has come."""
        result = send()
        if result is not None:
            return result
        if not self._files.may_come(site, path):
            return _missing(request)
        waiting = self._files.need(site, path, NEED_SECONDS)
        request.notifyFinish().addErrback(lambda _: waiting.cancel())
        waiting.addCallback(lambda here: self._arrived(request, send() if here else None))
        waiting.addErrback(lambda failure: self._failed(request, failure))
        return NOT_DONE_YET

    def _arrived(self, request: Request, result: bytes | int | None) -> None:
        body = _missing(request) if result is None else result
        if isinstance(body, bytes):
            request.write(body)
            request.finish()

    def _failed(self, request: Request, failure: Failure) -> None:
        if not failure.check(CancelledError):  # the browser went away
            self._log.failure("a file could not be sent", failure)
            request.loseConnection()

    def _html(self, request: Request, site: str, path: str) -> bytes | int | None:
        opened = self._files.open_file(site, path)
        if opened is None:
            return None
        file, size, _ = opened
        with file:
            if size > HTML_LIMIT:
                return refuse(request, 500, f"{path} has over {HTML_LIMIT} bytes.")
            body = file.read(HTML_LIMIT)
        request.setHeader("Content-Type", content_type(path))
        modified = str(self._files.modified(site)).encode()
        return body.replace(b"{themeclass}", b"theme-light").replace(b"{site_modified}", modified)

    def _send(self, request: Request, site: str, path: str) -> bytes | int | None:
        opened = self._files.open_file(site, path)
        if opened is None:
            return None
        file, size, mark = opened
        request.setHeader("Content-Type", content_type(path))
        request.setHeader("Accept-Ranges", "bytes")
        # Asked again each time, and sent again only when it has changed.
        request.setHeader("Cache-Control", "private, no-cache")
        if _ending(path) in _DOWNLOADED:
            request.setHeader("Content-Disposition", "attachment")
        if request.setETag(f'"{mark}"'.encode()):
            file.close()
            return b""
        span = _range(header(request, b"range"), size)
        if header(request, b"if-range") not in (None, f'"{mark}"'):
            span = None  # of another version than the parts before
        start, end = (0, size) if span is None else span
        if span is not None and start >= end:
            file.close()
            request.setHeader("Content-Range", f"bytes */{size}")
            return refuse(request, 416, "There are no such bytes.")
        if span is not None:
            request.setResponseCode(206)
            request.setHeader("Content-Range", f"bytes {start}-{end - 1}/{size}")
        request.setHeader("Content-Length", str(end - start))
        if request.method == b"HEAD" or start == end:
            file.close()
            request.finish()
            return NOT_DONE_YET
        file.seek(start)
        _Sending(request, file, end - start).start()
        return NOT_DONE_YET


@implementer(IPushProducer)
class _Sending:
    """Part of a file, as fast as the browser takes it."""

    def __init__(self, request: Request, file: BinaryIO, left: int) -> None:
        self._request = request
        self._file = file
        self._left = left
        self._paused = False

    def start(self) -> None:
        self._request.registerProducer(self, True)
        self.resumeProducing()

    def resumeProducing(self) -> None:
        self._paused = False
        while not self._paused and not self._file.closed:
            data = self._file.read(min(self._left, CHUNK))
            self._left -= len(data)
            self._request.write(data)
            if not data or not self._left:
                self._end()

    def pauseProducing(self) -> None:
        self._paused = True

    def stopProducing(self) -> None:
        self._file.close()

    def _end(self) -> None:
        self._file.close()
        self._request.unregisterProducer()
        if self._left:
            # The file became shorter: what was sent must not seem to be all of it.
            self._request.loseConnection()
        else:
            self._request.finish()


def _names(request: Request) -> set[str]:
    return {name.decode("latin-1") for name in request.args}


def _fence(request: Request, policy: str = RAW_POLICY) -> None:
    request.setHeader("Content-Security-Policy", policy)
    request.setHeader("X-Frame-Options", "SAMEORIGIN")
    request.setHeader("X-DNS-Prefetch-Control", "off")
    # Sandboxed pages have an origin of their own.
    request.setHeader("Cross-Origin-Resource-Policy", "cross-origin")
    request.responseHeaders.removeHeader("Cross-Origin-Opener-Policy")


def _missing(request: Request) -> bytes:
    return refuse(request, 404, "The site has no such file, or nobody who has it is here.")


def _range(text: str | None, size: int) -> tuple[int, int] | None:
    """First byte and the one after the last; None for the whole file.

    Of several ranges none is served. Source: RFC 9110, section 14.
    """
    match = _RANGE.fullmatch((text or "").strip())
    if match is None or match[0] == "bytes=-":
        return None
    first, last = match.groups()
    if not first:
        return max(0, size - int(last)), size
    if last and int(last) < int(first):
        return None
    return int(first), min(size, int(last) + 1) if last else size
