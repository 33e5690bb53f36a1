"""A bucket's version listing, page by page, complete also from SeaweedFS, whose own paging leaves out keys.

SeaweedFS (4.48) goes through a tree of names, in which the folder `docs` comes before `docs-old` and the file `m-1`
before `m`, but goes on after a page by key, and there `docs-old/…` is before `docs/…`, and `m` before `m-1`: what the
tree has yet to reach and the key has passed is left out, and nobody is told. So where one page does not hold
everything, folders are listed one by one; and where one page does not hold a folder's own names, those that begin as
the last name of a page does are listed again by themselves. Only if those are more than a page can one be left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from typing import Any

Page = dict[str, Any]
_SECTIONS = {"Versions": "Key", "DeleteMarkers": "Key", "CommonPrefixes": "Prefix"}
# Two names come in another order as keys than in the tree only if one goes on, after what both have, with one of these.
_BEFORE_MARK = re.compile(r"[^\x00-/]*")


def version_listings(client: Any, bucket: str, prefix: str) -> Iterator[Iterator[Page]]:
    """Yield listings, each an iterator of pages, that together hold every version and delete marker under a prefix.

    The entries of one key lie in one listing, side by side. Read a listing to its end before asking for the next.
    """
    pages = iter(client.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix))
    first = next(pages)
    if first["IsTruncated"] and _is_seaweedfs(first):
        yield from _listings_by_folder(client, bucket, prefix)
    else:
        yield chain([first], pages)


def _listings_by_folder(client: Any, bucket: str, prefix: str) -> Iterator[Iterator[Page]]:
    folders: list[str] = []
    yield _noting_folders(_pages_of_folder(client, bucket, prefix), folders)
    for folder in folders:
        yield from version_listings(client, bucket, folder)


def _pages_of_folder(client: Any, bucket: str, prefix: str) -> Iterator[Page]:
    """Yield the pages of one folder's own names, each with all that begin as its last one does."""
    passed: str | None = None
    for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix, Delimiter="/"):
        rest = _without(page, passed) if passed else page
        marker = page.get("NextKeyMarker")
        beginning = _beginning(prefix, marker) if marker else prefix
        alike = (
            client.list_object_versions(Bucket=bucket, Prefix=beginning, Delimiter="/") if beginning != prefix else None
        )
        if alike and not alike["IsTruncated"]:
            passed = beginning
            rest = _without(rest, passed)
            rest = {name: [*rest.get(name, ()), *alike.get(name, ())] for name in _SECTIONS}
        yield rest


def _beginning(prefix: str, marker: str) -> str:
    found = _BEFORE_MARK.match(marker, len(prefix))
    return prefix + (found.group() if found else "")


def _without(page: Page, beginning: str) -> Page:
    """Return a page without what begins so; what is left of it goes on as it did."""
    kept = {
        section: [entry for entry in page.get(section, ()) if not entry[name].startswith(beginning)]
        for section, name in _SECTIONS.items()
    }
    return {**page, **kept}


def _noting_folders(pages: Iterator[Page], folders: list[str]) -> Iterator[Page]:
    for page in pages:
        folders += [folder["Prefix"] for folder in page.get("CommonPrefixes", ())]
        yield page


def _is_seaweedfs(page: Page) -> bool:
    return "SeaweedFS" in page["ResponseMetadata"]["HTTPHeaders"].get("server", "")
