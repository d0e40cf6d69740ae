"""HTTP: the page by which clients get their key, the WebSocket upgrade, the status.

Programs read the key out of the page `/<address>`; people see a small console
of the site's messages there. Host and Origin are checked first, everything
before an upgrade is answered. Source: ZeroFrame API, HTTP.
"""

import base64
import json
from collections.abc import Callable, Collection, Mapping
from importlib import resources
from typing import Any, Protocol

from twisted.web.http import Request
from twisted.web.resource import IResource
from twisted.web.server import NOT_DONE_YET
from twisted.web.template import Tag, flattenString, tags
from zope.interface import implementer

from zeromsg.errors import ClientError
from zeromsg.web.cookies import master_address
from zeromsg.web.page_secrets import PageSecrets
from zeromsg.wire.json_text import load
from zeromsg.wire.values import is_site_address

WEBSOCKET_PATHS = (b"Websocket",)
INTERNAL = b"ZeroNet-Internal"
STATUS_PATH = "/ZeroMsg-Internal/status"
OPERATOR_PATH = "/ZeroMsg-Internal/operator"

_OPERATION_LIMIT = 8 * 1024 * 1024
"""Bytes of a command of the operator; the users of another node may come in one."""

_STATIC = {"console.js": "application/javascript", "console.css": "text/css"}

_HEADERS = {
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache, no-store, private, must-revalidate, max-age=0",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class IGate(Protocol):
    """What the pages need of the node."""

    def host_allowed(self, host: str) -> bool: ...

    def origin_allowed(self, origin: str | None, host: str) -> bool: ...

    def user_of(self, address: str) -> str | None:
        """The user of a master address as the others here call it, "" for the default one.

        None where this node has no such user.
        """

    def key_of(self, site: str, user: str) -> str | None:
        """The key of a user for a site that this node holds."""

    def opens(self, key: str) -> tuple[str, str] | None:
        """The site and user that a key belongs to."""

    def upgrade(self, site: str, user: str, trusted: bool) -> IResource | None:
        """What takes a WebSocket of a user of the site; None when there are too many."""

    def title(self, site: str) -> str: ...

    def sites(self) -> Collection[str]: ...

    def status(self) -> Mapping[str, Any]: ...

    def operate(self, cmd: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """Run a command of the operator. Raises ClientError."""

    def may_see_status(self, token: str) -> bool: ...


def _header(request: Request, name: bytes) -> str | None:
    # As bytes: Twisted decodes what it is asked for as text, and raises when it cannot.
    value = request.getHeader(name)
    return None if value is None else value.decode("latin-1")


def _argument(request: Request, name: bytes) -> str:
    """A value of the query; of several the last, as ZeroNet takes it."""
    return request.args.get(name, [b""])[-1].decode("latin-1")


class _NoUser(Exception):
    """The cookie of a request names nobody; the text is for who sent it."""


@implementer(IResource)
class Pages:
    """The root of the node's HTTP server; it looks at whole paths itself."""

    isLeaf = True

    def __init__(
        self, gate: IGate, entropy: Callable[[int], bytes], now: Callable[[], float]
    ) -> None:
        self._gate = gate
        self._entropy = entropy
        self._secrets = PageSecrets(entropy, now)
        folder = resources.files("zeromsg.web") / "static"
        self._static = {name: (folder / name).read_bytes() for name in _STATIC}

    def getChildWithDefault(self, name: bytes, request: Request) -> IResource:
        raise AssertionError("this resource is a leaf")

    def putChild(self, path: bytes, child: IResource) -> None:
        raise AssertionError("this resource is a leaf")

    def render(self, request: Request) -> bytes | int:
        for name, value in _HEADERS.items():
            request.setHeader(name, value)
        host = _header(request, b"host")
        if host is None:
            return _refuse(request, 400, "A Host header is needed.")
        if not self._gate.host_allowed(host):
            return _refuse(request, 403, "This host name is not allowed here.")
        parts = [part for part in request.path.split(b"/") if part]
        if parts and parts[-1] in WEBSOCKET_PATHS and (len(parts) == 1 or parts[-2] == INTERNAL):
            return self._websocket(request, host)
        if request.path == OPERATOR_PATH.encode():
            return self._operate(request)
        if request.method not in (b"GET", b"HEAD"):
            return _refuse(request, 405, "Only GET is answered here.")
        return self._page(request, host, [part.decode("latin-1") for part in parts])

    def _websocket(self, request: Request, host: str) -> bytes | int:
        if (_header(request, b"upgrade") or "").lower() != "websocket":
            return _refuse(request, 400, "A WebSocket is opened here.")
        origin = _header(request, b"origin")
        if not self._gate.origin_allowed(origin, host):
            return _refuse(request, 403, "Pages of another origin may not connect.")
        if not origin:
            # Autobahn would not take an empty one.
            request.requestHeaders.removeHeader(b"origin")
        opened = self._gate.opens(_argument(request, b"wrapper_key"))
        if opened is None:
            return _refuse(request, 403, "The wrapper key is not known.")
        site, user = opened
        try:
            named = self._user(request)
        except _NoUser as problem:
            return _refuse(request, 403, str(problem))
        # The default user's key does for all users, as a multi-user ZeroNet
        # node has one key for everybody; the key of another user is its own.
        if user and named not in (None, user):
            return _refuse(request, 403, "The wrapper key is another user's than the cookie names.")
        user = named or user
        trusted = self._secrets.belongs(_argument(request, b"page_secret"), site, user)
        resource = self._gate.upgrade(site, user, trusted)
        if resource is None:
            return _refuse(request, 503, "There are too many clients.")
        result: bytes | int = resource.render(request)
        return result

    def _user(self, request: Request) -> str | None:
        """The user that a request's cookie names, None without one. Raises _NoUser."""
        headers = request.requestHeaders.getRawHeaders(b"cookie", [])
        try:
            address = master_address(headers)
        except ValueError as problem:
            raise _NoUser(f"No user found: {problem}.") from None
        if address is None:
            return None
        user = self._gate.user_of(address)
        if user is None:
            raise _NoUser(
                "No user found: this node has no user of the master_address in the cookie. "
                "It may be of another node at this address; without it you are the default user."
            )
        return user

    def _page(self, request: Request, host: str, parts: list[str]) -> bytes | int:
        if not parts:
            return self._index(request)
        if "/" + "/".join(parts) == STATUS_PATH:
            return self._status(request)
        if parts[0] == "uimedia" and len(parts) == 2 and parts[1] in _STATIC:
            request.setHeader("Content-Type", f"{_STATIC[parts[1]]}; charset=utf-8")
            return self._static[parts[1]]
        if not is_site_address(parts[0]):
            return _refuse(request, 404, "There is nothing here.")
        return self._site_page(request, host, parts[0])

    def _may_operate(self, request: Request) -> bool:
        given = (_header(request, b"authorization") or "").removeprefix("Bearer ")
        return self._gate.may_see_status(given)

    def _operate(self, request: Request) -> bytes:
        """A command of the operator, as JSON; browsers cannot send the token unasked."""
        if not self._may_operate(request):
            return _refuse(request, 401, "This is for who has this node's token.")
        if request.method != b"POST":
            return _refuse(request, 405, "Only POST is answered here.")
        request.setHeader("Content-Type", "application/json; charset=utf-8")
        body = request.content.read(_OPERATION_LIMIT) if request.content is not None else b""
        try:
            call = load(body.decode())
            cmd, params = call["cmd"], call.get("params", {})
            if not isinstance(cmd, str) or not isinstance(params, dict):
                raise ValueError
        except (ValueError, KeyError, TypeError, AttributeError):
            return json.dumps({"error": "invalid: this is no command"}).encode()
        try:
            return json.dumps(self._gate.operate(cmd, params)).encode()
        except ClientError as refused:
            return json.dumps({"error": str(refused)}).encode()

    def _status(self, request: Request) -> bytes:
        if not self._may_operate(request):
            return _refuse(request, 401, "The status is for who has this node's token.")
        request.setHeader("Content-Type", "application/json; charset=utf-8")
        return json.dumps(self._gate.status()).encode()

    def _index(self, request: Request) -> int:
        sites = [
            tags.li(tags.a(self._gate.title(site), href=f"/{site}/"), " ", tags.code(site))
            for site in self._gate.sites()
        ]
        body = [
            tags.h1("zeromsg"),
            tags.p("The sites of this node:") if sites else tags.p("This node holds no site."),
            tags.ul(*sites),
        ]
        return self._send(request, "zeromsg", body, None)

    def _site_page(self, request: Request, host: str, site: str) -> bytes | int:
        # Pages of other origins cannot ask with such an Accept without the
        # browser asking us first, so they cannot read the key.
        accept = _header(request, b"accept") or ""
        if "text/html" not in accept:
            return _refuse(request, 403, f"Invalid Accept header to load wrapper: {accept[:100]}")
        if (_header(request, b"x-requested-with") or "").lower() == "xmlhttprequest":
            return _refuse(request, 403, "Ajax request not allowed to load wrapper")
        purpose = f"{_header(request, b'x-moz')} {_header(request, b'purpose')}"
        if "prefetch" in f"{purpose} {_header(request, b'sec-purpose')}".lower():
            return _refuse(request, 403, "Prefetch not allowed to load wrapper")
        if _header(request, b"sec-fetch-dest") not in (None, "document"):
            return _refuse(request, 403, "Only a page of its own may load the wrapper")
        try:
            user = self._user(request) or ""
        except _NoUser as problem:
            return _refuse(request, 403, str(problem))
        key = self._gate.key_of(site, user)
        if key is None:
            return _refuse(request, 404, "This node does not hold that site.")
        title = self._gate.title(site)
        nonce = base64.urlsafe_b64encode(self._entropy(18)).decode()
        secret = self._secrets.make(site, user)
        script = f'var wrapper_key = "{key}"; var page_secret = "{secret}";'
        body = [
            Tag("header")(tags.h1(title), tags.p(tags.code(site), " ", tags.span(id="state"))),
            tags.section(id="prompts", **{"aria-live": "assertive"}),
            Tag("main")(tags.ol(id="messages", **{"aria-live": "polite"})),
            tags.form(id="send")(
                tags.label("Message (JSON or text) ", for_="message"),
                tags.input(id="message", autocomplete="off", autofocus="autofocus"),
                tags.label(tags.input(type="checkbox", id="sign"), " signed"),
                tags.button("Broadcast"),
            ),
            tags.script(src="/uimedia/console.js", nonce=nonce),
        ]
        request.setHeader(
            "Content-Security-Policy",
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'self'; "
            f"connect-src 'self' ws://{host} wss://{host}; base-uri 'none'; form-action 'none'; "
            "frame-ancestors 'none'",
        )
        # Programs take the first key they find, so it stands before the title, which is the site's.
        return self._send(request, title, body, tags.script(script, nonce=nonce))

    def _send(self, request: Request, title: str, body: list[Any], first: Tag | None) -> int:
        if first is None:
            request.setHeader(
                "Content-Security-Policy",
                "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'",
            )
        request.setHeader("Content-Type", "text/html; charset=utf-8")
        page = tags.html(lang="en")(
            tags.head(
                tags.meta(charset="utf-8"),
                first or "",
                tags.meta(name="viewport", content="width=device-width, initial-scale=1"),
                tags.title(title),
                tags.link(rel="stylesheet", href="/uimedia/console.css"),
            ),
            tags.body(*body),
        )
        flat = flattenString(None, page)
        flat.addCallback(lambda html: request.write(b"<!doctype html>\n" + html))
        flat.addCallback(lambda _: request.finish())
        return NOT_DONE_YET


def _refuse(request: Request, code: int, text: str) -> bytes:
    request.setResponseCode(code)
    request.setHeader("Content-Type", "text/plain; charset=utf-8")
    return f"{text}\n".encode()
