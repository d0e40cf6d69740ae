"""The node's own page: its secret and the few commands it may run; the password of a node."""

import json
import random
import re

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.web.server import Site as HttpSite

from zeromsg.testing.gate import MemoryGate
from zeromsg.web.page_secrets import LIFETIME
from zeromsg.web.pages import LOGIN_PATH, OPERATOR_PATH, STATUS_PATH, Pages

SITE = "1P4hfVMLyEEWqhACGQrchJG8xHnKKtts3w"
KEY = "4e" * 32
TOKEN = "5f" * 32
PASSWORD = "correct horse"
OWN = {"Origin": "http://127.0.0.1:43110", "Sec-Fetch-Site": "same-origin"}


class Gate(MemoryGate):
    def __init__(self):
        super().__init__()
        self.keys = {SITE: KEY}
        self.contents = {SITE: {"title": "x"}}
        self.files = {(SITE, "index.html"): b"<h1>hello", (SITE, "a.js"): b"a()"}
        self.calls = []

    def operate(self, cmd, params):
        self.calls.append((cmd, params))
        return {"did": cmd}

    def may_see_status(self, token):
        return token == TOKEN


class Browser:
    def __init__(self, password=""):
        self.gate, self.clock = Gate(), Clock()
        self.random = random.Random(1)
        self.password = password
        self.start()

    def start(self):
        """The node, once more."""
        self.pages = Pages(self.gate, self.random.randbytes, self.clock.seconds, self.password)

    def ask(self, path, method="GET", body=b"", host="192.0.2.1", **headers):
        values = {"Host": "127.0.0.1:43110", "Accept": "text/html", "Connection": "close"}
        values |= {name.replace("_", "-"): value for name, value in headers.items()}
        if body:
            values["Content-Length"] = str(len(body))
        http = HttpSite(self.pages, reactor=Clock())
        http.displayTracebacks = False
        http.log = lambda request: None
        channel = http.buildProtocol(IPv4Address("TCP", host, 5))
        transport = StringTransport(peerAddress=IPv4Address("TCP", host, 5))
        channel.makeConnection(transport)
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {text}" for name, text in values.items())]
        channel.dataReceived("\r\n".join([*lines, "", ""]).encode() + body)
        head, _, rest = transport.value().partition(b"\r\n\r\n")
        return int(head.split(b" ")[1]), head.decode("latin-1"), rest.decode("latin-1")

    def secret(self):
        return re.search(r'node_secret = "(\w+)"', self.ask("/")[2])[1]

    def log_in(self, password, host="192.0.2.1", target="/", **headers):
        body = f"password={password.replace(' ', '+')}&target={target}".encode()
        form = {"Content-Type": "application/x-www-form-urlencoded", **OWN, **headers}
        return self.ask(LOGIN_PATH, "POST", body, host, **form)


@pytest.fixture
def browser():
    return Browser()


def operate(browser, secret, cmd, **headers):
    body = json.dumps({"cmd": cmd, "params": {}}).encode()
    values = {**OWN, "Authorization": f"Page {secret}", **headers}
    return browser.ask(OPERATOR_PATH, "POST", body, **values)


# The page and its secret


def test_the_page_sees_the_status_and_runs_its_commands(browser):
    secret = browser.secret()
    code, _, text = browser.ask(STATUS_PATH, Authorization=f"Page {secret}", **OWN)
    assert code == 200 and json.loads(text)["version"] == "1"
    for cmd in ("site_join", "site_leave", "bans", "pardon"):
        assert json.loads(operate(browser, secret, cmd)[2]) == {"did": cmd}
    for cmd in ("ban", "user_export", "user_key", "prompt_answer", "why"):
        assert "denied" in json.loads(operate(browser, secret, cmd)[2])["error"]
    assert [cmd for cmd, _ in browser.gate.calls] == ["site_join", "site_leave", "bans", "pardon"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "null"},
        {"Origin": "http://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Authorization": "Page " + "0" * 64},
        {"Authorization": "Page "},
        {"Authorization": f"Page {TOKEN}"},
        {"Authorization": ""},
    ],
)
def test_nobody_else_does(browser, headers):
    secret = browser.secret()
    assert operate(browser, secret, "bans", **headers)[0] == 401
    values = {**OWN, "Authorization": f"Page {secret}", **headers}
    assert browser.ask(STATUS_PATH, **values)[0] == 401
    assert browser.gate.calls == []


def test_the_secret_of_a_sites_page_is_none_of_the_node(browser):
    secret = re.search(r'page_secret = "(\w+)"', browser.ask(f"/{SITE}/")[2])[1]
    assert operate(browser, secret, "bans")[0] == 401


@pytest.mark.parametrize(
    "headers",
    [{"Accept": "*/*"}, {"Sec-Fetch-Dest": "empty"}, {"X-Requested-With": "XMLHttpRequest"}],
)
def test_it_is_loaded_by_a_person_alone(browser, headers):
    code, _, text = browser.ask("/", **headers)
    assert code == 403 and "node_secret" not in text


def test_no_get_changes_anything(browser):
    for path in (f"{OPERATOR_PATH}?cmd=site_join", "/?site_join=1", f"/1{'x' * 30}/", "/add/"):
        browser.ask(path, Authorization=f"Bearer {TOKEN}")
    assert browser.gate.calls == [] and list(browser.gate.keys) == [SITE]


# Pages over a restart


def test_the_person_is_in_a_sites_console_too(browser):
    trusted = []
    browser.gate.upgrade = lambda site, user, known: trusted.append(known)
    page = browser.ask(f"/console/{SITE}")[2]
    secret = re.search(r'page_secret = "(\w+)"', page)[1]
    assert 'id="prompts"' in page
    path = f"/Websocket?wrapper_key={KEY}&page_secret={secret}"
    assert browser.ask(path, Upgrade="websocket")[0] == 503
    assert trusted == [True]


def test_a_page_that_was_in_use_is_known_after_a_restart(browser):
    trusted = []
    browser.gate.upgrade = lambda site, user, known: trusted.append(known)
    secrets = [
        re.search(r'page_secret = "(\w+)"', browser.ask(f"/{SITE}/")[2])[1] for _ in range(2)
    ]

    def connect(secret):
        path = f"/Websocket?wrapper_key={KEY}&page_secret={secret}"
        assert browser.ask(path, Upgrade="websocket")[0] == 503
        return trusted.pop()

    assert connect(secrets[0])
    # What is kept is not the secret.
    assert secrets[0] not in str(browser.gate.pages)
    browser.start()
    assert connect(secrets[0]) and not connect(secrets[1])
    browser.clock.advance(LIFETIME + 1)
    browser.start()
    assert not connect(secrets[0])


# The password


@pytest.fixture
def guarded():
    return Browser(PASSWORD)


@pytest.mark.parametrize(
    "path", ["/", f"/{SITE}/", f"/console/{SITE}", f"/raw/{SITE}/a.js", f"/{SITE}/a.js", "/none"]
)
def test_the_password_comes_before_everything(guarded, path):
    code, head, text = guarded.ask(path)
    assert code == 401 and "Password of this node" in text
    assert "form-action 'self'" in head
    for secret in (KEY, "page_secret", "node_secret", "a()"):
        assert secret not in text
    assert guarded.ask(path, Accept="*/*")[2] == "This node asks for a password.\n"


def test_who_gave_it_goes_on_where_they_were(guarded):
    code, head, _ = guarded.log_in(PASSWORD, target=f"/{SITE}/")
    assert code == 303 and f"Location: /{SITE}/" in head
    cookie = re.search(
        r"Set-Cookie: (zeromsg_session=\w+); Path=/;.*HttpOnly; SameSite=Strict", head
    )
    assert KEY in guarded.ask(f"/{SITE}/", Cookie=cookie[1])[2]
    assert guarded.ask(f"/{SITE}/", Cookie="zeromsg_session=" + "0" * 64)[0] == 401


@pytest.mark.parametrize(
    "target", ["//evil.example/", "http://evil.example/", "/\\evil.example", ""]
)
def test_it_leads_nowhere_else(guarded, target):
    _, head, _ = guarded.log_in(PASSWORD, target=target)
    assert re.search(r"Location: (.*)\r\n", head)[1] == "/"


def test_a_wrong_one_and_a_foreign_form_are_refused(guarded):
    code, head, text = guarded.log_in("wrong <b>")
    assert code == 403 and "That is not the password." in text and "Set-Cookie" not in head
    for headers in ({"Origin": "null"}, {"Origin": "http://evil.example"},
                    {"Sec-Fetch-Site": "cross-site"}):  # fmt: skip
        assert guarded.log_in(PASSWORD, **headers)[0] == 403
    for _ in range(4):
        guarded.log_in("wrong")
    assert "Too many wrong passwords" in guarded.log_in(PASSWORD)[2]
    assert guarded.log_in(PASSWORD, host="192.0.2.2")[0] == 303


def test_a_frame_gets_files_where_somebody_is_logged_in(guarded):
    frame = {"Accept": "*/*", "Sec-Fetch-Site": "cross-site"}
    guarded.log_in(PASSWORD)
    assert guarded.ask(f"/{SITE}/a.js", **frame)[0] == 401
    guarded.gate.open.add(SITE)
    assert guarded.ask(f"/{SITE}/a.js", **frame)[2] == "a()"
    assert guarded.ask(f"/{SITE}/a.js", host="192.0.2.2", **frame)[0] == 401
    assert guarded.ask(f"/{SITE}/index.html", **frame)[0] == 401


def test_the_operators_token_and_a_sites_key_do_without(guarded):
    assert guarded.ask(STATUS_PATH, Authorization=f"Bearer {TOKEN}")[0] == 200
    assert guarded.ask(STATUS_PATH, Authorization="Bearer x")[0] == 401
    for key, code in ((KEY, 503), ("00", 403)):
        path = f"/ZeroNet-Internal/Websocket?wrapper_key={key}"
        assert guarded.ask(path, Upgrade="websocket")[0] == code


def test_without_a_password_there_is_no_login(browser):
    assert browser.log_in(PASSWORD)[0] == 404
