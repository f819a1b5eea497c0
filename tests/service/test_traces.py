"""Traces, as a collector gets them: from who asks to the worker's stages, and no patient's data."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from medgemma_tasks.errors import MedGemmaError
from tests.privacy.canaries import KEYWORD, PROMPT, found
from tests.service.harness import Service, WorkerProcess, until
from tests.stub_engine import ANSWER, StubEngine
from tests.web.gateway import GatewayProcess

WAIT = 40.0
STAGES = {"loading", "generating", "explaining", "rendering", "storing"}

ASKS = """\
import sys
from medgemma_client import Client
from medgemma_client.tracing import flush, instrument, span
from tests.parts import picture
assert instrument("the-asker")
with span("asking"):
    job = Client().submit(picture(), sys.argv[1])
print(job.id)
flush()
"""


class Collector:
    """Takes spans by OTLP over HTTP."""

    def __init__(self) -> None:
        self.raw: list[bytes] = []
        self.spans: list[tuple[str, Any]] = []
        """Each with the name of its service."""
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                collector.take(body)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        self.raw.append(body)
        for resource in request.resource_spans:
            service = attributes(resource.resource)["service.name"]
            for scope in resource.scope_spans:
                self.spans += [(service, span) for span in scope.spans]

    def of_job(self, job_id: str) -> dict[str, Any]:
        """The spans of a job, by their names."""
        return {
            span.name: span
            for _, span in list(self.spans)
            if attributes(span).get("medgemma.job_id") == job_id
        }


def attributes(of: Any) -> dict[str, Any]:
    return {one.key: one.value.string_value for one in of.attributes}


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    threading.Thread(target=collector.server.serve_forever, daemon=True).start()
    yield collector
    collector.server.shutdown()
    collector.server.server_close()


def test_a_job_is_one_trace_from_who_asks_to_the_workers_stages_and_quotes_nothing(
    idle: Service, collector: Collector, tmp_path: Path
) -> None:
    idle.ledger.publish_model(StubEngine().served)
    traced = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "200"}
    asked = subprocess.run(
        [sys.executable, "-c", ASKS, f"What? {PROMPT}"],
        env={**os.environ, **traced},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    job = idle.client.job(asked.stdout.strip())
    with WorkerProcess(tmp_path, **traced) as worker:
        assert job.wait(WAIT).answer == ANSWER
        until(lambda: collector.of_job(job.id).keys() == {"job", *STAGES}, WAIT, lambda: worker.log)
        failing = idle.ask(f"Keyword {PROMPT}", keyword=KEYWORD)
        with pytest.raises(MedGemmaError):
            failing.wait(WAIT)
        until(lambda: "job" in collector.of_job(failing.id), WAIT)
        worker.terminate()
        worker.wait(WAIT)
    (asking,) = [span for service, span in collector.spans if span.name == "asking"]
    spans = collector.of_job(job.id)
    assert {span.trace_id for span in spans.values()} == {asking.trace_id}
    assert {spans[stage].parent_span_id for stage in STAGES} == {spans["job"].span_id}
    by_id = {span.span_id: (service, span) for service, span in collector.spans}
    service, task = by_id[spans["job"].parent_span_id]
    assert (service, task.name) == ("medgemma-worker", "run/medgemma.explain")
    assert by_id[task.parent_span_id][1].trace_id == asking.trace_id
    failed = collector.of_job(failing.id)["explaining"]
    assert attributes(failed)["medgemma.code"] == "keyword_not_in_answer"
    assert failed.trace_id != asking.trace_id
    systems = {attributes(span).get("db.system") for _, span in collector.spans}
    assert "redis" in systems
    assert any(attributes(span).get("rpc.system") == "aws-api" for _, span in collector.spans)
    for _, span in collector.spans:
        assert not span.events
        assert not span.status.message
    assert found(b"".join(collector.raw)) == []


def test_a_collector_that_is_away_hurts_no_job(idle: Service, tmp_path: Path) -> None:
    with WorkerProcess(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9") as worker:
        assert idle.ask("What?").wait(WAIT).answer == ANSWER
        worker.terminate()
        assert worker.wait(WAIT) == 0


def test_a_gateway_tells_which_route_was_asked_and_not_by_whom_or_in_what_words(
    idle: Service, collector: Collector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")

    def routes() -> list[str | None]:
        return [attributes(span).get("http.route") for _, span in list(collector.spans)]

    with GatewayProcess(tmp_path) as gateway, gateway.client() as api:
        header = {**gateway.ours, "User-Agent": PROMPT}
        api.get(f"/{PROMPT}", headers=header)
        api.get(f"/v1/explanations/{'0' * 32}", params={"q": PROMPT}, headers=header)
        until(lambda: "/v1/explanations/{job_id}" in routes(), WAIT, lambda: str(routes()))
    assert {service for service, _ in collector.spans} == {"medgemma-gateway"}
    assert found(b"".join(collector.raw)) == []
