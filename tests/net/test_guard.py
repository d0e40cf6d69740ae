"""What is let out and what is not: decisions here, the whole process in tests/service."""

import socket
from typing import Any

import pytest

from zeromsg.net.guard import Attempt, Place, Watch


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("tcp:127.0.0.1:9051", Place("127.0.0.1", 9051)),
        ("127.0.0.1:9050", Place("127.0.0.1", 9050)),
        ("[::1]:9050", Place("::1", 9050)),
        (r"tcp:\:\:1:9050", Place("::1", 9050)),
        ("unix:/run/tor/control", Place(path="/run/tor/control")),
        ('unix:"/run/tor/socks"', Place(path="/run/tor/socks")),
    ],
)
def test_places(text: str, place: Place) -> None:
    assert Place.parse(text) == place
    assert place.is_local
    assert Place.parse(str(place)) == place


@pytest.mark.parametrize(
    "text", ["", "tcp:localhost:9051", "127.0.0.1", "tcp:127.0.0.1:0", "tcp:1.2.3.4:70000",
             "unix:relative", "unix:", "tcp:127.0.0.1:x"]
)  # fmt: skip
def test_no_places(text: str) -> None:
    with pytest.raises(ValueError):
        Place.parse(text)


def test_another_machine_is_never_allowed() -> None:
    with pytest.raises(ValueError, match="not on this machine"):
        Watch().allow(Place("192.0.2.1", 9050))


class Sock:
    def __init__(self, family: int = socket.AF_INET) -> None:
        self.family = family


INET, INET6, UNIX = Sock(), Sock(socket.AF_INET6), Sock(socket.AF_UNIX)


@pytest.mark.parametrize(
    ("event", "args", "attempt"),
    [
        ("connect", (INET, ("127.0.0.1", 9050)), Attempt("connect", "127.0.0.1:9050", True)),
        ("connect", (INET, ("127.0.0.1", 9999)), Attempt("connect", "127.0.0.1:9999", False)),
        ("connect", (INET, ("198.51.100.1", 9050)), Attempt("connect", "198.51.100.1:9050", False)),
        ("connect", (INET6, ("::1", 9050, 0, 0)), Attempt("connect", "[::1]:9050", False)),
        ("connect", (UNIX, "/run/x"), Attempt("connect", "unix:/run/x", True)),
        ("sendto", (INET, ("198.51.100.1", 1544)), Attempt("send", "198.51.100.1:1544", False)),
        ("sendmsg", (INET, ("127.0.0.1", 53)), Attempt("send", "127.0.0.1:53", False)),
        ("sendmsg", (INET, None), None),
        ("sendto", (UNIX, "/run/notify"), None),
        ("bind", (INET, ("127.0.0.1", 0)), Attempt("listen", "127.0.0.1:0", True)),
        ("bind", (INET, ("", 26552)), Attempt("listen", ":26552", False)),
        ("bind", (INET, ("0.0.0.0", 1)), Attempt("listen", "0.0.0.0:1", False)),
        ("bind", (INET6, ("::", 1)), Attempt("listen", "[::]:1", False)),
        ("bind", (INET6, ("::1", 1)), Attempt("listen", "[::1]:1", True)),
        ("getaddrinfo", ("tracker.invalid", 80), Attempt("resolve", "tracker.invalid", False)),
        ("getaddrinfo", (b"localhost", 80), Attempt("resolve", "localhost", False)),
        ("getaddrinfo", ("127.0.0.1", 80), Attempt("resolve", "127.0.0.1", True)),
        ("gethostbyname", ("name.invalid",), Attempt("resolve", "name.invalid", False)),
        ("gethostbyaddr", ("127.0.0.1",), Attempt("resolve", "127.0.0.1", False)),
        ("getnameinfo", (("127.0.0.1", 80),), Attempt("resolve", "('127.0.0.1', 80)", False)),
        ("__new__", (INET, 2, 1, 0), None),
    ],
)  # fmt: skip
def test_judgement(event: str, args: tuple[Any, ...], attempt: Attempt | None) -> None:
    watch = Watch()
    watch.allow(Place("127.0.0.1", 9050))
    watch.allow(Place(path="/run/tor/socks"))
    assert watch.judge(f"socket.{event}", args) == attempt
