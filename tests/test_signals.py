"""What a release tells whoever watches: the metrics of its report, sent as Airflow sends its own."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from reindex.releases import release_report
from reindex.signals import release_metrics
from tests.fakes import release_files
from tests.test_airflow import look

SEND = """
import json
from airflow.sdk.observability import stats
from reindex_airflow.operators import tell_metrics
from tests.fakes import release_files

files = release_files()
files.write_report("snapshot", 0, {"documents": 3})
files.write_report("load", 1, {"rows": 1234})
tell_metrics(files)
from opentelemetry import metrics
metrics.get_meter_provider().force_flush()
print("\\n" + json.dumps(True))
"""


def told(**reports: dict[str, object]) -> dict[tuple[str, ...], float]:
    files = release_files()
    for stage, facts in reports.items():
        files.write_report(stage, 0, facts)
    metrics = release_metrics(release_report(files))
    return {(metric.name, *metric.tags.values()): metric.value for metric in metrics if "seconds" not in metric.name}


def test_what_was_measured_has_a_metric_and_what_was_not_has_none() -> None:
    assert told(snapshot={"documents": 3}) == {("reindex.release.promoted", "docs"): 0}
    live_search = {"during": {"p99": 12.5}}
    assert told(
        embed={"documents": 2, "rejected": 1, "rejected_by_reason": {"no-text": 1}},
        load={"rows": 9},
        verify={"recall": {"bound": 0.97}, "live_search": live_search},
        promote={"alias": "docs"},
    ) == {
        ("reindex.release.rejects", "docs", "no-text"): 1,
        ("reindex.release.documents", "docs"): 2,
        ("reindex.release.rejected", "docs"): 1,
        ("reindex.release.rows", "docs"): 9,
        ("reindex.release.recall_bound", "docs"): 0.97,
        ("reindex.release.live_p99_ms", "docs"): 12.5,
        ("reindex.release.promoted", "docs"): 1,
    }


FAIL = """
import json
from types import SimpleNamespace
from reindex.errors import RecallTooLow
from reindex_airflow import operators
from tests.fakes import release_files

told = {}
operators.stats.gauge = lambda name, value, tags: told.update({name: value})
files = release_files()
operators.hooks.services = lambda: SimpleNamespace(files=lambda corpus, release: files)
files.write_json("recall.json", {"recall": {"bound": 0.5}})
files.record_failure("verify", RecallTooLow(10, 0.5, 0.95, 0.6, 0.0))
try:
    operators.VerifyOperator(corpus="docs", release=files.release).finish({}, {"job": "j", "status": "FAILED"})
except RecallTooLow:
    print("\\n" + json.dumps(told))
"""


@pytest.mark.airflow
def test_a_release_that_fails_in_verify_has_its_metrics_all_the_same(tmp_path: Path) -> None:
    told = look(FAIL, corpora=tmp_path, home=tmp_path)
    assert (told["reindex.release.recall_bound"], told["reindex.release.promoted"]) == (0.5, 0)


LATE = """
import asyncio, json, logging
from reindex_airflow import deadline

told, said = [], []
deadline.stats.incr = lambda name, tags: told.append([name, tags])
deadline._LOG.warning = lambda text, *values: said.append(text % values)
for run_type in ("scheduled", "backfill"):
    run = {"run_type": run_type, "dag_run_id": f"{run_type}__1", "queued_at": "2026-03-01T02:00Z", "state": "running"}
    asyncio.run(deadline.tell_late(corpus="docs", hours=1.5, context={"dag_run": run}))
print("\\n" + json.dumps([told, said]))
"""


@pytest.mark.airflow
def test_a_late_run_is_told_in_a_line_and_counted_and_a_backfill_s_is_not(tmp_path: Path) -> None:
    told, said = look(LATE, corpora=tmp_path, home=tmp_path)
    assert told == [["reindex.release.late", {"corpus": "docs"}]]
    assert said == [
        "docs is late: scheduled__1, queued at 2026-03-01T02:00Z, is running after more than 1.5 hours; "
        "readers keep what is live"
    ]


@pytest.mark.airflow
def test_metrics_go_where_airflow_s_own_configuration_sends_them(tmp_path: Path) -> None:
    received: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        settings = {
            "AIRFLOW__METRICS__OTEL_ON": "True",
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"http://127.0.0.1:{server.server_port}/v1/metrics",
            "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
        }
        assert json.loads(json.dumps(look(SEND, corpora=tmp_path, home=tmp_path, **settings)))
        server.shutdown()
    sent = b"".join(received)
    assert b"reindex.release.rows" in sent
    assert b"reindex.release.stage_seconds" in sent
