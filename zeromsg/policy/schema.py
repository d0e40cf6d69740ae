"""The `schema` of a site's rules: a stranger's JSON Schema, compiled once.

jsonschema-rs is used because it is compiled (half a microsecond for a small
message, where jsonschema takes fifty), refuses to load anything from
elsewhere, remembers what it found where references lead in circles, and matches
patterns without backtracking if told to. It does not bound its work: forty
definitions that each refer twice to the next take years. So a schema is measured
with its references written out, and messages on which it could take too long do
not pass. What cannot be measured is refused: references to other documents,
dynamic ones, and `unevaluatedItems` and `unevaluatedProperties`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import attrs
import jsonschema_rs

from zeromsg.policy.cost import count_values, most_values
from zeromsg.wire.json_text import DEPTH_ERRORS, dump_compact

SCHEMA_LIMIT = 32 * 1024
"""Most bytes of a schema as JSON."""

WRITTEN_OUT_LIMIT = 50_000
"""Most steps of a schema for one value, with its references written out."""

NESTING_LIMIT = 64
"""Most schemas inside one another, with their references written out."""

STEPS_LIMIT = 10_000_000
"""Most steps for one message, some nanoseconds each: a tenth of a second at worst."""

PATTERN_MEMORY = 133_000
"""Most bytes that a compiled pattern may take, as jsonschema-rs 0.61 counts (0.60 counted a
quarter less): `[a-z]{1000}` does, `.{100}` hardly.
Where there is much to repeat, `maxLength` does it better."""

_PATTERN_STEPS = 150
"""What a pattern can cost for each character, if it is made to. Others cost a hundredth."""

_FORMAT_STEPS = 15
_DIVISION_STEPS = 5000
"""What `multipleOf` can cost, which is exact however long the numbers are."""

_REFUSED = frozenset(["$dynamicRef", "$recursiveRef", "unevaluatedProperties", "unevaluatedItems"])
_ROOT_ONLY = frozenset(["$id", "$schema"])
_DATA = frozenset(["const", "default", "enum", "examples"])
_DEFINITIONS = frozenset(["$defs", "definitions"])
_BY_NAME = frozenset(["patternProperties", "dependentSchemas", "dependencies"])
_FORMATS = frozenset(["format", "contentEncoding", "contentMediaType"])
_DIVISIONS = frozenset(["multipleOf", "divisibleBy"])


class BadSchema(ValueError):
    """A schema that cannot be used; the text says why."""


class Schema:
    """One compiled schema."""

    def __init__(self, schema: object) -> None:
        """Raises BadSchema."""
        if not isinstance(schema, dict | bool):
            raise BadSchema("schema must be a JSON Schema: a map, true or false")
        try:
            if len(dump_compact(schema)) > SCHEMA_LIMIT:
                raise BadSchema(f"schema is longer than {SCHEMA_LIMIT} bytes")
            self._steps = _Measure(schema).whole()
            validator = jsonschema_rs.validator_for(
                schema,
                offline=True,
                pattern_options=jsonschema_rs.RegexOptions(size_limit=PATTERN_MEMORY),
            )
        except BadSchema:
            raise
        except (
            jsonschema_rs.ValidationError,
            jsonschema_rs.ReferencingError,
            *DEPTH_ERRORS,
        ) as problem:
            raise BadSchema(f"schema does not compile: {_sentence(problem)}") from None
        self._is_valid = validator.is_valid

    def passes(self, message: Any, size: int) -> bool:
        """Whether a message, as parsed from JSON, fits. What cannot be looked at does not.

        size: characters of the message as JSON.
        """
        if not self.can_afford(message, size):
            return False
        try:
            return bool(self._is_valid(message))
        except (ValueError, RecursionError):
            # Very long integers and very deep nesting are no JSON to the validator.
            return False

    def can_afford(self, message: Any, size: int) -> bool:
        """Whether looking at the message is sure to take no longer than it may."""
        most = (STEPS_LIMIT - self._steps.character * size) // self._steps.value
        # Counting is for the few messages that could have too many values.
        return most_values(size) <= most or (most > 0 and count_values(message) <= most)


@attrs.frozen
class _Steps:
    """What a schema costs at most, for each value and each character that it looks at.

    circles: how often it comes back to itself, on values inside.
    """

    value: int = 1
    character: int = 0
    circles: int = 0

    def and_all(self, parts: Iterable["_Steps"]) -> "_Steps":
        parts = [self, *parts]
        value = sum(part.value for part in parts)
        if value > WRITTEN_OUT_LIMIT:
            raise BadSchema("schema is too large, with its references written out")
        return _Steps(
            value, sum(part.character for part in parts), sum(part.circles for part in parts)
        )


class _Measure:
    """Adds up a schema. Raises BadSchema for what cannot be."""

    def __init__(self, root: Mapping[str, Any] | bool) -> None:
        self._root = root
        # By the identity of what is referred to; None while it is being measured.
        self._known: dict[int, _Steps | None] = {id(root): None}
        self._depth = 0

    def whole(self) -> _Steps:
        draft = self._root.get("$schema") if isinstance(self._root, Mapping) else None
        # There `id` says what references are relative to, as `$id` does elsewhere.
        old = frozenset(["id"]) if "draft-04" in str(draft) else frozenset[str]()
        self._refuse(self._root, _ROOT_ONLY | old)
        steps = self._schema(self._root)
        times = steps.circles + 1
        return _Steps(steps.value * times, steps.character * times)

    def _refuse(self, node: Any, root_only: frozenset[str]) -> None:
        if isinstance(node, list):
            for item in node:
                self._refuse(item, root_only)
        elif isinstance(node, dict):
            for key, value in node.items():
                if key in _REFUSED:
                    raise BadSchema(f"schema may not use {key}, which can take too long")
                if key in root_only and isinstance(value, str) and node is not self._root:
                    raise BadSchema(f"schema may have {key} at its root only")
                self._refuse(value, root_only)

    def _schema(self, schema: Any) -> _Steps:
        if not isinstance(schema, dict):
            return _Steps()
        self._depth += 1
        if self._depth > NESTING_LIMIT:
            # Python's own limit depends on the calls that are under way.
            raise BadSchema(f"schema is nested more than {NESTING_LIMIT} deep")
        steps = _Steps().and_all(self._keyword(key, value) for key, value in schema.items())
        self._depth -= 1
        return steps

    def _keyword(self, key: str, value: Any) -> _Steps:
        if key == "$ref" and isinstance(value, str):
            return self._referred(value)
        if key in _DEFINITIONS:
            return _Steps()
        if key in _DATA:
            return _Steps(count_values(value))
        if key == "properties" and isinstance(value, dict):
            return self._properties(value)
        if key in _BY_NAME and isinstance(value, dict):
            patterns = len(value) if key == "patternProperties" else 0
            own = _Steps(1 + len(value), patterns * _PATTERN_STEPS)
            return own.and_all(self._schemas(value.values()))
        if key == "pattern":
            return _Steps(1, _PATTERN_STEPS)
        if key in _FORMATS:
            return _Steps(1, _FORMAT_STEPS)
        if key in _DIVISIONS:
            return _Steps(_DIVISION_STEPS)
        return _Steps().and_all(self._schemas([value]))

    def _schemas(self, values: Iterable[Any]) -> Iterable[_Steps]:
        for value in values:
            if isinstance(value, list):
                yield from (self._schema(item) for item in value)
            else:
                yield self._schema(value)

    def _properties(self, schemas: Mapping[str, Any]) -> _Steps:
        """A value inside has one name, so that one of them looks at it."""
        parts = [self._schema(schema) for schema in schemas.values()] or [_Steps()]
        widest = _Steps(
            max(part.value for part in parts),
            max(part.character for part in parts),
            max(part.circles for part in parts),
        )
        return _Steps(len(schemas)).and_all([widest])

    def _referred(self, reference: str) -> _Steps:
        target = self._resolve(reference)
        if id(target) not in self._known:
            self._known[id(target)] = None
            self._known[id(target)] = self._schema(target)
        # What leads in circles is looked at once for each list or map, and not once more.
        return self._known[id(target)] or _Steps(circles=1)

    def _resolve(self, reference: str) -> Any:
        start, *steps = reference.split("/")
        if start != "#" or "%" in reference:
            raise BadSchema("schema may refer to parts of itself only, such as #/$defs/name")
        node: Any = self._root
        for step in steps:
            name = step.replace("~1", "/").replace("~0", "~")
            try:
                node = node[int(name)] if isinstance(node, list) else node[name]
            except (LookupError, TypeError, ValueError):
                raise BadSchema(f"schema refers to {reference[:100]}, which is not there") from None
        return node


def _sentence(problem: Exception) -> str:
    text = str(problem).partition("\n")[0][:200]
    if text.endswith('is not a "regex"'):
        text += ", or one that looks around or takes too much memory"
    return text
