import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeromsg.errors import Unreachable
from zeromsg.wire.trackers import (
    REASON_LIMIT,
    Tracker,
    TrackerRefused,
    parse_tracker,
    plain_words,
)
from zeromsg.wire.values import PeerAddress

DUCK = "duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad.onion"


@pytest.mark.parametrize(
    ("text", "tracker"),
    [
        ("zero://192.0.2.1:15441", Tracker("zero", "192.0.2.1", 15441)),
        ("ZERO://Tracker.Example:443", Tracker("zero", "tracker.example", 443)),
        (f"zero://{DUCK}:15441", Tracker("zero", DUCK, 15441)),
        ("zero://[2001:DB8:0::1]:15441", Tracker("zero", "2001:db8::1", 15441)),
        # As ZeroNet writes it: the last colon separates the port.
        ("zero://2001:db8::1:15441", Tracker("zero", "2001:db8::1", 15441)),
        ("http://tracker.example", Tracker("http", "tracker.example", 80)),
        ("https://tracker.example", Tracker("https", "tracker.example", 443)),
        (
            "http://tracker.example:6969/announce",
            Tracker("http", "tracker.example", 6969, "/announce"),
        ),
        (
            "https://t.example/announce.php?passkey=a1",
            Tracker("https", "t.example", 443, "/announce.php?passkey=a1"),
        ),
        ("http://[::1]/announce", Tracker("http", "::1", 80, "/announce")),
        (f"http://{DUCK}/announce", Tracker("http", DUCK, 80, "/announce")),
        ("udp://tracker.example:6969", Tracker("udp", "tracker.example", 6969)),
        ("udp://tracker.example:6969/announce", Tracker("udp", "tracker.example", 6969)),
        ("udp://[2001:db8::1]:80/", Tracker("udp", "2001:db8::1", 80)),
    ],
)
def test_what_trackers_are_called(text, tracker):
    assert parse_tracker(text) == tracker


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no tracker such as"),
        ("tracker.example:80", "no tracker such as"),
        ("ftp://tracker.example:80", "no tracker such as"),
        ("zero://", "no tracker such as"),
        ("zero://192.0.2.1", "port from 1 to 65535"),
        ("udp://tracker.example", "port from 1 to 65535"),
        ("zero://192.0.2.1:0", "port from 1 to 65535"),
        ("zero://192.0.2.1:65536", "port from 1 to 65535"),
        ("zero://192.0.2.1:015441", "port from 1 to 65535"),
        ("http://tracker.example:/x", "port from 1 to 65535"),
        ("zero://192.0.2.999:80", "neither an IP address"),
        ("zero://1.2.3:80", "neither an IP address"),
        ("zero://[tracker.example]:80", "brackets"),
        ("zero://[::1:80", "brackets"),
        ("http://[::1]x80/", "brackets"),
        ("http://2001:db8::1/", "needs brackets"),
        ("zero://2001:db8::1::5:80", "no IPv6 address"),
        ("zero://fe80::1%eth0:80", "has a zone"),
        ("zero://user@tracker.example:80", "does not name a host"),
        ("zero://-a.example:80", "does not name a host"),
        ("zero://a..example:80", "does not name a host"),
        ("zero://boot3rdez4rzn36x.onion:15441", "version 2"),
        (f"zero://a{DUCK[1:]}:15441", "checksum"),
        (f"udp://{DUCK}:80", "UDP to an onion"),
        ("zero://192.0.2.1:80/path", "has a path"),
        ("http://t.example/a b", "percent-encoded"),
        ("http://t.example/a\r\nHost: x", "no tracker such as"),
        ("zero://t.example#" + "ab" * 32 + ":443", "pins a certificate"),
        ("http://t.exämple/", "too foreign"),
        ("http://t.example/" + "a" * 600, "too long"),
    ],
)
def test_what_is_no_tracker(text, reason):
    with pytest.raises(ValueError, match=reason):
        parse_tracker(text)


@given(st.text(max_size=60) | st.text("zeroudphttps:/.[]0123456789abcdef#?", max_size=40))
def test_any_text_is_a_tracker_or_refused_with_a_sentence(text):
    for candidate in (text, "http://" + text, "zero://" + text):
        try:
            tracker = parse_tracker(candidate)
        except ValueError as error:
            assert str(error)
            continue
        assert parse_tracker(str(tracker)) == tracker


def test_a_passkey_is_not_part_of_the_name():
    tracker = parse_tracker("https://t.example/announce?passkey=secret")
    assert tracker.name == "https://t.example:443"
    assert str(tracker) == "https://t.example:443/announce?passkey=secret"


def test_a_host_that_is_an_address_needs_no_look_up():
    assert parse_tracker("zero://[2001:db8::1]:80").address == PeerAddress("2001:db8::1", 80)
    assert parse_tracker(f"zero://{DUCK}:80").address == PeerAddress(DUCK, 80)
    assert parse_tracker("zero://t.example:80").address is None


def test_a_refusal_is_nobody_s_fault():
    refused = TrackerRefused("no", retry=60.0)
    assert isinstance(refused, Unreachable)
    assert (str(refused), refused.retry) == ("no", 60.0)
    assert TrackerRefused("no").retry is None


@given(st.text() | st.binary())
def test_words_of_strangers_fit_a_log_line(words):
    shown = plain_words(words)
    assert len(shown) <= REASON_LIMIT
    assert shown.isprintable()


def test_words_of_strangers_are_kept_where_they_can_be():
    assert plain_words("nein, später".encode()) == "nein, später"
    assert plain_words("two\nlines\x1b[31m") == "two lines [31m"
