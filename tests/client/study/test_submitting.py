"""A study, asked about by the client as it is today."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from medgemma_client.client import Client
from medgemma_client.job import Job
from medgemma_client.study import read_study
from medgemma_tasks.ledger import Ledger
from tests.client.study.phantom import ct_slice


def test_its_places_reach_the_request_and_the_result(
    client: Client, run: Callable[[Job], None], ledger: Ledger
) -> None:
    files = [ct_slice(np.zeros((4, 6)), position=(0, 0, 5 * k), number=k) for k in range(3)]
    study = read_study(files)
    job = client.submit(
        study.images, study.prompt("Is there a bleed?"), pad_to_square=study.pad_to_square
    )
    request = ledger.request(job.id)
    assert request is not None
    assert [part.type for part in request.messages[0].content] == [
        "text",
        *["image", "text"] * 3,
        "text",
    ]
    run(job)
    record = ledger.record(job.id)
    assert record is not None
    for grid, image in zip(record.images, study.images, strict=True):
        assert grid.image.attributes.plane == image.attributes.plane is not None
    # Asked again it is the same job; of slices that lie elsewhere it is another.
    assert client.submit(study.images, study.prompt("Is there a bleed?")).id == job.id
    files = [ct_slice(np.zeros((4, 6)), position=(0, 0, 4 * k), number=k) for k in range(3)]
    moved = read_study(files)
    assert client.submit(moved.images, moved.prompt("Is there a bleed?")).id != job.id
