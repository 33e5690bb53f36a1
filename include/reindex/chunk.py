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
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from reindex.records import Block, ParsedDocument, Passage, Shape, text_bytes
from reindex.settings import Chunks

# In the fingerprint of the embedding space: raise it when the same text is cut in other places.
CHUNKER_VERSION = "local-best/3"
# Of the most that a chunk may hold: cuts lie no closer, and chunks come out about twice as long on average.
_WINDOW_SHARE = 0.5
_HASHED_CHARACTERS = 64
_RUN_CHARACTERS = 100_000
# What the headings above a chunk may take of it where they are embedded too.
_SECTION_SHARE = 0.25
_STEP = " > "
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+|(?<=[。！？])")  # noqa: RUF001 - as Chinese and Japanese end theirs
# Sections rank by their depth.
_DEEPEST, _PARAGRAPH, _LINE, _CODE_LINE = 6, 7, 8, 9


class _Place(NamedTuple):
    """Where a text may be cut: the lower, the better. A tuple, for most of cutting is comparing places."""

    rank: int
    lot: bytes
    start: int


class Chunk(NamedTuple):
    """A passage, and the token ids that the model is given for it: its prompt and the end marks included."""

    passage: Passage
    tokens: list[int]


class _Piece(NamedTuple):
    """A text that the model reads whole and Milvus takes, where it begins in its document, and what lies above it."""

    start: int
    text: str
    section: str
    tokens: list[int]


class Chunker:
    """Cuts documents by the tokens of one model. Loads the tokenizer once, so make one for each worker."""

    def __init__(self, policy: Chunks, tokenizer_file: Path, prompt: str = "") -> None:
        from semantic_text_splitter import TextSplitter
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(tokenizer_file))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._prompt, self._heading_prefix = prompt, policy.heading_prefix
        self._section_tokens = int(policy.max_tokens * _SECTION_SHARE)
        # One for the line's end between the headings and the text, with models to which it is a token.
        self._max_tokens = policy.max_tokens - (self._section_tokens + 1 if policy.heading_prefix else 0)
        self._overlap = min(policy.overlap_tokens, self._max_tokens - 1)
        self._most_ids = policy.max_tokens + len(self._tokenizer.encode(prompt).ids)
        # For what has no place to cut: a sentence that is longer than a chunk.
        self._by_tokens = TextSplitter.from_huggingface_tokenizer(self._tokenizer, self._max_tokens)
        # A word that the model does not know is one token however long it is: Milvus counts bytes.
        self._by_length = TextSplitter(text_bytes("text") // 4)

    def chunk_document(self, document: ParsedDocument) -> list[Chunk]:
        """Return the chunks in reading order."""
        outline = _Outline(document)
        return [
            Chunk(
                Passage(
                    member=_shortened(document.member, "member"),
                    title=_shortened(document.title, "title"),
                    section=piece.section,
                    language=_shortened(document.language, "language"),
                    page=outline.block_at(piece.start).page,
                    time=_shortened(outline.block_at(piece.start).time, "time"),
                    position=position,
                    start=piece.start,
                    text=piece.text,
                ),
                piece.tokens,
            )
            for position, piece in enumerate(self._split(outline))
        ]

    def _section(self, path: str) -> str:
        """Return the headings above a chunk, as many of the nearest as there is room for."""
        path = _shortened(path, "section")
        if not self._heading_prefix:
            return path
        while len(starts := self._token_starts(path)) > self._section_tokens:
            path = path.partition(_STEP)[2] or path[: starts[self._section_tokens]].rstrip()
        return path

    def _split(self, outline: _Outline) -> Iterator[_Piece]:
        whole = outline.text
        cutter = _Cutter(outline.places, self._token_starts(whole), len(whole))
        for start, end in cutter.spans(self._max_tokens, self._overlap):
            if text := whole[start:end].strip():
                yield from self._fitting(outline, start + whole[start:end].find(text), text)

    def _token_starts(self, text: str) -> list[int]:
        return [
            first + start
            for first, lines in _runs_of_lines(text)
            for start, _ in self._tokenizer.encode(lines, add_special_tokens=False).offsets
        ]

    def _fitting(self, outline: _Outline, start: int, text: str) -> Iterator[_Piece]:
        """Yield a text in pieces that the model reads whole and Milvus takes; nearly always it is one."""
        if len(text.encode()) <= text_bytes("text"):
            whole = self._piece(outline, start, text)
            if len(whole.tokens) <= self._most_ids:
                yield whole
                return
        for offset, part in self._by_tokens.chunk_indices(text):
            if len(part.encode()) <= text_bytes("text"):
                yield self._piece(outline, start + offset, part)
            else:
                for inner, smallest in self._by_length.chunk_indices(part):
                    yield self._piece(outline, start + offset + inner, smallest)

    def _piece(self, outline: _Outline, start: int, text: str) -> _Piece:
        section = self._section(outline.section_at(start))
        given = self._prompt + embedded_text(section, text, heading_prefix=self._heading_prefix)
        (encoded,) = self._tokenizer.encode_batch_fast([given])  # which leaves offsets out, as `encode` does not
        return _Piece(start, text, section, encoded.ids)


def embedded_text(section: str, text: str, *, heading_prefix: bool) -> str:
    """Return what the model is given for a passage, but for the prompt: the text, under its headings if asked."""
    return f"{section}\n{text}" if heading_prefix and section else text


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
        cut = min(middle or inner, key=self._places.__getitem__)
        return [*self._halved(first, cut, max_tokens), *self._halved(cut, end, max_tokens)]

    def _is_best(self, place: int, window: float) -> bool:
        offset = self._offsets[place]
        if offset < window or self._tokens - offset < window:
            return False
        low = bisect.bisect_right(self._offsets, offset - window)
        high = bisect.bisect_left(self._offsets, offset + window)
        return min(range(low, high), key=self._places.__getitem__) == place

    def _begun_before(self, cut: int, tokens: int) -> int:
        if cut == 0 or self._places[cut].rank < _PARAGRAPH:
            return cut
        first = min(cut, bisect.bisect_left(self._offsets, self._offsets[cut] - tokens))
        headings = [place for place in range(first, cut) if self._places[place].rank < _PARAGRAPH]
        return max(first, *headings) if headings else first

    def _offset(self, place: int) -> int:
        return self._offsets[place] if place < len(self._offsets) else self._tokens


class _Outline:
    """A document's text, the places at which it may be cut, and where every place lies: `Guide > Install > Linux`."""

    def __init__(self, document: ParsedDocument) -> None:
        self.text, self._starts = document.laid_out()
        self._blocks = document.blocks
        self._paths: list[str] = []
        self.places: list[_Place] = []
        path: list[tuple[int, str]] = []
        for block, start in zip(self._blocks, self._starts, strict=True):
            if block.level:
                above = (step for step in path if step[0] < block.level)
                path = [*above, (block.level, block.label or " ".join(block.text.split()))]
            self._paths.append(_STEP.join(name for _, name in path))
            self.places += _places(self.text, block, start)
        if not self.places or self.places[0].start:
            self.places.insert(0, _place(self.text, 0, _PARAGRAPH))

    def section_at(self, offset: int) -> str:
        return self._paths[self._at(offset)]

    def block_at(self, offset: int) -> Block:
        return self._blocks[self._at(offset)]

    def _at(self, offset: int) -> int:
        return max(0, bisect.bisect_right(self._starts, offset) - 1)


def _runs_of_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield a text in runs of whole lines and where each begins: what is told of a token is much larger than it."""
    first = 0
    while first < len(text):
        end = text.find("\n", first + _RUN_CHARACTERS) + 1 or len(text)
        yield first, text[first:end]
        first = end


def _places(text: str, block: Block, start: int) -> Iterator[_Place]:
    """Yield where a block may be cut: before it, before its lines, after its sentences; code before its lines only."""
    is_code = block.shape is Shape.CODE
    rank = min(block.level, _DEEPEST) or (_PARAGRAPH if block.shape is Shape.PARAGRAPH else _LINE)
    for line in block.text.splitlines(keepends=True):
        if line.strip():
            yield _place(text, start, rank)
            ends = () if is_code else (found.end() for found in _SENTENCE_END.finditer(line.rstrip()))
            yield from (_place(text, start + end, _LINE) for end in ends)
            rank = _CODE_LINE if is_code else _LINE
        elif is_code:
            rank = min(rank, _LINE)
        start += len(line)


def _place(text: str, start: int, rank: int) -> _Place:
    following = text[start : start + _HASHED_CHARACTERS].encode()
    return _Place(rank, hashlib.blake2b(following, digest_size=8).digest(), start)


def _shortened(text: str, column: str) -> str:
    return text.encode()[: text_bytes(column)].decode(errors="ignore")
