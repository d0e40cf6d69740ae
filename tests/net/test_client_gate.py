"""Host and Origin: who may open a page or a WebSocket."""

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeromsg.net.client_gate import host_allowed, origin_allowed, split_host

PORT = 43110


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:43110",
        "127.0.0.1",
        "127.0.0.1:1",
        "8.8.8.8",
        "192.168.1.5:43110",
        "[::1]:43110",
        "[::1]",
        "[2001:DB8::1]:80",
        "localhost:43110",
        "LOCALHOST:43110",
        "node.example",
        "node.example:43110",
        "NODE.example:8080",
    ],
)
def test_hosts_that_are_allowed(host):
    assert host_allowed(host, PORT, ["node.example"])


@pytest.mark.parametrize(
    "host",
    [
        "",
        ":43110",
        "evil.example",
        "evil.example:43110",
        "localhost",
        "localhost:80",
        "localhost:",
        "localhost.evil.example:43110",
        "127.0.0.1.evil.example",
        "127.0.0.1:43110@evil.example",
        "evil.example#127.0.0.1",
        "127.0.0.1:x",
        "127.0.0.1:-1",
        "127.0.0.1:999999",
        "127.0.0.1:\uff14\uff13\uff11\uff11\uff10",
        "127.0.0.1 ",
        " 127.0.0.1",
        "127.1",
        "0x7f000001",
        "2130706433",
        "0177.0.0.1",
        "[::1",
        "::1",
        "::1:43110",
        "[]",
        "[evil.example]",
        "[127.0.0.1",
        "zero",
        "node.example.evil",
        "xnode.example",
        # A zone could hold anything, and stands in no URL of a browser.
        "[::1%evil.example]",
        "[fe80::1%eth0]:43110",
        "[::1%;script-src *]",
    ],
)
def test_hosts_that_are_not(host):
    assert not host_allowed(host, PORT, ["node.example"])


def test_localhost_needs_no_port_where_it_is_the_usual_one():
    assert host_allowed("localhost", 80, [])
    assert host_allowed("localhost:80", 80, [])
    assert not host_allowed("localhost:81", 80, [])


def test_names_are_allowed_only_by_the_operator():
    assert not host_allowed("node.example", PORT, [])


def test_nothing_is_looked_up(monkeypatch):
    def refuse(*arguments):
        raise AssertionError("a name was looked up")

    for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex"):
        monkeypatch.setattr(socket, name, refuse)
    assert not host_allowed("evil.example:43110", PORT, [])
    assert not origin_allowed("http://evil.example", "127.0.0.1:43110")


@pytest.mark.parametrize(
    ("host", "parts"),
    [
        ("a.example:80", ("a.example", 80)),
        ("a.example", ("a.example", None)),
        ("a.example:", ("a.example", None)),
        ("[::1]:80", ("::1", 80)),
        ("[::1]", ("::1", None)),
        ("a:b:80", (None, None)),
        (":80", (None, 80)),
        ("", (None, None)),
    ],
)
def test_the_parts_of_a_host(host, parts):
    assert split_host(host) == parts


@given(st.text(max_size=30))
def test_any_host_has_a_verdict(host):
    assert host_allowed(host, PORT, ["node.example"]) in (True, False)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (None, "127.0.0.1:43110"),
        ("", "127.0.0.1:43110"),
        ("http://127.0.0.1:43110", "127.0.0.1:43110"),
        # ZeroNet ignores the scheme: a proxy may have added TLS.
        ("https://127.0.0.1:43110", "127.0.0.1:43110"),
        ("http://localhost:43110", "LocalHost:43110"),
        ("http://[::1]:43110", "[::1]:43110"),
    ],
)
def test_origins_that_are_allowed(origin, host):
    assert origin_allowed(origin, host)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("null", "127.0.0.1:43110"),
        ("http://127.0.0.1:43111", "127.0.0.1:43110"),
        ("http://127.0.0.1", "127.0.0.1:43110"),
        ("http://localhost:43110", "127.0.0.1:43110"),
        ("http://evil.example", "127.0.0.1:43110"),
        ("http://evil.example/127.0.0.1:43110", "127.0.0.1:43110"),
        ("file://", "127.0.0.1:43110"),
        ("file://", ""),
        ("chrome-extension://127.0.0.1:43110", "127.0.0.1:43110"),
        ("127.0.0.1:43110", "127.0.0.1:43110"),
        ("http:127.0.0.1:43110", "127.0.0.1:43110"),
        ("http://127.0.0.1:43110/", "127.0.0.1:43110"),
        ("HTTP://127.0.0.1:43110", "127.0.0.1:43110"),
    ],
)
def test_origins_that_are_not(origin, host):
    assert not origin_allowed(origin, host)
