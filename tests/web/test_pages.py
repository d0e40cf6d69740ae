"""The node's HTTP: who gets the key of a site, what a page may hold, who sees the status."""

import json
import random
import re
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import LogLevel, globalLogPublisher
from twisted.web.server import Site as HttpSite

from zeromsg.testing.gate import MemoryGate
from zeromsg.web.pages import STATUS_PATH, Pages

SITE = "1P4hfVMLyEEWqhACGQrchJG8xHnKKtts3w"
OTHER = "1Bt2vEZi5gKRQnNTU1ZLPymHGgxg7qHCeC"
KEY = "4ed2b2a6fe14d567e63170051263d1389b0557f5f0339550f34c509f4d5f383d"
TOKEN = "5f" * 32
MASTER = "1AfLXDDxEGSpNy3K5TUGGp9wojyWhGU3WT"
BOB = "14zYsumkkNEMH4t6w72cvy8fDDhAGvGQCt"
BOBS_KEY = "b0" * 32

VECTORS = Path(__file__).parents[1] / "vectors" / "ui"

BROWSER = {"Host": "127.0.0.1:43110", "Accept": "text/html", "User-Agent": "test"}


class Upgraded:
    """What takes a WebSocket (`twisted.web.resource.IResource`)."""

    def render(self, request):
        request.setResponseCode(299)
        return b"upgraded"


class Gate(MemoryGate):
    """With a site that has a page, two users, and a record of who connected."""

    def __init__(self):
        super().__init__()
        self.keys = {SITE: KEY}
        self.users = {MASTER: "", BOB: BOB}
        self.user_keys = {(SITE, BOB): BOBS_KEY}
        self.titles = {SITE: "Rig chat"}
        self.contents = {SITE: {"title": "Rig chat"}}
        self.files = {(SITE, "index.html"): b"<h1>Rig</h1>"}
        self.full = False
        self.upgraded = []
        self.opened = []

    def user_of(self, address):
        return self.users.get(address)

    def key_of(self, site, user):
        return self.user_keys.get((site, user)) if user else self.keys.get(site)

    def opens(self, key):
        found = super().opens(key)
        return found or next((who for who, known in self.user_keys.items() if known == key), None)

    def upgrade(self, site, user, trusted):
        if self.full:
            return None
        self.upgraded.append(site)
        self.opened.append((site, user, trusted))
        return Upgraded()

    def may_see_status(self, token):
        return token == TOKEN


class Response:
    def __init__(self, data):
        head, _, self.body = data.partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        self.code = int(status.split(" ")[1])
        self.headers = {}
        for line in lines:
            name, _, value = line.partition(": ")
            self.headers.setdefault(name.lower(), []).append(value)
        if "chunked" in self.header("transfer-encoding"):
            self.body = unchunked(self.body)
        self.text = self.body.decode()

    def header(self, name):
        return ", ".join(self.headers.get(name, []))


def unchunked(data):
    body = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        body, data = body + data[:length], data[length + 2 :]
    return body


@pytest.fixture
def gate():
    return Gate()


@pytest.fixture
def ask(gate):
    """One HTTP request, as bytes through Twisted's own server."""

    clock = Clock()
    entropy = random.Random(1).randbytes
    # Kept over requests, as a node keeps it.
    pages = Pages(gate, entropy, clock.seconds)

    def ask(path, headers=None, method="GET", without=(), body=b"", **changed):
        values = {**BROWSER, **(headers or {}), **changed}
        lines = [f"{method} {path} HTTP/1.1".encode("latin-1")]
        for name, value in values.items():
            if name not in without:
                raw = value if isinstance(value, bytes) else value.encode()
                lines.append(name.replace("_", "-").encode() + b": " + raw)
        lines.append(b"Connection: close")
        if body:
            lines.append(b"Content-Length: %d" % len(body))
        site = HttpSite(pages, reactor=Clock())
        site.displayTracebacks = False
        site.noisy = False
        site.log = lambda request: None
        channel = site.buildProtocol(IPv4Address("TCP", "127.0.0.1", 5))
        transport = StringTransport(
            hostAddress=IPv4Address("TCP", "127.0.0.1", 43110),
            peerAddress=IPv4Address("TCP", "127.0.0.1", 5),
        )
        channel.makeConnection(transport)
        channel.dataReceived(b"\r\n".join(lines) + b"\r\n\r\n" + body)
        return Response(transport.value())

    ask.clock = clock
    return ask


@pytest.fixture(autouse=True)
def errors():
    caught = []

    def observe(event):
        if event.get("log_level") in (LogLevel.error, LogLevel.critical):
            failure = event.get("log_failure")
            caught.append(failure.getTraceback() if failure else event["log_format"])

    globalLogPublisher.addObserver(observe)
    yield caught
    globalLogPublisher.removeObserver(observe)
    assert caught == []


@pytest.fixture(autouse=True)
def no_names(monkeypatch):
    """Whatever is asked, no name is looked up."""

    def refuse(*arguments):
        raise AssertionError(f"a name was looked up: {arguments}")

    for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr"):
        monkeypatch.setattr(socket, name, refuse)


def key_in(text):
    """As every program finds it."""
    found = re.search(r'wrapper_key = "(.*?)"', text)
    return found[1] if found else None


# The key


@pytest.mark.parametrize("path", [f"/{SITE}", f"/{SITE}/", f"/{SITE}/index.html", f"/{SITE}?x=1"])
def test_the_page_of_a_site_holds_its_key(ask, path):
    response = ask(path)
    assert response.code == 200
    assert response.header("content-type") == "text/html; charset=utf-8"
    assert response.text.count("wrapper_key = ") == 1
    assert key_in(response.text) == KEY


def test_the_python_client_finds_it_in_the_repr_of_the_bytes(ask):
    steps = json.loads((VECTORS / "ws_client_python.json").read_text())["steps"]
    recorded = dict(steps[0]["headers"])
    response = ask(
        steps[0]["http"].split(" ")[1],
        {**recorded, "Host": "127.0.0.1:43110"},
        without=("Connection",),
    )
    assert response.code == 200
    found = re.search(r'wrapper_key = "(.*?)"', repr(response.body))
    assert found[1] == KEY
    # It also looks for this in all headers, and would send it back as a cookie.
    assert not any("master_address=" in str(value) for value in response.headers.values())


@pytest.mark.parametrize(
    "title",
    [
        'wrapper_key = "0000"',
        '</script><script>alert(1)</script>wrapper_key = "0000"',
        '";alert(1);"',
        "<!--",
        "</title><b>",
        "\u2028\u2029&\0",
        "\ud7ff" * 10,
    ],
)
def test_a_title_cannot_come_before_the_key_nor_break_out(ask, gate, title):
    gate.titles[SITE] = title
    response = ask(f"/{SITE}")
    assert key_in(response.text) == KEY
    # The scripts are ours, all with the page's nonce.
    scripts = re.findall(r"<script[^>]*>", response.text)
    assert len(scripts) == 4 and all("nonce=" in script for script in scripts)
    assert "<b>" not in response.text
    gate.contents[SITE], gate.files = {"title": title}, {}
    console = ask(f"/{SITE}/")
    assert console.text.count("<script") == 2 and "<b>" not in console.text
    assert key_in(console.text) == KEY
    assert title not in ask("/").text


@pytest.mark.parametrize(
    "path",
    [
        f'/{SITE}/a";alert`1`;".html',
        f"/{SITE}/<script>alert(1)</script>",
        f"/{SITE}/%3Cscript%3E",
        f'/{SITE}/?"><script>alert(1)</script>',
        f"/{SITE}/wrapper_key%20=%20%220000%22",
    ],
)
def test_nothing_of_the_path_stands_in_the_page(ask, path):
    response = ask(path)
    assert response.code in (200, 403)
    assert key_in(response.text) == (KEY if response.code == 200 else None)
    assert "alert" not in response.text and "0000" not in response.text


def test_a_site_that_is_not_here(ask):
    """A mere GET adds none."""
    response = ask(f"/{OTHER}/")
    assert response.code == 404
    assert key_in(response.text) is None


@pytest.mark.parametrize(
    "path", ["/Debug", "/Console", "/x", f"/raw/{OTHER}/", f"//{SITE}/", "/uimedia/", "/1abc"]
)
def test_what_there_is_not(ask, path):
    assert ask(path).code == 404


@pytest.mark.parametrize(
    "path",
    ["/uimedia/../pages.py", "/uimedia/..%2fpages.py", "//etc/passwd", "/uimedia//etc/passwd",
     "/uimedia/console.js/x", "/%00", "/%ff%fe"],
)  # fmt: skip
def test_no_path_leads_elsewhere(ask, path):
    assert ask(path).code == 404


def test_a_path_that_is_no_ascii_is_no_http(ask):
    assert ask("/\xff").code == 400


# Who may load it


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"Accept": "*/*"}, "Invalid Accept header to load wrapper: */*"),
        ({"Accept": "application/json"}, "Invalid Accept header to load wrapper: application/json"),
        ({"X-Requested-With": "XMLHttpRequest"}, "Ajax request not allowed to load wrapper"),
        ({"X-Requested-With": "xmlhttprequest"}, "Ajax request not allowed to load wrapper"),
        ({"X-Moz": "prefetch"}, "Prefetch not allowed to load wrapper"),
        ({"Purpose": "prefetch"}, "Prefetch not allowed to load wrapper"),
        ({"Sec-Purpose": "prefetch;prerender"}, "Prefetch not allowed to load wrapper"),
        ({"Sec-Fetch-Dest": "embed"}, "Only a page of its own may load the wrapper"),
        ({"Sec-Fetch-Dest": "empty"}, "Only a page of its own may load the wrapper"),
    ],
)
def test_requests_that_pages_can_make_do_not_get_the_key(ask, changed, text):
    response = ask(f"/{SITE}/", changed)
    assert response.code == 403
    assert response.text.strip() == text
    assert KEY not in response.text


def test_no_accept_is_none_of_html(ask):
    response = ask(f"/{SITE}/", without=("Accept",))
    assert response.code == 403
    assert response.text.strip() == "Invalid Accept header to load wrapper:"


@pytest.mark.parametrize(
    "changed",
    [
        {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8", "Sec-Fetch-Dest": "document"},
        {"X-Requested-With": "other"},
        {"Purpose": "other"},
    ],
)
def test_a_browsers_own_page_gets_it(ask, changed):
    assert key_in(ask(f"/{SITE}/", changed).text) == KEY


def test_a_program_needs_no_user_agent(ask):
    assert key_in(ask(f"/{SITE}", without=("User-Agent",)).text) == KEY


@pytest.mark.parametrize("method", ["POST", "PUT", "OPTIONS", "DELETE", "BREW"])
def test_only_get_is_answered(ask, method):
    response = ask(f"/{SITE}/", method=method)
    assert response.code == 405
    assert KEY not in response.text


def test_head_gets_no_body(ask):
    response = ask(f"/{SITE}/", method="HEAD")
    assert response.code == 200 and response.body == b""


# Host


@pytest.mark.parametrize(
    "path", ["/", f"/{SITE}/", STATUS_PATH, "/uimedia/console.js", "/Websocket"]
)
@pytest.mark.parametrize(
    ("host", "code"),
    [("evil.example", 403), ("evil.example:43110", 403), ("localhost:1", 403), ("[::1%x]", 403)],
)
def test_a_foreign_host_is_refused_first(ask, path, host, code):
    response = ask(path, Host=host, Authorization=f"Bearer {TOKEN}")
    assert response.code == code
    assert response.text == "This host name is not allowed here.\n"


def test_no_host(ask):
    assert ask(f"/{SITE}/", without=("Host",)).code == 400


@pytest.mark.parametrize("host", ["127.0.0.1:43110", "localhost:43110", "node.example", "[::1]:1"])
def test_hosts_that_are_ours(ask, host):
    response = ask(f"/{SITE}/", Host=host)
    assert response.code == 200
    assert f"ws://{host} " in response.header("content-security-policy")


# Headers that are no text


@pytest.mark.parametrize(
    "name", ["Host", "Accept", "X-Requested-With", "Purpose", "Sec-Fetch-Dest", "Authorization",
             "Origin", "Upgrade"],
)  # fmt: skip
@pytest.mark.parametrize("path", [f"/{SITE}/", STATUS_PATH, "/Websocket?wrapper_key=\xff"])
def test_headers_in_foreign_bytes_are_no_error_of_ours(ask, name, path):
    response = ask(path, {name: b"\xff\xfe text/html"})
    assert response.code in (200, 400, 401, 403)


@given(value=st.binary(max_size=20).filter(lambda value: not set(value) & set(b"\r\n\0")))
def test_any_host_header_has_an_answer(value):
    gate = Gate()
    pages = Pages(gate, bytes, Clock().seconds)
    site = HttpSite(pages, reactor=Clock())
    site.log = lambda request: None
    channel = site.buildProtocol(IPv4Address("TCP", "127.0.0.1", 5))
    transport = StringTransport()
    channel.makeConnection(transport)
    channel.dataReceived(
        f"GET /{SITE} HTTP/1.1\r\nConnection: close\r\nAccept: text/html\r\nHost: ".encode()
        + value
        + b"\r\n\r\n"
    )
    assert transport.value().split(b" ")[1] in (b"400", b"403", b"200")


# What every answer says


@pytest.mark.parametrize(
    "path", ["/", f"/{SITE}/", f"/{OTHER}/", STATUS_PATH, "/uimedia/console.js", "/none"]
)
def test_every_answer_is_fenced(ask, path):
    response = ask(path)
    assert response.header("x-frame-options") == "DENY"
    assert response.header("x-content-type-options") == "nosniff"
    assert response.header("referrer-policy") == "no-referrer"
    assert response.header("cross-origin-resource-policy") == "same-origin"
    assert "no-store" in response.header("cache-control")
    assert "access-control-allow-origin" not in response.headers


def test_a_page_runs_our_scripts_only(ask):
    response = ask(f"/{SITE}/")
    policy = response.header("content-security-policy")
    nonce = re.search(r"script-src 'nonce-([^']+)'", policy)[1]
    assert len(nonce) >= 22
    assert set(re.findall(r'nonce="([^"]+)"', response.text)) == {nonce}
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy and "*" not in policy
    for rule in ("base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"):
        assert rule in policy
    assert re.findall(r' on\w+="', response.text) == []


def test_nonces_are_new_for_each_page(gate):
    pages = Pages(gate, random.Random(1).randbytes, Clock().seconds)
    policies = []
    for _ in range(2):
        site = HttpSite(pages, reactor=Clock())
        site.log = lambda request: None
        channel = site.buildProtocol(IPv4Address("TCP", "127.0.0.1", 5))
        transport = StringTransport()
        channel.makeConnection(transport)
        lines = "".join(f"{name}: {value}\r\n" for name, value in BROWSER.items())
        channel.dataReceived(f"GET /{SITE} HTTP/1.1\r\n{lines}\r\n".encode())
        policies.append(Response(transport.value()).header("content-security-policy"))
    assert policies[0] != policies[1]


# The index and our own files


def test_the_page_of_the_node_holds_no_key_of_a_site(ask):
    response = ask("/")
    assert response.code == 200
    assert KEY not in response.text and SITE not in response.text
    for name in ("default-src 'none'", "form-action 'none'", "frame-ancestors 'none'"):
        assert name in response.header("content-security-policy")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("console.js", "application/javascript"),
        ("console.css", "text/css"),
        ("wrapper.js", "application/javascript"),
        ("icon.svg", "image/svg+xml"),
    ],
)
def test_our_own_files(ask, name, kind):
    response = ask(f"/uimedia/{name}")
    assert response.code == 200
    assert response.header("content-type") == f"{kind}; charset=utf-8"
    assert len(response.body) > 100
    # The regular expression of programs finds nothing in them.
    assert key_in(response.text) is None


# The status


def test_the_status_needs_the_token(ask):
    response = ask(STATUS_PATH, Authorization=f"Bearer {TOKEN}")
    assert response.code == 200
    assert response.header("content-type") == "application/json; charset=utf-8"
    assert json.loads(response.body) == {"version": "1", "sites": []}


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        "Bearer ",
        "Bearer 00",
        f"Basic {TOKEN}",
        f"bearer {TOKEN}",
        f"Bearer  {TOKEN}",
        KEY,
    ],
)
def test_without_it_nothing_is_told(ask, given):
    response = ask(STATUS_PATH, {} if given is None else {"Authorization": given})
    assert response.code == 401
    assert "version" not in response.text
    assert ask(f"{STATUS_PATH}?token={TOKEN}").code == 401


# WebSockets


UPGRADE = {"Upgrade": "websocket", "Connection": "Upgrade"}


@pytest.mark.parametrize(
    "path",
    ["/Websocket", "/ZeroNet-Internal/Websocket", f"/{SITE}/ZeroNet-Internal/Websocket"],
)
def test_a_websocket_is_opened_with_the_key(ask, gate, path):
    response = ask(f"{path}?wrapper_key={KEY}", UPGRADE)
    assert (response.code, response.text) == (299, "upgraded")
    assert gate.upgraded == [SITE]


def test_of_two_keys_the_last_counts(ask, gate):
    assert ask(f"/Websocket?wrapper_key=00&wrapper_key={KEY}", UPGRADE).code == 299
    assert ask(f"/Websocket?wrapper_key={KEY}&wrapper_key=00", UPGRADE).code == 403
    assert gate.upgraded == [SITE]


@pytest.mark.parametrize("origin", [None, "", "http://127.0.0.1:43110"])
def test_origins_that_may_connect(ask, origin):
    headers = {**UPGRADE, **({} if origin is None else {"Origin": origin})}
    assert ask(f"/Websocket?wrapper_key={KEY}", headers).code == 299


@pytest.mark.parametrize("origin", ["null", "http://evil.example", "http://127.0.0.1:1", "file://"])
def test_origins_that_may_not(ask, gate, origin):
    response = ask(f"/Websocket?wrapper_key={KEY}", {**UPGRADE, "Origin": origin})
    assert response.code == 403
    assert "origin" in response.text
    assert gate.upgraded == []


@pytest.mark.parametrize(
    "query", ["", "?wrapper_key=", "?wrapper_key=00", "?wrapper_key=%ff%fe", f"?key={KEY}"]
)
def test_a_key_that_opens_nothing(ask, gate, query):
    response = ask(f"/Websocket{query}", UPGRADE)
    assert response.code == 403
    assert response.text == "The wrapper key is not known.\n"
    assert gate.upgraded == []


def test_a_request_that_is_no_upgrade(ask, gate):
    assert ask(f"/Websocket?wrapper_key={KEY}").code == 400
    assert ask(f"/Websocket?wrapper_key={KEY}", Upgrade="h2c").code == 400
    assert gate.upgraded == []


def test_too_many_clients(ask, gate):
    gate.full = True
    response = ask(f"/Websocket?wrapper_key={KEY}", UPGRADE)
    assert response.code == 503


def test_the_key_of_another_site_opens_that_one(ask, gate):
    gate.keys[OTHER] = "00" * 32
    ask(f"/{SITE}/ZeroNet-Internal/Websocket?wrapper_key={'00' * 32}", UPGRADE)
    assert gate.upgraded == [OTHER]


# Users


def secret_in(text):
    (found,) = re.findall(r'page_secret = "([0-9a-f]{64})"', text)
    return found


def named(address):
    return {"Cookie": f"master_address={address}"}


@pytest.mark.parametrize(("address", "key"), [(MASTER, KEY), (BOB, BOBS_KEY)])
def test_a_cookie_names_the_user_of_a_page(ask, address, key):
    assert key_in(ask(f"/{SITE}", named(address)).text) == key


@pytest.mark.parametrize("value", ["1BitcoinEaterAddressDontSendf59kuE", "", "x y", f"{BOB}x"])
def test_an_unknown_user_is_refused_with_a_reason(ask, gate, value):
    for response in (
        ask(f"/{SITE}", named(value)),
        ask(f"/Websocket?wrapper_key={KEY}", {**UPGRADE, **named(value)}),
        ask(f"/Websocket?wrapper_key={BOBS_KEY}", {**UPGRADE, **named(value)}),
    ):
        assert response.code == 403
        assert response.text.startswith("No user found: ")
        assert KEY not in response.text and BOBS_KEY not in response.text
    assert gate.opened == []


def test_two_users_at_once_are_refused(ask, gate):
    both = {"Cookie": f"master_address={BOB}; master_address={MASTER}"}
    assert ask(f"/{SITE}", both).code == 403
    assert ask(f"/Websocket?wrapper_key={KEY}", {**UPGRADE, **both}).code == 403
    assert gate.opened == []


def test_other_cookies_do_not_matter(ask):
    assert key_in(ask(f"/{SITE}", {"Cookie": "session=1; \xff=\xfe"}).text) == KEY


@pytest.mark.parametrize(
    ("key", "cookie", "user"),
    [
        (KEY, None, ""),
        (KEY, MASTER, ""),
        (KEY, BOB, BOB),
        (BOBS_KEY, None, BOB),
        (BOBS_KEY, BOB, BOB),
    ],
)
def test_the_user_of_a_websocket(ask, gate, key, cookie, user):
    headers = {**UPGRADE, **(named(cookie) if cookie else {})}
    assert ask(f"/Websocket?wrapper_key={key}", headers).code == 299
    assert gate.opened == [(SITE, user, False)]


def test_a_key_of_one_user_does_not_open_for_another(ask, gate):
    response = ask(f"/Websocket?wrapper_key={BOBS_KEY}", {**UPGRADE, **named(MASTER)})
    assert response.code == 403
    assert "another user's" in response.text
    assert gate.opened == []


# The person


def opens(ask, key, secret, headers=None):
    query = f"/Websocket?wrapper_key={key}&page_secret={secret}"
    assert ask(query, {**UPGRADE, **(headers or {})}).code == 299


def test_a_page_has_a_secret_of_its_own(ask, gate):
    first, second = (secret_in(ask(f"/{SITE}").text) for _ in range(2))
    assert first != second
    opens(ask, KEY, first)
    opens(ask, KEY, first)
    opens(ask, KEY, second)
    assert gate.opened == [(SITE, "", True)] * 3


def test_the_secret_stands_behind_the_key(ask):
    text = ask(f"/{SITE}").text
    assert text.index("wrapper_key = ") < text.index("page_secret = ")
    assert text.count("wrapper_key = ") == 1


@pytest.mark.parametrize("secret", ["", "00" * 32, KEY, "%ff", "x" * 3000])
def test_without_it_nobody_is_trusted(ask, gate, secret):
    ask(f"/{SITE}")
    opens(ask, KEY, secret)
    assert gate.opened == [(SITE, "", False)]


def test_of_two_secrets_the_last_counts(ask, gate):
    secret = secret_in(ask(f"/{SITE}").text)
    opens(ask, KEY, f"{secret}&page_secret=00")
    opens(ask, KEY, f"00&page_secret={secret}")
    assert gate.opened == [(SITE, "", False), (SITE, "", True)]


def test_a_secret_is_for_one_site_and_one_user(ask, gate):
    gate.keys[OTHER] = "00" * 32
    defaults = secret_in(ask(f"/{SITE}").text)
    bobs = secret_in(ask(f"/{SITE}", named(BOB)).text)
    opens(ask, "00" * 32, defaults)
    opens(ask, KEY, bobs)
    opens(ask, KEY, defaults, named(BOB))
    opens(ask, BOBS_KEY, defaults)
    assert [trusted for _, _, trusted in gate.opened] == [False] * 4
    opens(ask, KEY, bobs, named(BOB))
    opens(ask, BOBS_KEY, bobs)
    assert gate.opened[4:] == [(SITE, BOB, True)] * 2


def test_a_secret_does_not_do_without_a_key(ask, gate):
    secret = secret_in(ask(f"/{SITE}").text)
    assert ask(f"/Websocket?page_secret={secret}", UPGRADE).code == 403
    assert gate.opened == []


def test_a_secret_ends(ask, gate):
    secret = secret_in(ask(f"/{SITE}").text)
    ask.clock.advance(25 * 3600)
    opens(ask, KEY, secret)
    assert gate.opened == [(SITE, "", False)]


# Verdicts of a real node


def recorded(name):
    return json.loads((VECTORS / f"{name}.json").read_text())["cases"]


SAME = """
wrapper page
same without the last slash: no redirect
Accept without text/html
no Accept
XMLHttpRequest marker
prefetch
Edge user agent: no CSP
WebSocket path without upgrade
Host localhost with port
Host localhost without port
any IP is taken
not an address
""".strip().split("\n")

OTHERWISE = {
    "no User-Agent: the real server breaks": (200, "a fault there"),
    "no Host": (400, "a fault there"),
    "foreign name": (403, "there it is looked up, which fails without DNS"),
    "Host zero": (403, "a name like any other; the operator may list it"),
    "root": (200, "the page of the node instead of a homepage site"),
}
"""What we answer, and why. The recorded requests about files: `test_files.py`."""


@pytest.mark.parametrize("name", [*SAME, *OTHERWISE])
def test_what_a_real_node_answered(ask, name):
    (case,) = [case for case in recorded("http") if case["case"] == name]
    headers = {**BROWSER, **case.get("request_headers", {})}
    headers["Host"] = case.get("host", "127.0.0.1:22100").replace("22100", "43110")
    without = case.get("request_without", ())
    response = ask(case["path"].replace("SITE", SITE), headers, without=without)
    if name in OTHERWISE:
        assert case["status"] != OTHERWISE[name][0], "no difference any more"
        assert response.code == OTHERWISE[name][0]
        return
    assert response.code == case["status"]
    if case["status"] == 200:
        assert key_in(response.text) == KEY
        assert response.header("cache-control") == case["headers"]["Cache-Control"]
    if response.text.startswith(("Invalid Accept", "Ajax", "Prefetch")):
        assert response.text.strip() == case["error"][1].strip()


@pytest.mark.parametrize("case", recorded("ws_handshake"), ids=lambda case: case["case"])
def test_upgrades_that_a_real_node_took(ask, gate, case):
    """There the refused ones are upgraded first, and dropped then; clients see a status here."""
    request = case["request"]
    headers = {name: value.replace("22100", "43110") for name, value in request["headers"].items()}
    host = request["host"].replace("22100", "43110")
    response = ask(request["path"].replace("KEY", KEY), {**UPGRADE, **headers}, Host=host)
    if case["end"] == "open":
        assert response.code == 299 and gate.upgraded == [SITE]
    else:
        assert response.code in (403, 404) and gate.upgraded == []
