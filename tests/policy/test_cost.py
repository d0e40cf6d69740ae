import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeromsg.policy.cost import count_values, most_values

messages = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text("a\u00e9", max_size=2),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("ab"), inner),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("message", "count"),
    [
        (None, 1),
        ("text", 1),
        ([], 1),
        ({}, 1),
        ([1, [2, 3], {"a": None}], 7),
        ({"a": {"b": {"c": "d"}}}, 4),
        ([[]] * 20_000, 20_001),
    ],
)
def test_a_message_counts_itself_and_all_that_is_in_it(message, count):
    assert count_values(message) == count


def test_depth_does_not_matter():
    message = []
    for _ in range(5000):
        message = [message]
    assert count_values(message) == 5001


@given(messages)
def test_no_text_has_more_values_than_its_length_allows(message):
    assert count_values(message) <= most_values(len(json.dumps(message)))


@pytest.mark.parametrize("text", ["1", "[]", "[[]]", "[[[]]]", "{}"])
def test_the_shortest_texts_of_many_values(text):
    assert count_values(json.loads(text)) in (most_values(len(text)), most_values(len(text)) - 1)
