"""JSON in, readable lines out, or one document for each record: "address.city: Paris" reads as what it says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from reindex.parsers import Context, Rejected
from reindex.parsers.members import named_by_id
from reindex.parsers.text import decoded, paragraphs
from reindex.records import Block, ParsedDocument, RejectedMember, RejectReason, Shape

_TITLES = ("title", "subject", "summary", "name")
_IDS = ("id", "key")
# A text of this length is prose, which the name of its field does not make clearer.
_PROSE = 200


def read_json(data: bytes, context: Context) -> Iterator[ParsedDocument]:
    """Yield the document or, if the corpus asks for records and it is a list of objects, one for each."""
    value = _loaded(decoded(data))
    if context.parsing.records and _is_list_of_objects(value):
        yield from _documents(dict(enumerate(value, start=1)))
    else:
        yield _document(value)


def read_json_lines(data: bytes, context: Context) -> Iterator[ParsedDocument | RejectedMember]:
    """Yield one document or, if the corpus asks for records, one for each line; a broken line costs only itself."""
    values: dict[int, Any] = {}
    for number, line in enumerate(decoded(data).split("\n"), start=1):
        try:
            values |= {number: _loaded(line)} if line.strip() else {}
        except Rejected as error:
            yield RejectedMember(member=str(number), reason=error.reason, detail=error.detail)
    if context.parsing.records:
        yield from _documents(values)
    else:
        yield _document(list(values.values()))


def _loaded(text: str) -> Any:
    try:
        # Numbers stay as they are written: 1.10 is a version as often as a price.
        return json.loads(text, parse_float=str, parse_int=str, parse_constant=str)
    except json.JSONDecodeError as error:
        raise Rejected(RejectReason.BROKEN, f"JSON: {error.msg} (line {error.lineno}, column {error.colno})") from error
    except RecursionError as error:
        raise Rejected(RejectReason.TOO_DEEP, "JSON within JSON, too deep to be read") from error


def _documents(values: dict[int, Any]) -> Iterator[ParsedDocument]:
    ids = {place: _scalar(value, _IDS) for place, value in values.items()}
    for member, value in zip(named_by_id(ids), values.values(), strict=True):
        yield replace(_document(value), title=_scalar(value, _TITLES), member=member)


def _document(value: Any) -> ParsedDocument:
    records = value if _is_list_of_objects(value) else [value]
    blocks = (block for record in records for block in _set_apart(list(_blocks(record, ""))))
    return ParsedDocument(title=_scalar(value, _TITLES), blocks=tuple(blocks))


def _is_list_of_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _set_apart(blocks: list[Block]) -> list[Block]:
    return [replace(block, shape=Shape.PARAGRAPH) for block in blocks[:1]] + blocks[1:]


def _blocks(value: Any, path: str) -> Iterator[Block]:
    """Yield what is said, each under its path; what is empty says nothing."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _blocks(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        for number, item in enumerate(value):
            yield from _blocks(item, f"{path}[{number}]")
    else:
        text = ", ".join(filter(None, map(_text, value))) if isinstance(value, list) else _text(value)
        if len(text) > _PROSE or "\n" in text:
            yield from paragraphs(text)
        elif text:
            yield Block(text=f"{path}: {text}" if path else text, shape=Shape.LINE)


def _text(value: Any) -> str:
    # Half of a character that takes two, written as an escape, is no text.
    text = value if isinstance(value, str) else "" if value is None else json.dumps(value)
    return text.encode(errors="replace").decode().strip()


def _scalar(value: Any, names: tuple[str, ...]) -> str:
    found = (value.get(name) for name in names) if isinstance(value, dict) else ()
    return next((_text(field) for field in found if isinstance(field, str) and field.strip()), "")
