"""The page around a site: `static/wrapper.html` with the values of one visit.

Nothing of the request stands in it. Programs take the first `wrapper_key` they
find, so it comes before everything that a site says of itself.
"""

import json
from importlib import resources
from typing import Any

import attrs
from twisted.web.http import Request
from twisted.web.template import Element, Tag, XMLString, renderer, tags

from zeromsg.web.files import SANDBOX
from zeromsg.web.http import page_policy

_TEMPLATE = (resources.files("zeromsg.web") / "static" / "wrapper.html").read_text()


@attrs.frozen
class Visit:
    """One page that is served.

    key, secret, ajax_key, wrapper_nonce: hex digits. script_nonce: of the
    page's own scripts. inner_path: what the frame shows. here: whether it is
    at this node. nonce_needed: whether the site wants each message of the frame
    to carry the wrapper nonce.
    """

    address: str
    title: str
    key: str
    secret: str
    ajax_key: str
    wrapper_nonce: str
    script_nonce: str
    inner_path: str
    here: bool
    nonce_needed: bool


def script_values(script_nonce: str, **values: str) -> Tag:
    """A script that sets variables to hex digits, in this order."""
    assert all(value.isalnum() for value in values.values())
    script = "".join(f'var {name} = "{value}"; ' for name, value in values.items())
    return tags.script(script, nonce=script_nonce)


def wrapper_policy(host: str, script_nonce: str) -> str:
    return page_policy(host, script_nonce, "; frame-src 'self'")


class WrapperPage(Element):
    loader = XMLString(_TEMPLATE)

    def __init__(self, visit: Visit) -> None:
        super().__init__()
        self._visit = visit

    @renderer
    def values(self, request: Request, tag: Tag) -> Any:
        visit = self._visit
        return script_values(
            visit.script_nonce,
            wrapper_key=visit.key,
            page_secret=visit.secret,
            wrapper_nonce=visit.wrapper_nonce,
            ajax_key=visit.ajax_key,
        )

    @renderer
    def page(self, request: Request, tag: Tag) -> Any:
        visit = self._visit
        values = {
            "address": visit.address,
            "title": visit.title,
            "innerPath": visit.inner_path,
            "here": visit.here,
            "nonceNeeded": visit.nonce_needed,
        }
        return tag(**{"data-page": json.dumps(values)})

    @renderer
    def title(self, request: Request, tag: Tag) -> Any:
        return self._visit.title

    @renderer
    def address(self, request: Request, tag: Tag) -> Any:
        return self._visit.address

    @renderer
    def console(self, request: Request, tag: Tag) -> Any:
        return tag(href=f"/console/{self._visit.address}")

    @renderer
    def frame(self, request: Request, tag: Tag) -> Any:
        return tag(sandbox=SANDBOX, title=self._visit.title)

    @renderer
    def nonce(self, request: Request, tag: Tag) -> Any:
        return tag(nonce=self._visit.script_nonce)


def way_out(script_nonce: str) -> Tag:
    """What the frame gets for a page that needs a wrapper: it opens that at the top."""
    # An ampersand would be escaped here, which scripts are not to be.
    script = "top.location.replace(location.href.replace(/[?\\x26]wrapper_nonce=[a-z0-9]*/gi, ''));"
    return tags.html(lang="en")(
        tags.head(tags.meta(charset="utf-8"), tags.title("…")),
        tags.body(tags.script(script, nonce=script_nonce)),
    )


def way_out_policy(script_nonce: str) -> str:
    return (
        f"default-src 'none'; script-src 'nonce-{script_nonce}'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'self'; sandbox allow-scripts allow-top-navigation"
    )
