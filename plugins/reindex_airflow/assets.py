"""What other DAGs can wait for."""

from __future__ import annotations

from airflow.sdk import Asset

from reindex.naming import alias_name


def live_index(corpus: str) -> Asset:
    """Return the asset that a promotion updates; its event carries the release and the collection."""
    return Asset(name=f"live_index_{alias_name(corpus)}", uri=f"milvus://reindex/{alias_name(corpus)}")
