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
from reindex_airflow.tasks import tell_metrics
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
        embed={"documents": 2, "rejected_by_reason": {"no-text": 1}},
        load={"rows": 9},
        verify={"recall": {"bound": 0.97}, "live_search": live_search},
        promote={"alias": "docs"},
    ) == {
        ("reindex.release.rejects", "docs", "no-text"): 1,
        ("reindex.release.documents", "docs"): 2,
        ("reindex.release.rows", "docs"): 9,
        ("reindex.release.recall_bound", "docs"): 0.97,
        ("reindex.release.live_p99_ms", "docs"): 12.5,
        ("reindex.release.promoted", "docs"): 1,
    }


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
