import json

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zeromsg.policy.rules import BadRules, site_rules
from zeromsg.policy.schema import NESTING_LIMIT, SCHEMA_LIMIT, BadSchema, Schema

LARGEST = 64_000
"""Characters of a message as large as peers may send."""


def passes(schema, message):
    compiled = schema if isinstance(schema, Schema) else Schema(schema)
    return compiled.passes(message, len(json.dumps(message)))


POST = {
    "type": "object",
    "properties": {
        "cmd": {"enum": ["post", "vote"]},
        "text": {"type": "string", "minLength": 1, "maxLength": 50},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 3, "uniqueItems": True},
        "price": {"multipleOf": 0.5},
    },
    "required": ["cmd"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("message", "fits"),
    [
        ({"cmd": "post", "text": "hello", "tags": ["a", "b"]}, True),
        ({"cmd": "vote", "price": 2.5}, True),
        ({"cmd": "vote", "price": 2.3}, False),
        ({"text": "hello"}, False),
        ({"cmd": "other"}, False),
        ({"cmd": "post", "text": ""}, False),
        ({"cmd": "post", "tags": ["a", "a"]}, False),
        ({"cmd": "post", "more": 1}, False),
        ("post", False),
        (None, False),
    ],
)
def test_a_message_fits_or_not(message, fits):
    assert passes(POST, message) is fits


@pytest.mark.parametrize(("schema", "fits"), [(True, True), (False, False), ({}, True)])
def test_the_simplest_schemas(schema, fits):
    assert passes(schema, {"any": ["thing"]}) is fits


@pytest.mark.parametrize("schema", [None, 5, 1.5, "text", [], [{}], b"{}"])
def test_what_is_no_schema_is_refused(schema):
    with pytest.raises(BadSchema, match="schema must be a JSON Schema"):
        Schema(schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "nothing"},
        {"type": 5},
        {"minimum": "x"},
        {"required": "a"},
        {"pattern": "("},
        {"patternProperties": {"(": {}}},
        {"properties": []},
        {"items": 5},
        {"enum": 5},
        {"allOf": []},
        {"multipleOf": 0},
        {"$ref": 5},
        {"a": float("nan")},
        {"minimum": 10**5000},
    ],
    ids=lambda schema: next(iter(schema)),
)
def test_a_schema_that_is_wrong_is_refused_with_a_sentence(schema):
    with pytest.raises(BadSchema, match=r"^schema does not compile: ") as refused:
        Schema(schema)
    assert len(str(refused.value)) < 400


def test_a_schema_may_be_as_long_as_the_limit():
    def schema(length):
        empty = len('{"$comment":""}')
        return {"$comment": "a" * (length - empty)}

    assert passes(schema(SCHEMA_LIMIT), 1)
    with pytest.raises(BadSchema, match="longer than 32768 bytes"):
        Schema(schema(SCHEMA_LIMIT + 1))
    with pytest.raises(BadSchema, match="longer than"):
        Schema({"pattern": "a" * 1024 * 1024})


# References.


def test_references_to_its_own_parts():
    tree = {
        "$ref": "#/$defs/node",
        "$defs": {
            "node": {
                "properties": {"name": {"type": "string"}, "a/b~c": {"$ref": "#/$defs/node"}},
                "additionalProperties": {"type": "array", "items": {"$ref": "#/$defs/node"}},
                "required": ["name"],
            },
            "escaped": {"$ref": "#/$defs/node/properties/a~1b~0c"},
        },
    }
    assert passes(tree, {"name": "x", "a/b~c": {"name": "y"}, "list": [{"name": "z"}]})
    assert not passes(tree, {"name": "x", "a/b~c": {"name": 5}})
    assert not passes(tree, {"name": "x", "list": [{"name": "z", "list": [{}]}]})
    assert passes({"$ref": "#/items/0", "items": [{"type": "string"}]} | DRAFT_7, "x")
    assert not passes({"$ref": "#/items/0", "items": [{"type": "string"}]} | DRAFT_7, 5)


DRAFT_4 = {"$schema": "http://json-schema.org/draft-04/schema#"}
DRAFT_7 = {"$schema": "http://json-schema.org/draft-07/schema#"}


@pytest.mark.parametrize(
    "reference",
    [
        "http://127.0.0.1:1/schema.json",
        "https://json-schema.org/draft/2020-12/schema",
        "ftp://127.0.0.1/x",
        "//127.0.0.1/x",
        "file:///etc/hostname",
        "other.json",
        "urn:uuid:1",
        "#anchor",
        "",
        "#/$defs/a%20b",
    ],
)
def test_nothing_is_loaded_from_elsewhere(reference):
    schema = {"properties": {"a": {"$ref": reference}}, "$defs": {"a b": {}, "a%20b": {}}}
    with pytest.raises(BadSchema, match="may refer to parts of itself only"):
        Schema(schema)


def test_not_even_a_file_that_is_there(tmp_path):
    """The library would refuse as well."""
    file = tmp_path / "schema.json"
    file.write_text('{"type": "string"}')
    schema = {"$ref": file.as_uri()}
    with pytest.raises(BadSchema):
        Schema(schema)
    with pytest.raises(jsonschema_rs.ValidationError, match="Retrieval is disabled"):
        jsonschema_rs.validator_for(schema, offline=True)


@pytest.mark.parametrize("dialect", ["http://127.0.0.1:1/x", "file:///etc/hostname", "x"])
def test_nor_a_dialect(dialect):
    with pytest.raises(BadSchema, match="schema does not compile"):
        Schema({"$schema": dialect})


@pytest.mark.parametrize(
    "reference", ["#/$defs/b", "#/$defs/a/0", "#/", "#/$defs/list/9", "#/$defs/list/x"]
)
def test_references_that_lead_nowhere(reference):
    with pytest.raises(BadSchema, match=r"which is not there$"):
        Schema({"$ref": reference, "$defs": {"a": True, "list": [1]}})


@pytest.mark.parametrize(
    ("schema", "word"),
    [
        ({"$dynamicRef": "#x"}, r"\$dynamicRef"),
        ({"items": {"$recursiveRef": "#"}}, r"\$recursiveRef"),
        ({"unevaluatedItems": False}, "unevaluatedItems"),
        ({"allOf": [{"unevaluatedProperties": False}]}, "unevaluatedProperties"),
        ({"properties": {"a": {"$id": "http://x/", "type": "string"}}}, r"\$id"),
        ({"$defs": {"a": {"$schema": DRAFT_7["$schema"]}}}, r"\$schema"),
        ({"definitions": {"a": {"id": "http://x/"}}} | DRAFT_4, "id"),
    ],
)
def test_what_cannot_be_measured_is_refused(schema, word):
    with pytest.raises(BadSchema, match=f"^schema may (not use|have) {word}"):
        Schema(schema)


def test_properties_may_be_called_so():
    schema = {"properties": {"$id": {"type": "string"}, "id": {"type": "string"}}}
    assert passes(schema | {"$id": "http://x/"} | DRAFT_7, {"$id": "a", "id": "b"})
    assert not passes(schema, {"$id": 5})


# What takes long elsewhere.


def chain(length, keyword="allOf"):
    """Each definition refers twice to the next."""
    steps = {f"d{n}": {keyword: [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(length)}
    return {"$ref": "#/$defs/d0", "$defs": steps | {f"d{length}": {"type": "string"}}}


def through_conditions(length):
    steps = {
        f"d{n}": {"if": {"$ref": f"#/$defs/d{n + 1}"}, "then": {"$ref": f"#/$defs/d{n + 1}"}}
        for n in range(length)
    }
    return {"$ref": "#/$defs/d0", "$defs": steps | {f"d{length}": True}}


def through_names(length):
    """Definitions called as keywords are, which could be mistaken for them."""
    steps = {
        f"d{n}": {
            "patternProperties": {"properties": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2}}
        }
        for n in range(length)
    }
    return {"$ref": "#/$defs/d0", "$defs": steps | {f"d{length}": True}}


@pytest.mark.parametrize(
    "schema",
    [chain(20), chain(20, "anyOf"), chain(20, "oneOf"), through_conditions(20), through_names(20)],
    ids=["allOf", "anyOf", "oneOf", "if", "names"],
)
def test_references_that_multiply_are_refused(schema):
    with pytest.raises(BadSchema, match="too large, with its references written out"):
        Schema(schema)


def test_schemas_are_nested_so_deep_and_no_deeper():
    def deep(levels):
        return nested(levels, lambda inner: {"not": inner} if inner != 1 else {"type": "string"})

    assert passes(deep(NESTING_LIMIT), "x") is False
    with pytest.raises(BadSchema, match=r"^schema is nested more than 64 deep$"):
        Schema(deep(NESTING_LIMIT + 1))
    with pytest.raises(BadSchema, match=r"^schema is nested more than 64 deep$"):
        Schema(chain(300))


def test_short_chains_are_not():
    assert passes(chain(5), "x")
    assert not passes(chain(5), 5)


def nested(depth, wrap=lambda inner: [inner]):
    message = 1
    for _ in range(depth):
        message = wrap(message)
    return message


AGAIN = {"$ref": "#"}


@pytest.mark.parametrize(
    "schema",
    [
        {"allOf": [{"items": AGAIN}, {"items": AGAIN}]},
        {"anyOf": [{"items": AGAIN, "minItems": 3, "type": "array"}, {"items": AGAIN}]},
        {"oneOf": [{"items": AGAIN}, {"items": AGAIN, "type": "string"}]},
        {"if": {"items": AGAIN}, "then": {"items": AGAIN}},
        {"contains": AGAIN, "items": AGAIN},
        {"not": {"not": {"items": AGAIN}}, "items": AGAIN},
        {
            "$ref": "#/$defs/a",
            "$defs": {
                "a": {"allOf": [{"$ref": "#/$defs/b"}, {"$ref": "#/$defs/b"}]},
                "b": {"items": {"$ref": "#/$defs/a"}, "uniqueItems": True},
            },
        },
    ],
    ids=lambda schema: next(iter(schema)),
)
def test_schemas_that_lead_in_circles_take_no_longer_for_each_level(schema, seconds_of):
    compiled = Schema(schema)
    assert seconds_of(passes, compiled, nested(250)) < 0.5


def test_circles_without_a_way_out():
    assert passes({"$ref": "#"}, 1) in (True, False)
    both = {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}
    assert passes(both, 1) in (True, False)


@pytest.mark.parametrize("keyword", ["not", "items", "additionalProperties"])
def test_a_schema_of_ten_thousand_levels(elsewhere, keyword):
    """It is too long anyway; what matters is that nothing crashes before that is known."""
    elsewhere(f"""
from zeromsg.policy.schema import BadSchema, Schema
for depth in (60, 200, 900, 2000, 10_000):
    schema = {{}}
    for _ in range(depth):
        schema = {{{keyword!r}: schema}}
    try:
        Schema(schema).passes([[[]]], 6)
    except BadSchema as problem:
        assert str(problem).startswith("schema ")
    else:
        assert depth == 60
""")


def test_a_file_of_ten_thousand_levels():
    text = '{"filter": ".*", "schema": ' + '{"not":' * 8000 + "{}" + "}" * 8000 + "}"
    with pytest.raises(BadRules, match=r"is over|is no JSON"):
        site_rules({}, text.encode())
    with pytest.raises(BadRules, match="is no JSON"):
        site_rules({}, text.replace('{"not":' * 7000, "").replace("}" * 7000, "").encode())


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("^(a?){24}a{24}$", "a" * 24 + "b"),
        ("^(a+)+$", "a" * 5000 + "b"),
        ("^((a*)*)*$", "a" * 5000 + "b"),
        ("(.*)*c$", "ab" * 5000),
        ("(?:a|b)*a(?:a|b){12}x", "abbabaab" * 8000),
    ],
)
def test_patterns_that_hang_elsewhere(pattern, text, seconds_of):
    compiled = Schema({"pattern": pattern})
    assert not passes(compiled, text)
    assert seconds_of(passes, compiled, text) < 1.0


@pytest.mark.parametrize(
    "pattern", ["(?=a)b", r"(a)\1", "a.{900}b", "(?:.?){300}(?:.?){300}c", r"\p{L}{300}"]
)
def test_patterns_that_look_around_or_are_too_large_are_refused(pattern):
    with pytest.raises(BadSchema, match="looks around or takes too much memory"):
        Schema({"pattern": pattern})


def test_ordinary_patterns_are_not():
    for pattern in ("^[a-f0-9]{64}$", "^[A-Za-z0-9_-]{1,255}$", r"^\w{1,64}$", "^.{1,80}$"):
        assert passes({"pattern": pattern}, "a" * 64)
        assert not passes({"pattern": pattern}, "-\n" * 32)


COSTLY = {
    "many times": {"items": {"allOf": [{"type": "number"}] * 1200}},
    "one of many": {"items": {"anyOf": [{"type": "string"}] * 1200 + [True]}},
    "a long list": {"items": {"enum": [[number] for number in range(3000)]}},
    "many keys": {"items": {"required": [f"key{number}" for number in range(2500)]}},
    "many patterns": {"patternProperties": {f"a{number}.*b": {} for number in range(900)}},
    "patterns on one text": {"allOf": [{"pattern": f"a.{{20}}c{n}"} for n in range(200)]},
    "a hard pattern": {"pattern": r"\w\s?[ab]?(?:[ab]?[ab]?){30}b{0,20}(?:[ab][ab]?){12}a{2,20}x"},
    "in each text": {"items": {"pattern": "(?:a?){20}(?:[ab]?a*){30}(?:[ab]*b)?#"}},
    "names": {"propertyNames": {"pattern": "(?:[ab]?[ab]?){30}(?:[ab][ab]?){12}x"}},
    "divisions": {"items": {"multipleOf": 1e-300}},
    "exact divisions": {"items": {"allOf": [{"multipleOf": 0.1 * n} for n in range(1, 8)]}},
    "circles with a list": {
        "allOf": [{"items": AGAIN}] * 50,
        "not": {"enum": [f"{n}" for n in range(2500)]},
    },
    "circles, all different": {"items": AGAIN, "uniqueItems": True},
    "all different": {"uniqueItems": True},
    "contained": {"contains": {"contains": {"contains": {"const": "x"}}}},
    "formats": {"items": {"format": "regex"}} | DRAFT_7,
    "hosts": {"items": {"format": "idn-hostname"}} | DRAFT_7,
    "json in json": {"contentMediaType": "application/json"} | DRAFT_7,
}
LARGE = {
    "text": "ab" * (LARGEST // 2),
    "brackets": "(" * LARGEST,
    "numbers": [1] * (LARGEST // 3),
    "large numbers": [1.7e308] * (LARGEST // 10),
    "texts": ["abba" * 15] * (LARGEST // 64),
    "lists": [[]] * (LARGEST // 4),
    "maps": [{}] * (LARGEST // 4),
    "keys": {f"a{number}b": number for number in range(LARGEST // 14)},
    "levels": nested(200, lambda inner: [inner, [1, 2]]),
    "wide levels": nested(120, lambda inner: [inner, *range(100)]),
}


@pytest.mark.parametrize("schema", COSTLY.values(), ids=COSTLY)
def test_no_schema_takes_long_on_any_large_message(schema, seconds_of):
    """Each was seen to take from a tenth of a second to minutes; ten times what is aimed at."""
    compiled = Schema(schema)
    for name, message in LARGE.items():
        assert seconds_of(passes, compiled, message) < 1.0, name


def test_ordinary_schemas_see_the_largest_messages():
    post = {name: schema for name, schema in POST["properties"].items() if name != "price"}
    compiled = Schema(POST | {"properties": post, "additionalProperties": {"maxItems": 10**5}})
    for message in LARGE.values():
        assert compiled.can_afford({"x": message}, LARGEST)
    named = Schema({"properties": {f"p{n}": {"pattern": "^[a-z ]*$"} for n in range(20)}})
    assert passes(named, {"p1": "a" * LARGEST})


# Whatever comes.

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers()
    | st.sampled_from([2**63, 2**64, -(2**63) - 1, 2**100, 10**400])
    | st.text(st.characters(), max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
subschemas = st.deferred(lambda: schemas)
keywords = {
    "type": st.sampled_from(["string", "number", "integer", "array", "object", "null", "x"]),
    "minimum": st.integers(-5, 5),
    "multipleOf": st.sampled_from([2, 0.1, 1e-9, 7.5]),
    "maxLength": st.integers(0, 9),
    "pattern": st.sampled_from(["a", "^a*$", "(a|b)*c", "(a?){9}a{9}", "["]),
    "format": st.sampled_from(["date-time", "email", "regex", "ipv6", "uri", "uuid", "x"]),
    "enum": st.lists(json_values, max_size=3),
    "const": json_values,
    "items": subschemas,
    "prefixItems": st.lists(subschemas, min_size=1, max_size=2),
    "contains": subschemas,
    "uniqueItems": st.booleans(),
    "properties": st.dictionaries(st.sampled_from("ab"), subschemas, max_size=2),
    "patternProperties": st.dictionaries(st.sampled_from(["a", "^b", "."]), subschemas, max_size=2),
    "additionalProperties": subschemas,
    "propertyNames": subschemas,
    "required": st.lists(st.sampled_from("ab"), max_size=2, unique=True),
    "dependentSchemas": st.dictionaries(st.sampled_from("ab"), subschemas, max_size=2),
    "allOf": st.lists(subschemas, min_size=1, max_size=3),
    "anyOf": st.lists(subschemas, min_size=1, max_size=3),
    "oneOf": st.lists(subschemas, min_size=1, max_size=3),
    "not": subschemas,
    "if": subschemas,
    "then": subschemas,
    "else": subschemas,
    "$ref": st.sampled_from(["#", "#/$defs/a", "#/$defs/b", "#/items", "#/allOf/0", "x"]),
    "unevaluatedItems": subschemas,
}
schemas = st.booleans() | st.sets(st.sampled_from(sorted(keywords)), max_size=3).flatmap(
    lambda names: st.fixed_dictionaries({name: keywords[name] for name in names})
)
roots = st.builds(
    lambda root, a, b: (root if isinstance(root, dict) else {}) | {"$defs": {"a": a, "b": b}},
    schemas,
    schemas,
    schemas,
)


@settings(max_examples=300)
@given(roots | json_values, json_values | st.sampled_from(list(LARGE.values())))
def test_any_schema_is_good_or_bad_and_answers_in_time(seconds_of, schema, message):
    try:
        compiled = Schema(schema)
    except BadSchema as problem:
        assert str(problem).startswith("schema ")
        return
    assert passes(compiled, message) in (True, False)
    assert seconds_of(passes, compiled, message) < 1.0
