from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from reindex import naming
from reindex.errors import InvalidCorpusName

AS_OF = datetime(2026, 3, 1, 2, 0, tzinfo=UTC)


def test_a_retry_of_a_run_finds_its_own_release() -> None:
    assert naming.release_name(AS_OF, "scheduled__1") == naming.release_name(AS_OF, "scheduled__1")


def test_two_runs_of_one_moment_are_two_releases() -> None:
    assert naming.release_name(AS_OF, "manual__1") != naming.release_name(AS_OF, "manual__2")


def test_a_release_is_named_in_utc() -> None:
    elsewhere = AS_OF.astimezone(timezone(timedelta(hours=9)))
    release = naming.release_name(elsewhere, "run")
    assert release.startswith("20260301T020000Z_")


def test_releases_sort_by_their_moment() -> None:
    names = [naming.release_name(AS_OF + timedelta(days=day), "run") for day in (2, 0, 1)]
    assert sorted(names) == [names[1], names[2], names[0]]


@pytest.mark.parametrize(
    "name", ["", "..", "20260301T020000Z", "20260301T020000Z_abcd1234/..", "20260301T020000Z_abcd123\n"]
)
def test_what_is_no_release_s_name_is_known(name: str) -> None:
    assert naming.is_release_name(naming.release_name(AS_OF, "run"))
    assert not naming.is_release_name(name)


def test_a_check_has_files_of_its_own_and_a_report_as_a_release_has() -> None:
    check, release = naming.check_name(AS_OF, "run"), naming.release_name(AS_OF, "run")
    assert naming.is_release_name(check)
    assert naming.release_prefix("docs", release) == f"reindex/docs/releases/{release}"
    assert naming.release_prefix("docs", check) == f"reindex/docs/checks/{check}"
    assert not naming.is_release_name(f"check-{check}")


def test_the_second_collection_of_a_release_is_no_release_s_and_no_other_corpus_s() -> None:
    twin = naming.twin_name(naming.collection_name("my-docs", "20260301T020000Z_abcd1234"))
    assert naming.is_twin("my-docs", twin)
    assert not naming.is_twin("my", twin)
    assert not naming.is_twin("my-docs", twin.removesuffix("__aa"))
    assert not naming.is_release_name(naming.collection_release("my-docs", twin) or "")


def test_a_collection_tells_its_release_and_no_other_corpus_claims_it() -> None:
    collection = naming.collection_name("my-docs", "R")
    assert collection == "my_docs__R"
    assert naming.collection_release("my-docs", collection) == "R"
    assert naming.collection_release("my", collection) is None


def test_a_chunk_s_id_depends_on_document_text_and_occurrence_alone() -> None:
    ids = {
        naming.chunk_id("a", "text", 0),
        naming.chunk_id("b", "text", 0),
        naming.chunk_id("a", "other", 0),
        naming.chunk_id("a", "text", 1),
        naming.chunk_id("at", "ext", 0),
    }
    assert len(ids) == 5
    assert naming.chunk_id("a", "text", 0) in ids
    assert all(len(name) == 32 for name in ids)


def test_every_fact_of_an_embedding_space_changes_its_fingerprint() -> None:
    facts = {"model": "m", "prompt": ""}
    assert len({naming.space_fingerprint(f) for f in (facts, {**facts, "prompt": "q"}, {**facts, "model": "n"})}) == 3


def test_no_corpus_s_dag_is_the_one_that_rolls_back_or_the_one_that_checks() -> None:
    with pytest.raises(InvalidCorpusName, match="not roll-back"):
        naming.check_corpus_name("roll-back")
    assert naming.dag_id("roll-back") != naming.ROLLBACK_DAG == naming.dag_id("roll_back").replace(".", "_")
    with pytest.raises(InvalidCorpusName, match="or verify-live"):
        naming.check_corpus_name("verify-live")
    assert naming.dag_id("verify-live") != naming.CHECK_DAG == naming.dag_id("verify_live").replace(".", "_")
    assert naming.dag_id("roll-over") == "reindex_roll_over"
