"""Ask what real documents answer, and print how much of the answers the best chunks hold, by how the texts are cut.

    python benchmarks/chunk_recall.py

The documents are those of `end_to_end.py`. A question is the first sentence of a docstring of several lines, and is
taken out of all documents; its answer is the lines that follow it there. Chunks are found by exact search among float32
vectors. What counts is the share of an answer's characters in the five and the ten best chunks, and in as many of the
best as come to 1,000 tokens, for an assistant has room for tokens and not for chunks. Beside each share stands the 90 %
interval of its difference to the first row, of 2,000 resamples of the questions.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from documents import text_of, write_documents
from end_to_end import PEER, require_peer
from figures import machine, print_table
from tokenizers import Tokenizer

from reindex.embedders import Embedder, Model, find_model, load_embedder
from reindex.reading import Reader
from reindex.settings import Chunks, Corpus

if TYPE_CHECKING:
    import numpy as np

CORPUS = Corpus.model_validate({"name": "recall", "source": {"bucket": "sources"}})
DOCUMENTS = 500
BEST_CHUNKS, ROOM_TOKENS = (5, 10), 1_000
RESAMPLES, INTERVAL = 2_000, (5, 95)
LEAST_WORDS, LEAST_LINES, LEAST_CHARACTERS = 6, 4, 300
# A shorter line is found in chunks that have nothing to do with it.
SHORTEST_LINE = 16
COLUMNS = ["cut by", "chunks", "tokens", *(f"in the best {count}" for count in BEST_CHUNKS)]
COLUMNS += [f"in {ROOM_TOKENS:,} tokens"]

_SIGNATURE = re.compile(r"[\w.]+\(.*\).*")
_OTHER_ENTRY = re.compile(r"class |Methods|Data |Static|Class methods|Readonly|Functions|Classes|Method res|---|\w+ = ")
_FIRST_SENTENCE = re.compile(r"(.+?\.)(\s|$)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """The first sentence of a docstring, as it stands there, and the lines that follow it."""

    sentence: str
    answer: list[str]

    @property
    def text(self) -> str:
        return " ".join(self.sentence.split())


def questions_of(text: str) -> list[Question]:
    """Return what the docstrings of a page ask and answer."""
    paragraphs = [paragraph.strip() for paragraph in text.split("\n\n")]
    begins = [place for place, found in enumerate(paragraphs) if _is_entry(found)]
    questions = []
    for first, end in pairwise([*begins, len(paragraphs)]):
        docstring = "\n".join(paragraphs[first + 1 : end])
        sentence = _FIRST_SENTENCE.match(docstring)
        if not sentence or not _SIGNATURE.fullmatch(paragraphs[first]):
            continue
        lines = [line.strip() for line in docstring[sentence.end() :].splitlines()]
        question = Question(sentence=sentence[1], answer=[line for line in lines if len(line) >= SHORTEST_LINE])
        is_long = len(question.answer) >= LEAST_LINES and sum(map(len, question.answer)) >= LEAST_CHARACTERS
        if is_long and len(question.text.split()) >= LEAST_WORDS:
            questions.append(question)
    return questions


def _is_entry(paragraph: str) -> bool:
    return bool(_SIGNATURE.fullmatch(paragraph) or _OTHER_ENTRY.match(paragraph))


def by_reindex(texts: list[str], policy: Chunks, model: Model) -> list[str]:
    reader = Reader(policy, model.tokenizer_file, "", CORPUS.parsing, CORPUS.limits)
    return [passage["text"] for text in texts for passage in reader("page.txt", text.encode())["passages"]]


def by_llamaindex(texts: list[str], policy: Chunks, model: Model) -> list[str]:
    asked = {"texts": texts, "tokenizer": str(model.tokenizer_file), **policy.model_dump()}
    words = [PEER, Path(__file__).with_name("peer_chunks.py")]
    done = subprocess.run(words, input=json.dumps(asked), stdout=subprocess.PIPE, text=True, check=True)
    found: list[str] = json.loads(done.stdout)
    return found


def shares(question: Question, ranked: list[str], tokens: list[int]) -> list[float]:
    """Return the shares of an answer in some of the best chunks, and in as many as there is room for."""
    fitting = sum(total <= ROOM_TOKENS for total in accumulate(tokens))
    return [share(question, ranked[:count]) for count in (*BEST_CHUNKS, fitting)]


def share(question: Question, chunks: list[str]) -> float:
    text = "\n".join(chunks)
    return sum(len(line) for line in question.answer if line in text) / sum(map(len, question.answer))


def measure(chunks: list[str], questions: list[Question], model: Model, engine: Embedder) -> tuple[int, np.ndarray]:
    """Return the tokens of the distinct chunks, and the shares of each question, shape (questions, shares)."""
    import numpy as np

    tokenizer = Tokenizer.from_file(str(model.tokenizer_file))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    distinct = list(dict.fromkeys(chunks))
    ids = [encoding.ids for encoding in tokenizer.encode_batch(distinct)]
    asked = engine.embed([question.text for question in questions])
    scores = asked @ engine.embed(distinct, ids).T
    found = []
    for question, row in zip(questions, scores, strict=True):
        # A chunk is a token at least, so that no more of them have room.
        best = np.argsort(-row, kind="stable")[:ROOM_TOKENS]
        found.append(shares(question, [distinct[place] for place in best], [len(ids[place]) for place in best]))
    return sum(map(len, ids)), np.array(found)


def difference(found: np.ndarray, own: np.ndarray) -> str:
    """Return the interval of how much more of the answers is found than in Reindex's own chunks."""
    import numpy as np

    more = found - own
    drawn = np.random.default_rng(0).integers(0, len(more), (RESAMPLES, len(more)))
    low, high = np.percentile(more[drawn].mean(axis=1), INTERVAL)
    return f" ({low:+.3f} to {high:+.3f})"


def main() -> None:
    require_peer(PEER)
    model, policy = find_model(CORPUS.embedding.model), CORPUS.chunks
    with tempfile.TemporaryDirectory(prefix="chunk-recall-") as folder:
        texts = [text_of(page) for page in write_documents(Path(folder), DOCUMENTS)]
    questions = list({question.text: question for text in texts for question in questions_of(text)}.values())
    for question in questions:
        texts = [text.replace(question.sentence, "") for text in texts]
    without = policy.model_copy(update={"overlap_tokens": 0})
    ways = {
        f"Reindex, overlap of {policy.overlap_tokens}": by_reindex(texts, policy, model),
        "Reindex, no overlap": by_reindex(texts, without, model),
        f"LlamaIndex, overlap of {policy.overlap_tokens}": by_llamaindex(texts, policy, model),
    }
    engine = load_embedder(model, "float32", threads=len(os.sched_getaffinity(0)))
    measured = {way: measure(chunks, questions, model, engine) for way, chunks in ways.items()}
    print(f"{machine()}; {len(questions)} questions; a chunk that occurs twice is embedded and found once")
    rows, (own, *_) = [], (found for _, found in measured.values())
    for way, (tokens, found) in measured.items():
        means = [f"{mean:.3f}" for mean in found.mean(axis=0)]
        if found is not own:
            pairs = zip(means, found.T, own.T, strict=True)
            means = [mean + difference(column, own_column) for mean, column, own_column in pairs]
        rows.append([way, f"{len(set(ways[way])):,}", f"{tokens:,}", *means])
    print_table(COLUMNS, rows)


if __name__ == "__main__":
    main()
