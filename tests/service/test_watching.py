"""What a worker tells whoever watches it, with and without a supervisor."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest

from medgemma_tasks.errors import MedGemmaError
from medgemma_worker.counters import STAGES
from tests.scraping import Scraped, asked, told
from tests.service.harness import Service, WorkerProcess, until
from tests.stub_engine import ANSWER, ANSWER_TOKENS
from tests.worker.supervised import free_port

WAIT = 30.0
OF_A_JOB = {
    *("medgemma_jobs", "medgemma_stage_seconds", "medgemma_answer_tokens"),
    *(
        "medgemma_device_busy_seconds",
        "medgemma_device_memory_bytes",
        "medgemma_model_load_seconds",
    ),
}
OF_A_WORKER = {"medgemma_worker_up", "medgemma_worker_restarts", "medgemma_devices_given_up"}


class Supervisor(WorkerProcess):
    """``medgemma-explainer worker --gpus cpu``."""

    command = ("-m", "medgemma_cli", "worker", "--gpus", "cpu")


def test_what_was_counted_stays_when_the_child_or_the_whole_worker_is_killed(
    idle: Service, tmp_path: Path
) -> None:
    port = free_port()
    limits = {"MEDGEMMA_VISIBILITY_TIMEOUT": "4", "MEDGEMMA_MAX_ATTEMPTS": "2"}
    with Supervisor(tmp_path, MEDGEMMA_METRICS_PORT=str(port), **limits) as supervisor:
        until(lambda: told(port, "/readyz")[0] == 200, WAIT, lambda: supervisor.log)
        before = Scraped(port)
        assert before.families.keys() == OF_A_JOB | OF_A_WORKER
        lost = {"model": "phantom", "device": "cpu", "state": "failed", "code": "worker_lost"}
        assert before.value("medgemma_jobs_total", **lost) == 0
        job = idle.ask("sleep 0.4")
        assert job.wait(WAIT).answer == ANSWER
        assert idle.ask("What?", answer="Nothing.").wait(WAIT)
        for prompt in ("crash", "die"):
            with pytest.raises(MedGemmaError):
                idle.ask(prompt).wait(WAIT)

        def jobs(scraped: Scraped, state: str, code: str) -> float | None:
            return scraped.value("medgemma_jobs_total", state=state, code=code, device="cpu")

        # A job is counted a moment after it has its mark.
        until(lambda: jobs(Scraped(port), "failed", "worker_lost") == 1, WAIT)
        after = Scraped(port)
        assert jobs(after, "succeeded", "") == 2
        assert jobs(after, "failed", "internal_error") == 1
        assert after.value("medgemma_answer_tokens_total") == ANSWER_TOKENS
        assert 0.4 <= (after.value("medgemma_device_busy_seconds_total") or 0) < WAIT
        assert after.value("medgemma_worker_restarts_total") == 0
        assert (after.value("medgemma_model_load_seconds") or 0) > 0
        for stage in ("waiting", "loading", "storing"):
            count = after.value("medgemma_stage_seconds_count", stage=stage, model="phantom")
            assert (count or 0) >= 2
        used, peak, total = (
            after.value("medgemma_device_memory_bytes", kind=kind) or 0
            for kind in ("used", "peak", "total")
        )
        assert 0 < used <= peak < total

        (parent,) = [
            process
            for process in psutil.Process(supervisor.pid).children()
            if "medgemma_worker.app" in process.cmdline()
        ]
        os.killpg(parent.pid, signal.SIGKILL)
        # From its death on until the next has loaded.
        until(lambda: told(port, "/readyz")[0] == 503, WAIT)
        assert told(port, "/healthz")[0] == 200
        until(lambda: Scraped(port).value("medgemma_worker_restarts_total") == 1, WAIT)
        assert jobs(Scraped(port), "succeeded", "") == 2
        until(lambda: told(port, "/readyz")[0] == 200, WAIT, lambda: supervisor.log)
        assert idle.ask("And now?").wait(WAIT).answer == ANSWER
        until(lambda: jobs(Scraped(port), "succeeded", "") == 3, WAIT)


def test_a_supervisor_is_ready_while_a_worker_has_its_model_and_the_queue_answers(
    idle: Service, tmp_path: Path
) -> None:
    port = free_port()
    watched = {"MEDGEMMA_METRICS_PORT": str(port), "MEDGEMMA_VISIBILITY_TIMEOUT": "4"}
    with Supervisor(tmp_path, STUB_LOAD_SECONDS="3", **watched).spawned() as supervisor:
        until(lambda: "is starting" in supervisor.log, WAIT)
        status, body = told(port, "/readyz")
        (device,) = body["devices"]
        assert (status, body["status"], body["model"]) == (503, "not ready", "phantom")
        assert device == {"device": "cpu", "state": "starting", "restarts": 0}
        assert told(port, "/healthz") == (200, {**body, "status": "ok"})
        until(lambda: told(port, "/readyz")[0] == 200, WAIT, lambda: supervisor.log)
        idle.running(idle.ask("gate"))
        until(lambda: told(port, "/readyz")[1]["devices"][0]["state"] == "busy", WAIT)
        assert told(port, "/readyz")[0] == 200
        supervisor.terminate()
        until(lambda: told(port, "/readyz")[0] != 200, WAIT)
        supervisor.gate.touch()
        assert supervisor.wait(WAIT) == 0


def test_a_worker_without_a_supervisor_serves_the_same(idle: Service, tmp_path: Path) -> None:
    port = free_port()
    with WorkerProcess(tmp_path, MEDGEMMA_METRICS_PORT=str(port)) as worker:
        until(lambda: told(port, "/readyz")[0] == 200, WAIT, lambda: worker.log)
        assert idle.ask("sleep 0.1 die once").wait(WAIT).answer == ANSWER
        scraped = Scraped(port)
        assert scraped.families.keys() == OF_A_JOB | OF_A_WORKER
        succeeded = {"state": "succeeded", "code": ""}
        until(lambda: Scraped(port).value("medgemma_jobs_total", **succeeded) == 1, WAIT)
        stages = {sample.labels["stage"] for sample in scraped.samples if "stage" in sample.labels}
        assert stages == set(STAGES)
        assert asked(port, "/") == (404, '{"status": "not found"}\n')
        assert asked(port, "/metrics", "POST")[0] == 405
        os.kill(worker.pid, signal.SIGKILL)
        until(lambda: asked(port, "/healthz")[0] == 0, WAIT)


def test_a_worker_alone_whose_port_is_taken_works_and_says_so(
    idle: Service, tmp_path: Path
) -> None:
    port = idle.redis.connection_pool.connection_kwargs["port"]
    with WorkerProcess(tmp_path, MEDGEMMA_METRICS_PORT=str(port)) as worker:
        until(lambda: f"No metrics can be served at 127.0.0.1:{port}" in worker.log, WAIT)
        assert idle.ask("Anything?").wait(WAIT).answer == ANSWER
