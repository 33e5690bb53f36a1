"""A table in plain text in (CSV, TSV), its rows out, each with the names of its columns so that it reads alone."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence

from reindex.parsers import Context
from reindex.parsers.encodings import as_text
from reindex.parsers.text import decoded
from reindex.records import Block, ParsedDocument, Shape

_DELIMITERS = ",;\t|"
_ROWS_TO_TELL = 50
_LONGEST_NAME = 100
_LONGEST_CELL = 2**31 - 1
# What stands in a row of values, and not in one of names: a number, a date, an address.
_VALUE = re.compile(r"[-+$€£]?\d[\d.,:/%\s-]*|.*@.*|https?:.*", re.DOTALL)


def read_csv(data: bytes, context: Context) -> Iterator[ParsedDocument]:  # noqa: ARG001 - as all parsers are called
    """Yield the table, one line for each row."""
    # The module's own limit is for all of the process; cells are bounded as files are.
    csv.field_size_limit(_LONGEST_CELL)
    # Some programs fill a file up with zero bytes, which by themselves say that it is no text.
    text = as_text(data) or decoded(data.replace(b"\0", b""))
    lines = text.splitlines(keepends=True)
    rows = _rows(lines, _delimiter(lines[:_ROWS_TO_TELL]))
    yield ParsedDocument(title="", blocks=tuple(Block(text=text, shape=Shape.LINE) for text in _readable(rows)))


def _rows(lines: Iterable[str], delimiter: str) -> Iterator[list[str]]:
    for row in csv.reader(lines, delimiter=delimiter):
        cells = [" ".join(cell.split()) for cell in row]
        if any(cells):
            yield cells


def _delimiter(lines: Sequence[str]) -> str:
    """Return the delimiter that cuts most rows into the same number of cells, and into most of them among equals."""
    return max(_DELIMITERS, key=lambda delimiter: _regularity([len(row) for row in _rows(lines, delimiter)]))


def _regularity(widths: list[int]) -> tuple[int, int]:
    usual = max(widths, key=widths.count, default=1)
    return (widths.count(usual), usual) if usual > 1 else (0, usual)


def _readable(rows: Iterator[list[str]]) -> Iterator[str]:
    first, second = next(rows, None), next(rows, None)
    if first is None:
        return
    following = itertools.chain([second] if second else [], rows)
    if second and _are_names(first):
        yield from ("; ".join(_named(first, row)) for row in following)
    else:
        yield from (" | ".join(filter(None, row)) for row in itertools.chain([first], following))


def _are_names(row: list[str]) -> bool:
    """Tell whether a first row names the columns: short, each once, and no values."""
    names = [cell for cell in row if cell]
    is_short = all(len(name) <= _LONGEST_NAME for name in names)
    is_complete = len(row) > 1 and len(names) >= len(row) - 1
    return is_complete and is_short and len(set(names)) == len(names) and not any(map(_VALUE.fullmatch, names))


def _named(names: list[str], row: list[str]) -> Iterator[str]:
    for name, cell in itertools.zip_longest(names, row[: max(len(row), len(names))], fillvalue=""):
        if cell:
            yield f"{name}: {cell}" if name else cell
