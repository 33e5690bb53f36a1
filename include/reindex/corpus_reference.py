"""The settings in, docs/corpus.md out: each key of a corpus file with the values that it takes and what it is for.

`python -m reindex.corpus_reference` prints the page, and `make reference` writes it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from reindex.index_types import INDEX_TYPES
from reindex.settings import Corpus, sections_in

_HEAD = """# The corpus file

One YAML file for each corpus, in `include/corpora/` or in the folder that `REINDEX_CORPORA` names. Only `name` and
`source.bucket` are needed. An unknown key or a wrong value is refused with the file, the key and what is allowed.

This page is made from the settings (`include/reindex/settings.py`) by `make reference`.
"""
_KEYS = "| key | value | default | what it is |\n|---|---|---|---|"
_INDEX_TYPES = """## Index types

For each `index.type` the whole numbers that `index.params` and `index.search` hold, all of them and no others:

| type | `index.params` | `index.search` |
|---|---|---|"""
_WORDS = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "`true` or `false`",
    "object": "names and whole numbers",
    "null": "`null`",
}
_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def corpus_reference() -> str:
    """Return the page."""
    return "\n".join([_HEAD, *_section("The keys", Corpus, path=""), _INDEX_TYPES, *_index_types(), ""])


def _section(title: str, section: type[BaseModel], *, path: str) -> Iterator[str]:
    """Yield a section's title, text and table, then the sections in it."""
    schema, fields = section.model_json_schema(), section.model_fields
    yield f"## {title}\n\n{_one_line(schema['description'])}\n\n{_KEYS}"
    for name, field in fields.items():
        value = _value(schema["properties"][name], path + name)
        yield f"| `{path}{name}` | {value} | {_default(field)} | {_one_line(field.description)} |"
    yield ""
    for name, field in fields.items():
        for inner in sections_in(field.annotation):
            yield from _section(path + name, inner, path=f"{path}{name}.")


def _value(schema: dict[str, Any], path: str) -> str:
    """Return in words what a JSON schema allows."""
    if "anyOf" in schema:
        return " or ".join(_value(kind, path) for kind in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{word}`" for word in schema["enum"])
    if "$ref" in schema:
        return f"[keys](#{path.replace('.', '')})"
    if schema["type"] == "array":
        most = f"at most {schema['maxItems']} " if "maxItems" in schema else ""
        return f"list of {most}{_value(schema['items'], path)}"
    bounds = ", ".join(f"{sign} {schema[name]}" for name, sign in _BOUNDS.items() if name in schema)
    return f"{_WORDS[schema['type']]} {bounds}".rstrip()


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "needed"
    default = field.get_default(call_default_factory=True)
    # A section's default is that of its keys.
    return "" if isinstance(default, BaseModel) else f"`{json.dumps(default)}`"


def _index_types() -> Iterator[str]:
    for name, kind in INDEX_TYPES.items():
        yield f"| `{name}` | {_ranges(kind.build)} | {_ranges(kind.search)} |"


def _ranges(params: dict[str, range]) -> str:
    return ", ".join(f"`{name}` {values[0]} to {values[-1]}" for name, values in params.items()) or "none"


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())


if __name__ == "__main__":
    print(corpus_reference(), end="")  # noqa: T201 - its answer
