"""A password before everything, for a node that can be reached from elsewhere.

Who gave it has a cookie, which no script can read and no other page can use.
Guessing is slowed down for each host. Frames of sites send no cookies, so that
the files of a site, and nothing else, are also given to the host of somebody
who is logged in.
"""

import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

from twisted.web.template import Tag, tags

COOKIE = "zeromsg_session"

LIFETIME = 7 * 24 * 3600.0
"""Seconds from a login."""

SESSIONS_LIMIT = 1000

GUESSES = 5
"""Wrong passwords of one host before it has to wait."""

GUESS_SECONDS = 30.0
"""After so long one more guess is forgiven."""

HOSTS_LIMIT = 10_000


class Sessions:
    """password: "" for none. now: seconds, never decreasing."""

    def __init__(
        self, password: str, entropy: Callable[[int], bytes], now: Callable[[], float]
    ) -> None:
        self._password = _digest(password)
        self.needed = bool(password)
        self._entropy = entropy
        self._now = now
        self._open: OrderedDict[bytes, tuple[float, str]] = OrderedDict()
        self._guesses: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def log_in(self, given: str, host: str) -> str | None:
        """The value of a new session's cookie; None for a wrong password.

        Raises ValueError, with the seconds to wait, after too many of them.
        """
        now = self._now()
        wrong, since = self._guesses.get(host, (0.0, now))
        wrong = max(0.0, wrong - (now - since) / GUESS_SECONDS)
        if wrong > GUESSES - 1:
            raise ValueError(str(int((wrong - GUESSES + 1) * GUESS_SECONDS) + 1))
        if not hmac.compare_digest(_digest(given), self._password):
            self._guesses[host] = (wrong + 1, now)
            self._guesses.move_to_end(host)
            while len(self._guesses) > HOSTS_LIMIT:
                self._guesses.popitem(last=False)
            return None
        self._guesses.pop(host, None)
        session = self._entropy(32).hex()
        self._open[_digest(session)] = (now + LIFETIME, host)
        while len(self._open) > SESSIONS_LIMIT:
            self._open.popitem(last=False)
        return session

    def is_logged_in(self, cookies: Iterable[bytes]) -> bool:
        return not self.needed or any(
            self._open.get(_digest(value), (0.0, ""))[0] > self._now() for value in _values(cookies)
        )

    def has_somebody(self, host: str) -> bool:
        """Whether somebody at this host is logged in."""
        now = self._now()
        return not self.needed or any(
            until > now and where == host for until, where in self._open.values()
        )


def cookie_header(session: str, secure: bool) -> str:
    """Source: RFC 6265; SameSite as in its revision."""
    end = "; Secure" if secure else ""
    return f"{COOKIE}={session}; Path=/; Max-Age={LIFETIME:.0f}; HttpOnly; SameSite=Strict{end}"


def _values(cookies: Iterable[bytes]) -> list[str]:
    return [
        value.strip()
        for line in cookies
        for part in line.decode("latin-1").split(";")
        for name, _, value in [part.partition("=")]
        if name.strip() == COOKIE
    ][:10]


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def login_page(target: str, problem: str) -> Any:
    """target: the path that was asked for. problem: why the last try failed, or ""."""
    return tags.html(lang="en")(
        tags.head(
            tags.meta(charset="utf-8"),
            tags.meta(name="viewport", content="width=device-width, initial-scale=1"),
            tags.title("zeromsg: password"),
            tags.link(rel="icon", href="/uimedia/icon.svg"),
            tags.link(rel="stylesheet", href="/uimedia/node.css"),
        ),
        tags.body(class_="login")(
            Tag("main")(
                tags.form(method="post", action="/ZeroMsg-Internal/login")(
                    tags.h1("zeromsg"),
                    tags.label("Password of this node", for_="password"),
                    tags.input(
                        id="password",
                        name="password",
                        type="password",
                        required="required",
                        autofocus="autofocus",
                        autocomplete="current-password",
                    ),
                    tags.input(type="hidden", name="target", value=target),
                    tags.p(problem, role="alert") if problem else "",
                    tags.button("Log in"),
                )
            )
        ),
    )
