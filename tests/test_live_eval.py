"""Golden queries asked of a live index, through the real servers, and the same figures reckoned without them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reindex.embedders import find_model, load_embedder
from reindex.releases import ReleaseFiles
from tests.conftest import LiveStack
from tests.test_live import TOPICS

pytestmark = [pytest.mark.live, pytest.mark.timeout(900)]
CORPUS = "judged"
PLACES = [
    "the northern coast",
    "an old town",
    "the high plateau",
    "a rainy island",
    "the river delta",
    "a quiet valley",
]
COUNT = 60
# Of many chunks, so that documents and chunks are not ranked alike.
LONG = 7


def text_of(number: int) -> str:
    topic, place = TOPICS[number % len(TOPICS)], PLACES[number % len(PLACES)]
    sentences = [
        f"In year {1900 + number + i} the {topic} of {place} were visited by {number * 3 + i} travellers from afar."
        for i in range(80 if number == LONG else 1)
    ]
    return f"# Note {number}\n\n" + " ".join(sentences)


def judgements() -> tuple[dict[str, str], dict[str, dict[str, int]]]:
    """Return queries and grades: what speaks of topic and place is 2, of the topic alone 1, and one note is gone."""
    queries = {
        f"q{t}-{p}": f"{TOPICS[t]} of {PLACES[p]}" for t in range(len(TOPICS)) for p in range(t % 2, len(PLACES), 2)
    }
    grades = {
        query: {
            f"notes/note-{number}": 1 + (f"of {PLACES[number % len(PLACES)]}" in text)
            for number in range(COUNT)
            if text.startswith(TOPICS[number % len(TOPICS)])
        }
        for query, text in queries.items()
    }
    grades["q0-0"]["notes/note-gone"] = 2
    return {**queries, "q-none": "what nobody has judged"}, grades


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the two files, as BEIR has them."""
    folder = tmp_path_factory.mktemp("golden")
    queries, grades = judgements()
    files = {"queries": folder / "queries.jsonl", "qrels": folder / "qrels.tsv"}
    files["queries"].write_text(
        "".join(json.dumps({"_id": name, "text": text}) + "\n" for name, text in queries.items())
    )
    rows = [f"{query}\t{document}\t{grade}\n" for query, of in grades.items() for document, grade in of.items()]
    files["qrels"].write_text("query-id\tcorpus-id\tscore\n" + "".join(rows))
    return files


@pytest.fixture(scope="module")
def release(stack: LiveStack, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("judged")
    (folder / "notes").mkdir()
    for number in range(COUNT):
        (folder / "notes" / f"note-{number}.md").write_text(text_of(number))
    stack.answer("put", CORPUS, str(folder))
    return str(stack.answer("run", CORPUS)["release"])


def exact_ndcg(files: ReleaseFiles) -> float:
    """Return nDCG@10 of an exact search over the release's import files."""
    rows = [
        row
        for file in files.needed_report("assemble")["files"]
        for batch in files.store.read_batches(files.bucket, file["file"])
        for row in batch.select(["document", "vector"]).to_pylist()
    ]
    assert len(rows) > COUNT
    queries, grades = judgements()
    embedder = load_embedder(find_model("all-MiniLM-L6-v2"), files.needed_report("plan")["precision"], threads=1)
    asked = embedder.embed([queries[query] for query in grades])
    scores = asked.astype("float64") @ np.array([row["vector"] for row in rows], "float64").T
    worth = []
    for query, scored in zip(grades, scores, strict=True):
        best: dict[str, float] = {}
        for row, score in zip(rows, scored, strict=True):
            best[row["document"]] = max(score, best.get(row["document"], -2.0))
        ranked = sorted(best, key=lambda document: -best[document])[:10]
        gains = np.array([grades[query].get(key.removeprefix("judged/").removesuffix(".md"), 0) for key in ranked])
        ideal = np.sort(list(grades[query].values()))[::-1][:10]
        worth.append((gains / np.log2(np.arange(2, 12))).sum() / (ideal / np.log2(np.arange(len(ideal)) + 2)).sum())
    return float(np.mean(worth))


def test_the_live_index_is_worth_what_an_exact_search_of_its_files_is(
    stack: LiveStack, release: str, golden: dict[str, Path]
) -> None:
    words = ["eval", CORPUS, "--queries", str(golden["queries"]), "--qrels", str(golden["qrels"])]
    report: dict[str, Any] = stack.answer(*words)
    assert (report["corpus"], report["release"]) == (CORPUS, release)
    assert (report["queries"], report["unjudged"]) == (len(judgements()[1]), 1)
    assert (report["missing_documents"], report["first_missing"]) == (1, ["notes/note-gone"])
    assert report["recall@100"] == pytest.approx((report["queries"] - 1 + 8 / 9) / report["queries"])
    assert 0.3 < report["ndcg@10"] < 1
    assert report["ndcg@10"] == pytest.approx(
        exact_ndcg(ReleaseFiles(stack.objects(), "reindex", CORPUS, release)), abs=1e-6
    )
    said = stack.command(*words).stdout
    assert f"ndcg@10     {report['ndcg@10']:.4f}" in said


def test_judgements_of_other_keys_are_refused(stack: LiveStack, release: str, golden: dict[str, Path]) -> None:
    other = golden["qrels"].with_name("other.tsv")
    other.write_text(golden["qrels"].read_text().replace("\tnotes/", "\tjudged/notes/"))
    said = stack.refusal("eval", CORPUS, "--queries", str(golden["queries"]), "--qrels", str(other))
    assert "relevant documents is in the index" in said
    assert "keys as they are after 'judged/', with or without their suffix, as 'notes/note-" in said
