"""A ZeroFrame client for Python programs, on Twisted and autobahn.

    client = await connect(reactor, "http://127.0.0.1:43110", site, on_event=print)
    result = await client.call("peerBroadcast", {"message": "hello"})
    await client.closed

It speaks to ZeroNet nodes as well: the key is read from the site's page, and
the WebSocket opened with it. What a node says is taken with care, as a port may
be open for something else. Source: ZeroFrame API, sections 2.4, 3 and 4.
"""

import re
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any
from urllib.parse import quote, urlsplit

import attrs
from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL.crypto import X509
from OpenSSL.SSL import VERIFY_PEER, Connection
from OpenSSL.SSL import Error as TlsError
from service_identity import VerificationError
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint, wrapClientTLS
from twisted.internet.error import ConnectError, ConnectionClosed, DNSLookupError
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.ssl import CertificateOptions, TLSVersion, optionsForClientTLS
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import (
    Agent,
    FileBodyProducer,
    RequestGenerationFailed,
    RequestTransmissionFailed,
    ResponseFailed,
    ResponseNeverReceived,
)
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from zeromsg import __version__
from zeromsg.errors import ZeromsgError
from zeromsg.log import leveled
from zeromsg.wire.json_text import DEPTH_ERRORS, dump_compact, load
from zeromsg.wire.names import RESPONSE

DEFAULT_NODE = "http://127.0.0.1:43110"

CONNECT_SECONDS = 10.0
"""For the connection, for the page and for the handshake: each has so long."""

OPERATOR_PATH = "/ZeroMsg-Internal/operator"

PAGE_LIMIT = 4 * 1024 * 1024
MESSAGE_LIMIT = 16 * 1024 * 1024
"""Bytes of one message of the node; its own limit for clients is lower."""

_PROTOCOL_ERROR = 1002

_KEY = re.compile(r'wrapper_key = "([^"\\]{1,512})"')
_CODED = re.compile(r"([a-z][a-z-]{0,30}): (.+)", re.DOTALL)

_AWAY = (
    ConnectError,
    ConnectionClosed,
    DNSLookupError,
    DeferredTimeout,
    RequestGenerationFailed,
    RequestTransmissionFailed,
    ResponseFailed,
    ResponseNeverReceived,
    OSError,
)
"""What can become of an HTTP request or a connection."""

OnEvent = Callable[[str, Any], object]


class NodeUnreachable(ZeromsgError):
    """There is no node, or it went away; the text says what to do."""


class CallRefused(ZeromsgError):
    """A call was answered `{"error": ...}`.

    code: one of `zeromsg.errors.ClientError`, or "" where an older node gives none.
    sentence: the rest.
    """

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(f"{code}: {sentence}" if code else sentence)
        self.code = code
        self.sentence = sentence


@attrs.frozen
class NodeUrl:
    """Where a node serves pages and WebSockets.

    host: an IPv6 address has no brackets. certificate: the one, as DER, that a secure
    node must show, whoever signed it and for whatever name; None asks the system's
    authorities. socket: the path of a unix socket that is connected to instead.
    """

    secure: bool
    host: str
    port: int
    certificate: bytes | None = None
    socket: str = ""

    @classmethod
    def parse(cls, text: str) -> "NodeUrl":
        """Raises ValueError with a sentence. A path is ignored, so a page's address will do."""
        try:
            parts = urlsplit(text)
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port = None, None
        if not host or not host.isascii() or parts.scheme not in ("http", "https"):
            raise ValueError(f"expected the URL of a node such as {DEFAULT_NODE}, found {text!r}")
        secure = parts.scheme == "https"
        return cls(secure, host, port if port is not None else (443 if secure else 80))

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"unix:{self.socket}" if self.socket else self.base

    @property
    def base(self) -> str:
        """What the paths of its pages stand behind."""
        return f"http{'s' if self.secure else ''}://{self.authority}"

    @property
    def websocket(self) -> str:
        return f"ws{'s' if self.secure else ''}://{self.authority}/Websocket"

    def endpoint(self, reactor: Any) -> IStreamClientEndpoint:
        if self.socket:
            return UNIXClientEndpoint(reactor, self.socket, timeout=CONNECT_SECONDS)
        plain = HostnameEndpoint(reactor, self.host, self.port, timeout=CONNECT_SECONDS)
        if not self.secure:
            return plain
        if self.certificate is not None:
            return wrapClientTLS(_Pinned(self.certificate), plain)
        return wrapClientTLS(optionsForClientTLS(self.host), plain)

    def untrusted(self) -> NodeUnreachable:
        return NodeUnreachable(
            f"the certificate of the node at {self} is not trusted: name the node's own "
            "configuration (--config), whose certificate is taken as it is, or give the node "
            "one that this machine trusts."
        )

    def away(self, why: str) -> NodeUnreachable:
        return NodeUnreachable(
            f"no node answers at {self}: {why}. Start one with `zeromsg run`, "
            "or give the address of one that runs."
        )


Node = str | NodeUrl
"""A node by its URL; a `NodeUrl` can say more of it."""


def _url(node: Node) -> NodeUrl:
    """Raises ValueError."""
    return NodeUrl.parse(node) if isinstance(node, str) else node


@implementer(IOpenSSLClientConnectionCreator)
class _Pinned:
    """TLS to who has the key of one certificate; its names, dates and signers say nothing."""

    def __init__(self, certificate: bytes) -> None:
        def verify(connection: Any, shown: X509, error: int, depth: int, ok: int) -> bool:
            # Of further certificates nothing is asked: they vouch for what is known.
            return depth > 0 or shown.to_cryptography().public_bytes(Encoding.DER) == certificate

        self._context = CertificateOptions(raiseMinimumTo=TLSVersion.TLSv1_2).getContext()
        self._context.set_verify(VERIFY_PEER, verify)

    def clientConnectionForTLS(self, protocol: Any) -> Connection:
        return Connection(self._context, None)


@implementer(IAgentEndpointFactory)
@attrs.frozen
class _To:
    """Takes an Agent to one node, whatever page it asks for."""

    _reactor: Any
    _url: NodeUrl

    def endpointForURI(self, uri: object) -> IStreamClientEndpoint:
        return self._url.endpoint(self._reactor)


class Client:
    """One connection to a node, in the name of one site. `connect` makes it.

    on_event: called with (cmd, params) of each event; its errors are logged.
    """

    _log = Logger(observer=leveled)

    def __init__(self, site: str, url: NodeUrl, on_event: OnEvent | None) -> None:
        self.site = site
        self.on_event = on_event
        self._url = url
        self._protocol: _Protocol | None = None
        self._last_id = 0
        self._calls: dict[int, Deferred[Any]] = {}
        self._gone: str | None = None
        self._awaiting: list[Deferred[str]] = []

    def call(self, cmd: str, params: Any = None) -> Deferred[Any]:
        """Run a command; fires with its result as it came.

        params: a map of names, a list by position, or nothing.
        Fails with CallRefused, and with NodeUnreachable when the node goes away
        first. Cancelling gives up the result; the node may carry it out all the same.
        """
        self._last_id += 1
        call_id = self._last_id
        message = {"cmd": cmd, "params": {} if params is None else params, "id": call_id}

        def give_up(waiting: Deferred[Any]) -> None:
            self._calls.pop(call_id, None)

        waiting: Deferred[Any] = Deferred(give_up)
        if self._protocol is None or self._gone is not None:
            waiting.errback(self._went_away())
            return waiting
        try:
            payload = dump_compact(message).encode()
        except (TypeError, *DEPTH_ERRORS) as problem:
            waiting.errback(CallRefused("invalid", f"the parameters are no JSON: {problem}"))
            return waiting
        self._calls[call_id] = waiting
        self._protocol.sendMessage(payload)
        return waiting

    @property
    def connected(self) -> bool:
        return self._protocol is not None and self._gone is None

    @property
    def closed(self) -> Deferred[str]:
        """A Deferred of your own that fires with the reason, once the connection is closed."""
        waiting: Deferred[str] = Deferred(self._forget)
        if self._gone is not None:
            waiting.callback(self._gone)
        else:
            self._awaiting.append(waiting)
        return waiting

    def _forget(self, waiting: Deferred[str]) -> None:
        self._awaiting.remove(waiting)

    def close(self) -> None:
        """Close the connection; `closed` fires when it is."""
        if self._protocol is not None and self._gone is None:
            self._protocol.sendClose(1000)

    # The protocol calls these.

    def opened(self, protocol: "_Protocol") -> None:
        self._protocol = protocol

    def lost(self, reason: str) -> None:
        self._gone = reason
        self._protocol = None
        calls, self._calls = self._calls, {}
        for waiting in calls.values():
            waiting.errback(self._went_away())
        awaiting, self._awaiting = self._awaiting, []
        for closing in awaiting:
            closing.callback(reason)

    def _went_away(self) -> NodeUnreachable:
        why = self._gone or "it is not open"
        return NodeUnreachable(
            f"the connection to {self._url} is gone: {why}. Connect again once the node runs."
        )

    def received(self, text: str) -> None:
        """One message of the node. Raises ValueError for what no node would send."""
        message = load(text)
        cmd = message.get("cmd") if isinstance(message, dict) else None
        if not isinstance(cmd, str):
            raise ValueError("it has no cmd")
        if cmd == RESPONSE:
            self._answered(message.get("to"), message.get("result"))
        elif cmd == "ping":
            self._pong(message.get("id"))
        elif self.on_event is not None:
            try:
                self.on_event(cmd, message.get("params"))
            except Exception:
                self._log.failure("an event could not be handled")

    def _answered(self, to: Any, result: Any) -> None:
        # A list or map would not do as a key, and true would pass for 1.
        waiting = self._calls.pop(to, None) if type(to) is int else None
        if waiting is None:
            return
        refused = _refusal(result)
        if refused is None:
            waiting.callback(result)
        else:
            waiting.errback(refused)

    def _pong(self, to: Any) -> None:
        self._last_id += 1
        if self._protocol is not None:
            pong = {"cmd": RESPONSE, "to": to, "result": "pong", "id": self._last_id}
            self._protocol.sendMessage(dump_compact(pong).encode())


def _refusal(result: Any) -> CallRefused | None:
    """The error in a result. It stands alone there: user data may have such a member too."""
    if not isinstance(result, dict) or set(result) != {"error"}:
        return None
    text = result["error"] if isinstance(result["error"], str) else dump_compact(result["error"])
    coded = _CODED.fullmatch(text)
    return CallRefused(coded[1], coded[2]) if coded else CallRefused("", text)


class _Protocol(WebSocketClientProtocol):
    """autobahn's side of a `Client`."""

    def __init__(self, client: Client, opening: Deferred[None]) -> None:
        super().__init__()
        self._client = client
        self._opening: Deferred[None] | None = opening

    def onOpen(self) -> None:
        opening, self._opening = self._opening, None
        self._client.opened(self)
        if opening is not None:
            opening.callback(None)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        try:
            self._client.received(payload.decode())
        except ValueError:
            # Of sendClose autobahn lets only codes of applications pass.
            self.sendCloseFrame(_PROTOCOL_ERROR, b"this is no ZeroFrame message")

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        why = reason or "the connection was closed"
        self._client.lost(why)
        opening, self._opening = self._opening, None
        if opening is not None:
            opening.errback(Failure(_Closed(why)))


class _Closed(Exception):
    """The WebSocket was refused or lost before it was open."""


class _Factory(WebSocketClientFactory):
    noisy = False

    def __init__(self, reactor: Any, url: NodeUrl, key: str, client: Client) -> None:
        super().__init__(
            f"{url.websocket}?wrapper_key={quote(key, safe='')}",
            useragent=f"zeromsg/{__version__}",
            reactor=reactor,
        )
        # autobahn leaves the brackets of an IPv6 address out of the Host header.
        self.host = f"[{url.host}]" if ":" in url.host else url.host
        self._client = client
        self.opening: Deferred[None] = Deferred()
        self.setProtocolOptions(
            maxFramePayloadSize=MESSAGE_LIMIT,
            maxMessagePayloadSize=MESSAGE_LIMIT,
            failByDrop=False,
            openHandshakeTimeout=CONNECT_SECONDS,
            closeHandshakeTimeout=1,
            tcpNoDelay=True,
        )

    def buildProtocol(self, addr: object) -> _Protocol:
        protocol = _Protocol(self._client, self.opening)
        protocol.factory = self
        return protocol


async def connect(
    reactor: Any,
    node: Node,
    site: str,
    on_event: OnEvent | None = None,
    key: str | None = None,
) -> Client:
    """Connect to a node in the name of a site that it holds.

    node: where it is. on_event: see `Client`; given here it misses nothing, as a
    node may have kept messages for its next client. key: one of this site that
    is known already, such as another user's; by default its page is asked.
    Raises NodeUnreachable, CallRefused when the node does not hold the site or
    does not let us in, and ValueError when `node` is no URL.
    """
    url = _url(node)
    if key is None:
        key = await _wrapper_key(reactor, url, site)
    client = Client(site, url, on_event)
    factory = _Factory(reactor, url, key, client)
    try:
        protocol: Any = await url.endpoint(reactor).connect(factory)
    except _AWAY as problem:
        raise url.away(_reason(problem)) from None
    try:
        await factory.opening
    except _Closed as problem:
        raise NodeUnreachable(f"the node at {url} did not let us in: {problem}.") from None
    except CancelledError:
        protocol.dropConnection(abort=True)
        raise
    return client


async def _wrapper_key(reactor: Any, url: NodeUrl, site: str) -> str:
    code, body = await _get(reactor, url, f"/{quote(site, safe='')}", {"Accept": "text/html"})
    text = body.decode("utf-8", "replace")
    if code == 404:
        raise CallRefused("unsupported", f"the node at {url} does not hold the site {site}")
    if code == 401:
        raise CallRefused(
            "denied",
            f"the node at {url} asks for a password: programs need a key of the site, "
            "commands the node's own configuration (--config)",
        )
    if code == 403:
        raise CallRefused("denied", f"the node at {url} says: {_first_line(text)}")
    found = _KEY.search(text) if 200 <= code < 300 else None
    if found is None:
        raise url.away(f"what is there gave no key (HTTP {code})")
    return found[1]


async def node_status(reactor: Any, node: Node, token: str) -> dict[str, Any]:
    """What a zeromsg node tells its operator.

    token: the content of `status.token` in the node's data directory.
    Raises as `connect` does.
    """
    url = _url(node)
    headers = {"Authorization": f"Bearer {token}"}
    code, body = await _get(reactor, url, "/ZeroMsg-Internal/status", headers)
    if code == 401:
        raise CallRefused("denied", f"the node at {url} has another token: is its data elsewhere?")
    try:
        status = load(body.decode()) if code == 200 else None
    except ValueError:
        status = None
    if not isinstance(status, dict):
        raise url.away(f"what is there gave no status (HTTP {code})")
    return status


async def operate(
    reactor: Any, node: Node, token: str, cmd: str, params: Mapping[str, Any]
) -> dict[str, Any]:
    """Run a command of the node's operator: see `zeromsg.service.operator`.

    token: the content of `status.token` in the node's data directory.
    Raises as `connect` does, and CallRefused when the node refuses.
    """
    url = _url(node)
    body = dump_compact({"cmd": cmd, "params": dict(params)}).encode()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    code, answer = await _request(reactor, "POST", url, OPERATOR_PATH, headers, body)
    if code == 401:
        raise CallRefused("denied", f"the node at {url} has another token: is its data elsewhere?")
    try:
        result = load(answer.decode())
    except ValueError:
        result = None
    if not isinstance(result, dict):
        raise url.away(f"what is there gave no answer (HTTP {code})")
    error = result.get("error")
    if isinstance(error, str):
        refusal, _, sentence = error.partition(": ")
        raise CallRefused(refusal, sentence)
    return result


async def _get(
    reactor: Any, url: NodeUrl, path: str, headers: Mapping[str, str]
) -> tuple[int, bytes]:
    return await _request(reactor, "GET", url, path, headers, b"")


async def _request(
    reactor: Any, method: str, url: NodeUrl, path: str, headers: Mapping[str, str], body: bytes
) -> tuple[int, bytes]:
    """Status code and body of an answer. Raises NodeUnreachable."""
    sent = {"User-Agent": f"zeromsg/{__version__}", **headers}
    agent = Agent.usingEndpointFactory(reactor, _To(reactor, url))
    try:
        waiting = agent.request(
            method.encode("ascii"),
            f"{url.base}{path}".encode("ascii"),
            Headers({name: [value] for name, value in sent.items()}),
            FileBodyProducer(BytesIO(body)) if body else None,
        )
        waiting.addTimeout(CONNECT_SECONDS, reactor)
        response: Any = await waiting
        reading = _Body(response)
        answer = await reading.done.addTimeout(CONNECT_SECONDS, reactor)
    except _AWAY as problem:
        if _is_distrust(problem):
            raise url.untrusted() from None
        raise url.away(_reason(problem)) from None
    return response.code, answer


class _Body(Protocol):
    """Collects the body of a response, up to PAGE_LIMIT; done fails with OSError beyond."""

    def __init__(self, response: Any) -> None:
        self._data = bytearray()
        self.done: Deferred[bytes] = Deferred(lambda _: self._abort())
        response.deliverBody(self)

    def _abort(self) -> None:
        if self.transport is not None:
            self.transport.abortConnection()  # type: ignore[attr-defined]

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        if len(self._data) > PAGE_LIMIT and not self.done.called:
            self.done.errback(OSError(f"its page has over {PAGE_LIMIT} bytes"))
            self._abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        # Cut short, or without a length: what is missing, the reader notices.
        if not self.done.called:
            self.done.callback(bytes(self._data))


def _is_distrust(problem: BaseException) -> bool:
    """Whether a connection ended at the certificate."""
    reasons = getattr(problem, "reasons", None) or ()
    return isinstance(problem, TlsError | VerificationError) or any(
        _is_distrust(reason.value) for reason in reasons
    )


def _reason(problem: BaseException) -> str:
    """A few words for one of `_AWAY`."""
    if isinstance(problem, DeferredTimeout | CancelledError):
        return f"nothing came within {CONNECT_SECONDS:g} seconds"
    reasons = getattr(problem, "reasons", None)
    if reasons:
        return _reason(reasons[0].value)
    text = str(problem).strip().rstrip(".")
    return text or type(problem).__name__


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0][:200] or "nothing"
