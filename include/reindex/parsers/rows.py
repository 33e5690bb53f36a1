"""The rows of a table in, lines of text out, such that each row reads alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain, islice

from reindex.records import Block, Shape

_NUMBER = re.compile(r"[-+(]?[$€£]?\s?\d[\d.,:/\s%-]*\)?")
# Rows above a table that say what it is.
_MOST_TITLES = 5


def sheet_blocks(name: str, rows: Iterable[list[str]], *, page: int = 0) -> Iterator[Block]:
    """Yield the rows of a sheet as a section of its name, each with the names of its columns."""
    for number, line in enumerate(_lines(rows)):
        yield Block(text=line, shape=Shape.LINE, level=0 if number else 1, label="" if number else name, page=page)


def table_blocks(rows: Iterable[list[str]], *, page: int = 0) -> Iterator[Block]:
    """Yield the rows of a table within a text, its first row first."""
    lines = filter(None, (joined(row) for row in rows))
    yield from (Block(text=line, shape=Shape.LINE, page=page) for line in lines)


def joined(row: list[str]) -> str:
    cells = [" ".join(cell.split()) for cell in row]
    return " | ".join(cells) if any(cells) else ""


def _lines(rows: Iterable[list[str]]) -> Iterator[str]:
    plain = ([" ".join(cell.split()) for cell in row] for row in rows)
    filled = (row for row in plain if any(row))
    header: list[str] = []
    for row in islice(filled, _MOST_TITLES):
        if _is_header(row):
            header = row
            break
        yield " | ".join(filter(None, row))
    first = next(filled, None)
    if first is None:
        yield from filter(None, [" | ".join(filter(None, header))])
        return
    for row in chain([first], filled):
        yield _with_names(header, row) if header else " | ".join(filter(None, row))


def _is_header(row: list[str]) -> bool:
    names = [cell for cell in row if cell]
    return len(names) > 1 and len(set(names)) == len(names) and not any(_NUMBER.fullmatch(name) for name in names)


def _with_names(header: list[str], row: list[str]) -> str:
    names = header + [""] * (len(row) - len(header))
    return "; ".join(f"{name}: {cell}" if name else cell for name, cell in zip(names, row, strict=False) if cell)
