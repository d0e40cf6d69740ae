"""Files of sites over HTTP: who gets what, whole or in parts, and what it may do."""

import json
import re
from pathlib import Path

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.server import Site as HttpSite

from zeromsg.testing.gate import MemoryGate
from zeromsg.testing.plain_client import request_text
from zeromsg.web import nonces as nonces_module
from zeromsg.web.files import RAW_POLICY, SANDBOX, content_type, is_html
from zeromsg.web.nonces import LIFETIME, RECENT_SECONDS, Nonces
from zeromsg.web.pages import Pages

SITE = "1P4hfVMLyEEWqhACGQrchJG8xHnKKtts3w"
OTHER = "1Bt2vEZi5gKRQnNTU1ZLPymHGgxg7qHCeC"
VECTORS = Path(__file__).parents[1] / "vectors" / "ui"

FROM_FRAME = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Accept": "*/*"}
"""What Chromium sends for the files of a sandboxed page, and for those of any other page."""


class Browser:
    """Sends requests, each on a connection of its own; keeps what is not answered yet."""

    def __init__(self):
        self.gate = MemoryGate()
        self.gate.keys = {SITE: "4e" * 32, OTHER: "5f" * 32}
        for site in (SITE, OTHER):
            self.gate.contents[site], self.gate.titles[site] = {"title": "x"}, "x"
            self.gate.files[site, "index.html"] = b"<h1>" + site.encode()
        self.gate.files |= {
            (SITE, "hello.txt"): b"0123456789",
            (SITE, "js/app.js"): b"start()",
            (SITE, "a.svg"): b"<svg/>",
            (SITE, "sub/index.html"): b"<h1>below",
            (SITE, "dark.html"): b"<body class='{themeclass}' data-m={site_modified}>",
        }
        self.clock = Clock()
        self.count = 0
        self.pages = Pages(self.gate, self.entropy, self.clock.seconds)

    def entropy(self, size):
        self.count += 1
        return self.count.to_bytes(size, "big")

    def start(self, path, method="GET", **headers):
        values = {"host": "127.0.0.1:43110", "accept": "text/html", "connection": "close"}
        values |= {name.lower().replace("_", "-"): value for name, value in headers.items()}
        http = HttpSite(self.pages, reactor=Clock())
        http.displayTracebacks = False
        http.noisy = False
        http.log = lambda request: None
        channel = http.buildProtocol(IPv4Address("TCP", "127.0.0.1", 5))
        transport = StringTransport(peerAddress=IPv4Address("TCP", "127.0.0.1", 5))
        transport.protocol = channel
        channel.makeConnection(transport)
        text = request_text(path, values)
        channel.dataReceived(text.replace(b"GET", method.encode(), 1))
        return transport

    def ask(self, path, method="GET", **headers):
        return answer(self.start(path, method, **headers))

    def nonce(self, site=SITE):
        found = re.search(r'wrapper_nonce = "(\w+)"', self.ask(f"/{site}/").text)
        return found[1]


class Answer:
    def __init__(self, data):
        head, _, self.body = data.partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        self.code = int(status.split(" ")[1])
        self.headers = dict(line.lower().split(": ", 1) for line in lines)
        if self.headers.get("transfer-encoding") == "chunked":
            body, rest = b"", self.body
            while rest:
                size, _, rest = rest.partition(b"\r\n")
                body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
            self.body = body
        self.text = self.body.decode("latin-1")

    @property
    def policy(self):
        return self.headers["content-security-policy"]


def answer(transport):
    return Answer(transport.value())


@pytest.fixture
def browser():
    return Browser()


# Html and nonces


def test_html_comes_once_for_a_nonce(browser):
    path = f"/{SITE}/?wrapper_nonce={browser.nonce()}"
    first = browser.ask(path, Sec_Fetch_Dest="iframe")
    assert (first.code, first.text) == (200, f"<h1>{SITE}")
    assert first.headers["content-type"] == "text/html; charset=utf-8"
    again = browser.ask(path, Sec_Fetch_Dest="iframe")
    assert SITE not in again.text and "top.location.replace" in again.text


def test_a_nonce_is_for_its_site(browser):
    nonce = browser.nonce(OTHER)
    elsewhere = browser.ask(f"/{SITE}/?wrapper_nonce={nonce}", Sec_Fetch_Dest="iframe")
    assert f"<h1>{SITE}" not in elsewhere.text
    assert "wrapper_key" not in elsewhere.text
    # To try it there did not use it up.
    own = browser.ask(f"/{OTHER}/?wrapper_nonce={nonce}", Sec_Fetch_Dest="iframe")
    assert own.text == f"<h1>{OTHER}"


@pytest.mark.parametrize("nonce", ["", "0" * 64, "x", "%ff"])
def test_a_made_up_nonce_gives_the_wrapper_again(browser, nonce):
    response = browser.ask(f"/{SITE}/?wrapper_nonce={nonce}")
    assert "wrapper_key" in response.text and "<h1>1P4" not in response.text


@pytest.mark.parametrize("where", ["document", "empty", "script", "embed", "object"])
def test_a_good_nonce_is_for_a_frame_alone(browser, where):
    path = f"/{SITE}/?wrapper_nonce={browser.nonce()}"
    assert f"<h1>{SITE}" not in browser.ask(path, Sec_Fetch_Dest=where).text
    assert browser.ask(path, Sec_Fetch_Dest="iframe").text == f"<h1>{SITE}"


def test_the_pages_nonce_stands_last(browser):
    path = f"/{SITE}/?wrapper_nonce=00&x=1&wrapper_nonce={browser.nonce()}"
    assert browser.ask(path, Sec_Fetch_Dest="iframe").text == f"<h1>{SITE}"


def test_html_in_the_frame_may_load_its_own_site_alone(browser):
    response = browser.ask(f"/{SITE}/?wrapper_nonce={browser.nonce()}", Sec_Fetch_Dest="iframe")
    own = f"http://127.0.0.1:43110/{SITE}/".lower()
    directives = dict(each.strip().split(" ", 1) for each in response.policy.split(";"))
    assert directives["default-src"] == f"{own} data: blob: 'unsafe-inline' 'unsafe-eval'"
    assert directives["sandbox"] == SANDBOX
    assert "same-origin" not in SANDBOX
    assert directives["frame-ancestors"] == "'self'"
    assert directives["base-uri"] == directives["form-action"] == own
    assert response.headers["x-frame-options"] == "sameorigin"


def test_without_a_nonce_a_frame_gets_the_way_to_the_top_and_no_secret(browser):
    response = browser.ask(
        f"/{SITE}/sub/?q=1", Sec_Fetch_Dest="iframe", Sec_Fetch_Site="cross-site"
    )
    assert response.code == 200
    for secret in ("wrapper_key", "page_secret", "4e4e"):
        assert secret not in response.text
    # An escaped character would be another one to the script.
    assert "&" not in response.text
    assert "sandbox allow-scripts allow-top-navigation" in response.policy
    assert "frame-ancestors 'self'" in response.policy


def test_names_in_html_are_replaced(browser):
    path = f"/{SITE}/dark.html?wrapper_nonce={browser.nonce()}"
    assert browser.ask(path).text == "<body class='theme-light' data-m=1800000000>"


def test_nonces_end_and_are_bounded(monkeypatch):
    monkeypatch.setattr(nonces_module, "NONCES_LIMIT", 3)
    clock, number = Clock(), iter(range(100))
    nonces = Nonces(lambda size: next(number).to_bytes(size, "big"), clock.seconds)
    made = [nonces.make(SITE) for _ in range(5)]
    assert len(nonces) == 3 and not nonces.use(made[1], SITE)
    clock.advance(LIFETIME)
    assert nonces.use(made[3], SITE)
    clock.advance(1)
    assert not nonces.use(made[4], SITE)
    assert nonces.used_lately(SITE) and not nonces.used_lately(OTHER)
    clock.advance(RECENT_SECONDS)
    assert not nonces.used_lately(SITE)


# Other files


def test_a_file_runs_no_script_when_it_is_opened(browser):
    response = browser.ask(f"/{SITE}/hello.txt", Sec_Fetch_Dest="document", Sec_Fetch_Site="none")
    assert (response.code, response.body) == (200, b"0123456789")
    assert response.policy == RAW_POLICY.lower()
    assert "sandbox" in RAW_POLICY and "allow-scripts" not in RAW_POLICY
    assert response.headers["content-length"] == "10"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in response.headers


def test_raw_html_is_html_without_scripts(browser):
    response = browser.ask(f"/raw/{SITE}/")
    assert response.text == f"<h1>{SITE}" and response.policy == RAW_POLICY.lower()
    assert browser.ask(f"/raw/{SITE}/sub/").text == "<h1>below"
    assert browser.ask(f"/raw/{SITE}").headers["location"] == f"./{SITE}/".lower()


def test_a_folder_leads_to_its_slash(browser):
    response = browser.ask(f"/{SITE}/sub")
    assert (response.code, response.headers["location"]) == (301, "./sub/")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.html", "text/html; charset=utf-8"),
        ("js/a.JS", "application/javascript; charset=utf-8"),
        ("a.png", "image/png"),
        ("a.b/c", "application/octet-stream"),
        ("a.exe", "application/octet-stream"),
        ("html", "application/octet-stream"),
    ],
)
def test_types_follow_from_names(name, kind):
    assert content_type(name) == kind


@pytest.mark.parametrize(
    ("path", "html"),
    [("", True), ("a/", True), ("a.htm", True), ("a.XHTML", True), ("a.js", False), ("a", False)],
)
def test_what_needs_a_wrapper(path, html):
    assert is_html(path) is html


def test_pictures_that_could_be_more_are_saved(browser):
    assert browser.ask(f"/{SITE}/a.svg").headers["content-disposition"] == "attachment"
    assert "content-disposition" not in browser.ask(f"/{SITE}/js/app.js").headers


@pytest.mark.parametrize(
    "path",
    [
        f"/{SITE}/../{OTHER}/index.html",
        f"/{SITE}/..%2f..%2fusers.json",
        f"/raw/{SITE}/..%2f..%2fusers.json",
        f"/{SITE}/sub/%2e%2e/%2e%2e/users.json",
        f"/{SITE}/.%5c..%5cusers.json",
        f"/{SITE}//etc/passwd",
        f"/{SITE}/%00",
        f"/{SITE}/%ff",
        f"/raw/{SITE}/CON",
    ],
)
def test_no_path_leads_out_of_the_site(browser, path):
    response = browser.ask(path)
    assert (response.code, response.text) == (403, "Invalid path\n")


def test_a_path_is_decoded_once(browser):
    browser.gate.files[SITE, "ä b.txt"] = b"found"
    assert browser.ask(f"/{SITE}/%C3%A4%20b.txt").text == "found"
    assert browser.ask(f"/{SITE}/%252e%252e/x").code == 404


# Parts, and what is known already


@pytest.mark.parametrize(
    ("given", "code", "body", "span"),
    [
        ("bytes=2-4", 206, b"234", "bytes 2-4/10"),
        ("bytes=8-", 206, b"89", "bytes 8-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=0-999", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=10-", 416, b"There are no such bytes.\n", "bytes */10"),
        ("bytes=-0", 416, b"There are no such bytes.\n", "bytes */10"),
        ("bytes=4-2", 200, b"0123456789", None),
        ("bytes=0-1,3-4", 200, b"0123456789", None),
        ("bytes=-", 200, b"0123456789", None),
        ("lines=1-2", 200, b"0123456789", None),
        ("bytes=" + "9" * 30 + "-", 200, b"0123456789", None),
    ],
)
def test_ranges_are_served_exactly(browser, given, code, body, span):
    response = browser.ask(f"/{SITE}/hello.txt", Range=given)
    assert (response.code, response.body) == (code, body)
    assert response.headers.get("content-range") == span
    assert response.headers["content-length"] == str(len(body))


def test_a_file_that_is_known_is_not_sent_again(browser):
    mark = browser.ask(f"/{SITE}/hello.txt").headers["etag"]
    again = browser.ask(f"/{SITE}/hello.txt", If_None_Match=mark)
    assert (again.code, again.body) == (304, b"")
    browser.gate.files[SITE, "hello.txt"] = b"changed"
    assert browser.ask(f"/{SITE}/hello.txt", If_None_Match=mark).body == b"changed"


def test_parts_of_another_version_are_not_mixed(browser):
    mark = browser.ask(f"/{SITE}/hello.txt").headers["etag"]
    same = browser.ask(f"/{SITE}/hello.txt", Range="bytes=2-4", If_Range=mark)
    assert (same.code, same.body) == (206, b"234")
    other = browser.ask(f"/{SITE}/hello.txt", Range="bytes=2-4", If_Range='"other"')
    assert (other.code, other.body) == (200, b"0123456789")


def test_head_gets_the_length_alone(browser):
    response = browser.ask(f"/{SITE}/hello.txt", method="HEAD")
    assert (response.code, response.body) == (200, b"")
    assert response.headers["content-length"] == "10"


def test_large_files_go_in_pieces(browser):
    data = bytes(range(256)) * 1000
    browser.gate.files[SITE, "big.bin"] = data
    assert browser.ask(f"/{SITE}/big.bin").body == data
    assert browser.ask(f"/{SITE}/big.bin", Range="bytes=100000-199999").body == data[100000:200000]


# Who may read


def test_scripts_read_with_the_key_of_their_site(browser):
    key = browser.gate.ajax_key(SITE)
    response = browser.ask(f"/{SITE}/hello.txt?ajax_key={key}", Origin="null", **FROM_FRAME)
    assert response.body == b"0123456789"
    assert response.headers["access-control-allow-origin"] == "null"
    for wrong in (browser.gate.ajax_key(OTHER), "", "x", "%ff"):
        refused = browser.ask(f"/{SITE}/hello.txt?ajax_key={wrong}", Origin="null", **FROM_FRAME)
        assert (refused.code, refused.text) == (403, "Invalid ajax_key\n")
        assert "access-control-allow-origin" not in refused.headers


def test_the_key_never_gives_html(browser):
    key = browser.gate.ajax_key(SITE)
    response = browser.ask(f"/{SITE}/index.html?ajax_key={key}", Origin="null", **FROM_FRAME)
    assert response.code == 403 and "<h1>" not in response.text


def test_only_the_pages_of_open_sites_load_files(browser):
    """So that no page of another origin finds out which sites are here."""
    for path in (f"/{SITE}/hello.txt", f"/{SITE}/none.txt", f"/{OTHER}/none.png"):
        assert browser.ask(path, **FROM_FRAME).code == 403
        assert browser.ask(path, **{**FROM_FRAME, "Sec-Fetch-Site": "same-site"}).code == 403
    browser.ask(f"/{SITE}/?wrapper_nonce={browser.nonce()}", Sec_Fetch_Dest="iframe")
    assert browser.ask(f"/{SITE}/hello.txt", **FROM_FRAME).code == 200
    assert browser.ask(f"/{OTHER}/none.png", **FROM_FRAME).code == 403
    browser.clock.advance(RECENT_SECONDS + 1)
    assert browser.ask(f"/{SITE}/hello.txt", **FROM_FRAME).code == 403
    browser.gate.open.add(SITE)
    assert browser.ask(f"/{SITE}/hello.txt", **FROM_FRAME).code == 200


def test_fonts_and_modules_of_a_frame_are_let_through(browser):
    browser.gate.open.add(SITE)
    for dest, allowed in [("font", "null"), ("script", "null"), ("style", None), ("empty", None)]:
        response = browser.ask(
            f"/{SITE}/js/app.js", Origin="null", Sec_Fetch_Dest=dest, **FROM_FRAME
        )
        assert response.headers.get("access-control-allow-origin") == allowed
    foreign = browser.ask(
        f"/{SITE}/js/app.js", Origin="http://evil.example", Sec_Fetch_Dest="font", **FROM_FRAME
    )
    assert "access-control-allow-origin" not in foreign.headers


def test_what_a_browser_asks_first_tells_nothing(browser):
    here = browser.ask(f"/{SITE}/hello.txt", method="OPTIONS", Origin="null")
    unknown = browser.ask(f"/1{'x' * 30}/hello.txt", method="OPTIONS", Origin="null")
    assert here.code == unknown.code == 200
    assert here.headers["access-control-allow-origin"] == "null"
    assert "access-control-allow-credentials" not in here.headers
    assert {**here.headers, "date": ""} == {**unknown.headers, "date": ""}


def test_files_of_other_sites_need_the_permission(browser):
    path = f"merged-Type/{OTHER}/data.json"
    browser.gate.files[OTHER, "data.json"] = b"{}"
    browser.gate.located[SITE, path] = None
    assert browser.ask(f"/{SITE}/{path}").code == 403
    browser.gate.located[SITE, path] = (OTHER, "data.json")
    assert browser.ask(f"/{SITE}/{path}").body == b"{}"


# Files on their way


def test_a_file_on_its_way_is_waited_for(browser):
    browser.gate.coming[SITE, "late.txt"] = []
    transport = browser.start(f"/{SITE}/late.txt")
    assert transport.value() == b""
    browser.gate.arrive(SITE, "late.txt", b"here it is")
    assert answer(transport).body == b"here it is"


def test_html_on_its_way_too(browser):
    nonce = browser.nonce()
    browser.gate.coming[SITE, "late.html"] = []
    transport = browser.start(f"/{SITE}/late.html?wrapper_nonce={nonce}", Sec_Fetch_Dest="iframe")
    browser.gate.arrive(SITE, "late.html", b"<p>late")
    assert answer(transport).text == "<p>late" and "sandbox" in answer(transport).policy


def test_one_that_does_not_come_is_missing(browser):
    browser.gate.coming[SITE, "late.txt"] = []
    transport = browser.start(f"/{SITE}/late.txt")
    browser.gate.arrive(SITE, "late.txt", None)
    assert answer(transport).code == 404
    assert browser.ask(f"/{SITE}/never.txt").code == 404


def test_who_goes_away_waits_no_longer(browser):
    browser.gate.coming[SITE, "late.txt"] = []
    transport = browser.start(f"/{SITE}/late.txt")
    transport.protocol.connectionLost(Failure(ConnectionDone()))
    (waiting,) = browser.gate.coming[SITE, "late.txt"]
    assert waiting.called


# What a real node answered

SAME = {
    "inner page with a fresh nonce",
    "script file",
    "text file",
    "text file, ajax_key",
    "wrong ajax_key",
    "raw html",
    "raw file",
    "OPTIONS",
    "missing file",
    "missing html: wrapper with loading screen",
    "dot dot",
    "encoded dot dot",
    "favicon",
}


@pytest.mark.parametrize("name", sorted(SAME))
def test_as_a_real_node_answers(browser, name):
    cases = json.loads((VECTORS / "http.json").read_text())["cases"]
    (case,) = [case for case in cases if case["case"] == name]
    browser.gate.files[SITE, "js/zeroframe.js"] = b"x" * 7081
    path = case["path"].replace("SITE", SITE).replace("AJAX_KEY", browser.gate.ajax_key(SITE))
    if "NONCE" in path:
        path = path.replace("NONCE", browser.nonce())
    response = browser.ask(path, case["method"], **case.get("request_headers", {}))
    assert response.code == case["status"]
    same = ["Access-Control-Allow-Origin", "Accept-Ranges"]
    if response.code == 200 and name not in ("OPTIONS", "favicon"):
        same.append("Content-Type")
    for header in same:
        if header in case["headers"] and name not in ("inner page with a fresh nonce", "favicon"):
            expected = case["headers"][header].lower()
            assert response.headers.get(header.lower()) == expected
