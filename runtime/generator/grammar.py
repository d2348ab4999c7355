"""JSON schemas to the grammars that force an answer into form."""

from __future__ import annotations

import json
import re
from typing import Any

from ..errors import GeneratorError


def json_of(schema: dict[str, Any]) -> str:
    """A JSON schema as text.

    Raises:
        GeneratorError: it holds what JSON doesn't.
    """
    try:
        return json.dumps(schema)
    except (TypeError, ValueError, RecursionError) as error:
        raise _refused(error) from error


def grammar_of(schema: dict[str, Any]) -> str:
    """A JSON schema to the grammar (GBNF) that allows just its values.

    Raises:
        GeneratorError: the schema is faulty, or uses what a grammar can't say.
    """
    from llama_cpp.llama_grammar import json_schema_to_gbnf

    text = json_of(schema)
    try:
        grammar = json_schema_to_gbnf(text, prop_order=list(schema.get("properties", {})))
    except (AssertionError, KeyError, ValueError, TypeError, AttributeError, NotImplementedError) as error:
        raise _refused(error) from error
    return _NESTED.sub(_as_repetition, grammar)


def _refused(error: Exception) -> GeneratorError:
    return GeneratorError(f"the JSON schema can't be made into a grammar: {error}")


_NESTED = re.compile(r"\bchar((?: \(char)+)((?:\)\?)+)")


def _as_repetition(found: re.Match[str]) -> str:
    """ "char (char (char)?)?" to "char{1,3}"."""
    opened, closed = found[1].count("("), found[2].count(")")
    return f"char{{1,{opened + 1}}}" + ")?" * (closed - opened)
