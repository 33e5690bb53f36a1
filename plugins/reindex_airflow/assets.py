"""What other DAGs can wait for."""

from __future__ import annotations

from airflow.sdk import Asset, AssetAlias

from reindex.naming import alias_name

# A rollback's way to the asset of its corpus, which is known only when it runs.
ROLLED_BACK = AssetAlias(name="rolled_back_index")


def live_index(corpus: str) -> Asset:
    """Return the asset that a promotion or a rollback updates; its event carries the release and the collection."""
    return Asset(name=f"live_index_{alias_name(corpus)}", uri=f"milvus://reindex/{alias_name(corpus)}")
