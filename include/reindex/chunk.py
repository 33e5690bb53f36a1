"""A parsed document in, its passages out: exact by the model's own tokens, cut at headings and paragraphs first."""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reindex.records import Page, ParsedDocument, Passage, text_bytes
from reindex.settings import Chunks

# A chunk is full at four fifths of its limit: a paragraph is then not cut for the sake of a few tokens.
_FULL_SHARE = 0.8
_HEADING = re.compile(r"^(#{1,6})\s+(.+?)\s*#*$")
_FENCE = re.compile(r"^\s*(```|~~~)")


class Chunker:
    """Cuts documents by the tokens of one model. Loads the tokenizer once, so make one for each worker."""

    def __init__(self, policy: Chunks, tokenizer_file: Path) -> None:
        from semantic_text_splitter import MarkdownSplitter, TextSplitter
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(tokenizer_file))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        limits = (int(policy.max_tokens * _FULL_SHARE), policy.max_tokens)
        self._splitters = {
            True: MarkdownSplitter.from_huggingface_tokenizer(self._tokenizer, limits, policy.overlap_tokens),
            False: TextSplitter.from_huggingface_tokenizer(self._tokenizer, limits, policy.overlap_tokens),
        }
        # A word that the model does not know is one token however long it is: Milvus counts bytes.
        self._by_length = TextSplitter(text_bytes("text") // 4)

    def chunk_document(self, document: ParsedDocument) -> list[Passage]:
        """Return the passages in reading order."""
        passages: list[Passage] = []
        for page in document.pages:
            sections = _Sections(page.text) if document.is_markdown else None
            for start, text in self._split(page, is_markdown=document.is_markdown):
                passages.append(
                    Passage(
                        title=_shortened(document.title, "title"),
                        section=_shortened(sections.at(start), "section") if sections else "",
                        page=page.number,
                        position=len(passages),
                        start=start,
                        text=text,
                    )
                )
        return passages

    def count_tokens(self, passages: list[Passage]) -> list[int]:
        """Return the tokens of each passage, as the model reads it."""
        return [len(encoding.ids) for encoding in self._tokenizer.encode_batch([passage.text for passage in passages])]

    def _split(self, page: Page, *, is_markdown: bool) -> Iterator[tuple[int, str]]:
        splitter: Any = self._splitters[is_markdown]
        for start, text in splitter.chunk_indices(page.text):
            if len(text.encode()) <= text_bytes("text"):
                yield start, text
            else:
                yield from ((start + inner, piece) for inner, piece in self._by_length.chunk_indices(text))


class _Sections:
    """The heading path of every place in a Markdown text, as `Guide > Install > Linux`."""

    def __init__(self, text: str) -> None:
        self._starts, self._paths = [0], [""]
        path: list[tuple[int, str]] = []
        offset, in_code = 0, False
        for line in text.splitlines(keepends=True):
            in_code ^= bool(_FENCE.match(line))
            heading = None if in_code else _HEADING.match(line.rstrip("\n"))
            if heading:
                level = len(heading[1])
                path = [*(step for step in path if step[0] < level), (level, heading[2])]
                self._starts.append(offset)
                self._paths.append(" > ".join(title for _, title in path))
            offset += len(line)

    def at(self, offset: int) -> str:
        return self._paths[bisect.bisect_right(self._starts, offset) - 1]


def _shortened(text: str, column: str) -> str:
    return text.encode()[: text_bytes(column)].decode(errors="ignore")
