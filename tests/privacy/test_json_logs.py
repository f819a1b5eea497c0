"""Logs for machines: each line an object that says which job it is about, and no patient's data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from medgemma_tasks.errors import MedGemmaError
from tests.alone import on_its_own
from tests.privacy.canaries import KEYWORD, PROMPT, SYSTEM, found
from tests.privacy.scene import Supervisor
from tests.service.harness import Service

if TYPE_CHECKING:
    from medgemma_cli.embedded import EmbeddedStack
    from medgemma_client.job import Job

WAIT = 40.0


def test_supervisor_parent_and_child_log_objects_about_jobs_and_never_what_was_asked(
    stack: EmbeddedStack, tmp_path: Path
) -> None:
    with on_its_own(stack) as settings:
        worker = Supervisor(
            tmp_path,
            MEDGEMMA_LOG_FORMAT="json",
            MEDGEMMA_MAX_ATTEMPTS="1",
        )
        with worker:
            service = Service(settings, worker)

            def ask(what: str, **options: Any) -> Job:
                return service.ask(f"{what} {PROMPT}", **options)

            good = ask("What?", system=SYSTEM)
            good.wait(WAIT)
            failing = {
                "internal_error": ask("crash"),
                "keyword_not_in_answer": ask("Keyword", keyword=KEYWORD),
                "worker_lost": ask("die"),
            }
            for job in failing.values():
                with pytest.raises(MedGemmaError):
                    job.wait(WAIT)
            worker.terminate()
            worker.wait(WAIT)
    assert found(worker.log) == []
    # What Celery says of a stop it writes by itself, in a signal's handler.
    logged = [line for line in worker.log.splitlines() if line and not line.startswith("worker: ")]
    lines = [json.loads(line) for line in logged]
    assert {"time", "level", "logger", "message"} <= set.intersection(*map(set, lines))
    about = [line for line in lines if line.get("job") == good.id]
    assert {line["message"] for line in about} >= {f"job {good.id}: succeeded"}
    crashed = failing["internal_error"].id
    (crash,) = [one for one in lines if (one["level"], one.get("job")) == ("ERROR", crashed)]
    assert (crash["stage"], crash["attempt"]) == ("explaining", 1)
    for code, job in failing.items():
        assert any((line.get("job"), line.get("code")) == (job.id, code) for line in lines), code
    (death,) = [line for line in lines if "the process died over" in line["message"]]
    assert (death["job"], death["attempt"]) == (failing["worker_lost"].id, 1)
    (attempt,) = [line for line in about if line["message"].endswith("attempt 1")]
    assert (attempt["attempt"], attempt["device"]) == (1, "cpu")
    assert any(line["logger"].endswith("supervisor.child") for line in lines)
