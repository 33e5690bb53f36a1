from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from reindex.version_pages import version_listings

SEAWEEDFS = "SeaweedFS 8000GB 4.48"


class TreeServer:
    """An S3 client of a server that goes through a tree of names but goes on after a page by key: SeaweedFS."""

    def __init__(self, keys: list[str], *, page_size: int, name: str = SEAWEEDFS) -> None:
        self.keys, self.page_size, self.name, self.requests = keys, page_size, name, 0

    def get_paginator(self, call: str) -> TreeServer:
        assert call == "list_object_versions"
        return self

    def paginate(self, **asked: str) -> Iterator[dict[str, Any]]:
        marker: str | None = ""
        while marker is not None:
            page = self.list_object_versions(KeyMarker=marker, **asked)
            yield page
            marker = page.get("NextKeyMarker")

    def list_object_versions(
        self,
        *,
        Bucket: str,  # noqa: N803 - boto3's words
        Prefix: str,  # noqa: N803
        Delimiter: str = "",  # noqa: N803
        KeyMarker: str = "",  # noqa: N803
    ) -> dict[str, Any]:
        self.requests += 1
        names = {rolled_up(key, Prefix, Delimiter) for key in self.keys if key.startswith(Prefix)}
        reached = [name for name in sorted(names, key=place_in_tree) if place_in_tree(name) >= KeyMarker.split("/")]
        collected = sorted([name for name in reached if name > KeyMarker][: self.page_size + 1])
        page, is_truncated = collected[: self.page_size], len(collected) > self.page_size
        return {
            "Versions": [{"Key": name} for name in page if not name.endswith("/")],
            "CommonPrefixes": [{"Prefix": name} for name in page if name.endswith("/")],
            "IsTruncated": is_truncated,
            "ResponseMetadata": {"HTTPHeaders": {"server": self.name}},
            **({"NextKeyMarker": page[-1]} if is_truncated else {}),
        }


def rolled_up(key: str, prefix: str, delimiter: str) -> str:
    """Return the key, or the folder that a listing with a delimiter shows in its place."""
    inner = key.removeprefix(prefix)
    return prefix + inner.split("/")[0] + "/" if delimiter and "/" in inner else key


def place_in_tree(name: str) -> list[str]:
    """Return where the server comes upon a name: it keeps the versions of `m` in a folder `m.versions`."""
    return name.removesuffix("/").split("/") if name.endswith("/") else f"{name}.versions".split("/")


def listed(server: TreeServer, prefix: str = "") -> list[str]:
    return [
        entry["Key"]
        for pages in version_listings(server, "sources", prefix)
        for page in pages
        for entry in page["Versions"]
    ]


NESTED = [f"docs/{i}" for i in range(9)] + [f"docs-old/{i}" for i in range(4)] + ["docs", "docs.md", "docs/9/deep", "z"]
ALIKE = [f"m{i}" for i in range(7)] + ["t-a", "t.md", "t", "t/1", "u", "m-1", "m-2", "m.md", "m"]


@pytest.mark.parametrize("page_size", range(4, 20))
@pytest.mark.parametrize("keys", [NESTED, ALIKE, [f"d/{key}" for key in ALIKE]], ids=["nested", "alike", "deeper"])
def test_every_key_is_listed_once_wherever_the_pages_end(keys: list[str], page_size: int) -> None:
    assert sorted(listed(TreeServer(keys, page_size=page_size))) == sorted(keys)


@pytest.mark.parametrize("keys", [NESTED, ALIKE])
def test_the_server_s_own_paging_would_leave_keys_out(keys: list[str]) -> None:
    """Else these tests would show nothing."""
    found = [len(listed(TreeServer(keys, page_size=size, name="another"))) for size in range(4, 20)]
    assert min(found) < len(keys)


def test_a_prefix_need_not_be_a_folder() -> None:
    assert sorted(listed(TreeServer(NESTED, page_size=4), "docs")) == sorted(set(NESTED) - {"z"})


def test_another_server_is_not_asked_more_than_it_has_pages() -> None:
    server = TreeServer([f"f{number}" for number in range(10)], page_size=3, name="AmazonS3")
    assert listed(server) == [f"f{number}" for number in range(10)]
    assert server.requests == 4
