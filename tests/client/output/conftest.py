"""Results of real files, made as a worker makes them, but for the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from medgemma_client.client import Client
from medgemma_client.job import Job
from medgemma_client.result import Result
from medgemma_client.study import Study
from tests.client.conftest import (
    boto_session,
    client,
    ledger,
    live,
    published,
    redis_fake,
    run,
    settings,
    store,
)
from tests.client.images.conftest import make_dicom, wheel_file

__all__ = [
    "boto_session", "client", "ledger", "live", "make_dicom", "published", "redis_fake", "run",
    "settings", "store", "wheel_file",
]  # fmt: skip

Ask = Callable[..., Result]


@pytest.fixture
def ask(client: Client, run: Callable[[Job], None]) -> Ask:
    """The result of a question about a file, or a study."""

    def asked(source: Any, **options: Any) -> Result:
        images = list(source.images) if isinstance(source, Study) else source
        job = client.submit(images, "Is there a nodule?", **options)
        run(job)
        return job.result()

    return asked
