"""What others hold, as they say."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeromsg.errors import ContentRefused
from zeromsg.policy.versions import (
    HOLDINGS_LIMIT,
    SAID_LIMIT,
    Versions,
    parse_modified,
    version,
)


def test_the_last_that_was_heard_counts():
    versions = Versions()
    assert versions.of("a", "site", "content.json") is None
    versions.learn("a", "site", "content.json", 5)
    versions.learn("a", "site", "content.json", 4)
    versions.learn("a", "site", "content.json", None)
    assert versions.of("a", "site", "content.json") == 4
    assert versions.of("b", "site", "content.json") is None
    assert versions.of("a", "other", "content.json") is None
    versions.forget("a")
    versions.forget("a")
    assert versions.of("a", "site", "content.json") is None


def test_what_one_holder_says_is_bounded():
    versions = Versions()
    for number in range(HOLDINGS_LIMIT + 1):
        versions.learn("a", "site", f"{number}/content.json", number)
    assert versions.of("a", "site", "0/content.json") is None
    assert versions.of("a", "site", "1/content.json") == 1


@pytest.mark.parametrize("value", [None, True, "5", b"5", [], math.nan, math.inf, -math.inf])
def test_what_is_no_version(value):
    assert version(value) is None


@pytest.mark.parametrize("value", [0, -1, 5, 5.5, 10**400])
def test_what_is_a_version(value):
    assert version(value) == (None if value == 10**400 else value)


def test_an_answer_is_read():
    files = {"content.json": 5, "data/users/1x/content.json": 6.5}
    assert parse_modified({"modified_files": files}) == files
    assert parse_modified({"modified_files": {}}) == {}
    assert parse_modified({"error": "Unknown site"}) is None


def test_paths_that_nobody_may_write_are_passed_over():
    files = {"../content.json": 1, "/content.json": 2, "a.txt": 3, "a\\content.json": 4, "": 5}
    assert parse_modified({"modified_files": {**files, "xcontent.json": 6}}) == {}


def test_the_root_is_read_however_much_stands_before_it():
    files = {f"{number}/content.json": number for number in range(SAID_LIMIT + 5)}
    said = parse_modified({"modified_files": {**files, "content.json": 7}})
    assert said["content.json"] == 7
    assert len(said) == SAID_LIMIT + 1


@pytest.mark.parametrize(
    "files", [[], "x", 5, {1: 2}, {"content.json": "x"}, {"content.json": math.nan}, {None: 1}]
)
def test_a_malformed_answer_is_refused(files):
    with pytest.raises(ContentRefused):
        parse_modified({"modified_files": files})


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=10,
)


@given(_JSON)
def test_nothing_else_is_raised(value):
    try:
        said = parse_modified({"modified_files": value})
    except ContentRefused:
        return
    assert said is None or all(name.endswith("content.json") for name in said)
