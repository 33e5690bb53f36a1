"""A parsed document in, its passages out: exact by the model's own tokens, cut at headings and paragraphs first.

Where to cut is decided by what stands nearby alone, so that an edit moves no cut but those beside it: a place is a cut
if it is the best of all places within a window of tokens on either side of it. The better place is the one before the
higher heading, then before a paragraph, then a line or a sentence; among equals, the one whose following text has the
lower hash. (Cutting at local minima of a hash: N. Bjørner, A. Blass and Y. Gurevich, "Content-dependent chunking for
differential compression, the local maximum approach", 2010; the ranks are ours.)
"""

from __future__ import annotations

import bisect
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from reindex.records import Page, ParsedDocument, Passage, text_bytes
from reindex.settings import Chunks

# In the fingerprint of the embedding space: raise it when the same text is cut in other places.
CHUNKER_VERSION = "local-best/1"
# Of the most that a chunk may hold: cuts lie no closer, and chunks come out about twice as long on average.
_WINDOW_SHARE = 0.5
_HASHED_CHARACTERS = 64
_HEADING = re.compile(r"^(#{1,6})\s+(.+?)\s*#*$")
_FENCE = re.compile(r"^\s*(```|~~~)")
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+|(?<=[。！？])")  # noqa: RUF001 - as Chinese and Japanese end theirs
# Headings rank by their depth, 1 to 6.
_PARAGRAPH, _LINE, _CODE_LINE = 7, 8, 9


@dataclass(frozen=True, slots=True, order=True)
class _Place:
    """Where a text may be cut: the lower, the better."""

    rank: int
    lot: bytes
    start: int


class Chunker:
    """Cuts documents by the tokens of one model. Loads the tokenizer once, so make one for each worker."""

    def __init__(self, policy: Chunks, tokenizer_file: Path) -> None:
        from semantic_text_splitter import TextSplitter
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(tokenizer_file))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._max_tokens, self._overlap = policy.max_tokens, policy.overlap_tokens
        # For what has no place to cut: a sentence that is longer than a chunk.
        self._by_tokens = TextSplitter.from_huggingface_tokenizer(self._tokenizer, policy.max_tokens)
        # A word that the model does not know is one token however long it is: Milvus counts bytes.
        self._by_length = TextSplitter(text_bytes("text") // 4)

    def chunk_document(self, document: ParsedDocument) -> list[Passage]:
        """Return the passages in reading order."""
        passages: list[Passage] = []
        for page in document.pages:
            outline = _Outline(page.text, is_markdown=document.is_markdown)
            for start, text in self._split(page, outline):
                passages.append(
                    Passage(
                        title=_shortened(document.title, "title"),
                        section=_shortened(outline.section_at(start), "section"),
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

    def _split(self, page: Page, outline: _Outline) -> Iterator[tuple[int, str]]:
        cutter = _Cutter(outline.places, self._token_starts(page.text), len(page.text))
        for start, end in cutter.spans(self._max_tokens, self._overlap):
            text = page.text[start:end].strip()
            first = start + page.text[start:end].find(text)
            for offset, piece in self._fitting(text):
                yield first + offset, piece

    def _token_starts(self, text: str) -> list[int]:
        encoding: Any = self._tokenizer.encode(text, add_special_tokens=False)
        return [start for start, _ in encoding.offsets]

    def _fitting(self, text: str) -> Iterator[tuple[int, str]]:
        """Yield a text in pieces that the model reads whole and Milvus takes; nearly always it is one."""
        if not text:
            return
        for start, piece in self._by_tokens.chunk_indices(text):
            if len(piece.encode()) <= text_bytes("text"):
                yield start, piece
            else:
                yield from ((start + inner, part) for inner, part in self._by_length.chunk_indices(piece))


class _Cutter:
    """Chooses the cuts of one text from its places; counts in tokens, answers in characters."""

    def __init__(self, places: list[_Place], token_starts: list[int], length: int) -> None:
        self._places, self._length = places, length
        self._offsets = [bisect.bisect_left(token_starts, place.start) for place in places]
        self._tokens = len(token_starts)

    def spans(self, max_tokens: int, overlap: int) -> Iterator[tuple[int, int]]:
        """Yield the chunks as spans of characters, each begun a little before its cut, but not before a heading."""
        best = [place for place in range(1, len(self._places)) if self._is_best(place, max_tokens * _WINDOW_SHARE)]
        pieces = pairwise([0, *best, len(self._places)])
        cuts = [cut for first, end in pieces for cut in self._halved(first, end, max_tokens)]
        for cut, after in pairwise([*cuts, len(self._places)]):
            room = max_tokens - (self._offset(after) - self._offset(cut))
            first = self._begun_before(cut, max(0, min(overlap, room)))
            end = self._places[after].start if after < len(self._places) else self._length
            yield self._places[first].start, end

    def _halved(self, first: int, end: int, max_tokens: int) -> list[int]:
        """Return where the chunks of a piece begin: it is cut at the best place of its middle until all are in size."""
        begin, stop = self._offset(first), self._offset(end)
        inner = range(first + 1, end)
        if stop - begin <= max_tokens or not inner:
            return [first]
        margin = (stop - begin) / 4
        middle = [place for place in inner if begin + margin <= self._offsets[place] <= stop - margin]
        cut = min(middle or inner, key=lambda place: self._places[place])
        return [*self._halved(first, cut, max_tokens), *self._halved(cut, end, max_tokens)]

    def _is_best(self, place: int, window: float) -> bool:
        offset = self._offsets[place]
        if offset < window or self._tokens - offset < window:
            return False
        low = bisect.bisect_right(self._offsets, offset - window)
        high = bisect.bisect_left(self._offsets, offset + window)
        return min(range(low, high), key=lambda near: self._places[near]) == place

    def _begun_before(self, cut: int, tokens: int) -> int:
        if cut == 0 or self._places[cut].rank < _PARAGRAPH:
            return cut
        first = min(cut, bisect.bisect_left(self._offsets, self._offsets[cut] - tokens))
        headings = [place for place in range(first, cut) if self._places[place].rank < _PARAGRAPH]
        return max(first, *headings) if headings else first

    def _offset(self, place: int) -> int:
        return self._offsets[place] if place < len(self._offsets) else self._tokens


class _Outline:
    """The places at which a text may be cut, and its heading path at every place, as `Guide > Install > Linux`."""

    def __init__(self, text: str, *, is_markdown: bool) -> None:
        self.places: list[_Place] = []
        self._starts, self._paths = [0], [""]
        path: list[tuple[int, str]] = []
        start, in_code, after_blank = 0, False, True
        for line in text.splitlines(keepends=True):
            heading = None if in_code or not is_markdown else _HEADING.match(line.rstrip("\r\n"))
            if heading:
                path = [*(step for step in path if step[0] < len(heading[1])), (len(heading[1]), heading[2])]
                self._starts.append(start)
                self._paths.append(" > ".join(title for _, title in path))
            if line.strip():
                usual = _CODE_LINE if in_code else _PARAGRAPH if after_blank else _LINE
                self._add_line(text, start, line, len(heading[1]) if heading else usual)
            in_code ^= is_markdown and bool(_FENCE.match(line))
            after_blank = not line.strip()
            start += len(line)
        if not self.places or self.places[0].start:
            self.places.insert(0, _place(text, 0, _PARAGRAPH))

    def section_at(self, offset: int) -> str:
        return self._paths[bisect.bisect_right(self._starts, offset) - 1]

    def _add_line(self, text: str, start: int, line: str, rank: int) -> None:
        self.places.append(_place(text, start, rank))
        if rank < _CODE_LINE:
            ends = (found.end() for found in _SENTENCE_END.finditer(line.rstrip()))
            self.places += [_place(text, start + end, _LINE) for end in ends]


def _place(text: str, start: int, rank: int) -> _Place:
    following = text[start : start + _HASHED_CHARACTERS].encode()
    return _Place(rank, hashlib.blake2b(following, digest_size=8).digest(), start)


def _shortened(text: str, column: str) -> str:
    return text.encode()[: text_bytes(column)].decode(errors="ignore")
