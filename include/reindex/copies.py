"""Documents of the same content for the same readers: which stands for the others, where a corpus keeps only one."""

from __future__ import annotations

from reindex.records import RejectReason

_COPIES = """
    select key, '{reason}' as reason, 'a document of the same content whose key comes first stands for it' as detail
    from (
        select key, min(key) over (partition by content, acl) as first
        from {documents} where part <> '' and '{duplicates}' = 'first'
    ) where key <> first
"""


def copies_of(documents: str, duplicates: str) -> str:
    """Return a query for the documents that another of the same content and the same readers stands for.

    They are none, or all but the first by key. `documents` is what to select from, `duplicates` the corpus's choice.
    """
    return _COPIES.format(reason=RejectReason.DUPLICATE, documents=documents, duplicates=duplicates)
