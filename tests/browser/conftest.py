"""Real pages in headless Chromium against real nodes on loopback.

Chromium is Debian's; the library that zites use comes from npm, unmodified, into
a folder that is not part of the repository. Where either is missing these tests
are skipped, but on CI they fail. Screenshots go to `artifacts/browser`.
"""

import itertools
import os
import re
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest

from zeromsg.service.site_making import new_site
from zeromsg.testing.processes import RunningNode, wait_for

ROOT = Path(__file__).parents[2]
SCREENSHOTS = ROOT / "artifacts" / "browser"
NPM = ROOT / ".cache" / "npm"
LIBRARY = "zeroframe@1.2.0"

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # A name of somebody else's that leads here: DNS rebinding without a DNS.
    "--host-resolver-rules=MAP evil.example 127.0.0.1",
]

PAGE = """<!doctype html>
<meta charset="utf-8"><title>Bench</title>
<style>body { font: 16px system-ui; margin: 2rem; } img { display: none }</style>
<h1>Bench</h1><ol id="log"></ol>
<script>var exports = {};</script>
<script src="js/zeroframe.js"></script>
<script>
  const received = [];
  let opened = 0, closed = 0;
  class Page extends exports.default {
    onOpenWebsocket() { opened++; }
    onCloseWebsocket() { closed++; }
    onRequest(cmd, message) {
      received.push({ cmd, params: message.params });
      if (cmd !== "peerReceive") return;
      const line = document.createElement("li");
      line.textContent = JSON.stringify(message.params.message);
      document.getElementById("log").append(line);
      if (message.params.ip !== "self") this.cmd("peerValid", [message.params.hash]);
    }
    // An answer, an error as it is.
    ask(cmd, params) { return new Promise((resolve) => this.cmd(cmd, params, resolve)); }
  }
  const z = new Page();
</script>
"""

_hosts = itertools.cycle(range(70, 120))


def missing(what: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is missing, and on CI nothing is skipped")
    pytest.skip(f"{what} is missing")


@pytest.fixture(scope="session")
def library() -> bytes:
    """The npm package `zeroframe` as it is published."""
    file = NPM / "node_modules" / "zeroframe" / "dist" / "zeroframe.js"
    if not file.exists():
        npm = shutil.which("npm")
        if npm is None:
            missing("npm")
        NPM.mkdir(parents=True, exist_ok=True)
        command = [str(npm), "install", "--no-audit", "--no-fund", "--ignore-scripts"]
        subprocess.run([*command, "--prefix", str(NPM), LIBRARY], check=True, timeout=120)
    return file.read_bytes()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    try:
        import playwright.sync_api as playwright
    except ImportError:
        missing("playwright")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if program is None:
        missing("chromium")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


@attrs.define
class Tab:
    """A page, and what it complained of. allowed: complaints that a test provokes."""

    page: Any
    errors: list[str] = attrs.Factory(list)
    allowed: list[str] = attrs.Factory(list)

    @property
    def frame(self) -> Any:
        """The site's own page."""
        return self.page.locator("#inner-iframe").element_handle().content_frame()

    def open(self, url: str) -> "Tab":
        """Load a site's page, and wait until it has a connection."""
        self.page.goto(url)
        self.wait("opened > 0")
        return self

    def wait(self, condition: str) -> Any:
        """Wait until something of the site's page is true."""
        self.page.wait_for_selector("#inner-iframe:not([hidden])")
        return self.frame.wait_for_function(condition)

    def until(self, condition: str) -> None:
        """Wait until something of the wrapper is true. Its policy forbids Playwright's own way."""
        wait_for(lambda: self.page.evaluate(condition), 10, condition)

    def ask(self, cmd: str, params: Any = None) -> Any:
        """The answer to a command of the site's page."""
        arguments = [cmd, {} if params is None else params]
        return self.frame.evaluate("([cmd, params]) => z.ask(cmd, params)", arguments)

    def tell(self, cmd: str, params: Any = None) -> None:
        """A command whose answer is kept in `answers` of the site's page."""
        arguments = [cmd, {} if params is None else params]
        self.frame.evaluate(
            "([cmd, params]) => { window.answers = window.answers || [];"
            " z.cmd(cmd, params, (answer) => answers.push(answer)); }",
            arguments,
        )

    def messages(self) -> list[Any]:
        return list(
            self.frame.evaluate(
                "received.filter((e) => e.cmd === 'peerReceive').map((e) => e.params.message)"
            )
        )

    def shot(self, name: str) -> None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=str(SCREENSHOTS / f"{name}.png"))

    def complaints(self) -> list[str]:
        return [
            error
            for error in self.errors
            if not any(re.search(each, error) for each in self.allowed)
        ]


@pytest.fixture
def tab(chromium: Any) -> Iterator[Callable[..., Tab]]:
    """Opens pages, each of a new visitor; none may complain of anything unexpected."""
    tabs: list[Tab] = []
    contexts: list[Any] = []

    def make(context: Any = None, **options: Any) -> Tab:
        if context is None:
            context = chromium.new_context(viewport={"width": 1000, "height": 640}, **options)
            context.set_default_timeout(10_000)
            contexts.append(context)
        made = Tab(context.new_page())
        made.page.on(
            "console",
            lambda message: made.errors.append(message.text) if message.type == "error" else None,
        )
        made.page.on("pageerror", lambda error: made.errors.append(str(error)))
        tabs.append(made)
        return made

    yield make
    complaints = [complaint for each in tabs for complaint in each.complaints()]
    for context in contexts:
        context.close()
    assert complaints == []


@attrs.frozen
class Zite:
    address: str
    folder: Path


@pytest.fixture(scope="module")
def zite(tmp_path_factory: pytest.TempPathFactory, library: bytes) -> Callable[..., Zite]:
    """Makes a site with the bench page, the library and further files."""

    def make(files: Mapping[str, str] | None = None, title: str = "Bench") -> Zite:
        folder = tmp_path_factory.mktemp("zite")
        (folder / "js").mkdir()
        (folder / "js" / "zeroframe.js").write_bytes(library)
        for name, text in {"index.html": PAGE, **(files or {})}.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        return Zite(new_site(folder, title, secrets.token_bytes, time.time).address, folder)

    return make


@pytest.fixture(scope="module")
def new_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., RunningNode]]:
    """Makes nodes that end with the module, as in the integration tests."""
    nodes: list[RunningNode] = []

    def make(**arguments: Any) -> RunningNode:
        host = f"127.0.0.{next(_hosts)}"
        node = RunningNode(tmp_path_factory.mktemp("node"), host, **arguments)
        nodes.append(node)
        return node

    yield make
    for node in nodes:
        node.kill()
