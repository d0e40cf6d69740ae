"""The console of a site's messages: for sites that have no page, and for a look behind one."""

from typing import Any

from twisted.web.template import Tag, tags

from zeromsg.web.wrapper import script_values


def console_page(address: str, title: str, key: str, secret: str, script_nonce: str) -> Any:
    # The key stands before the title, which is the site's.
    return tags.html(lang="en")(
        tags.head(
            tags.meta(charset="utf-8"),
            script_values(script_nonce, wrapper_key=key, page_secret=secret),
            tags.meta(name="viewport", content="width=device-width, initial-scale=1"),
            tags.title(title),
            tags.link(rel="icon", href="/uimedia/icon.svg"),
            tags.link(rel="stylesheet", href="/uimedia/console.css"),
        ),
        tags.body(
            Tag("header")(
                tags.h1(title),
                tags.p(tags.a("All sites", href="/"), " ", tags.code(address)),
                tags.p(tags.span(id="state", role="status")),
            ),
            tags.section(id="prompts", **{"aria-live": "assertive"}),
            Tag("main")(tags.ol(id="messages", **{"aria-live": "polite"})),
            tags.form(id="send")(
                tags.label("Message (JSON or text) ", for_="message"),
                tags.input(id="message", autocomplete="off", autofocus="autofocus"),
                tags.label(tags.input(type="checkbox", id="sign"), " signed"),
                tags.button("Broadcast"),
            ),
            tags.script(src="/uimedia/console.js", nonce=script_nonce),
        ),
    )
