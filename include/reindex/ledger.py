"""The ledger: the counts of a release that must agree before it may be promoted."""

from __future__ import annotations

from dataclasses import dataclass

from reindex.errors import LedgerMismatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """Documents first, then rows from the parts to the collection.

    `unaccounted` are keys listed but neither embedded nor rejected, `unlisted` the opposite;
    `short_files` are import files whose imported rows differ from the rows they hold.
    """

    listed: int
    embedded: int
    rejected: int
    unaccounted: tuple[str, ...]
    unlisted: tuple[str, ...]
    part_rows: int
    file_rows: int
    imported_rows: int
    collection_rows: int
    distinct_ids: int
    short_files: tuple[str, ...]


def check_ledger(ledger: Ledger) -> None:
    """Raise LedgerMismatch with everything that does not agree, by name."""
    problems = _problems(ledger)
    if problems:
        raise LedgerMismatch(problems)


def _problems(ledger: Ledger) -> list[str]:
    problems = []
    if ledger.unaccounted:
        problems.append(f"neither embedded nor rejected: {_some(ledger.unaccounted)}")
    if ledger.unlisted:
        problems.append(f"embedded or rejected but never listed: {_some(ledger.unlisted)}")
    if ledger.listed != ledger.embedded + ledger.rejected:
        problems.append(f"{ledger.listed} documents listed, {ledger.embedded} embedded + {ledger.rejected} rejected")
    if ledger.short_files:
        problems.append(f"rows lost or doubled on import: {_some(ledger.short_files)}")
    rows = {
        "rows in parts": ledger.part_rows,
        "in import files": ledger.file_rows,
        "imported": ledger.imported_rows,
        "counted in Milvus": ledger.collection_rows,
        "distinct ids": ledger.distinct_ids,
    }
    if len(set(rows.values())) > 1:
        problems.append(", ".join(f"{count} {name}" for name, count in rows.items()))
    return problems


def _some(names: tuple[str, ...], limit: int = 5) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
