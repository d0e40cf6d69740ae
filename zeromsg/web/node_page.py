"""`/`: what the node does, for its operator. The figures come by `static/node.js`."""

from typing import Any

from twisted.web.template import Tag, tags

from zeromsg.web.wrapper import script_values

COMMANDS = ("site_join", "site_leave", "bans", "pardon")
"""What the page may do. It has no key of a user, and no way to one."""


def _part(name: str, title: str, *content: Any) -> Tag:
    heading = tags.h2(title, id=f"{name}-title")
    return tags.section(id=name, **{"aria-labelledby": f"{name}-title"})(heading, *content)


def _table(name: str, *columns: str) -> Tag:
    heads = [tags.th(column, scope="col") for column in columns]
    return tags.div(class_="wide")(
        tags.table(id=name)(tags.thead(tags.tr(*heads)), tags.tbody()),
        tags.p("None.", class_="none", id=f"no-{name}"),
    )


def node_page(secret: str, script_nonce: str) -> Any:
    """secret: of this page, by which the node knows it."""
    return tags.html(lang="en")(
        tags.head(
            tags.meta(charset="utf-8"),
            script_values(script_nonce, node_secret=secret),
            tags.meta(name="viewport", content="width=device-width, initial-scale=1"),
            tags.title("zeromsg"),
            tags.link(rel="icon", href="/uimedia/icon.svg"),
            tags.link(rel="stylesheet", href="/uimedia/node.css"),
        ),
        tags.body(
            Tag("header")(
                tags.h1("zeromsg"),
                tags.p(id="state", role="status")("connecting …"),
            ),
            Tag("main")(
                Tag("ul")(id="figures", **{"aria-label": "Figures"}),
                _part(
                    "sites",
                    "Sites",
                    _table("site-list", "Site", "State", "Peers", "Pages", "Waiting", ""),
                    tags.form(id="join")(
                        tags.label("Address of a site ", for_="address"),
                        tags.input(
                            id="address",
                            required="required",
                            autocomplete="off",
                            spellcheck="false",
                            maxlength="35",
                            pattern="[A-Za-z0-9]{26,35}",
                            title="26 to 35 letters and digits",
                        ),
                        tags.button("Join"),
                        tags.span(id="joined", role="status"),
                    ),
                ),
                _part("messages", "Messages", Tag("dl")(id="counts")),
                _part(
                    "peers",
                    "Peers",
                    _table("peer-list", "Peer", "Connection", "Software", "Points"),
                ),
                _part("bans", "Bans", _table("ban-list", "Who", "Until", "Why", "")),
            ),
            tags.noscript(tags.p("The figures of this page need JavaScript.")),
            tags.script(src="/uimedia/node.js", nonce=script_nonce),
        ),
    )
