"""What a backfill would do."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from medgemma_client.backfill.manifest import read_rows
from medgemma_client.backfill.plan import Plan, estimate, plan
from medgemma_client.backfill.rows import BadRow, Defaults
from medgemma_tasks.models import ServedModel, WorkerHealth, WorkerState
from medgemma_tasks.settings import Settings
from tests.parts import NOW

SERVED = ServedModel(
    name="phantom",
    revision="1",
    method="chefer",
    method_version="1",
    max_context_tokens=1_000,
    tokens_per_image=256,
    max_new_tokens=100,
)


def worker(state: WorkerState = WorkerState.BUSY, **said: object) -> WorkerHealth:
    known = {"name": "w", "host": "h", "model": "phantom", "device": "d", "pid": 1}
    times = {"since": NOW, "started_at": NOW}
    return WorkerHealth.model_validate(known | times | {"state": state} | said)


def planned(
    base: Path, records: list[dict[str, str]], *fleet: WorkerHealth, **said: object
) -> tuple[Plan, list[BadRow]]:
    refused: list[BadRow] = []
    found = plan(
        read_rows(records, Defaults(prompt="1234567", options=said)),
        settings=Settings(),
        base=base,
        served=SERVED,
        fleet=fleet,
        refuse=refused.append,
        processes=1,
    )
    return found, sorted(refused, key=lambda row: row.number)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    Image.new("L", (64, 64)).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    return tmp_path


def test_a_plan_counts_rows_images_and_tokens_and_names_what_is_refused(base: Path) -> None:
    records = [
        {"item": "one", "images": "a.png"},
        {"item": "two", "images": "a.png;a.png", "answer": "12345678"},
        {"item": "one", "images": "a.png"},
        {"item": "four", "images": "a.png;nowhere.png"},
        {"item": "five", "images": "a.png;a.png;a.png;a.png"},
        {"item": "", "images": "a.png"},
    ]
    found, refused = planned(base, records, max_new_tokens=50)
    assert (found.rows, found.refused, found.images) == (2, 4, 3)
    assert found.tokens == (256 + 2 + 50) + (2 * 256 + 4)
    assert [(row.number, row.item, row.code) for row in refused] == [
        (3, "one", "duplicate_item"),
        (4, "four", "file_unreadable"),
        (5, "five", "sequence_too_long"),
        (6, None, "row_incomplete"),
    ]


def test_no_pixel_is_decoded_for_a_plan(base: Path) -> None:
    found, refused = planned(base, [{"item": "1", "images": "half.png"}])
    assert (found.rows, refused) == (1, [])


def test_the_fleets_rate_is_that_of_the_workers_that_serve_the_model() -> None:
    fleet = [
        worker(rate=1.5),
        worker(WorkerState.READY, rate=0.5),
        worker(),
        worker(WorkerState.DEFUNCT, rate=100),
        worker(model="other", rate=100),
    ]
    made = estimate(10, "phantom", fleet)
    assert made.seconds == 5
    assert "2 of 3 workers" in made.because


@pytest.mark.parametrize(
    ("fleet", "said"),
    [
        ([], "no worker serves phantom"),
        ([worker(WorkerState.SETUP_FAILED, rate=1)], "no worker serves phantom"),
        ([worker()], "measured"),
    ],
)
def test_without_a_worker_or_a_rate_no_estimate_is_made(
    fleet: list[WorkerHealth], said: str
) -> None:
    made = estimate(10, "phantom", fleet)
    assert made.seconds is None
    assert said in made.because
