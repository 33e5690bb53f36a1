"""An object's bytes in, its passages out: what a child of the sandbox does with one document."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from reindex.chunk import Chunker
from reindex.parse import read_object
from reindex.settings import Chunks, Limits, Parsing


class Reader:
    """Reads objects of one corpus. Loads the tokenizer and the parsers' library once."""

    def __init__(self, policy: Chunks, tokenizer_file: Path, prompt: str, parsing: Parsing, limits: Limits) -> None:
        import kreuzberg  # noqa: F401 - so that children are born with it

        self._chunker = Chunker(policy, tokenizer_file, prompt)
        self._parsing, self._limits = parsing, limits

    def __call__(self, key: str, data: bytes) -> dict[str, Any]:
        """Return the passages of an object's documents with their token ids, and the members that were rejected."""
        reading = read_object(key, data, self._parsing, self._limits)
        chunks = [chunk for document in reading.documents for chunk in self._chunker.chunk_document(document)]
        return {
            "passages": [asdict(chunk.passage) for chunk in chunks],
            "tokens": [chunk.tokens for chunk in chunks],
            "members": [asdict(member) for member in reading.rejected],
        }
