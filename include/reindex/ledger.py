"""The ledger: the counts of a release that must agree before it may be promoted."""

from __future__ import annotations

from dataclasses import dataclass

from reindex.errors import LedgerMismatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """Documents first, then rows from the parts to the collection.

    A listed document is reused, embedded or rejected; a withheld one is indexed though it is no longer listed.
    `duplicates` are those of the rejected that another document stands for: they are no fault.
    `unaccounted` are keys listed and none of these, `unlisted` the opposite, `doubled` both indexed and rejected;
    `misfits` are documents whose rows in the import files are not the chunks of their part, `short_files` import files
    whose imported rows are not the rows they hold.
    """

    listed: int
    reused: int
    embedded: int
    rejected: int
    duplicates: int
    withheld: int
    unaccounted: tuple[str, ...]
    unlisted: tuple[str, ...]
    doubled: tuple[str, ...]
    misfits: tuple[str, ...]
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
    named = {
        "neither indexed nor rejected": ledger.unaccounted,
        "indexed or rejected but never listed": ledger.unlisted,
        "both indexed and rejected": ledger.doubled,
        "other rows in the import files than in the parts": ledger.misfits,
        "rows lost or doubled on import": ledger.short_files,
    }
    problems = [f"{problem}: {_some(names)}" for problem, names in named.items() if names]
    if ledger.listed != ledger.reused + ledger.embedded + ledger.rejected:
        problems.append(
            f"{ledger.listed} documents listed, "
            f"{ledger.reused} reused + {ledger.embedded} embedded + {ledger.rejected} rejected"
        )
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
