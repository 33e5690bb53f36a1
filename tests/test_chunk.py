from __future__ import annotations

import random
import re
import statistics
from itertools import pairwise

import pytest
from tokenizers import Tokenizer

from reindex.chunk import _RUN_CHARACTERS, Chunker
from reindex.embedders import find_model
from reindex.records import Block, ParsedDocument, Passage, Shape, text_bytes
from reindex.settings import Chunks

MODEL = find_model("all-MiniLM-L6-v2")


@pytest.fixture(scope="module")
def chunker() -> Chunker:
    return Chunker(Chunks(max_tokens=64, overlap_tokens=8), MODEL.tokenizer_file)


def passages_of(chunker: Chunker, parsed: ParsedDocument) -> list[Passage]:
    return [chunk.passage for chunk in chunker.chunk_document(parsed)]


def longest(chunker: Chunker, parsed: ParsedDocument) -> int:
    return max(len(chunk.tokens) for chunk in chunker.chunk_document(parsed))


def document(text: str) -> ParsedDocument:
    """Return what a parser would make of a text with blank lines between paragraphs and # before headings."""
    blocks = []
    for piece in filter(str.strip, re.split(r"\n\s*\n", text)):
        marks = len(piece) - len(piece.lstrip("#"))
        is_code = piece.startswith("    ")
        shape = Shape.CODE if is_code else Shape.PARAGRAPH
        blocks.append(Block(text=piece, shape=shape, level=marks, label=piece.strip("# ") if marks else ""))
    return ParsedDocument(title="T", blocks=tuple(blocks))


def prose(seed: int, words: int = 800) -> str:
    draw = random.Random(seed)
    vocabulary = ["alpha", "beta,", "gamma.", "délta", "x" * 30, "\n\n", "#", "日本語", "🙂", "end.\n"]
    return " ".join(draw.choice(vocabulary) for _ in range(words))


def uncovered(text: str, passages: list[Passage]) -> str:
    left = list(text)
    for passage in passages:
        assert text[passage.start : passage.start + len(passage.text)] == passage.text
        left[passage.start : passage.start + len(passage.text)] = " " * len(passage.text)
    return "".join(left).strip()


@pytest.mark.parametrize("seed", range(20))
def test_chunks_cover_the_text_and_stay_within_the_model_s_window(chunker: Chunker, seed: int) -> None:
    parsed = document(prose(seed))
    passages = passages_of(chunker, parsed)
    assert uncovered(parsed.laid_out()[0], passages) == ""
    # The two marks at the ends of a text come on top.
    assert longest(chunker, parsed) <= 64 + 2


@pytest.mark.parametrize("heading_prefix", [True, False])
@pytest.mark.parametrize("seed", range(10))
def test_nothing_is_lost_of_blocks_of_any_shape(seed: int, heading_prefix: bool) -> None:
    draw = random.Random(seed)
    blocks = [
        Block(
            text=prose(draw.randrange(100), words=draw.randrange(1, 60)) + draw.choice(["", "\n", "\n\n"]),
            shape=draw.choice(list(Shape)),
            level=draw.choice([0, 0, 0, 1, 2, 9]),
            label=draw.choice(["", "A label"]),
            page=draw.randrange(5),
        )
        for _ in range(40)
    ]
    chunker = Chunker(Chunks(max_tokens=64, overlap_tokens=8, heading_prefix=heading_prefix), MODEL.tokenizer_file)
    parsed = ParsedDocument(title="T", blocks=tuple(blocks))
    passages = passages_of(chunker, parsed)
    assert uncovered(parsed.laid_out()[0], passages) == ""
    assert longest(chunker, parsed) <= 64 + 2


def test_an_edit_moves_no_cut_but_those_beside_it(chunker: Chunker) -> None:
    """A sentence more, anywhere in a long text, leaves nearly all chunks as they were, however long the text is."""
    changed = []
    for seed in range(30):
        text = layout(written(seed))
        place = random.Random(seed).choice([found.end() for found in re.finditer(r"\. ", text)])
        edited = f"{text[:place]}A keeper put in one more sentence here. {text[place:]}"
        before = {p.text for p in passages_of(chunker, document(text))}
        after = [p.text for p in passages_of(chunker, document(edited))]
        assert len(after) > 40
        changed.append(sum(text not in before for text in after))
    assert max(changed) <= 6
    assert statistics.median(changed) <= 2


def written(seed: int) -> list[str]:
    draw = random.Random(seed)
    words = ["tide", "loom", "comet", "orchid", "glacier", "bridge", "keeper", "harbour", "engine", "valve"]
    return [" ".join(draw.choices(words, k=draw.randrange(4, 18))).capitalize() + "." for _ in range(240)]


def layout(sentences: list[str]) -> str:
    """Return sentences in paragraphs of six, and a heading over every fourth paragraph."""
    paragraphs = [" ".join(sentences[i : i + 6]) for i in range(0, len(sentences), 6)]
    return "\n\n".join(f"## Part {i}\n\n{text}" if i % 4 == 0 else text for i, text in enumerate(paragraphs))


def test_a_chunk_begins_a_little_before_its_cut_but_never_before_a_heading(chunker: Chunker) -> None:
    text = layout(written(1))
    passages = passages_of(chunker, document(text))
    overlapping = [after for before, after in pairwise(passages) if after.start < before.start + len(before.text)]
    assert overlapping
    assert all("## Part" not in passage.text[1:] or passage.text.startswith("## Part") for passage in overlapping)


def test_small_pages_share_a_chunk_and_a_chunk_knows_on_which_page_it_begins(chunker: Chunker) -> None:
    pages = [Block(text=" ".join(written(number)[:2]), page=number) for number in range(1, 9)]
    passages = passages_of(chunker, ParsedDocument(title="", blocks=tuple(pages)))
    assert 1 < len(passages) < len(pages)
    for passage in passages:
        assert passage.text.split(".")[0] in pages[passage.page - 1].text


def test_a_passage_knows_when_it_is_said_and_in_which_language(chunker: Chunker) -> None:
    cues = [Block(text="Ann: " + " ".join(written(n)[:3]), shape=Shape.LINE, time=f"00:0{n}:00") for n in range(1, 9)]
    passages = passages_of(chunker, ParsedDocument(title="", blocks=tuple(cues), language="eng", member="talk"))
    assert {(passage.language, passage.member) for passage in passages} == {("eng", "talk")}
    for passage in passages:
        minute = int(passage.time[3:5])
        assert passage.text.split(".")[0].removeprefix("Ann: ") in cues[minute - 1].text


def test_a_chunk_knows_the_headings_above_it(chunker: Chunker) -> None:
    body = "words and words " * 20
    code = "    # no heading"
    text = f"# Guide\n\n{body}\n\n## Install\n\n{body}\n\n{code}\n\n### Linux\n\n{body}\n\n## Use\n\n{body}"
    passages = passages_of(chunker, document(text))
    sections = list(dict.fromkeys(p.section for p in passages))
    assert sections == ["Guide", "Guide > Install", "Guide > Install > Linux", "Guide > Use"]


def test_a_word_of_one_token_and_many_bytes_is_cut_to_what_milvus_takes(chunker: Chunker) -> None:
    text = "b" * 100_000
    passages = passages_of(chunker, document(text))
    assert max(len(p.text.encode()) for p in passages) <= text_bytes("text")
    assert uncovered(text, passages) == ""


def test_a_long_title_is_cut_between_characters(chunker: Chunker) -> None:
    parsed = ParsedDocument(title="é" * 2000, blocks=(Block(text="text"),))
    assert passages_of(chunker, parsed)[0].title == "é" * (text_bytes("title") // 2)


def test_headings_that_are_embedded_with_a_chunk_leave_room_for_themselves() -> None:
    policy = Chunks(max_tokens=64, overlap_tokens=8, heading_prefix=True)
    chunker = Chunker(policy, MODEL.tokenizer_file)
    text = layout(written(3)).replace("## Part", f"## {'A long heading of many words ' * 5}")
    parsed = document(f"# Guide\n\n{text}\n\n## Short\n\n{layout(written(4))}")
    passages = passages_of(chunker, parsed)
    assert uncovered(parsed.laid_out()[0], passages) == ""
    assert longest(chunker, parsed) <= 64 + 2
    assert "Guide > Short" in {passage.section for passage in passages}
    # Of a path that is too long the nearest heading stays.
    assert any(passage.section.startswith("A long heading") for passage in passages)


@pytest.mark.parametrize(("prompt", "heading_prefix"), [("", False), ("", True), ("passage: ", False), ("a b ", True)])
def test_a_chunk_has_the_ids_of_all_that_the_model_is_given(prompt: str, heading_prefix: bool) -> None:
    policy = Chunks(max_tokens=64, overlap_tokens=8, heading_prefix=heading_prefix)
    tokenizer = Tokenizer.from_file(str(MODEL.tokenizer_file))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    parsed = document(f"Before any heading.\n\n{layout(written(3))}\n\n{'one and the same sentence ' * 40}")
    chunks = Chunker(policy, MODEL.tokenizer_file, prompt).chunk_document(parsed)
    for passage, tokens in chunks:
        above = f"{passage.section}\n" if heading_prefix and passage.section else ""
        assert tokens == tokenizer.encode(prompt + above + passage.text).ids
    assert any(passage.section for passage, _ in chunks)
    assert max(len(chunk.tokens) for chunk in chunks) <= 64 + len(tokenizer.encode(prompt).ids)


def test_a_long_sentence_fills_what_its_headings_leave_of_a_chunk() -> None:
    chunker = Chunker(Chunks(max_tokens=64, overlap_tokens=8, heading_prefix=True), MODEL.tokenizer_file)
    sentence = " ".join(["word"] * 60)
    assert [found.text for found in passages_of(chunker, document(f"## A\n\n{sentence}"))][-1] == sentence
    long_heading = "## " + " ".join(["heading"] * 15)
    assert sentence not in {found.text for found in passages_of(chunker, document(f"{long_heading}\n\n{sentence}"))}


def test_a_text_that_is_counted_in_runs_of_lines_has_the_tokens_of_the_whole(chunker: Chunker) -> None:
    text = prose(1, words=60_000)
    whole = chunker._tokenizer.encode(text, add_special_tokens=False)
    assert len(text) > 2 * _RUN_CHARACTERS
    assert chunker._token_starts(text) == [start for start, _ in whole.offsets]
