from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from reindex.errors import BackfillMoment, FutureMoment, InvalidMoment, NothingToIndex, PastUnknown, ServiceUnavailable
from reindex.records import StoredObject
from reindex.releases import SNAPSHOT_FILE
from reindex.settings import Source
from reindex.snapshot import (
    MOMENT_PATTERN,
    NEAR,
    Moment,
    check_has_come,
    choose_moment,
    read_moment,
    select_objects,
    take_snapshot,
)
from reindex.tombstones import bury
from tests.fakes import STATE_BUCKET, MemoryObjectStore, a_corpus, release_files

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
CHANGED = LONG_AGO + timedelta(days=1)
NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def an_object(key: str, modified: datetime = LONG_AGO) -> StoredObject:
    return StoredObject(key=key, version="v1", etag="e", bytes=10, modified=modified)


class ListedStore(MemoryObjectStore):
    """A bucket whose listings are given: now, and as of the past where it keeps versions; the first may break off."""

    def __init__(self, now: list[StoredObject], past: list[StoredObject] | None = None) -> None:
        super().__init__()
        self.now, self.past, self.breaks_off = now, past, False
        self.tags: dict[str, dict[str, str]] = {}

    def list_objects(self, bucket: str, prefix: str, as_of: datetime | None = None) -> Iterator[StoredObject]:
        if as_of and self.past is None:
            raise PastUnknown(bucket, as_of.isoformat(), "it keeps no versions")
        yield from (self.past or []) if as_of else self.now
        if self.breaks_off:
            raise ServiceUnavailable("the object store", "there", "reset")

    def metadata(self, bucket: str, key: str, *, version: str = "", etag: str = "") -> dict[str, str]:
        assert (version, etag) == ("v1", "e")
        return self.tags.get(key, {})


def snapshot(
    store: ListedStore, *, as_of: datetime | None = None, is_past: bool = False, **source: Any
) -> tuple[list[str], dict[str, Any]]:
    """Return the keys of a snapshot, and its report."""
    files = release_files(store=store)
    corpus = a_corpus(source={"bucket": "sources", "prefix": "docs/", **source})
    facts = take_snapshot(files, corpus, as_of=as_of or datetime.now(UTC), is_past=is_past)
    return files.read_column(SNAPSHOT_FILE, "key"), facts


def selected(source: Source, *keys: str) -> list[str]:
    return [found.key for found in select_objects(map(an_object, keys), source)]


def test_patterns_are_read_after_the_prefix() -> None:
    source = Source(bucket="b", prefix="docs/", include=("**/*.md",), exclude=("drafts/**",))
    assert selected(source, "docs/a.md", "docs/x/b.md", "docs/drafts/c.md", "docs/d.txt") == [
        "docs/a.md",
        "docs/x/b.md",
    ]


def test_folder_markers_are_no_documents() -> None:
    assert selected(Source(bucket="b"), "docs/", "docs/a") == ["docs/a"]


def test_a_snapshot_holds_every_selected_object() -> None:
    now = datetime.now(UTC)
    keys, facts = snapshot(ListedStore([an_object("docs/a.md"), an_object("docs/b.md")], past=[]), as_of=now)
    assert keys == ["docs/a.md", "docs/b.md"]
    counts = {"documents": 2, "bytes": 20, "erased": 0, "hidden": 0}
    assert facts == {**counts, "as_of": now.isoformat(), "listing": "present"}


def test_an_empty_listing_is_refused_and_leaves_nothing() -> None:
    files = release_files(store=ListedStore([], past=[]))
    with pytest.raises(NothingToIndex, match="s3://sources/docs/ holds no object"):
        take_snapshot(files, a_corpus(), as_of=datetime.now(UTC), is_past=False)
    with pytest.raises(NothingToIndex, match="held at 2026-01-01T00:00:00\\+00:00 no object"):
        take_snapshot(files, a_corpus(), as_of=LONG_AGO, is_past=True)
    assert files.read_column(SNAPSHOT_FILE, "key") == []


def test_a_listing_that_breaks_off_is_an_error_never_a_short_snapshot() -> None:
    store = ListedStore([an_object("docs/a.md")])
    store.breaks_off = True
    files = release_files(store=store)
    with pytest.raises(ServiceUnavailable):
        take_snapshot(files, a_corpus(), as_of=datetime.now(UTC), is_past=False)
    assert files.read_column(SNAPSHOT_FILE, "key") == []


@pytest.mark.parametrize("is_past", [True, False])
def test_a_bucket_with_versions_is_listed_as_it_was_whether_asked_for_or_late(is_past: bool) -> None:
    store = ListedStore([an_object("docs/new.md")], past=[an_object("docs/old.md")])
    keys, facts = snapshot(store, as_of=LONG_AGO, is_past=is_past)
    assert keys == ["docs/old.md"]
    assert (facts["listing"], facts["as_of"]) == ("exact", "2026-01-01T00:00:00+00:00")


def test_a_bucket_without_versions_refuses_the_past_and_says_what_to_do() -> None:
    with pytest.raises(PastUnknown) as refused:
        snapshot(ListedStore([an_object("docs/a.md")]), as_of=LONG_AGO, is_past=True)
    assert "switch versioning on" in str(refused.value)
    assert "source.approximate_as_of: true" in str(refused.value)


def test_a_corpus_may_have_the_past_without_what_has_changed_since() -> None:
    store = ListedStore([an_object("docs/a.md"), an_object("docs/changed.md", CHANGED)])
    keys, facts = snapshot(store, as_of=LONG_AGO, is_past=True, approximate_as_of=True)
    assert (keys, facts["listing"]) == (["docs/a.md"], "approximate")


def test_a_scheduled_run_that_starts_late_lists_the_present_of_a_bucket_without_versions() -> None:
    store = ListedStore([an_object("docs/a.md"), an_object("docs/changed.md", CHANGED)])
    keys, facts = snapshot(store, as_of=LONG_AGO, is_past=False, approximate_as_of=True)
    assert (keys, facts["listing"]) == (["docs/a.md", "docs/changed.md"], "present")


def test_the_future_is_refused_but_not_a_clock_that_is_a_little_ahead() -> None:
    check_has_come(datetime.now(UTC) + NEAR / 2)
    with pytest.raises(FutureMoment, match="has not come yet"):
        snapshot(ListedStore([an_object("docs/a.md")]), as_of=datetime.now(UTC) + 2 * NEAR)


def test_what_is_erased_while_the_bucket_is_listed_is_not_in_the_snapshot() -> None:
    class Erasing(ListedStore):
        """A document is erased in the middle of the first listing."""

        def list_objects(self, bucket: str, prefix: str, as_of: datetime | None = None) -> Iterator[StoredObject]:
            for found in super().list_objects(bucket, prefix, as_of):
                yield found
                bury(self, STATE_BUCKET, "docs", "docs/b.md", reason="a court order", by="a test")

    keys, facts = snapshot(Erasing([an_object("docs/a.md"), an_object("docs/b.md")]))
    assert (keys, facts["documents"], facts["erased"]) == (["docs/a.md"], 1, 1)


def test_what_was_erased_is_not_listed_even_from_the_past() -> None:
    listed = [an_object("docs/a.md"), an_object("docs/erased.md")]
    store = ListedStore(listed, past=listed)
    for key in ("docs/erased.md", "docs/not-listed.md"):
        bury(store, "reindex", "docs", key, reason="asked to", by="admin")
    for as_of in (datetime.now(UTC), LONG_AGO):
        keys, facts = snapshot(store, as_of=as_of)
        assert (keys, facts["documents"], facts["erased"]) == (["docs/a.md"], 1, 1)


def test_user_metadata_is_kept_where_it_is_asked_for() -> None:
    store = ListedStore([an_object("docs/a.md"), an_object("docs/b.md")])
    store.tags["docs/a.md"] = {"owner": "legal", "other": "x"}
    files = release_files(store=store)
    for asked, kept in {("Owner",): ['{"Owner": "legal"}', "{}"], (): ["{}", "{}"]}.items():
        corpus = a_corpus(source={"bucket": "sources", "prefix": "docs/", "metadata": asked})
        take_snapshot(files, corpus, as_of=datetime.now(UTC), is_past=False)
        assert files.read_column(SNAPSHOT_FILE, "metadata") == kept


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-03-01", NOON - timedelta(hours=12)),
        ("2026-03-01T12:00", NOON),
        ("2026-03-01T12:00:00Z", NOON),
        ("2026-03-01 14:00:00+02:00", NOON),
    ],
)
def test_a_moment_is_utc_unless_it_names_a_zone(text: str, moment: datetime) -> None:
    assert read_moment(text) == moment


def test_what_a_form_sends_looks_like_a_moment_and_other_texts_do_not() -> None:
    for text in ("2026-03-01", "2026-03-01T12:00", "2026-03-01T12:00:00.000Z", "2026-03-01 14:00:00+02:00"):
        assert re.search(MOMENT_PATTERN, text)
        assert read_moment(text).date() == NOON.date()
    for text in ("yesterday", "", "01.03.2026", "2026-03-01T", "2026-03-01T12:00:00Z and more"):
        assert not re.search(MOMENT_PATTERN, text)


@pytest.mark.parametrize("text", ["yesterday", "", "2026-02-30", "2026-03-01T25:00", "0001-01-01T00:00+14:00"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(InvalidMoment, match="is no moment; write it as 2026-03-01"):
        read_moment(text)


def moment_of(
    run_type: str, *, logical_date: datetime | None = None, run_after: datetime = NOON, asked: str | None = None
) -> Moment:
    return choose_moment(asked=asked, run_type=run_type, logical_date=logical_date, run_after=run_after)


def test_a_scheduled_run_never_asks_for_the_past() -> None:
    assert moment_of("scheduled", logical_date=NOON) == Moment(as_of=NOON, is_past=False)
    night = NOON - timedelta(days=1)
    assert moment_of("scheduled", logical_date=night) == Moment(as_of=night, is_past=False)


def test_a_backfill_asks_for_the_past_however_near() -> None:
    assert moment_of("backfill", logical_date=NOON) == Moment(as_of=NOON, is_past=True)


def test_a_manual_run_without_a_logical_date_is_of_when_it_was_asked_for() -> None:
    assert moment_of("manual") == Moment(as_of=NOON, is_past=False)


@pytest.mark.parametrize(("age", "is_past"), [(NEAR + timedelta(seconds=1), True), (NEAR, False), (-NEAR, False)])
def test_a_manual_run_with_a_logical_date_asks_for_the_past_if_it_was_past_at_the_click(
    age: timedelta, is_past: bool
) -> None:
    """A form fills in the moment of the click."""
    assert moment_of("manual", logical_date=NOON - age) == Moment(as_of=NOON - age, is_past=is_past)


@pytest.mark.parametrize("asked", ["2026-02-01", "2026-03-01T11:59:00Z"])
def test_the_parameter_wins_over_the_logical_date_and_asks_for_the_past(asked: str) -> None:
    expected = Moment(as_of=read_moment(asked), is_past=True)
    assert moment_of("manual", logical_date=NOON, asked=asked) == expected
    assert moment_of("scheduled", logical_date=NOON, asked=asked) == expected


def test_a_backfill_is_not_given_one_moment_for_all_its_nights() -> None:
    with pytest.raises(BackfillMoment, match="whose runs would all be about that one moment"):
        moment_of("backfill", logical_date=NOON, asked="2026-02-01")
