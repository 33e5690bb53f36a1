"""The page about a release: read as a browser reads it."""

from __future__ import annotations

import re
from copy import deepcopy
from itertools import pairwise
from typing import Any

import pytest
from lxml import html

from reindex.charts import MAX_LINES
from reindex.report import gates_table, render_report

HOSTILE = "<script>alert('x')</script> & \"quoted\" 'too'\n</title></svg> 🙂 https://evil.example/ url(//x) \u202e \x00"

KNOWN_ELEMENTS = {
    *("html", "head", "meta", "title", "style", "body", "header", "main", "section", "article", "div", "span"),
    *("h1", "h2", "h3", "h4", "p", "ul", "ol", "li", "dl", "dt", "dd", "strong", "small", "code", "bdi"),
    *("table", "caption", "thead", "tbody", "tr", "th", "td", "figure", "figcaption"),
    *("svg", "desc", "g", "path", "polyline", "circle", "rect", "text"),
}


def recall(mean: float, bound: float) -> dict[str, Any]:
    return {
        "k": 10,
        "queries": 1000,
        "mean": mean,
        "bound": bound,
        "confidence": 0.95,
        "poor_share": 0.002,
        "short_answers": 0,
    }


def scores(ndcg: float) -> dict[str, float]:
    return {"ndcg@10": ndcg, "recall@10": ndcg + 0.02, "recall@100": ndcg + 0.3, "mrr@10": ndcg + 0.1}


def searches(p50: float, p99: float, brake_seconds: float) -> dict[str, Any]:
    return {"p50": p50, "p95": p99, "p99": p99, "searches": 50, "failed": 0, "brake_seconds": brake_seconds}


GATES = {
    "ledger": "321 listed = 300 reused + 20 embedded + 1 rejected; 2,753 rows everywhere",
    "vectors": "256 vectors looked up, lowest cosine 0.9997",
    "rejects": "1 of 321 documents rejected, at most 2 % are allowed",
    "recall": "recall@10 is 0.9850 at least, against a floor of 0.95",
    "relevance": "nDCG@10 differs from the live release by -0.0020, -0.0100 at worst",
    "latency": "p99 is 4.2 ms, against a ceiling of 20 ms",
}
PASSED: dict[str, Any] = {
    "corpus": "python-docs",
    "release": "20261122T020000Z_ab12cd34",
    "collection": "python_docs__20261122T020000Z_ab12cd34",
    "measured_at": "2026-11-22T21:00:00+00:00",
    "collection_id": 4711,
    "rows": 2753,
    "index": {"index_type": "HNSW", "metric_type": "IP", "M": "16", "efConstruction": "200"},
    "segments": [{"id": 1, "rows": 2753}],
    "k": 10,
    "min_recall": 0.95,
    "confidence": 0.95,
    "queries": {"golden": 225, "log": 0, "passages": 500, "headings": 275},
    "search_params": {"ef": 40},
    "is_tuned": True,
    "recall": recall(0.99, 0.985),
    "note": "",
    "slices": [
        {"name": "all", "rows": 2753, "share": 1.0, "recall": recall(0.99, 0.985), "note": "", "passed": True},
        {
            "name": "language eng",
            "rows": 2000,
            "share": 0.726,
            "recall": recall(0.99, 0.98),
            "note": "",
            "passed": True,
        },
        {"name": "group hr", "rows": 12, "share": 0.004, "recall": None, "note": "too few rows", "passed": None},
    ],
    "curve": [
        {
            "params": {"ef": ef},
            "slices": {
                "all": {"mean": bound + 0.005, "bound": bound},
                "language eng": {"mean": bound + 0.001, "bound": bound - 0.02},
            },
            "milliseconds": milliseconds,
        }
        for ef, bound, milliseconds in [
            (10, 0.91, 0.8),
            (20, 0.955, 1.1),
            (40, 0.985, 1.9),
            (80, 0.993, 3.2),
            (160, 0.997, 6.0),
        ]
    ],
    "histogram": [0, 0, 1, 0, 0, 0, 0, 1, 12, 80, 906],
    "vectors": {"checked": 256, "lowest_cosine": 0.9997},
    "relevance": {
        "note": "",
        "queries": 225,
        "missing_documents": 0,
        "tolerance": 0.01,
        "confidence": 0.95,
        "candidate": scores(0.38),
        "candidate_exact": scores(0.3801),
        "live": scores(0.382),
        "live_exact": scores(0.3821),
        "difference": -0.002,
        "low": -0.008,
        "high": 0.005,
        "lost_to_search": 0.0001,
        "lost_to_content": 0.0019,
    },
    "overlap": {
        "live": "20261121T020000Z_99887766",
        "k": 10,
        "queries": 1000,
        "mean": 0.93,
        "changed": [
            {
                "query": "how do I parse json",
                "overlap": 0.5,
                "candidate": ["library/json.html", "library/new.html"],
                "live": ["library/json.html", "library/old.html"],
            }
        ],
    },
    "latency": {
        "candidate": {
            "1": {"p50": 2.1, "p95": 3.0, "p99": 4.2, "per_second": 400.0},
            "4": {"p50": 4.1, "p95": 7.0, "p99": 9.2, "per_second": 800.0},
        },
        "live": {
            "1": {"p50": 2.0, "p95": 2.9, "p99": 4.0, "per_second": 410.0},
            "4": {"p50": 4.0, "p95": 6.9, "p99": 9.0, "per_second": 810.0},
        },
        "max_p99_ms": 20,
    },
    "ledger": {
        "listed": 321,
        "reused": 300,
        "embedded": 20,
        "rejected": 1,
        "duplicates": 0,
        "withheld": 0,
        "unaccounted": [],
        "unlisted": [],
        "doubled": [],
        "misfits": [],
        "part_rows": 2753,
        "file_rows": 2753,
        "imported_rows": 2753,
        "collection_rows": 2753,
        "distinct_ids": 2753,
        "short_files": [],
    },
    "gates": [{"gate": gate, "passed": True, "why": why} for gate, why in GATES.items()],
    "live_search": {
        "live": "20261121T020000Z_ab12cd34",
        "note": "",
        "budget_ms": 9.0,
        "idle": searches(4.0, 6.0, 0.0),
        "during": searches(5.0, 12.0, 7.0),
        "ratio": 2.0,
        "stages": {"embed": searches(5.0, 12.0, 7.0), "load": searches(4.5, 8.0, 0.0)},
    },
    "live_search_curve": [
        {"stage": "embed", "begin": 0.0, "end": 5.0, **searches(4.5, 11.0, 0.0)},
        {"stage": "embed", "begin": 5.0, "end": 10.0, **searches(5.5, 13.0, 5.0)},
        {"stage": "load", "begin": 15.0, "end": 20.0, **searches(4.5, 8.0, 0.0)},
        {"stage": "load", "begin": 20.0, "end": 25.0, "p50": None, "p99": None, "searches": 3, "failed": 3},
    ],
}


def a_release(**changes: Any) -> dict[str, Any]:
    return {**deepcopy(PASSED), **changes}


def judged(**verdicts: tuple[bool | None, str]) -> list[dict[str, Any]]:
    """Return the gates, passed but for those that are named."""
    return [
        {"gate": gate, "passed": verdicts.get(gate, (True, ""))[0], "why": verdicts.get(gate, (True, why))[1]}
        for gate, why in GATES.items()
    ]


def words(element: Any) -> str:
    """Return an element's words, those of two cells or lines apart."""
    return " ".join(" ".join(element.itertext()).split())


class Page:
    """A page as its reader has it: text by section, and the rows of its tables."""

    def __init__(self, measured: dict[str, Any]) -> None:
        self.source = render_report(measured)
        self.root = html.document_fromstring(self.source)

    def text(self, path: str) -> str:
        (found,) = self.root.xpath(path)
        return words(found)

    def section(self, name: str) -> str:
        return self.text(f"//section[@aria-labelledby='{name}']")

    def verdicts(self) -> dict[str, str]:
        rows = self.root.xpath("//section[@aria-labelledby='gates']//tbody/tr")
        return {row.xpath("string(th/text())"): row.xpath("string(td[1])")[2:] for row in rows}


def test_a_passed_release_says_so_first_and_in_the_title() -> None:
    page = Page(a_release())
    assert page.text("//head/title") == "Passed: python-docs 20261122T020000Z_ab12cd34"
    assert page.text("//h1") == "Passed"
    assert page.verdicts() == dict.fromkeys(GATES, "passed")


def test_a_page_has_its_sections_in_the_order_of_who_asks_why() -> None:
    headings = Page(a_release()).root.xpath("//main//h2/text()")
    assert headings == [
        "Gates", "Recall", "Slices", "Relevance", "Answers compared with the live release", "Latency",
        "Live search while this was built", "Ledger", "What was measured",
    ]  # fmt: skip


@pytest.mark.parametrize("gate", GATES)
def test_a_gate_that_failed_is_the_first_thing_said_with_its_reason(gate: str) -> None:
    page = Page(a_release(gates=judged(**{gate: (False, "because of <this> & that")})))
    assert page.text("//head/title").startswith("Failed: python-docs")
    assert page.text("//h1") == f"Failed: {gate}"
    assert page.text("//header//li") == f"{gate}: because of <this> & that"
    assert page.verdicts() == {**dict.fromkeys(GATES, "passed"), gate: "failed"}


def test_every_failure_is_named() -> None:
    page = Page(a_release(gates=judged(recall=(False, "too low"), latency=(False, "too slow"))))
    assert page.text("//h1") == "Failed: recall, latency"
    assert page.text("//header//ul") == "recall: too low latency: too slow"


def test_what_was_not_verified_is_never_shown_as_passed() -> None:
    page = Page(a_release(gates=judged(relevance=(None, "the corpus has no golden queries"))))
    assert page.text("//h1") == "Passed"
    assert "not verified: relevance" in page.text("//header")
    assert "relevance: the corpus has no golden queries" in page.text("//header")
    assert page.verdicts()["relevance"] == "not verified"


@pytest.mark.parametrize("gates", [None, [], judged()[:3], judged(**dict.fromkeys(GATES, (None, "open")))])
def test_a_verification_that_ended_early_or_judged_nothing_passes_nothing(gates: list[Any] | None) -> None:
    page = Page(a_release(gates=gates))
    assert page.text("//h1") == "Not verified"
    assert page.verdicts()["latency"] != "passed"


def test_an_early_failure_says_of_all_that_is_missing_that_it_was_not_measured_and_why() -> None:
    whole = a_release()
    early = {name: whole[name] for name in ("corpus", "release", "measured_at")}
    page = Page({**early, "gates": [{"gate": "ledger", "passed": False, "why": "2 rows are lost"}]})
    assert page.text("//h1") == "Failed: ledger"
    assert page.verdicts() == {**dict.fromkeys(GATES, "not measured"), "ledger": "failed"}
    for section in ("recall", "slices", "relevance", "overlap", "latency", "ledger"):
        assert "Not measured: the verification ended before this; what failed: ledger." in page.section(section)
    assert page.section("measured").count("not measured") == 7


@pytest.mark.parametrize("missing", [name for name in PASSED if name != "gates"])
def test_no_part_is_missed_so_much_that_there_is_no_page(missing: str) -> None:
    without = {name: value for name, value in a_release().items() if name != missing}
    assert Page(without).text("//h1") == Page({**without, missing: None}).text("//h1") == "Passed"


def nodes(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the way to every key below the first one of some nested JSON."""
    inner = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else []
    return [(*way, key) for key, _ in inner] + [found for key, below in inner for found in nodes(below, (*way, key))]


@pytest.mark.parametrize("part", ["recall", "slices", "curve", "relevance", "overlap", "latency", "ledger", "vectors"])
def test_a_number_that_is_missing_is_said_to_be_and_no_cell_is_blank(part: str) -> None:
    needed = {"params", "name", "query"}
    for way in nodes(PASSED[part], (part,)):
        if way[-1] in needed or len(way) < 2 or isinstance(way[-1], int):
            continue
        measured = a_release()
        parent = measured
        for key in way[:-1]:
            parent = parent[key]
        parent[way[-1]] = None
        page = Page(measured)
        assert page.text("//h1") == "Passed", way
        assert [cell for cell in page.root.xpath("//tbody//td | //dd") if not cell.text_content().strip()] == [], way
        assert not {"None", "nan", "Undefined"} & set(page.text("//body").split()), way


def test_nothing_live_is_nothing_to_compare_with() -> None:
    relevance = {**PASSED["relevance"], "live": None, "live_exact": None}
    relevance |= dict.fromkeys(("difference", "low", "high", "lost_to_content"))
    latency = {**PASSED["latency"], "live": None, "max_p99_ms": None}
    page = Page(a_release(overlap=None, relevance=relevance, latency=latency))
    assert "Not measured: nothing is live to compare with." in page.section("overlap")
    assert "Nothing is live to compare with." in page.section("relevance")
    assert "0.3800 0.3801 not measured not measured" in " ".join(
        cell.text for cell in page.root.xpath("//section[@aria-labelledby='relevance']//tbody/tr[1]/td")
    )
    assert "Ceiling of p99: none" in page.section("latency")
    assert page.section("latency").count("not measured: nothing is live") == 2


def test_without_golden_queries_relevance_is_not_verified() -> None:
    note = "relevance not verified: the corpus has no golden queries"
    assert f"Not measured: {note}." in Page(a_release(relevance={"note": note})).section("relevance")


def test_recall_of_a_tiny_corpus_is_not_measured_and_says_why() -> None:
    note = "recall is meaningless below 1,024 rows a segment"
    slices = [{**PASSED["slices"][0], "recall": None, "note": note, "passed": True}]
    page = Page(a_release(recall=None, note=note, slices=slices, curve=[], histogram=[]))
    assert page.section("recall").count(f"Not measured: {note}.") == 2
    assert page.root.xpath("//section[@aria-labelledby='recall']//svg") == []
    assert page.section("slices").endswith("not measured not verified")


def test_an_index_without_a_search_parameter_has_no_curve_but_its_numbers() -> None:
    curve = [{**PASSED["curve"][2], "params": {}}]
    page = Page(a_release(curve=curve, search_params={}))
    assert "the index has no search parameter to vary" in page.section("recall")
    assert "none in use 0.9900 (0.9850) 0.9860 (0.9650) 1.90" in page.section("recall")


def test_the_curve_has_a_line_for_each_slice_its_floor_and_the_parameter_in_use() -> None:
    page = Page(a_release())
    (bound, time) = page.root.xpath("//div[@class='charts']/figure/svg")
    assert len(bound.xpath(".//polyline")) == 2
    assert len(time.xpath(".//polyline")) == 1
    assert bound.xpath(".//*[@class='level']")
    assert bound.xpath("string(.//*[@class='strong'])") == "in use: 40"
    assert bound.xpath(".//text/text()")[:3] == ["0.85", "0.90", "0.95"]
    assert page.root.xpath("//ul[@class='legend']//bdi/text()") == ["all", "language eng"]


def test_of_many_slices_the_whole_and_the_worst_are_drawn() -> None:
    curve = [
        {**point, "slices": {f"group {i}": {"mean": 1, "bound": 0.99 - i / 100} for i in range(20)} | point["slices"]}
        for point in deepcopy(PASSED["curve"])
    ]
    drawn = Page(a_release(curve=curve)).root.xpath("//ul[@class='legend']//bdi/text()")
    assert drawn == ["all", *(f"group {i}" for i in range(19, 12, -1))]


def test_every_query_of_the_histogram_is_counted_and_the_poor_ones_stand_out() -> None:
    (chart,) = Page(a_release()).root.xpath("//section[@aria-labelledby='recall']/figure/svg")
    assert chart.xpath("string(desc)") == "1 at 0.2, 1 at 0.7, 12 at 0.8, 80 at 0.9, 906 at 1.0"
    assert len(chart.xpath(".//rect")) == 11
    assert len(chart.xpath(".//rect[@class='poor']")) == 5
    assert min(float(bar.get("height")) for bar in chart.xpath(".//rect[@height!='0.0']")) >= 2


def test_documents_that_came_and_went_are_marked_in_the_queries_that_changed() -> None:
    lists = [words(found) for found in Page(a_release()).root.xpath("//article//ol")]
    assert lists == ["library/json.html library/new.html new", "library/json.html library/old.html gone"]


def test_what_the_ledger_misses_is_named() -> None:
    ledger = {**PASSED["ledger"], "unaccounted": ["a.md", "b.md"], "short_files": ["import/part-00001.parquet"]}
    section = Page(a_release(ledger=ledger)).section("ledger")
    assert "Neither indexed nor rejected: 2 a.md b.md" in section
    assert "lost or doubled: 1 import/part-00001.parquet" in section


def hostile(value: Any) -> Any:
    """Replace every text by one that would do harm if it were taken for markup."""
    if isinstance(value, dict):
        inner = {name: value[name] if name == "gate" else hostile(value[name]) for name in value}
        # The names of slices, kinds of queries and search parameters are keys.
        return {
            f"{HOSTILE}{name}" if name in {"all", "language eng", "golden", "ef"} else name: inner[name]
            for name in inner
        }
    if isinstance(value, list):
        return [hostile(inner) for inner in value]
    return f"{HOSTILE}{value}" if isinstance(value, str) else value


@pytest.mark.parametrize("measured", [PASSED, hostile(PASSED)], ids=["usual", "hostile"])
def test_a_page_runs_nothing_and_fetches_nothing_whatever_the_names(measured: dict[str, Any]) -> None:
    page = Page(measured)
    elements = list(page.root.iter())
    assert {str(element.tag) for element in elements} <= KNOWN_ELEMENTS
    names = {name for element in elements for name in element.attrib}
    assert not {name for name in names if name.startswith("on") or name in {"href", "src", "srcset", "style", "action"}}
    attributes = [str(value) for element in elements for value in element.attrib.values()]
    assert not [value for value in [*attributes, page.text("//style")] if "//" in value or "url(" in value]


def test_a_hostile_name_is_shown_as_it_is() -> None:
    page = Page(hostile(PASSED))
    assert "<script>alert('x')</script> & \"quoted\" 'too'" in page.section("overlap")
    assert page.root.xpath("//article/h3/bdi")


def test_half_a_character_does_not_keep_the_page_from_being_written() -> None:
    ledger = {**PASSED["ledger"], "doubled": ["half \ud83d.md"]}
    assert b"half ?.md" in render_report(a_release(ledger=ledger)).encode()


def test_headings_and_tables_can_be_walked_by_ear() -> None:
    root = Page(a_release()).root
    assert root.get("lang") == "en"
    levels = [int(heading.tag[1]) for heading in root.xpath("//h1|//h2|//h3|//h4")]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert [cell for cell in root.xpath("//th") if cell.get("scope") not in {"row", "col", "colgroup"}] == []
    for chart in root.xpath("//svg[@role='img']"):
        assert chart.xpath("title/text()")
        assert chart.xpath("desc/text()")
    identities = root.xpath("//@id")
    assert len(identities) == len(set(identities))
    assert {name for names in root.xpath("//@aria-labelledby") for name in names.split()} <= set(identities)


def luminance(colour: str) -> float:
    """Return the relative luminance of #rgb or #rrggbb (WCAG 2.2)."""
    digits = colour[1:] if len(colour) == 7 else "".join(digit * 2 for digit in colour[1:])
    shares = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted([luminance(one), luminance(other)])
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_and_lines_stand_out_from_what_is_behind_them(scheme: int) -> None:
    blocks = re.findall(r":root \{(.*?)\}", render_report(PASSED), re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#\w+)", blocks[scheme]))
    behind = dict.fromkeys(("ink", "quiet", "good", "bad", "open"), "page panel")
    behind |= {name: f"page {name}-panel" for name in ("good", "bad", "open")}
    for name, others in behind.items():
        assert all(contrast(colours[name], colours[other]) >= 4.5 for other in others.split()), name
    lines = [contrast(colours[f"c{number}"], colours["page"]) for number in range(MAX_LINES)]
    assert min(lines) >= 3


def test_live_search_stands_beside_what_it_was_at_rest_and_the_pauses_are_told() -> None:
    page = Page(a_release())
    section = page.section("live-search")
    assert "took 2.00 times as long" in section
    assert "that brake was on for 7 s" in section
    rows = [words(row) for row in page.root.xpath("//section[@aria-labelledby='live-search']//tbody/tr")]
    assert rows[0] == "at rest 4.0 6.0 6.0 50 0 0"
    assert rows[2] == "load 4.5 8.0 8.0 50 0 0"
    # Median and 99th percentile of two stages, and both at rest.
    assert len(page.root.xpath("//section[@aria-labelledby='live-search']//polyline")) == 4
    assert len(page.root.xpath("//section[@aria-labelledby='live-search']//path[@class='level']")) == 2


def test_a_release_that_nothing_was_live_beside_says_so() -> None:
    nothing = {"note": "nothing was live", "idle": None, "during": searches(1, 1, 0), "stages": {}, "ratio": None}
    assert "Not measured: nothing was live." in Page(a_release(live_search=nothing)).section("live-search")


def test_the_gates_as_a_table_in_markdown_run_nothing() -> None:
    why = "notes | <b>a</b> [x](javascript:y)\nsecond line"
    table = gates_table({"gates": [{"gate": "ledger", "passed": False, "why": why}]}, "http://airflow/report")
    assert table.splitlines() == [
        "| gate | verdict | why |",
        "| --- | --- | --- |",
        r"| ledger | failed | notes \| \<b\>a\</b\> \[x\]\(javascript:y\) second line |",
        "",
        "[The whole report](http://airflow/report)",
    ]
