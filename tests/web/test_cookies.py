"""The cookie that names a user: found where it stands, and never guessed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeromsg.web.cookies import VALUE_LIMIT, master_address

BOB = "14zYsumkkNEMH4t6w72cvy8fDDhAGvGQCt"
ALICE = "13PcFigYGZpw1fKkMrme37WvtXVE9695S1"


@pytest.mark.parametrize(
    "headers",
    [
        [f"master_address={BOB}"],
        [f"  master_address = {BOB}  "],
        [f'master_address="{BOB}"'],
        [f"a=b; master_address={BOB}; c=d"],
        [f"a=b;master_address={BOB};"],
        ["a=b", f"master_address={BOB}"],
        [f"master_address={BOB}; master_address={BOB}"],
        [f"; ;=; =x; junk; master_address={BOB}"],
        [f"\u00ff=\u00fe; master_address={BOB}"],
    ],
)
def test_where_it_stands(headers):
    assert master_address(header.encode("latin-1") for header in headers) == BOB


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [""],
        ["a=b"],
        ["master_address"],
        [f"xmaster_address={BOB}"],
        [f"MASTER_ADDRESS={BOB}"],
        [f"a=master_address={BOB}"],
        [f"master_address2={BOB}"],
    ],
)
def test_where_it_does_not(headers):
    assert master_address(header.encode() for header in headers) is None


@pytest.mark.parametrize(
    "headers",
    [
        ["master_address="],
        ["master_address= "],
        ['master_address=""'],
        [f"master_address={BOB}; master_address={ALICE}"],
        [f"master_address={BOB}", f"master_address={ALICE}"],
        [f"master_address={BOB}; master_address="],
        [f"master_address={BOB} x"],
        [f"master_address={BOB}=x"],
        ["master_address=../x"],
        ["master_address=\u00e9"],
        ["master_address=" + "1" * (VALUE_LIMIT + 1)],
    ],
)
def test_what_names_nobody_is_refused(headers):
    with pytest.raises(ValueError, match="the cookie master_address"):
        master_address(header.encode("latin-1") for header in headers)


_other = st.binary(max_size=40).filter(lambda part: b"master_address" not in part)


@given(st.lists(st.binary(max_size=80), max_size=4))
def test_any_bytes_give_an_address_or_a_refusal(headers):
    try:
        found = master_address(headers)
    except ValueError:
        return
    assert found is None or (found.isalnum() and len(found) <= VALUE_LIMIT)


@given(st.lists(_other, max_size=5), st.lists(_other, max_size=5))
def test_other_cookies_change_nothing(before, after):
    parts = [*before, f"master_address={BOB}".encode(), *after]
    assert master_address([b";".join(parts)]) == BOB
    assert master_address([b";".join([*before, *after])]) is None
