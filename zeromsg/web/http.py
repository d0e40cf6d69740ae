"""What all pages share: headers, values of requests, refusals."""

from typing import Any

from twisted.web.http import Request
from twisted.web.server import NOT_DONE_YET
from twisted.web.template import flattenString

HEADERS = {
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache, no-store, private, must-revalidate, max-age=0",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
"""Of every answer that says nothing else."""


def header(request: Request, name: bytes) -> str | None:
    # As bytes: Twisted decodes what it is asked for as text, and raises when it cannot.
    value = request.getHeader(name)
    return None if value is None else value.decode("latin-1")


def argument(request: Request, name: bytes) -> str:
    """A value of the query or form; of several the last, as ZeroNet takes it."""
    return request.args.get(name, [b""])[-1].decode("latin-1")


def is_loopback(host: str) -> bool:
    """Whether a Host header names this machine, so that browsers trust plain connections."""
    return host.startswith(("127.", "localhost:", "[::1]")) or host == "localhost"


def refuse(request: Request, code: int, text: str) -> bytes:
    request.setResponseCode(code)
    request.setHeader("Content-Type", "text/plain; charset=utf-8")
    return f"{text}\n".encode()


def page_policy(host: str, nonce: str | None = None, more: str = "", forms: str = "'none'") -> str:
    """The Content-Security-Policy of a page of the node's own: nothing from elsewhere.

    host: a Host header that was checked. nonce: of its scripts, None for none.
    more: further directives. forms: where its forms may lead.
    """
    scripts = f"script-src 'nonce-{nonce}'; " if nonce else ""
    return (
        f"default-src 'none'; {scripts}style-src 'self'; img-src 'self' data:; "
        f"connect-src 'self' ws://{host} wss://{host}; base-uri 'none'; "
        f"form-action {forms}; frame-ancestors 'none'{more}"
    )


def send_page(request: Request, page: Any) -> int:
    """Answer with a page, an element or tag of `twisted.web.template`."""
    request.setHeader("Content-Type", "text/html; charset=utf-8")
    flat = flattenString(None, page)
    flat.addCallback(lambda html: request.write(b"<!doctype html>\n" + html))
    flat.addCallback(lambda _: request.finish())
    return NOT_DONE_YET


def is_loaded_by_a_person(request: Request) -> str:
    """Why a request may not load a page with secrets in it, "" where it may.

    Pages of other origins cannot ask with such an Accept without the browser
    asking us first, and what a browser embeds or fetches says so. Source:
    ZeroFrame API, when the wrapper page is given.
    """
    accept = header(request, b"accept") or ""
    if "text/html" not in accept:
        return f"Invalid Accept header to load wrapper: {accept[:100]}"
    if (header(request, b"x-requested-with") or "").lower() == "xmlhttprequest":
        return "Ajax request not allowed to load wrapper"
    purpose = f"{header(request, b'x-moz')} {header(request, b'purpose')}"
    if "prefetch" in f"{purpose} {header(request, b'sec-purpose')}".lower():
        return "Prefetch not allowed to load wrapper"
    if header(request, b"sec-fetch-dest") not in (None, "document"):
        return "Only a page of its own may load the wrapper"
    return ""
