from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from reindex.errors import PastUnknown
from reindex.versions import objects_at, objects_now

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
# What happened to a key, oldest first: the second after noon, and what was written (a version's name) or "deleted".
History = list[tuple[int, str]]


def entries(history: dict[str, History]) -> list[dict[str, Any]]:
    """Return the entries of a version listing in a server's order: keys rising, the newest entry of a key first."""
    found = []
    for key, events in sorted(history.items()):
        for place, (second, name) in enumerate(reversed(events)):
            entry = {"Key": key, "VersionId": name, "IsLatest": place == 0}
            entry["LastModified"] = NOON + timedelta(seconds=second)
            found.append(entry if name == "deleted" else {**entry, "ETag": f'"{name}"', "Size": 1})
    return found


def pages(history: dict[str, History], size: int) -> Iterator[dict[str, Any]]:
    """Yield the pages of a listing as boto3 gives them: versions and delete markers apart."""
    listed = entries(history)
    for start in range(0, len(listed), size):
        block = listed[start : start + size]
        is_last = start + size >= len(listed)
        page: dict[str, Any] = {} if is_last else {"NextKeyMarker": block[-1]["Key"]}
        versions = [entry for entry in block if "ETag" in entry]
        markers = [entry for entry in block if "ETag" not in entry]
        yield {
            **page,
            **({"Versions": versions} if versions else {}),
            **({"DeleteMarkers": markers} if markers else {}),
        }


def there_at(second: float, history: dict[str, History], size: int = 1000) -> dict[str, str]:
    moment = NOON + timedelta(seconds=second)
    return {found.key: found.version for found in objects_at(pages(history, size), moment, "sources")}


LIFE: dict[str, History] = {
    "deleted": [(1, "d1"), (5, "deleted")],
    "edited": [(1, "e1"), (5, "e2"), (9, "e3")],
    "restored": [(1, "r1"), (3, "deleted"), (5, "r2")],
    "young": [(9, "y1")],
}


@pytest.mark.parametrize("size", [1, 2, 3, 4, 1000])
@pytest.mark.parametrize(
    ("second", "there"),
    [
        (0, {}),
        (1, {"deleted": "d1", "edited": "e1", "restored": "r1"}),
        (4, {"deleted": "d1", "edited": "e1"}),
        (5, {"edited": "e2", "restored": "r2"}),
        (9, {"edited": "e3", "restored": "r2", "young": "y1"}),
    ],
)
def test_the_past_is_the_same_whatever_the_pages_cut_apart(size: int, second: int, there: dict[str, str]) -> None:
    assert there_at(second, LIFE, size) == there


def test_now_is_the_latest_version_of_what_was_not_deleted() -> None:
    assert {found.key: found.version for found in objects_now(pages(LIFE, 2))} == there_at(9, LIFE)


def test_a_moment_includes_what_was_written_in_its_second() -> None:
    assert there_at(5.3, {"a": [(5, "a1")]}) == {"a": "a1"}


def test_of_two_versions_of_one_second_the_one_listed_first_is_newer() -> None:
    history: dict[str, History] = {"a": [(5, "a1"), (5, "a2"), (9, "a3")]}
    assert [there_at(6, history, size) for size in (1, 2, 3)] == [{"a": "a2"}] * 3


def test_a_marker_that_is_the_latest_wins_over_a_version_of_its_second() -> None:
    assert there_at(6, {"a": [(5, "a1"), (5, "deleted")]}) == {}


def test_what_is_deleted_and_written_again_within_a_second_is_there() -> None:
    assert there_at(6, {"a": [(1, "a1"), (5, "deleted"), (5, "a2"), (9, "a3")]}) == {"a": "a2"}


def test_the_latest_version_counts_whatever_its_time() -> None:
    """An upload in parts bears the time at which it was begun, which may be before a version that it replaced."""
    assert there_at(9, {"a": [(5, "a1"), (2, "in-parts")]}) == {"a": "in-parts"}


def test_a_version_written_over_later_without_being_kept_makes_the_past_unknown() -> None:
    history: dict[str, History] = {"a": [(5, "null"), (9, "a2")]}
    assert there_at(6, history) == {"a": "null"}
    with pytest.raises(PastUnknown, match="later it wrote a without keeping"):
        there_at(4, history)


def test_a_folder_marker_says_nothing_of_the_past() -> None:
    assert there_at(4, {"folder/": [(5, "null")], "folder/a": [(1, "a1")]}) == {"folder/a": "a1"}


def test_no_more_than_a_page_is_held() -> None:
    """A key is given out as soon as the page after it has begun."""
    read: list[str] = []

    def watched() -> Iterator[dict[str, Any]]:
        for page in pages({f"k{number}": [(1, "v1"), (2, "v2")] for number in range(10)}, 2):
            read.append(page["Versions"][0]["Key"])
            yield page

    for found in objects_at(watched(), NOON + timedelta(seconds=5), "sources"):
        assert int(read[-1][1:]) - int(found.key[1:]) <= 1
    assert [int(after[1:]) - int(before[1:]) for before, after in pairwise(read)] == [1] * 9
