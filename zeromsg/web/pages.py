"""HTTP: who gets which page, the WebSocket upgrade, the operator's commands.

Programs read their key out of the page `/<address>`; a browser shows the site
in it. Host and Origin are checked first, everything before an upgrade is
answered, and no GET changes anything. Source: ZeroFrame API, HTTP.
"""

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from importlib import resources
from typing import Any, Protocol
from urllib.parse import unquote_to_bytes

from twisted.web.http import Request
from twisted.web.resource import IResource
from zope.interface import implementer

from zeromsg.errors import ClientError
from zeromsg.policy.site_content import is_safe_path
from zeromsg.web.bodies import OPERATION_LIMIT
from zeromsg.web.console import console_page
from zeromsg.web.cookies import master_address
from zeromsg.web.files import FilePages, IFiles, is_html
from zeromsg.web.http import (
    HEADERS,
    argument,
    header,
    is_loaded_by_a_person,
    is_loopback,
    page_policy,
    refuse,
    send_page,
)
from zeromsg.web.node_page import COMMANDS, node_page
from zeromsg.web.nonces import Nonces
from zeromsg.web.page_secrets import PageSecrets
from zeromsg.web.sessions import Sessions, cookie_header, login_page
from zeromsg.web.wrapper import Visit, WrapperPage, way_out, way_out_policy, wrapper_policy
from zeromsg.wire.json_text import load
from zeromsg.wire.values import is_site_address

WEBSOCKET_PATHS = (b"Websocket",)
INTERNAL = b"ZeroNet-Internal"
STATUS_PATH = "/ZeroMsg-Internal/status"
OPERATOR_PATH = "/ZeroMsg-Internal/operator"
LOGIN_PATH = "/ZeroMsg-Internal/login"

_STATIC = {
    "console.js": "application/javascript",
    "console.css": "text/css",
    "wrapper.css": "text/css",
    "notices.js": "application/javascript",
    "connection.js": "application/javascript",
    "wrapper.js": "application/javascript",
    "node.css": "text/css",
    "node.js": "application/javascript",
    "icon.svg": "image/svg+xml",
}


class IGate(IFiles, Protocol):
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

    def content(self, site: str) -> Mapping[str, Any] | None:
        """The site's content.json, None before it is here."""

    def is_here(self, site: str, inner_path: str) -> bool: ...

    def clients(self, site: str) -> int:
        """How many clients of a site are connected."""

    def sites(self) -> Collection[str]: ...

    def status(self) -> Mapping[str, Any]: ...

    def operate(self, cmd: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """Run a command of the operator. Raises ClientError."""

    def may_see_status(self, token: str) -> bool: ...

    def kept_pages(self) -> Iterable[tuple[bytes, str, str, float]]:
        """Pages of an earlier run (`PageSecrets`)."""

    def keep_page(self, digest: bytes, site: str, user: str, until: float) -> None: ...


class _NoUser(Exception):
    """The cookie of a request names nobody; the text is for who sent it."""


@implementer(IResource)
class Pages:
    """The root of the node's HTTP server; it looks at whole paths itself.

    now: Unix seconds. password: that browsers are asked for, or "".
    """

    isLeaf = True

    def __init__(
        self,
        gate: IGate,
        entropy: Callable[[int], bytes],
        now: Callable[[], float],
        password: str = "",
    ) -> None:
        self._gate = gate
        self._entropy = entropy
        self._secrets = PageSecrets(entropy, now, gate.kept_pages(), gate.keep_page)
        self._nonces = Nonces(entropy, now)
        self._sessions = Sessions(password, entropy, now)
        self._files = FilePages(gate, self._is_open)
        folder = resources.files("zeromsg.web") / "static"
        self._static = {name: (folder / name).read_bytes() for name in _STATIC}

    def getChildWithDefault(self, name: bytes, request: Request) -> IResource:
        raise AssertionError("this resource is a leaf")

    def putChild(self, path: bytes, child: IResource) -> None:
        raise AssertionError("this resource is a leaf")

    def _is_open(self, site: str) -> bool:
        """Whether a browser shows the site, or is about to."""
        return self._gate.clients(site) > 0 or self._nonces.used_lately(site)

    def render(self, request: Request) -> bytes | int:
        for name, value in HEADERS.items():
            request.setHeader(name, value)
        host = header(request, b"host")
        if not (request.isSecure() or is_loopback(host or "")):
            # Browsers take it as an error elsewhere.
            request.responseHeaders.removeHeader("Cross-Origin-Opener-Policy")
        if host is None:
            return refuse(request, 400, "A Host header is needed.")
        if not self._gate.host_allowed(host):
            return refuse(request, 403, "This host name is not allowed here.")
        parts = [part for part in request.path.split(b"/") if part]
        path = request.path.decode("latin-1")
        if self._sessions.needed and not self._is_free(request, path):
            return self._ask_for_password(request, host, path, "")
        if parts and parts[-1] in WEBSOCKET_PATHS and (len(parts) == 1 or parts[-2] == INTERNAL):
            return self._websocket(request, host)
        if path == OPERATOR_PATH:
            return self._operate(request, host)
        if path == LOGIN_PATH and request.method == b"POST":
            return self._log_in(request, host)
        if request.method not in (b"GET", b"HEAD", b"OPTIONS"):
            return refuse(request, 405, "Only GET is answered here.")
        return self._page(request, host, path)

    def _page(self, request: Request, host: str, path: str) -> bytes | int:
        first, slash, rest = path[1:].partition("/")
        raw = first == "raw"
        if raw:
            first, slash, rest = rest.partition("/")
        if is_site_address(first):
            return self._of_site(request, host, first, slash + rest, raw)
        if request.method == b"OPTIONS":
            return refuse(request, 405, "Only GET is answered here.")
        if path == "/":
            return self._node(request, host)
        if path == STATUS_PATH:
            return self._status(request, host)
        if path == "/favicon.ico":
            first, rest = "uimedia", "icon.svg"
        if first == "uimedia" and rest in _STATIC:
            request.setHeader("Content-Type", f"{_STATIC[rest]}; charset=utf-8")
            return self._static[rest]
        if first == "console" and is_site_address(rest):
            return self._site_page(request, host, rest, None)
        return refuse(request, 404, "There is nothing here.")

    # The password

    def _is_free(self, request: Request, path: str) -> bool:
        """Whether a request may go on where there is a password."""
        if self._sessions.is_logged_in(request.requestHeaders.getRawHeaders(b"cookie", [])):
            return True
        if path == LOGIN_PATH and request.method == b"POST":
            return True
        if self._has_token(request):
            return True
        # Its key stands in pages behind the password, so that whoever has it gave that.
        if path.endswith("/Websocket"):
            return True
        if path.startswith("/uimedia/") or path == "/favicon.ico":
            return True
        # The frame of a site has no cookies. Its files are no secrets, its html needs a nonce.
        first, _, rest = path[1:].partition("/")
        return (
            is_site_address(first)
            and not is_html(rest)
            and self._is_open(first)
            and self._sessions.has_somebody(_client(request))
        )

    def _ask_for_password(
        self, request: Request, host: str, target: str, problem: str
    ) -> bytes | int:
        request.setResponseCode(403 if problem else 401)
        asks_for_page = "text/html" in (header(request, b"accept") or "")
        if not problem and not (asks_for_page and request.method == b"GET"):
            return refuse(request, 401, "This node asks for a password.")
        policy = page_policy(host, forms="'self'")
        request.setHeader("Content-Security-Policy", policy)
        # Without a referrer its form would come from the origin `null`.
        request.setHeader("Referrer-Policy", "same-origin")
        return send_page(request, login_page(target, problem))

    def _log_in(self, request: Request, host: str) -> bytes | int:
        if not self._sessions.needed:
            return refuse(request, 404, "There is nothing here.")
        if not self._is_own_page(request, host):
            return refuse(request, 403, "Pages of another origin may not do this.")
        target = argument(request, b"target")
        # A path of this node, and no other host's.
        if not target.startswith("/") or target.startswith(("//", "/\\")):
            target = "/"
        given = request.args.get(b"password", [b""])[-1].decode("utf-8", "replace")
        try:
            session = self._sessions.log_in(given, _client(request))
        except ValueError as seconds:
            problem = f"Too many wrong passwords. Try again in {seconds} seconds."
            return self._ask_for_password(request, host, target, problem)
        if session is None:
            return self._ask_for_password(request, host, target, "That is not the password.")
        request.setHeader("Set-Cookie", cookie_header(session, request.isSecure()))
        request.setResponseCode(303)
        request.setHeader("Location", target.encode("latin-1", "replace"))
        return b""

    def _is_own_page(self, request: Request, host: str) -> bool:
        """Whether a request comes from a page of this node, as far as the browser says."""
        origin = header(request, b"origin")
        where = header(request, b"sec-fetch-site")
        return self._gate.origin_allowed(origin, host) and where in (None, "same-origin")

    # WebSockets

    def _websocket(self, request: Request, host: str) -> bytes | int:
        if (header(request, b"upgrade") or "").lower() != "websocket":
            return refuse(request, 400, "A WebSocket is opened here.")
        origin = header(request, b"origin")
        if not self._gate.origin_allowed(origin, host):
            return refuse(request, 403, "Pages of another origin may not connect.")
        if not origin:
            # Autobahn would not take an empty one.
            request.requestHeaders.removeHeader(b"origin")
        opened = self._gate.opens(argument(request, b"wrapper_key"))
        if opened is None:
            return refuse(request, 403, "The wrapper key is not known.")
        site, user = opened
        try:
            named = self._user(request)
        except _NoUser as problem:
            return refuse(request, 403, str(problem))
        # The default user's key does for all users, as a multi-user ZeroNet
        # node has one key for everybody; the key of another user is its own.
        if user and named not in (None, user):
            return refuse(request, 403, "The wrapper key is another user's than the cookie names.")
        user = named or user
        trusted = self._secrets.belongs(argument(request, b"page_secret"), site, user)
        resource = self._gate.upgrade(site, user, trusted)
        if resource is None:
            return refuse(request, 503, "There are too many clients.")
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

    # The operator

    def _has_token(self, request: Request) -> bool:
        given = header(request, b"authorization") or ""
        return self._gate.may_see_status(given.removeprefix("Bearer "))

    def _is_node_page(self, request: Request, host: str) -> bool:
        """Whether the page at `/` asks: by its own secret, which no other page can read."""
        given = header(request, b"authorization") or ""
        return (
            given.startswith("Page ")
            and self._is_own_page(request, host)
            and self._secrets.belongs(given.removeprefix("Page "), "", "")
        )

    def _operate(self, request: Request, host: str) -> bytes:
        """A command of the operator, as JSON; browsers cannot send the token unasked."""
        by_page = self._is_node_page(request, host)
        if not by_page and not self._has_token(request):
            return refuse(request, 401, "This is for who has this node's token.")
        if request.method != b"POST":
            return refuse(request, 405, "Only POST is answered here.")
        request.setHeader("Content-Type", "application/json; charset=utf-8")
        body = request.content.read(OPERATION_LIMIT) if request.content is not None else b""
        try:
            call = load(body.decode())
            cmd, params = call["cmd"], call.get("params", {})
            if not isinstance(cmd, str) or not isinstance(params, dict):
                raise ValueError
        except (ValueError, KeyError, TypeError, AttributeError):
            return json.dumps({"error": "invalid: this is no command"}).encode()
        if by_page and cmd not in COMMANDS:
            return json.dumps({"error": "denied: the page may not do this"}).encode()
        try:
            return json.dumps(self._gate.operate(cmd, params)).encode()
        except ClientError as refused:
            return json.dumps({"error": str(refused)}).encode()

    def _status(self, request: Request, host: str) -> bytes:
        if not self._has_token(request) and not self._is_node_page(request, host):
            return refuse(request, 401, "The status is for who has this node's token.")
        request.setHeader("Content-Type", "application/json; charset=utf-8")
        return json.dumps(self._gate.status()).encode()

    def _node(self, request: Request, host: str) -> bytes | int:
        problem = is_loaded_by_a_person(request)
        if problem:
            return refuse(request, 403, problem)
        nonce = self._entropy(16).hex()
        request.setHeader("Content-Security-Policy", page_policy(host, nonce))
        return send_page(request, node_page(self._secrets.make("", ""), nonce))

    # Sites

    def _of_site(self, request: Request, host: str, site: str, rest: str, raw: bool) -> bytes | int:
        """rest: what follows the address, "" or from a slash on."""
        try:
            inner_path = unquote_to_bytes(rest[1:]).decode().replace("\\", "/")
        except UnicodeDecodeError:
            inner_path = "\0"
        if inner_path and not is_safe_path(inner_path.removesuffix("/")):
            return refuse(request, 403, "Invalid path")
        html = is_html(inner_path) and not raw
        if request.method == b"OPTIONS":
            if html:
                return refuse(request, 405, "Only GET is answered here.")
            return self._files.options(request)
        if site not in self._gate.sites():
            return refuse(request, 404, "This node does not hold that site.")
        if raw and not rest:
            request.setResponseCode(301)
            request.setHeader("Location", f"./{site}/")
            return b""
        if not html:
            return self._files.file(request, site, inner_path, raw)
        inside = header(request, b"sec-fetch-dest")
        # Of several nonces the page's own stands last.
        nonce = argument(request, b"wrapper_nonce")
        if nonce and inside in (None, "iframe", "frame") and self._nonces.use(nonce, site):
            return self._files.inner(request, site, inner_path, host)
        if inside in ("iframe", "frame"):
            return self._way_out(request)
        return self._site_page(request, host, site, inner_path)

    def _way_out(self, request: Request) -> int:
        nonce = self._entropy(16).hex()
        request.setHeader("Content-Security-Policy", way_out_policy(nonce))
        request.setHeader("X-Frame-Options", "SAMEORIGIN")
        request.responseHeaders.removeHeader("Cross-Origin-Opener-Policy")
        return send_page(request, way_out(nonce))

    def _site_page(
        self, request: Request, host: str, site: str, inner_path: str | None
    ) -> bytes | int:
        """The page with the key of a site: its wrapper, or, without a path, its console."""
        problem = is_loaded_by_a_person(request)
        if problem:
            return refuse(request, 403, problem)
        try:
            user = self._user(request) or ""
        except _NoUser as refusal:
            return refuse(request, 403, str(refusal))
        key = self._gate.key_of(site, user)
        if key is None:
            return refuse(request, 404, "This node does not hold that site.")
        title, nonce = self._gate.title(site), self._entropy(16).hex()
        content = self._gate.content(site)
        if inner_path is None or (not inner_path and self._has_no_page(site, content)):
            request.setHeader("Content-Security-Policy", page_policy(host, nonce))
            secret = self._secrets.make(site, user)
            return send_page(request, console_page(site, title, key, secret, nonce))
        request.setHeader("Content-Security-Policy", wrapper_policy(host, nonce))
        path = f"{inner_path}index.html" if inner_path[-1:] in ("", "/") else inner_path
        visit = Visit(
            address=site,
            title=title,
            key=key,
            secret=self._secrets.make(site, user),
            ajax_key=self._gate.ajax_key(site),
            wrapper_nonce=self._nonces.make(site),
            script_nonce=nonce,
            inner_path=path,
            here=self._gate.is_here(site, path),
            nonce_needed=(content or {}).get("postmessage_nonce_security") is True,
        )
        return send_page(request, WrapperPage(visit))

    def _has_no_page(self, site: str, content: Mapping[str, Any] | None) -> bool:
        """Whether a site that is known to have no index.html was asked for."""
        index = "index.html"
        return (
            content is not None
            and not self._gate.is_here(site, index)
            and not self._gate.may_come(site, index)
        )


def _client(request: Request) -> str:
    address = request.getClientAddress()
    return getattr(address, "host", "")
