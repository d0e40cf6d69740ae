"""The `schema` of a site's rules: a stranger's JSON Schema, compiled once.

jsonschema-rs is used because it is compiled (half a microsecond for a small
message, where jsonschema takes a hundred), refuses to load anything from
elsewhere, gives up on references that lead in circles, and matches patterns in
linear time if told to.
"""

from typing import Any

import jsonschema_rs

from zeromsg.wire.json_text import DEPTH_ERRORS, dump_compact

SCHEMA_LIMIT = 32 * 1024
"""Most bytes of a schema as JSON."""


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
            validator = jsonschema_rs.validator_for(
                schema, offline=True, pattern_options=jsonschema_rs.RegexOptions()
            )
        except BadSchema:
            raise
        except (
            jsonschema_rs.ValidationError,
            jsonschema_rs.ReferencingError,
            *DEPTH_ERRORS,
        ) as problem:
            raise BadSchema(f"schema does not compile: {_first_line(problem)}") from None
        self._is_valid = validator.is_valid

    def passes(self, message: Any) -> bool:
        """Whether a message, as parsed from JSON, fits. What cannot be looked at does not."""
        try:
            return bool(self._is_valid(message))
        except (ValueError, RecursionError):
            # Integers beyond 64 bits and very deep nesting are no JSON to the validator.
            return False


def _first_line(problem: Exception) -> str:
    return str(problem).partition("\n")[0][:200]
