"""An Excel workbook's bytes in, its rows out: read cell by cell, so that what is empty costs nothing."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import IO
from xml.etree import ElementTree as ET

from reindex.parsers import Context, Rejected
from reindex.parsers.ooxml import attribute, local, main_part, read_xml, related, title_of
from reindex.parsers.rows import sheet_blocks
from reindex.parsers.zips import open_package
from reindex.records import Block, ParsedDocument, RejectReason

_LETTERS = re.compile(r"[A-Z]{1,3}")
# Formats that every Excel knows by number: dates, times, percentages.
_DATES = {*range(14, 23), *range(27, 37), *range(45, 48), *range(50, 59)}
_PERCENTAGES = {9, 10}
_LITERALS = re.compile(r'"[^"]*"|\\.|\[[^\]]*\]|_.')
_MOST_COLUMNS = 16_384


def read_xlsx(data: bytes, context: Context) -> Iterator[ParsedDocument]:
    """Yield the workbook: every sheet is a section."""
    with open_package(data, context.limits) as package:
        workbook = _Workbook(package)
        yield ParsedDocument(title=title_of(package), blocks=tuple(workbook.blocks()))


class _Workbook:
    """A workbook's sheets, and what their cells refer to."""

    def __init__(self, package: zipfile.ZipFile) -> None:
        part = main_part(package, "xl/workbook.xml")
        self._package = package
        self._root = read_xml(package, part)
        self._parts = related(package, part)
        self._texts = [_text_of(item) for item in self._elements("sharedStrings")]
        self._kinds = list(self._cell_kinds())
        self._epoch = datetime(1899, 12, 30)  # noqa: DTZ001 - a workbook's times have no zone
        if any(attribute(found, "date1904") in {"1", "true"} for found in self._root or []):
            self._epoch = datetime(1904, 1, 1)  # noqa: DTZ001 - as above

    def blocks(self) -> Iterator[Block]:
        sheets = (found for found in (self._root.iter() if self._root is not None else []) if local(found) == "sheet")
        for number, sheet in enumerate(sheets, start=1):
            _, part = self._parts.get(attribute(sheet, "id"), ("", ""))
            if part in self._package.namelist():
                with self._package.open(part) as stream:
                    yield from sheet_blocks(sheet.get("name", ""), self._rows(stream, part), page=number)

    def _rows(self, stream: IO[bytes], part: str) -> Iterator[list[str]]:
        try:
            for _, element in ET.iterparse(stream):  # noqa: S314 - expat bounds what entities expand to
                if local(element) == "row":
                    yield self._row(element)
                    element.clear()
        except (ET.ParseError, zipfile.BadZipFile, EOFError) as error:
            raise Rejected(RejectReason.BROKEN, f"{part} in it is damaged: {error}") from error

    def _row(self, row: ET.Element) -> list[str]:
        cells: dict[int, str] = {}
        for cell in row:
            column = _column(cell.get("r", ""), after=max(cells, default=-1))
            if column < _MOST_COLUMNS:
                cells[column] = self._shown(cell)
        last = max((column for column, text in cells.items() if text), default=-1)
        return [cells.get(column, "") for column in range(last + 1)]

    def _shown(self, cell: ET.Element) -> str:
        kind = cell.get("t", "n")
        if kind == "inlineStr":
            return "".join(_text_of(part) for part in cell if local(part) == "is")
        value = next((part.text or "" for part in cell if local(part) == "v"), "")
        if kind == "s":
            return self._texts[int(value)] if value.isdecimal() and int(value) < len(self._texts) else ""
        if kind == "b":
            return {"1": "TRUE", "0": "FALSE"}.get(value, value)
        style = cell.get("s", "0")
        number = int(style) if style.isdecimal() else 0
        return self._number(value, self._kinds[number] if number < len(self._kinds) else "") if kind == "n" else value

    def _number(self, value: str, kind: str) -> str:
        try:
            number = float(value)
            if kind == "date":
                return _date(self._epoch, number)
        except (ValueError, OverflowError):
            return value
        if kind == "percentage":
            return f"{number * 100:.10g}%"
        return f"{number:.15g}" if abs(number) < 1e15 else value  # noqa: PLR2004 - what a float holds exactly

    def _cell_kinds(self) -> Iterator[str]:
        """Yield what each cell style makes of a number: a date, a percentage, or nothing."""
        sections = {local(found): list(found) for found in self._elements("styles")}
        own = {
            int(attribute(found, "numFmtId") or 0): attribute(found, "formatCode")
            for found in sections.get("numFmts", [])
        }
        for style in sections.get("cellXfs", []):
            number = int(attribute(style, "numFmtId") or 0)
            code = _LITERALS.sub("", own.get(number, "")).lower()
            if number in _DATES or (number in own and re.search(r"[dmyhs]", code) and "general" not in code):
                yield "date"
            else:
                yield "percentage" if number in _PERCENTAGES or "%" in code else ""

    def _elements(self, kind: str) -> list[ET.Element]:
        part = next((part for found, part in self._parts.values() if found == kind), "")
        root = read_xml(self._package, part) if part else None
        return list(root) if root is not None else []


def _column(reference: str, *, after: int) -> int:
    """Return a cell's column from 0; one that does not say where it stands comes after the last."""
    letters = _LETTERS.match(reference)
    if not letters:
        return after + 1
    column = 0
    for letter in letters[0]:
        column = column * 26 + ord(letter) - ord("A") + 1
    return column - 1


def _text_of(element: ET.Element) -> str:
    """Return the text of a string with or without formatting; how it is pronounced is no part of it."""
    if local(element) == "t":
        return element.text or ""
    return "".join(_text_of(part) for part in element if local(part) != "rPh")


def _date(epoch: datetime, days: float) -> str:
    moment = epoch + timedelta(days=days)
    moment = (moment + timedelta(microseconds=500_000)).replace(microsecond=0)
    if abs(days) < 1:
        return moment.time().isoformat()
    return moment.date().isoformat() if days == int(days) else moment.isoformat(sep=" ")
