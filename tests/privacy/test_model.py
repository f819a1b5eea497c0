"""The real model, in a worker that logs all it can and sends Celery's events."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest

from medgemma_client.client import Client
from medgemma_tasks.errors import KeywordNotInPrompt, ReservedToken
from medgemma_tasks.layout import model_key
from medgemma_tasks.settings import Settings
from medgemma_worker.phantom.images import make_phantom
from tests.privacy import watching
from tests.privacy.canaries import EVERY, GIVEN, KEYWORD, PROMPT, SYSTEM, dicom, found
from tests.privacy.commands import LOUD, image
from tests.service.harness import Service, WorkerProcess, until

WAIT = 120.0


class WithEvents(WorkerProcess):
    """As an operator starts one who wants to see events: our own command sends none."""

    command = (
        *("-m", "celery", "-A", "medgemma_worker.app", "worker"),
        *("--task-events", "--loglevel=DEBUG", "--without-mingle", "--without-gossip"),
    )


def film(folder: Path) -> Path:
    """A drawn film as DICOM, its header full of canaries."""
    pixels = np.asarray(make_phantom(910_000, kind="consolidation").image.convert("L"))
    ds = pydicom.dcmread(image(folder, "film", dicom(size=pixels.shape)))
    ds.PixelData = pixels.tobytes()
    path = folder / "film.dcm"
    ds.save_as(path)
    return path


def test_neither_events_nor_logs_nor_redis_hold_what_it_read_or_said(
    stack_settings: Settings, tmp_path: Path
) -> None:
    engine = {"MEDGEMMA_ENGINE": "medgemma_worker.pipeline:load", "PYTHONPATH": LOUD}
    worker = WithEvents(tmp_path, **engine)
    service = Service(stack_settings, worker)
    client, picture = Client(stack_settings), film(tmp_path)
    with watching.logs() as said, watching.events(stack_settings) as events, worker.spawned():
        store = service.ledger.store
        until(lambda: store.exists(model_key("phantom")), WAIT, lambda: worker.log[-3000:])
        answer = client.submit(picture, f"{PROMPT}?", system=SYSTEM).wait(WAIT).answer
        client.submit(picture, PROMPT, answer=f"{GIVEN} is there", keyword=GIVEN).wait(WAIT)
        for wrong, prompt in (
            (ReservedToken, f"{PROMPT} <start_of_image>"),
            (KeywordNotInPrompt, PROMPT),
        ):
            with pytest.raises(wrong) as caught:
                client.submit(picture, prompt, prompt_words=KEYWORD).wait(WAIT)
            assert PROMPT not in f"{caught.value.message} {caught.value.details!r}"
        held = watching.memory(service.redis)
        until(lambda: [e["type"] for e in events].count("task-succeeded") >= 4, 30.0)
    assert answer
    for told in (worker.log, "\n".join(said), repr(events), held):
        assert found(told, (*EVERY, answer)) == []
