"""Where a corpus stands, for people: what is live, what its last release came to, and what wants somebody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reindex.errors import ReindexError
from reindex.releases import LivePointer, ReleaseFiles, read_live, read_summaries, release_names
from reindex.storage import ObjectStore

# A page of a corpus's releases; charts show as many.
RELEASES_ON_PAGE = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A corpus, its live release and its newest one, each as `release_report` says it; `wants` is for a person."""

    corpus: str
    pointer: LivePointer | None
    live: dict[str, Any] | None
    newest: dict[str, Any] | None
    wants: list[str]
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A run that waits for a person, and what it asks."""

    run: str
    question: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rights:
    """What whoever looks at a corpus may do with it."""

    run: bool
    answer: bool
    roll_back: bool


def read_standing_of(store: ObjectStore, bucket: str, corpus: str) -> Standing:
    """Return where a corpus stands by its files in the bucket; `problem` says why they could not be read."""
    try:
        pointer, _ = read_live(store, bucket, corpus)
        names = sorted(release_names(store, bucket, corpus))
        files = [ReleaseFiles(store, bucket, corpus, name) for name in names[-1:]]
        newest = files[0].summary() if files else None
        live_files = ReleaseFiles(store, bucket, corpus, pointer.release) if pointer else None
        live = live_files.summary() if live_files else None
        drift = live_files.drift() if live_files else []
    except ReindexError as error:
        return Standing(corpus=corpus, pointer=None, live=None, newest=None, wants=[], problem=str(error))
    return Standing(corpus=corpus, pointer=pointer, live=live, newest=newest, wants=what_it_wants(newest, drift))


def what_it_wants(newest: dict[str, Any] | None, drift: Sequence[str]) -> list[str]:
    """Return what a person is to look at, each in a line: a failure, deletions that are withheld, drift."""
    wants = [f"drifted: {problem}" for problem in drift]
    if newest and newest["failed"]:
        wants.append(f"{newest['release']} failed in {newest['failed']['stage']}: {newest['failed']['reason']}")
    if newest and newest["withheld"]:
        wants.append(
            f"{newest['withheld']:,} deletions are withheld: {newest['warning'] or 'more than the corpus allows'}"
        )
    return wants


def releases_page(store: ObjectStore, bucket: str, corpus: str, page: int) -> tuple[list[dict[str, Any]], int]:
    """Return one page of what a corpus's releases came to, the newest first, and how many pages there are."""
    names = sorted(release_names(store, bucket, corpus), reverse=True)
    pages = max(1, -(-len(names) // RELEASES_ON_PAGE))
    first = (min(max(page, 1), pages) - 1) * RELEASES_ON_PAGE
    return read_summaries(store, bucket, corpus, names[first : first + RELEASES_ON_PAGE]), pages
