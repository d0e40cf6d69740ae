"""What pages must not manage: those of other origins, of a rebound name, and zites themselves.

Each weakness that was shown on the reference has its test here or, where no
browser is needed, in `tests/web` and `tests/routing`.
"""

import http.server
import threading

import pytest

from zeromsg.testing.processes import RunningNode

pytestmark = pytest.mark.browser

BLOCKED = [
    "WebSocket connection to .* failed",
    "violates the following Content Security Policy",
    "Refused to ",
    "blocked by CORS policy",
    "Failed to load resource",
    "Blocked script execution in",
    "Not allowed to navigate top frame",
    "Unsafe attempt to initiate navigation",
    "ERR_BLOCKED_BY_RESPONSE",
    "X-Frame-Options",
    "Framing .* violates",
]
"""What Chromium says when it keeps a page from something, which is what is tested."""

SVG = '<svg xmlns="http://www.w3.org/2000/svg"><script>parent.x = 1; fetch("/")</script></svg>'


@pytest.fixture(scope="module")
def evil(zite):
    """The zite that attacks."""
    return zite({"evil.svg": SVG, "plain.html": "<script>document.title = 'ran'</script>"}, "Evil")


@pytest.fixture(scope="module")
def good(zite):
    """The zite that is attacked."""
    return zite({"secret.js": "window.stolen = 'secret'", "secret.png": "x"}, "Good")


@pytest.fixture(scope="module")
def unseen(zite):
    """A zite that nobody opens."""
    return zite({"picture.svg": SVG}, "Unseen")


@pytest.fixture(scope="module")
def node(new_node, evil, good, unseen):
    sites = {each.address: each.folder for each in (evil, good, unseen)}
    return new_node(sites=sites).start()


@pytest.fixture
def attacker(tab, node, evil):
    opened = tab()
    opened.allowed += BLOCKED
    return opened.open(f"{node.url}/{evil.address}/")


@pytest.fixture(scope="module")
def elsewhere():
    """A web server of another origin."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<h1>Elsewhere</h1>")

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def key_of(tab, node, site):
    """The key of a site, as if it had leaked."""
    page = tab().page
    page.goto(f"{node.url}/{site.address}/")
    key = page.evaluate("wrapper_key")
    page.close()
    return key


def websocket(frame, url):
    """Whether a WebSocket opens."""
    return frame.evaluate(
        """(url) => new Promise((resolve) => {
             try {
               const socket = new WebSocket(url);
               socket.onopen = () => { socket.close(); resolve("open"); };
               socket.onerror = () => resolve("refused");
             } catch (problem) { resolve("refused"); }
           })""",
        url,
    )


def loads(frame, element, url):
    """Whether an element loads."""
    return frame.evaluate(
        """([name, url]) => new Promise((resolve) => {
             const made = document.createElement(name);
             made.onload = () => resolve("loaded");
             made.onerror = () => resolve("refused");
             if (name === "link") { made.rel = "stylesheet"; made.href = url; } else made.src = url;
             document.body.append(made);
           })""",
        [element, url],
    )


def fetches(frame, url, options=None):
    return frame.evaluate(
        """([url, options]) => fetch(url, options || {}).then(
             (response) => response.text(), () => "refused")""",
        [url, options],
    )


# Pages of other origins


def test_another_origin_gets_nothing(tab, node, good, unseen, elsewhere):
    key = key_of(tab, node, good)
    page = tab()
    page.allowed += BLOCKED
    page.page.goto(elsewhere)
    frame = page.page.main_frame
    socket = f"ws://{node.host}:{node.ui_port}/Websocket?wrapper_key={key}"
    assert websocket(frame, socket) == "refused"
    base = f"{node.url}/{good.address}"
    for url in (f"{base}/", f"{node.url}/", f"{node.url}/ZeroMsg-Internal/status"):
        assert fetches(frame, url) == "refused"
    assert fetches(frame, f"{base}/", {"headers": {"Accept": "text/html"}}) == "refused"
    operator = f"{node.url}/ZeroMsg-Internal/operator"
    assert fetches(frame, operator, {"method": "POST", "body": "{}"}) == "refused"
    # Nor does it find out which sites are here.
    for element, name in (("script", "js/zeroframe.js"), ("img", "picture.svg")):
        assert loads(frame, element, f"{node.url}/{unseen.address}/{name}") == "refused"
    # Nor does it frame a page to have the person click there.
    for url in (f"{base}/", f"{node.url}/", f"{base}/index.html?wrapper_nonce=0"):
        page.page.evaluate(
            "(url) => { const f = document.createElement('iframe'); f.src = url;"
            " document.body.append(f); }",
            url,
        )
    page.page.wait_for_timeout(300)
    framed = [each for each in page.page.frames[1:] if each.url.startswith(node.url)]
    assert framed == []


def test_a_rebound_name_gets_nothing(tab, tmp_path, good):
    """Chromium is told that evil.example is this machine, as after DNS rebinding."""
    with RunningNode(tmp_path, "127.0.0.1", sites={good.address: good.folder}) as node:
        node.start()
        key = key_of(tab, node, good)
        page = tab()
        page.allowed += BLOCKED
        evil = f"evil.example:{node.ui_port}"
        for path in (f"/{good.address}/", "/", f"/{good.address}/secret.js", "/uimedia/wrapper.js"):
            answer = page.page.goto(f"http://{evil}{path}")
            assert answer.status == 403
            assert answer.text() == "This host name is not allowed here.\n"
        frame = page.page.main_frame
        assert "wrapper_key" not in fetches(
            frame, f"/{good.address}/", {"headers": {"Accept": "text/html"}}
        )
        for host in (evil, f"127.0.0.1:{node.ui_port}", f"localhost:{node.ui_port}"):
            assert websocket(frame, f"ws://{host}/Websocket?wrapper_key={key}") == "refused"


# Zites


def test_a_zite_does_not_leave_its_frame(attacker, node, evil):
    frame = attacker.frame
    for reach in (
        "top.document.body", "parent.wrapper_key", "top.page_secret", "parent.Notices",
        "parent.own", "top.localStorage", "frameElement.src", "parent.eval('1')",
    ):  # fmt: skip
        assert frame.evaluate(
            "(code) => { try { return typeof (0, eval)(code) === 'object' && (0, eval)(code) "
            "? 'open' : 'nothing' } catch (e) { return e.name } }",
            reach,
        ) in ("SecurityError", "nothing", "TypeError")
    # Scripts through addresses run nowhere.
    for code in ("javascript:document.title='stolen'", "data:text/html,<script>1</script>"):
        frame.evaluate("(url) => { try { top.location = url } catch (e) {} }", code)
        frame.evaluate("(url) => z.cmd('wrapperOpenWindow', [url, '_top'])", code)
    attacker.page.wait_for_timeout(300)
    assert attacker.page.url == f"{node.url}/{evil.address}/"
    assert attacker.page.title() == "Evil"


def test_a_zite_reads_no_other_site(attacker, node, good, tab):
    other = tab().open(f"{node.url}/{good.address}/")
    ajax_key = other.ask("wrapperGetAjaxKey")
    base = f"{node.url}/{good.address}"
    frame = attacker.frame
    # Though it is open at the moment, and though its key leaked.
    assert loads(frame, "script", f"{base}/secret.js") == "refused"
    assert loads(frame, "img", f"{base}/secret.png") == "refused"
    assert loads(frame, "link", f"{base}/x.css") == "refused"
    assert fetches(frame, f"{base}/secret.js?ajax_key={ajax_key}") == "refused"
    assert fetches(frame, f"{base}/") == "refused"
    assert frame.evaluate("window.stolen") is None
    assert attacker.ask("fileGet", f"cors-{good.address}/secret.js") == {
        "error": f"denied: No permission for site {good.address}"
    }
    for cmd in ("fileGet", "fileList", "siteInfo", "userGetSettings", "fileQuery"):
        assert attacker.ask("as", [good.address, cmd, ["secret.js"]]) == {
            "error": f"denied: No permission for site {good.address}"
        }
    # Its own files it reads.
    own = attacker.ask("wrapperGetAjaxKey")
    assert own != ajax_key
    assert "ran" in attacker.frame.evaluate("z.cmdp('fileGet', 'plain.html')")


def test_a_zite_loads_nothing_from_outside(attacker, elsewhere):
    assert loads(attacker.frame, "img", f"{elsewhere}/x.png") == "refused"
    assert loads(attacker.frame, "script", f"{elsewhere}/x.js") == "refused"
    assert fetches(attacker.frame, elsewhere) == "refused"


def test_a_zite_has_no_websocket_of_its_own(attacker, node, good, evil, tab):
    for site in (good, evil):
        key = key_of(tab, node, site)
        url = f"ws://{node.host}:{node.ui_port}/Websocket?wrapper_key={key}"
        assert websocket(attacker.frame, url) == "refused"


def test_a_zite_answers_no_question_of_the_node(attacker):
    attacker.tell("corsPermission", "1" + "b" * 30)
    attacker.page.get_by_role("dialog").wait_for()
    attacker.frame.evaluate(
        """() => {
             for (let to = 0; to < 50; to++) {
               for (const result of [1, true, "yes", "Grant"]) {
                 parent.postMessage({ cmd: "response", to, result, id: 900 + to,
                                      wrapper_nonce: z.wrapper_nonce }, "*");
               }
             }
             // Nor does it press the button: it is in another document.
             parent.postMessage({ cmd: "zeromsgPrompt", params: {}, id: 1 }, "*");
           }"""
    )
    assert attacker.ask("ping") == "pong"
    assert attacker.ask("siteInfo")["settings"]["permissions"] == []
    # A made-up click does nothing either.
    attacker.until("!document.querySelector('#answers button').disabled")
    attacker.page.evaluate("document.querySelector('#answers button').click()")
    assert attacker.ask("siteInfo")["settings"]["permissions"] == []
    attacker.page.get_by_role("button", name="No").click()
    attacker.wait("answers.length === 1")
    assert attacker.frame.evaluate("answers[0].error").startswith("denied: ")


def test_no_message_id_gives_rights(attacker):
    results = attacker.frame.evaluate(
        """async () => {
             const results = [];
             for (const id of [1000000, 1000001, -1, 1e15, 0.5, 2 ** 40 + 1]) {
               for (const cmd of ["siteList", "permissionAdd", "certList", "permissionDetails"]) {
                 results.push(await new Promise((resolve) => {
                   const take = (event) => {
                     if (event.data.cmd !== "response" || event.data.to !== id) return;
                     removeEventListener("message", take);
                     resolve(event.data.result);
                   };
                   addEventListener("message", take);
                   parent.postMessage({ cmd, params: ["ADMIN"].slice(0, cmd[0] === "p" ? 1 : 0), id,
                                        wrapper_nonce: z.wrapper_nonce }, "*");
                 }));
               }
             }
             return results;
           }"""
    )
    assert len(results) == 24
    assert all("You don't have permission to run" in result["error"] for result in results)
    assert attacker.ask("siteInfo")["settings"]["permissions"] == []


def test_messages_without_the_pages_nonce_are_dropped(attacker):
    """The site has `postmessage_nonce_security`."""
    attacker.frame.evaluate(
        """() => {
             for (const wrapper_nonce of [undefined, "", "bad", null, 5]) {
               const message = { cmd: "wrapperSetTitle", params: "x", id: 1, wrapper_nonce };
               parent.postMessage(message, "*");
             }
           }"""
    )
    assert attacker.ask("ping") == "pong"
    assert attacker.page.title() == "Evil"


def test_another_window_speaks_for_no_zite(attacker, elsewhere):
    attacker.frame.evaluate(
        "(url) => { document.querySelector('h1').onclick = () => window.open(url) }", elsewhere
    )
    with attacker.page.context.expect_page() as opened:
        attacker.page.frame_locator("#inner-iframe").get_by_role("heading").click()
    opened.value.get_by_role("heading", name="Elsewhere").wait_for()
    # It does not know who opened it, so it reaches no page of the node.
    assert opened.value.evaluate("window.opener") is None
    # A message that does not come from the frame, with the right nonce at that.
    attacker.page.evaluate(
        "window.postMessage({cmd: 'wrapperSetTitle', params: 'x', id: 1, wrapper_nonce}, '*')"
    )
    assert attacker.ask("ping") == "pong"
    assert attacker.page.title() == "Evil"


def test_no_zite_signs_as_the_user_of_another(attacker, tab, node, good):
    reader = tab().open(f"{node.url}/{good.address}/")
    for key in (False, "stored"):
        for cmd, params in (
            ("peerBroadcast", {"message": "forged", "privatekey": key}),
            ("peerSend", {"ip": "self", "message": "forged", "privatekey": key}),
            ("peerReply", {"hash": "0" * 64, "message": "forged", "privatekey": key}),
        ):
            assert attacker.ask("as", [good.address, cmd, params]) == {
                "error": f"denied: No permission for site {good.address}"
            }
    assert "hash" in attacker.ask("as", [good.address, "peerBroadcast", {"message": "unsigned"}])
    reader.wait("received.some((e) => e.cmd === 'peerReceive')")
    assert reader.messages() == ["unsigned"]
    signed = reader.frame.evaluate("received.find((e) => e.cmd === 'peerReceive').params.signed_by")
    assert signed == ""


def test_no_script_comes_in_by_an_address(tab, node, evil):
    for path in (
        'a";alert`1`;".html',
        'index.html?"><script>alert(1)</script>',
        "?x=</script><script>alert(1)</script>",
        '#"><img src=x onerror=alert(1)>',
        "x.html?'-alert(1)-'",
    ):
        page = tab()
        page.allowed += BLOCKED
        page.page.on("dialog", lambda dialog: pytest.fail(f"it ran: {dialog.message}"))
        page.page.goto(f"{node.url}/{evil.address}/{path}")
        page.page.wait_for_timeout(100)
        assert "alert" not in page.page.evaluate("document.documentElement.dataset.page || ''")


def test_files_that_are_opened_by_themselves_run_no_script(tab, node, evil):
    for url in (f"/raw/{evil.address}/plain.html", f"/{evil.address}/index.html?wrapper_nonce=0"):
        page = tab()
        page.allowed += BLOCKED
        page.page.goto(node.url + url)
        assert page.page.title() != "ran"
    # Html with a nonce that leaked is fenced wherever it is shown.
    page = tab()
    page.allowed += BLOCKED
    page.page.goto(f"{node.url}/{evil.address}/")
    answer = page.page.request.get(
        f"{node.url}/{evil.address}/plain.html?wrapper_nonce="
        + page.page.evaluate("wrapper_nonce").replace("0", "1", 1)
    )
    assert "document.title = 'ran'" not in answer.text()


def test_a_zite_that_moves_its_frame_to_another_site_opens_that_one(attacker, node, good):
    attacker.frame.evaluate("(url) => { location.href = url }", f"/{good.address}/")
    attacker.page.wait_for_url(f"{node.url}/{good.address}/")
    assert attacker.page.title() == "Good"


def test_addresses_stay_those_of_the_site(attacker, node, evil, good):
    for url in (f"/{good.address}/", "//evil.example/", "../", "http://evil.example/", "\\\\x"):
        attacker.frame.evaluate("(url) => z.cmd('wrapperReplaceState', [{}, '', url])", url)
        assert attacker.ask("ping") == "pong"
        assert attacker.page.url.startswith(f"{node.url}/{evil.address}/?")


def test_the_page_of_the_node_tells_no_zite(attacker, node):
    assert fetches(attacker.frame, f"{node.url}/") == "refused"
    headers = {"headers": {"Authorization": "Page " + "0" * 64}}
    assert fetches(attacker.frame, f"{node.url}/ZeroMsg-Internal/status", headers) == "refused"
