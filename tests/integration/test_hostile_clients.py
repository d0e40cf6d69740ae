"""Clients and web pages that mean no good, or are broken, at a real node.

One node runs throughout; after each test an honest client must still be served,
and no exception may stand in the log.
"""

import json
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
import pytest

from zeromsg.testing.plain_client import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    PlainClient,
    Response,
    exchange,
    frame,
    get,
    upgrade_text,
    wrapper_key,
)
from zeromsg.testing.processes import RunningNode, wait_for
from zeromsg.testing.sites import make_site

pytestmark = pytest.mark.integration

HOST = "127.0.0.65"
UNSENT_LIMIT = 300_000
MESSAGE_LIMIT = 10 * 1024 * 1024
MAX_CLIENTS = 20

EVIL_TITLE = '</title><script>alert(1)</script> wrapper_key = "evil"'


@attrs.frozen
class Served:
    """The node, its site and the site's key."""

    node: RunningNode
    site: str
    key: str

    def client(self, **arguments: Any) -> PlainClient:
        return PlainClient(self.node.host, self.node.ui_port, self.key, **arguments)

    def get(self, path: str, /, **headers: str | None) -> Response:
        return get(self.node.host, self.node.ui_port, path, **headers)

    def upgrade(self, key: str | None = None, /, **headers: str | None) -> Response:
        """What an attempt to open a WebSocket is answered."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = upgrade_text(
            self.node.host, self.node.ui_port, self.key if key is None else key, named
        )
        return exchange(self.node.host, self.node.ui_port, request)

    def clients(self) -> int:
        count: int = self.node.status()["clients"]
        return count


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("clients")
    (folder / "site").mkdir()
    (folder / "site" / "big.txt").write_bytes(b"x" * 1_000_000)
    site = make_site(folder / "site", title=EVIL_TITLE)
    settings = {"ui.unsent_limit": UNSENT_LIMIT, "ui.max_clients": MAX_CLIENTS}
    with RunningNode(
        folder / "node", HOST, sites={site: folder / "site"}, settings=settings, program="twistd"
    ) as node:
        node.start()
        yield Served(node, site, wrapper_key(node.host, node.ui_port, site))


@pytest.fixture
def served(running: Served) -> Iterator[Served]:
    start = len(running.node.log)
    yield running
    print(f"--- log of the node ---\n{running.node.log[start:]}")
    wait_for(lambda: running.clients() == 0, 10, "all clients are gone")
    with running.client() as honest:
        assert honest.ask("ping") == "pong"
    log = running.node.log[start:]
    assert "Traceback" not in log
    assert "Unhandled" not in log


@pytest.fixture
def client(served: Served) -> Iterator[PlainClient]:
    with served.client() as opened:
        yield opened


class TestMessages:
    @pytest.mark.parametrize(
        "text",
        [
            "no JSON",
            "{",
            "[1, 2]",
            '"text"',
            "7",
            "null",
            "true",
            "{}",
            '{"cmd": "ping"}',
            '{"cmd": "ping", "id": null}',
            '{"cmd": "ping", "id": "1"}',
            '{"cmd": "ping", "id": [1]}',
            '{"cmd": "ping", "id": {"a": 1}}',
            '{"cmd": "ping", "id": NaN}',
            '{"cmd": "ping", "id": Infinity}',
            '{"cmd": "ping", "id": 1e999}',
            '{"cmd": "ping", "id": ' + "9" * 5000 + "}",
            '{"cmd": "ping", "id": 1, "params": NaN}',
            '{"cmd": "ping", "id": 1} trailing',
            "[" * 200_000,
            '{"a":' * 200_000,
        ],
        ids=lambda text: text[:30],
    )
    def test_what_cannot_be_answered_is_complained_of(self, client: PlainClient, text: str) -> None:
        client.send_text(text)
        complaint = client.wait_for_event("error")
        assert complaint.startswith("invalid: ")
        assert "Traceback" not in complaint
        assert len(complaint) < 500
        assert client.ask("ping") == "pong"

    @pytest.mark.parametrize(
        "number", [1, 0, -1, -(10**30), 10**4000, 1.5, -0.0, 1e-300, True, False, 1_000_001]
    )
    def test_ids_of_all_kinds_are_echoed(self, client: PlainClient, number: Any) -> None:
        client.send_text(f'{{"cmd": "ping", "id": {json.dumps(number)}}}')
        message = client.receive_json()
        assert message["result"] == "pong"
        assert json.dumps(message["to"]) == json.dumps(number)

    def test_an_empty_message_is_ignored(self, client: PlainClient) -> None:
        client.send_text("")
        assert client.ask("ping") == "pong"
        assert client.events == []

    @pytest.mark.parametrize("cmd", [None, "", 7, [], {}])
    def test_a_call_without_a_command_is_answered(self, client: PlainClient, cmd: Any) -> None:
        client.send_text(json.dumps({"cmd": cmd, "id": 5}))
        assert client.answer_to(5) == {"error": "invalid: the message has no cmd"}

    @pytest.mark.parametrize(
        "cmd", ["noSuchThing", "__class__", "siteDelete", "x" * 100_000, "\ud800", "a\nb"]
    )
    def test_unknown_commands(self, client: PlainClient, cmd: str) -> None:
        assert client.ask(cmd) == {"error": f"Unknown command: {cmd[:100]}"}

    def test_first_letter_is_of_either_case(self, client: PlainClient) -> None:
        assert client.ask("Ping") == "pong"
        assert client.ask("SiteInfo")["address"]

    def test_own_ids_of_the_node_begin_with_one_and_rise(self, client: PlainClient) -> None:
        ids = []
        for number in range(3):
            client.send_text(json.dumps({"cmd": "ping", "id": number}))
            ids.append(client.receive_json()["id"])
        assert ids == [1, 2, 3]

    @pytest.mark.parametrize(
        ("cmd", "params"),
        [
            ("ping", {"extra": 1}),
            ("ping", [1]),
            ("channelJoin", {}),
            ("channelJoin", {"channels": 7}),
            ("channelJoin", {"channels": [7]}),
            ("channelJoin", {"channels": ["c" + str(n) for n in range(100)]}),
            ("fileGet", {}),
            ("fileGet", {"inner_path": 7}),
            ("fileGet", {"inner_path": "x" * 2000}),
            ("fileGet", {"inner_path": "p2p.json", "timeout": "soon"}),
            ("fileList", {"inner_path": "../.."}),
            ("userSetSettings", {"settings": "text"}),
            ("userSetSettings", {"settings": {"a": "x" * 100_000}}),
            ("peerBroadcast", {}),
            ("peerBroadcast", {"message": 1, "privatekey": 0}),
            ("peerBroadcast", {"message": 1, "privatekey": True}),
            ("peerBroadcast", {"message": 1, "privatekey": ""}),
            ("peerBroadcast", {"message": 1, "privatekey": "no key"}),
            ("peerBroadcast", {"message": 1, "privatekey": "stored"}),
            ("peerBroadcast", {"message": 1, "peer_count": -1}),
            ("peerBroadcast", {"message": 1, "peer_count": 1.5}),
            ("peerBroadcast", {"message": 1, "peer_count": 10**30}),
            ("peerBroadcast", {"message": 1, "timeout": -1}),
            ("peerBroadcast", {"message": 1, "timeout": 10**30}),
            ("peerBroadcast", {"message": 1, "immediate": "yes"}),
            ("peerBroadcast", {"message": 1, "broadcast": None}),
            ("peerBroadcast", {"message": 1, "site": "1other"}),
            ("peerBroadcast", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
            ("peerBroadcast", {"message": "x" * 200_000}),
            ("peerSend", {"message": 1}),
            ("peerSend", {"ip": 7, "message": 1}),
            ("peerSend", {"ip": "", "message": 1}),
            ("peerSend", {"ip": "127.0.0.1", "message": 1}),
            ("peerSend", {"ip": "127.0.0.1:0", "message": 1}),
            ("peerSend", {"ip": "127.0.0.1:99999", "message": 1}),
            ("peerSend", {"ip": "\ud800:1", "message": 1}),
            ("peerSend", {"ip": "localhost:1", "message": 1}),
            ("peerSend", {"ip": "127.0.0.66:1", "message": 1, "to": 7}),
            ("peerSend", {"ip": "127.0.0.66:1", "message": 1, "to": "0" * 64}),
            ("peerReply", {"hash": None, "message": 1}),
            ("peerReply", {"hash": "\ud800", "message": 1}),
            ("peerValid", {}),
            ("peerValid", [7]),
            ("as", []),
            ("as", ["1other", "", []]),
            ("as", ["1other", "as", ["1more", "ping"]]),
            ("as", ["1other", "siteInfo", []]),
            ("as", ["1other", "peerBroadcast", [1]]),
            ("as", ["1other", "peerBroadcast", [1, False]]),
        ],
        ids=str,
    )
    def test_wrong_parameters_are_answered_with_an_error(
        self, client: PlainClient, cmd: str, params: Any
    ) -> None:
        error = client.ask(cmd, params)["error"]
        code, separator, sentence = error.partition(": ")
        assert separator
        assert code in {"invalid", "too-big", "denied", "no-peer", "unsupported"}
        assert sentence
        assert client.ask("ping") == "pong"

    @pytest.mark.parametrize(
        "message",
        [
            "plain",
            "\ud800 alone, \udfff too",
            {"\ud800": "\u2028\u2029</script>\x00"},
            10**4000,
            -(10**300),
            1e300,
            5e-324,
            None,
            True,
            [],
            [[[[{}]]]],
            {"a" * 10_000: 1},
        ],
        ids=lambda message: str(message)[:20].encode(errors="replace").decode(),
    )
    def test_messages_reach_another_client_as_they_were(
        self, served: Served, client: PlainClient, message: Any
    ) -> None:
        with served.client() as other:
            assert other.ask("ping") == "pong"
            assert "hash" in client.ask("peerBroadcast", {"message": message})
            received = other.wait_for_event("peerReceive")
            assert json.dumps(received["message"]) == json.dumps(message)

    @pytest.mark.parametrize("depth", [100, 300, 900, 990, 2000, 100_000])
    def test_deep_messages_are_taken_or_refused(
        self, served: Served, client: PlainClient, depth: int
    ) -> None:
        with served.client() as other:
            assert other.ask("ping") == "pong"
            deep = "[" * depth + "]" * depth
            client.send_text(
                f'{{"cmd": "peerBroadcast", "params": {{"message": {deep}}}, "id": 1}}'
            )
            answer = client.receive_json()
            while answer["cmd"] not in ("response", "error"):
                answer = client.receive_json()
            if "hash" in (answer.get("result") or {}):
                assert other.receive_json()["cmd"] == "peerReceive"
            else:
                assert "invalid: " in json.dumps(answer)
            assert client.ask("ping") == "pong"


class TestFrames:
    def test_binary_frames_are_taken_as_text(self, client: PlainClient) -> None:
        client.socket.sendall(frame(BINARY, b'{"cmd": "ping", "id": 1}'))
        assert client.answer_to(1) == "pong"

    def test_fragments_and_pings_between_them(self, client: PlainClient) -> None:
        text = json.dumps({"cmd": "ping", "id": 1, "padding": "ü" * 5000}).encode()
        client.socket.sendall(frame(TEXT, text[:1], final=False))
        for start in range(1, len(text), 7):
            client.socket.sendall(frame(CONTINUATION, text[start : start + 7], final=False))
        client.socket.sendall(frame(PING, b"still there?"))
        pong = client.receive()
        assert pong is not None
        assert (pong.opcode, pong.payload) == (PONG, b"still there?")
        client.socket.sendall(frame(CONTINUATION, b""))
        assert client.answer_to(1) == "pong"

    def test_byte_by_byte(self, client: PlainClient) -> None:
        for byte in frame(TEXT, b'{"cmd": "ping", "id": 1}'):
            client.socket.sendall(bytes([byte]))
        assert client.answer_to(1) == "pong"

    def test_large_message_within_the_limit(self, client: PlainClient) -> None:
        text = json.dumps({"cmd": "ping", "id": 1, "padding": "x" * 9_000_000})
        send_aside(client, frame(TEXT, text.encode()))
        assert client.answer_to(1, 20) == "pong"

    @pytest.mark.parametrize("pieces", [1, 11])
    def test_message_over_the_limit_is_closed_with_the_reason(
        self, client: PlainClient, pieces: int
    ) -> None:
        size = 11 * 1024 * 1024 // pieces
        frames = [
            frame(TEXT if index == 0 else CONTINUATION, b"x" * size, final=index == pieces - 1)
            for index in range(pieces)
        ]
        send_aside(client, b"".join(frames))
        code, reason = client.wait_for_close() or (0, "")
        assert code == 1009
        assert "size" in reason

    @pytest.mark.parametrize(
        ("data", "code"),
        [
            (frame(TEXT, b"\xff\xfe"), 1007),
            (frame(TEXT, b"{}", masked=False), 1002),
            (frame(0x3, b"{}"), 1002),
            (frame(0xF, b"{}"), 1002),
            (frame(CONTINUATION, b"{}"), 1002),
            (frame(PING, b"x" * 126), 1002),
            (frame(PING, b"", final=False), 1002),
            (b"\xf1\x80\x00\x00\x00\x00", 1002),  # bits of extensions that nobody agreed on
            (b"\x81\xff" + struct.pack("!Q", 1 << 63) + bytes(4), 1002),
            (b"\x81\xff" + struct.pack("!Q", 1 << 62) + bytes(4), 1009),
            (frame(CLOSE, struct.pack("!H", 1000)), 1000),
            (frame(CLOSE, b""), None),
        ],
        ids=[
            "bad UTF-8", "unmasked", "opcode 3", "opcode 15", "stray continuation", "long ping",
            "fragmented ping", "reserved bits", "negative length", "huge length",
            "close", "close without a code",
        ],
    )  # fmt: skip
    def test_broken_frames_close_with_a_code(
        self, client: PlainClient, data: bytes, code: int | None
    ) -> None:
        client.socket.sendall(data)
        closing = client.receive()
        assert closing is not None
        assert closing.opcode == CLOSE
        assert closing.payload[:2] == (struct.pack("!H", code) if code else b"")

    def test_noise_instead_of_frames(self, served: Served) -> None:
        for seed in range(50):
            with served.client() as client, suppress(OSError):
                client.socket.sendall(bytes((seed * 37 + n * n) % 256 for n in range(3000)))
                client.socket.sendall(b"\xff" * 3000)

    def test_clients_that_vanish_in_the_middle(self, served: Served) -> None:
        for cut in range(1, 40, 3):
            with served.client() as client:
                client.send_text(
                    '{"cmd": "peerBroadcast", "id": 1, '
                    '"params": {"message": 1, "broadcast": false, "timeout": 5}}'
                )
                client.socket.sendall(frame(TEXT, b'{"cmd": "ping", "id": 2, "x": 1}')[:cut])


def send_aside(client: PlainClient, data: bytes) -> None:
    """Send in another thread, because the node may answer, or close, before it has all."""

    def send() -> None:
        with suppress(OSError):
            client.socket.sendall(data)

    # The socket's timeout is shared; nothing here takes as long.
    threading.Thread(target=send, daemon=True).start()


class TestSlowReaders:
    def test_who_never_reads_is_dropped_while_others_go_on(self, served: Served) -> None:
        with (
            served.client(receive_buffer=4096) as deaf,
            served.client() as sender,
            served.client() as reader,
        ):
            assert deaf.ask("ping") == "pong"
            assert served.clients() == 3
            text = "x" * 60_000
            for number in range(300):
                assert "hash" in sender.ask("peerBroadcast", {"message": [number, text]})
                sender.events.clear()
                assert reader.wait_for_event("peerReceive")["message"][0] == number
                reader.events.clear()
                if number % 10 == 0 and served.clients() == 2:
                    break
            else:
                pytest.fail("300 messages of 60 kB, and it is still there")

    def test_who_asks_for_much_and_reads_nothing_is_dropped(self, served: Served) -> None:
        with served.client(receive_buffer=4096) as deaf, suppress(OSError):
            for number in range(100):
                deaf.send_text(json.dumps({"cmd": "fileGet", "params": ["big.txt"], "id": number}))
            wait_for(lambda: served.clients() == 0, 10, "it is dropped")

    def test_a_slow_reader_gets_everything_in_order(self, served: Served) -> None:
        with served.client(receive_buffer=4096) as slow:
            for number in range(20):
                text = slow.ask("fileGet", ["big.txt"], 20)
                assert len(text) == 1_000_000, number

    def test_more_clients_than_allowed_are_turned_away(self, served: Served) -> None:
        opened = [served.client() for _ in range(MAX_CLIENTS)]
        try:
            assert served.upgrade().code == 503
            assert opened[0].ask("ping") == "pong"
        finally:
            for client in opened:
                client.socket.close()
        wait_for(lambda: served.clients() == 0, 10, "they are gone")
        assert served.upgrade().code == 101

    def test_handshakes_that_fail_take_no_place(self, served: Served) -> None:
        for _attempt in range(MAX_CLIENTS + 5):
            assert served.upgrade(Sec_WebSocket_Key="short").code == 400
        with served.client() as client:
            assert client.ask("ping") == "pong"

    def test_calls_that_wait_are_bounded(self, client: PlainClient) -> None:
        call = {
            "cmd": "peerSend",
            "params": {"ip": "self", "message": 1, "timeout": 3600},
        }
        for number in range(1001):
            client.send_text(json.dumps({**call, "id": number}))
        refusal = client.answer_to(1000, 20)
        assert refusal["error"].startswith("too-fast: ")
        assert client.ask("ping") == "pong"


class TestGate:
    @pytest.mark.parametrize(
        "host",
        ["evil.example", "evil.example:{port}", "localhost:1", "127.0.0.1.evil.example", "zero.",
         "127.0.0.1@evil.example", "localhost", "::1", "[::1", "x y", ""],
    )  # fmt: skip
    def test_foreign_hosts_are_refused_everywhere(self, served: Served, host: str) -> None:
        host = host.format(port=served.node.ui_port)
        for path in ("/", f"/{served.site}", "/uimedia/console.js", "/ZeroMsg-Internal/status"):
            assert served.get(path, host=host).code == 403
        assert served.upgrade(Host=host).code == 403

    @pytest.mark.parametrize("host", [HOST, "{host}:{port}", "localhost:{port}", "[::1]:5"])
    def test_own_hosts_are_taken(self, served: Served, host: str) -> None:
        host = host.format(host=HOST, port=served.node.ui_port)
        assert served.get("/", host=host).code == 200
        assert served.upgrade(Host=host).code == 101

    def test_requests_without_a_host(self, served: Served) -> None:
        assert served.get("/", host=None).code == 400
        assert served.upgrade(Host=None).code == 400

    @pytest.mark.parametrize(
        "origin",
        ["null", "http://evil.example", "https://evil.example", "http://127.0.0.65", "file://",
         "http://localhost:{port}", "ws://127.0.0.65:{port}", "127.0.0.65:{port}", "garbage",
         "http://127.0.0.65:{port}/", "http://127.0.0.65:{port}.evil.example", "NULL"],
    )  # fmt: skip
    def test_foreign_origins_are_refused_before_the_upgrade(
        self, served: Served, origin: str
    ) -> None:
        refused = served.upgrade(Origin=origin.format(port=served.node.ui_port))
        assert refused.code == 403
        assert refused.headers.get("upgrade") is None

    @pytest.mark.parametrize("origin", [None, "", "http://{host}:{port}", "https://{host}:{port}"])
    def test_own_origin_and_none_are_taken(self, served: Served, origin: str | None) -> None:
        if origin is not None:
            origin = origin.format(host=HOST, port=served.node.ui_port)
        assert served.upgrade(Origin=origin).code == 101

    @pytest.mark.parametrize(
        "key", ["", "0" * 64, "no key", "%00", "%ff%fe", "'%22%3e", "x" * 5000]
    )
    def test_bad_keys_are_refused(self, served: Served, key: str) -> None:
        if " " in key:
            key = key.replace(" ", "%20")
        assert served.upgrade(key).code == 403

    def test_the_last_of_two_keys_counts(self, served: Served) -> None:
        assert served.upgrade(f"bad&wrapper_key={served.key}").code == 101
        assert served.upgrade(f"{served.key}&wrapper_key=bad").code == 403

    def test_the_pages_websocket_is_found_below_its_own_path(self, served: Served) -> None:
        path = f"/{served.site}/ZeroNet-Internal/Websocket?wrapper_key={served.key}"
        text = upgrade_text(HOST, served.node.ui_port, served.key, {})
        request = text.replace(f"/Websocket?wrapper_key={served.key}".encode(), path.encode(), 1)
        assert exchange(HOST, served.node.ui_port, request).code == 101

    def test_a_websocket_path_without_an_upgrade(self, served: Served) -> None:
        assert served.get(f"/Websocket?wrapper_key={served.key}").code == 400

    @pytest.mark.parametrize(
        "headers",
        [
            {"accept": None},
            {"accept": "*/*"},
            {"accept": "application/json"},
            {"X_Requested_With": "XMLHttpRequest"},
            {"Purpose": "prefetch"},
            {"X_Moz": "prefetch"},
            {"Sec_Purpose": "prefetch;prerender"},
            {"Sec_Fetch_Dest": "embed"},
            {"Sec_Fetch_Dest": "script"},
        ],
        ids=str,
    )
    def test_only_a_page_of_its_own_gets_the_key(
        self, served: Served, headers: dict[str, str | None]
    ) -> None:
        refused = served.get(f"/{served.site}", **headers)
        assert refused.code == 403
        assert served.key.encode() not in refused.body

    def test_key_cannot_be_read_by_a_title(self, served: Served) -> None:
        page = served.get(f"/{served.site}")
        assert page.code == 200
        assert served.key == wrapper_key(HOST, served.node.ui_port, served.site)
        assert len(served.key) == 64
        assert b"<script>alert" not in page.body
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe-inline" not in policy
        assert page.headers["x-frame-options"] == "DENY"


class TestPages:
    def test_index_and_static_files(self, served: Served) -> None:
        index = served.get("/")
        assert index.code == 200
        assert served.site.encode() not in index.body
        assert served.key.encode() not in index.body
        assert b"<script>alert" not in index.body
        for name, kind in (("console.js", "application/javascript"), ("console.css", "text/css")):
            file = served.get(f"/uimedia/{name}", accept="*/*")
            assert file.code == 200
            assert file.headers["content-type"].startswith(kind)
            assert file.headers["x-content-type-options"] == "nosniff"

    @pytest.mark.parametrize(
        "path",
        [
            "/../../etc/passwd",
            "/..%2f..%2fetc/passwd",
            "/uimedia/../../../../etc/passwd",
            "/uimedia/..%2f..%2fetc%2fpasswd",
            "/uimedia/%2e%2e/pages.py",
            "/uimedia//etc/passwd",
            "/uimedia/pages.py",
            "/uimedia/",
            "/Debug",
            "/Console",
            "/__init__",
            "/%00",
            "/%ff%fe",
            "/\xff\xfe",
            "//evil.example/",
            "/\\evil.example",
            "/1NoSuchSiteNoSuchSiteNoSuchSite111/",
            "/raw/etc/passwd",
            "http://evil.example/",
            "*",
            "/" + "a" * 8000,
            "/" * 3000,
            "/<script>alert(1)</script>",
        ],
        ids=lambda path: path[:30].encode(errors="replace").decode("latin-1"),
    )
    def test_paths_that_lead_nowhere(self, served: Served, path: str) -> None:
        answer = served.get(path)
        assert answer.code in (200, 400, 403, 404, 405)
        assert b"root:" not in answer.body
        assert b"import" not in answer.body
        assert b"<script>alert" not in answer.body
        if answer.code == 200:
            assert answer.body == served.get("/").body

    @pytest.mark.parametrize(
        "tail",
        ["/a%22;alert`1`;%22.html", '/a";alert`1`;".html', "/<script>alert(1)</script>",
         "?</script><script>alert(1)</script>", "/../../../etc/passwd", "/%00"],
    )  # fmt: skip
    def test_nothing_of_the_path_gets_into_the_page(self, served: Served, tail: str) -> None:
        answer = served.get(f"/{served.site}{tail}")
        assert answer.code in (200, 400, 403, 404)
        assert b"alert" not in answer.body.replace(b"&lt;script&gt;alert(1)", b"")

    @pytest.mark.parametrize(
        "request_bytes",
        [
            b"\x00\x01\x02\r\n\r\n",
            b"GET\r\n\r\n",
            b"GET / HTTP/9.9\r\nHost: 127.0.0.65\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: 127.0.0.65\r\nContent-Length: -5\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: 127.0.0.65\r\nContent-Length: 3\r\n\r\nabc",
            b"POST / HTTP/1.1\r\nHost: 127.0.0.65\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 2000 + b"\r\n",
            b"GET / HTTP/1.1\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
            b"DELETE / HTTP/1.1\r\nHost: 127.0.0.65\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01" + bytes(500),
            b"\x83\xa3cmd\xa9handshake",
        ],
        ids=lambda request_bytes: repr(request_bytes[:40]),
    )
    def test_broken_requests_are_refused(self, served: Served, request_bytes: bytes) -> None:
        with suppress(OSError):
            answer = exchange(HOST, served.node.ui_port, request_bytes + b"\r\n\r\n", 2)
            assert answer.code >= 400

    def test_status_needs_the_token(self, served: Served) -> None:
        path = "/ZeroMsg-Internal/status"
        assert served.get(path).code == 401
        assert served.get(path, authorization="Bearer").code == 401
        assert served.get(path, authorization="Bearer \xff").code == 401
        assert served.get(path, authorization="Bearer " + "0" * 64).code == 401
        assert served.node.status()["sites"][0]["address"] == served.site

    def test_files_of_the_site_by_call_stay_within_it(self, client: PlainClient) -> None:
        assert client.ask("fileGet", ["p2p.json"])
        for path in ("../../status.token", "/etc/passwd", "a/../../x", "..\\x", "\x00", "."):
            assert client.ask("fileGet", [path]) is None
        assert sorted(client.ask("fileList", ["/"])) == ["big.txt", "content.json", "p2p.json"]


def test_keys_of_sites_are_apart(tmp_path: Path, new_node: Callable[..., RunningNode]) -> None:
    sites = {make_site(tmp_path / name): tmp_path / name for name in ("first", "second")}
    node = new_node(sites=sites, program="twistd").start()
    first, second = sites
    keys = [wrapper_key(node.host, node.ui_port, site) for site in sites]
    assert keys[0] != keys[1]
    with PlainClient(node.host, node.ui_port, keys[0]) as client:
        assert client.ask("siteInfo")["address"] == first
        refused = {"error": f"denied: No permission for site {second}"}
        assert client.ask("as", [second, "siteInfo", []]) == refused
        assert client.ask("as", [second, "peerBroadcast", ["hello", False]]) == refused
        with PlainClient(node.host, node.ui_port, keys[1]) as other:
            assert other.ask("ping") == "pong"
            assert "hash" in client.ask("as", [second, "peerBroadcast", ["hello"]])
            received = other.wait_for_event("peerReceive")
            assert (received["message"], received["signed_by"]) == ("hello", "")
    assert "Traceback" not in node.log
