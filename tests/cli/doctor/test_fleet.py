"""What doctor says of the workers, and of what they serve."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr

from medgemma_cli.doctor.finding import Level
from medgemma_cli.doctor.fleet import Fleet
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.live import LiveState
from medgemma_tasks.models import WorkerState
from medgemma_tasks.settings import Settings
from medgemma_tasks.store import Store
from tests.cli.doctor.told import findings
from tests.cli.test_queue import say
from tests.deploy.test_redis_users import GuardedRedis
from tests.stub_engine import StubEngine


def looked(settings: Settings) -> dict[str, Any]:
    return {name: one for part in Fleet(settings).parts() for name, one in findings(part).items()}


def test_before_the_first_worker_it_is_a_warning(stack_settings: Settings) -> None:
    found = looked(stack_settings)
    assert found["models"].level is found["ready"].level is Level.WARNING


def test_a_model_that_workers_do_not_serve_is_a_fault(stack_settings: Settings) -> None:
    ledger = Ledger(Store(stack_settings), LiveState(stack_settings))
    ledger.publish_model(StubEngine("other/model").served)
    found = looked(stack_settings)["models"]
    assert found.level is Level.FAILED
    assert found.found == "Workers serve other/model, and not phantom (model_not_served)."
    ledger.publish_model(StubEngine().served)
    assert looked(stack_settings)["models"].found == "phantom at revision stub-1; also other/model."


@pytest.mark.parametrize(
    ("state", "level"),
    [
        (WorkerState.BUSY, Level.OK),
        (WorkerState.STARTING, Level.WARNING),
        (WorkerState.DRAINING, Level.WARNING),
    ],
)
def test_whether_one_would_take_a_job_is_told(
    stack_settings: Settings, state: WorkerState, level: Level
) -> None:
    say(stack_settings, state)
    say(stack_settings, WorkerState.READY, "gpu-1@here", model="other/model")
    found = looked(stack_settings)["ready"]
    assert (found.level, f"1 {state.value}" in found.found) == (level, True)


def test_who_may_not_see_the_workers_is_told_so(stack_settings: Settings) -> None:
    with GuardedRedis() as guarded:
        url = SecretStr(guarded.as_user("client"))
        found = looked(stack_settings.model_copy(update={"broker_url": url}))["ready"]
    assert found.level is Level.NOT_APPLICABLE
