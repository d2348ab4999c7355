"""The interface described for people: one page made of the OpenAPI document, without a script and without a network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import Any

STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
code { font-size: 0.9em }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: 0.25rem 0.75rem 0.25rem 0; border-bottom: 1px solid #8886 }
"""


@dataclass(frozen=True)
class Section:
    """One endpoint.

    Attributes:
        method, path, summary, text: what the document says.
        fields: (name, type, whether it must be there, meaning) of the query and of the body.
        statuses: those of its responses.
    """

    method: str
    path: str
    summary: str
    text: str
    fields: list[tuple[str, str, bool, str]]
    statuses: list[str]


def sections(document: dict[str, Any]) -> Iterator[Section]:
    """The endpoints of an OpenAPI document."""
    schemas = document.get("components", {}).get("schemas", {})
    for path, methods in document["paths"].items():
        for method, found in methods.items():
            kinds = found.get("requestBody", {}).get("content", {})
            body: dict[str, Any] = next(iter(kinds.values()))["schema"] if kinds else {}
            fields = _asked(found.get("parameters", [])) + _fields(
                _resolved(body, {**schemas, **body.get("$defs", {})})
            )
            text = " ".join(found.get("description", "").split())
            yield Section(method.upper(), path, found.get("summary", ""), text, fields, sorted(found["responses"]))


def _asked(parameters: list[dict[str, Any]]) -> list[tuple[str, str, bool, str]]:
    """The fields of a query."""
    return [
        (one["name"], kind_of(one["schema"]), bool(one.get("required")), str(one.get("description", "")))
        for one in parameters
        if one["in"] == "query"
    ]


def _resolved(schema: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    name = str(schema.get("$ref", "")).rsplit("/", 1)[-1]
    found: dict[str, Any] = schemas.get(name, schema)
    return found


def _fields(schema: dict[str, Any]) -> list[tuple[str, str, bool, str]]:
    must = schema.get("required", [])
    return [
        (name, kind_of(one), name in must, str(one.get("description", "")))
        for name, one in schema.get("properties", {}).items()
    ]


def kind_of(schema: dict[str, Any]) -> str:
    """A schema in a few words."""
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", 1)[-1]
    if "enum" in schema or "const" in schema:
        return " or ".join(f'"{value}"' for value in schema.get("enum", [schema.get("const")]))
    if "anyOf" in schema:
        return " or ".join(kind_of(one) for one in schema["anyOf"] if one.get("type") != "null")
    if schema.get("type") == "array":
        return f"list of {kind_of(schema['items'])}" if schema.get("items") else "list"
    return str(schema.get("type", "anything"))


def page(document: dict[str, Any]) -> str:
    """The page."""
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>{escape(document['info']['title'])}</title><link rel=stylesheet href=/docs/style.css>",
        f"<h1>{escape(document['info']['title'])}</h1><p>{escape(document['info']['description'])}</p>",
        "<p>The same for programs: <a href=/openapi.json>openapi.json</a></p>",
    ]
    for one in sections(document):
        parts.append(
            f"<h2><code>{one.method} {escape(one.path)}</code></h2><p>{escape(one.summary)}. {escape(one.text)}</p>"
        )
        if one.fields:
            rows = "".join(
                f"<tr><td><code>{escape(name)}</code><td>{escape(kind)}<td>{'required' if must else ''}<td>{escape(meaning)}"
                for name, kind, must, meaning in one.fields
            )
            parts.append(f"<table><tr><th>field<th>type<th><th>meaning{rows}</table>")
        parts.append(f"<p>Answers: {', '.join(one.statuses)}</p>")
    return "\n".join(parts)
