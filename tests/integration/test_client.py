"""`zeromsg.client` against a real node, and against servers that are none."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import pytest_twisted
from autobahn.twisted.resource import WebSocketResource
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from zeromsg import client as client_module
from zeromsg.client import CallRefused, NodeUnreachable, connect, node_status

pytestmark = pytest.mark.integration

SITE = "1HeLLo4uzjaLetFx6NH3PMwFP3qbRbTf3D"
PAGE = b'<script>var wrapper_key = "0123abcd";</script>'


def soon(waiting: Deferred[Any]) -> Deferred[Any]:
    """What is awaited must not take for ever."""
    return waiting.addTimeout(10, reactor)


# A real node


@pytest_twisted.ensureDeferred
async def test_a_program_talks_through_a_node(new_node, site):
    node = new_node(sites={site.address: site.folder}).start()
    events: list[tuple[str, Any]] = []
    client = await connect(
        reactor, node.url, site.address, lambda cmd, params: events.append((cmd, params))
    )
    assert "PeerMessage" in (await client.call("serverInfo"))["plugins"]
    with pytest.raises(CallRefused) as refused:
        await client.call("peerBroadcast", {"message": "x" * 20_000})
    assert refused.value.code == "too-big"
    with pytest.raises(CallRefused, match="Unknown command: shout"):
        await client.call("shout")
    sent = await client.call("peerBroadcast", {"message": {"grüße": [1, None]}})
    received = [params for cmd, params in events if cmd == "peerReceive"]
    assert [params["message"] for params in received] == [{"grüße": [1, None]}]
    assert received[0]["hash"] == sent["hash"]
    assert (await client.call("ping")) == "pong"

    token = (node.data_dir / "status.token").read_text().strip()
    assert (await node_status(reactor, node.url, token))["clients"] == 1
    with pytest.raises(CallRefused, match="has another token"):
        await node_status(reactor, node.url, "wrong")

    closed = client.closed
    client.close()
    await soon(closed)
    assert not client.connected


@pytest_twisted.ensureDeferred
async def test_calls_under_way_fail_when_the_node_dies(two_nodes, site):
    first, second = two_nodes
    client = await connect(reactor, first.url, site.address)
    waiting = client.call("peerSend", [second.peer, "nobody will reply"])
    await client.call("ping")
    closed = client.closed
    first.kill()
    await soon(closed)
    with pytest.raises(NodeUnreachable, match="is gone"):
        await waiting
    with pytest.raises(NodeUnreachable, match="no node answers"):
        await connect(reactor, first.url, site.address)


@pytest_twisted.ensureDeferred
async def test_a_node_that_stops_says_so(new_node, site):
    node = new_node(sites={site.address: site.folder}).start()
    client = await connect(reactor, node.url, site.address)
    closed = client.closed
    assert node.stop() == 0
    assert await soon(closed) == "this node stops"


# Servers that are none


class Page(Resource):
    isLeaf = True

    def __init__(self, render: Callable[[Any], Any]) -> None:
        super().__init__()
        self.render_GET = render


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """`serve(render, interface)` listens on a free port and returns its URL."""
    ports: list[Any] = []

    def listen(render: Callable[[Any], Any], interface: str = "127.0.0.1") -> str:
        site = Site(Page(render))
        site.noisy = False
        port = reactor.listenTCP(0, site, interface=interface)
        ports.append(port)
        host = f"[{interface}]" if ":" in interface else interface
        return f"http://{host}:{port.getHost().port}"

    yield listen
    for port in ports:
        pytest_twisted.blockon(port.stopListening())


def answers(code: int, body: bytes) -> Callable[[Any], bytes]:
    def render(request: Any) -> bytes:
        request.setResponseCode(code)
        return body

    return render


class Chatterbox(WebSocketServerProtocol):
    """Says what its factory was told to."""

    def onOpen(self) -> None:
        for text in self.factory.texts:
            self.sendMessage(text)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.factory.heard.append(payload)


def with_websocket(*texts: bytes) -> Callable[[Any], Any]:
    """A page with a key, and a WebSocket that sends these texts."""
    factory = WebSocketServerFactory()
    factory.protocol = Chatterbox
    factory.texts, factory.heard = texts, []
    websocket = WebSocketResource(factory)

    def render(request: Any) -> Any:
        return websocket.render(request) if request.path == b"/Websocket" else PAGE

    return render


@pytest.mark.parametrize(
    ("code", "body", "sentence"),
    [
        (404, b"", "unsupported: the node at URL does not hold the site"),
        (403, b"This host name is not allowed.\n", "denied: the node at URL says: This host name"),
        (403, b"", "denied: the node at URL says: nothing"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_refusals_of_a_page(code, body, sentence, serve):
    url = serve(answers(code, body))
    with pytest.raises(CallRefused) as refused:
        await connect(reactor, url, SITE)
    assert str(refused.value).replace(url, "URL").startswith(sentence)


@pytest.mark.parametrize(
    ("code", "body"),
    [
        (200, b"<html>It works!</html>"),
        (200, b""),
        (200, b'wrapper_key = "unfinished'),
        (200, b'wrapper_key = "' + b"a" * 10_000 + b'"'),
        (500, PAGE),
        (302, PAGE),
    ],
)
@pytest_twisted.ensureDeferred
async def test_pages_without_a_key(code, body, serve):
    with pytest.raises(NodeUnreachable, match=f"what is there gave no key .HTTP {code}."):
        await connect(reactor, serve(answers(code, body)), SITE)


@pytest_twisted.ensureDeferred
async def test_the_page_is_asked_for_as_other_clients_do(serve):
    asked: list[Any] = []

    def render(request: Any) -> bytes:
        asked.append((request.uri, request.requestHeaders))
        return b""

    with pytest.raises(NodeUnreachable):
        await connect(reactor, serve(render), "1 Odd/site")
    ((uri, headers),) = asked
    assert uri == b"/1%20Odd%2Fsite"
    assert headers.getRawHeaders(b"accept") == [b"text/html"]
    # A ZeroNet node fails without one.
    assert headers.getRawHeaders(b"user-agent")[0].startswith(b"zeromsg/")


@pytest_twisted.ensureDeferred
async def test_a_page_without_end_is_given_up(serve):
    def render(request: Any) -> Any:
        def more() -> None:
            request.write(b"x" * 65536)

        class Endless:
            def resumeProducing(self) -> None:
                reactor.callLater(0, more)

            def stopProducing(self) -> None:
                pass

        request.registerProducer(Endless(), False)
        return NOT_DONE_YET

    with pytest.raises(NodeUnreachable, match="bytes"):
        await connect(reactor, serve(render), SITE)


@pytest_twisted.ensureDeferred
async def test_a_server_that_hangs_up(serve):
    def render(request: Any) -> Any:
        request.transport.abortConnection()
        return NOT_DONE_YET

    with pytest.raises(NodeUnreachable, match="no node answers"):
        await connect(reactor, serve(render), SITE)


@pytest_twisted.ensureDeferred
async def test_a_server_that_is_silent(serve, monkeypatch):
    monkeypatch.setattr(client_module, "CONNECT_SECONDS", 0.2)
    with pytest.raises(NodeUnreachable, match=r"nothing came within 0\.2 seconds"):
        await connect(reactor, serve(lambda request: NOT_DONE_YET), SITE)


@pytest_twisted.ensureDeferred
async def test_a_name_that_does_not_exist():
    with pytest.raises(NodeUnreachable, match=r"no node answers at http://nowhere\.invalid:80"):
        await connect(reactor, "http://nowhere.invalid", SITE)


@pytest_twisted.ensureDeferred
async def test_a_key_that_opens_no_websocket(serve):
    with pytest.raises(NodeUnreachable, match="did not let us in"):
        await connect(reactor, serve(answers(200, PAGE)), SITE)


@pytest_twisted.ensureDeferred
async def test_events_that_come_at_once_are_not_missed(serve):
    events: list[str] = []
    texts = [b'{"cmd": "peerReceive", "params": %d, "id": %d}' % (n, n) for n in range(50)]
    client = await connect(
        reactor, serve(with_websocket(*texts)), SITE, lambda cmd, params: events.append(params)
    )
    done: Deferred[None] = Deferred()
    client.on_event = lambda cmd, params: (
        events.append(params),
        params == 49 and done.callback(None),
    )
    await soon(done)
    assert events == list(range(50))
    client.close()
    await soon(client.closed)


@pytest.mark.parametrize("text", [b"no JSON", b"[]", b"{}", b"[" * 100_000, b'{"cmd": 1}'])
@pytest_twisted.ensureDeferred
async def test_nonsense_ends_the_connection(text, serve):
    client = await connect(reactor, serve(with_websocket(text)), SITE)
    await soon(client.closed)
    with pytest.raises(NodeUnreachable):
        await client.call("ping")


@pytest_twisted.ensureDeferred
async def test_ipv6(serve):
    hosts: list[str] = []
    inner = with_websocket()

    def render(request: Any) -> Any:
        hosts.append(request.getHeader(b"host").decode())
        return inner(request)

    try:
        url = serve(render, "::1")
    except OSError:
        pytest.skip("this machine has no IPv6")
    client = await connect(reactor, url, SITE)
    assert hosts == [url.removeprefix("http://")] * 2
    client.close()
    await soon(client.closed)


@pytest_twisted.ensureDeferred
async def test_connecting_can_be_cancelled(serve):
    requested: Deferred[None] = Deferred()
    gone: Deferred[Any] = Deferred()

    def render(request: Any) -> Any:
        if request.path != b"/Websocket":
            return PAGE
        request.notifyFinish().addBoth(lambda _: gone.callback(None))
        requested.callback(None)
        return NOT_DONE_YET

    connecting = Deferred.fromCoroutine(connect(reactor, serve(render), SITE))
    await soon(requested)
    connecting.cancel()
    with pytest.raises(CancelledError):
        await connecting
    await soon(gone)
