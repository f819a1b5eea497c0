"""The real model behind the real queue: every way of asking gives there what it gives without."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medgemma_client.client import Client
from medgemma_tasks.errors import InvalidRequest
from medgemma_tasks.layout import model_key
from medgemma_tasks.models import ExplanationRecord, KeywordTarget, Options
from medgemma_tasks.settings import Settings
from medgemma_tasks.store import Store
from medgemma_worker import MedGemmaExplainer, load_medgemma
from medgemma_worker.phantom.images import make_phantom
from medgemma_worker.question import ask
from tests.client.report.samples import Page
from tests.service.harness import WorkerProcess, until

PROMPT = "Is there a finding?"
FILMS = [make_phantom(910_000, kind="consolidation"), make_phantom(910_001, kind="nodule")]
IMAGES = [film.image for film in FILMS]
WAIT = 120.0


@pytest.fixture(scope="module")
def client(
    service_settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Client]:
    """Served by a worker that holds the shipped phantom."""
    engine = "medgemma_worker.pipeline:load"
    with WorkerProcess(tmp_path_factory.mktemp("model"), MEDGEMMA_ENGINE=engine) as worker:
        store = Store(service_settings)
        until(lambda: store.exists(model_key("phantom")), WAIT, lambda: worker.log)
        yield Client(service_settings)


@pytest.fixture(scope="module")
def explainer() -> MedGemmaExplainer:
    model, processor, _ = load_medgemma("phantom", device="cpu")
    return MedGemmaExplainer(model, processor)


WAYS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "several targets of one answer": (
        {"keyword": ["consolidation", "zone"], "characters": (0, 5), "prompt_words": "finding"},
        {},
    ),
    "every token": ({"every_token": True}, {}),
    "a given answer and a system prompt": (
        {"answer": "There is a nodule.", "keyword": "nodule"},
        {"answer": "There is a nodule.", "system": "Be brief."},
    ),
    "another method": ({"method": "own-row"}, {"options": Options(method="own-row")}),
    "patches and areas": (
        {"resolution": "patch", "areas": True, "keyword": "consolidation"},
        {"options": Options(resolution="patch", areas=True)},
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_queue_gives_what_the_explainer_gives(
    client: Client, explainer: MedGemmaExplainer, way: str
) -> None:
    asked, besides = WAYS[way]
    system = besides.get("system")
    job = client.submit(IMAGES[0], PROMPT, system=system, **asked)
    result = job.wait(WAIT, progress=False)
    request = result.request
    alone = explainer.run(ask(IMAGES[0], PROMPT, request.targets, **besides))
    assert len(result.explanations) == len(result.targets) == len(alone)
    for here, there, target in zip(alone, result.explanations, result.targets, strict=True):
        assert there.spans == here.spans == (target.span,)
        assert there.generated_text == result.answer == here.generated_text
        assert np.allclose(there.image_scores, here.image_scores, rtol=1e-4, atol=1e-9)
        assert np.allclose(target.scores, here.text_scores, rtol=1e-4, atol=1e-9)
        assert target.shares.images == pytest.approx(here.shares.images, abs=1e-4)
        assert (there.patch_scores is None) == (here.patch_scores is None)
        assert (target.areas is None) == (here.areas is None)
    assert result.record.answer_given is (request.given_answer is not None)


def test_text_between_images_reaches_the_model_in_its_place(
    client: Client, explainer: MedGemmaExplainer
) -> None:
    parts = ["Before:", 0, "After:", 1, "What has changed?"]
    result = client.submit(IMAGES, parts).wait(WAIT, progress=False)
    alone = explainer.explain(IMAGES, parts)
    assert result.answer == alone.generated_text
    assert np.allclose(result.scores, alone.image_scores, rtol=1e-4, atol=1e-9)
    assert [token.text for token in result.record.tokens] == alone.token_labels


def test_pictures_of_every_target_and_of_patches_can_be_had(client: Client, tmp_path: Path) -> None:
    job = client.submit(
        IMAGES[0], PROMPT, keyword=["consolidation", "zone"], resolution="patch", areas=True
    )
    result = job.wait(WAIT, progress=False)
    assert {"fine-heatmap-0.png", "fine-overlay-0.png"} <= set(result.record.artifacts)
    pictures = [
        np.asarray(result.overlay(0, target, fine=fine))
        for target in (0, 1)
        for fine in (False, True)
    ]
    assert len({picture.tobytes() for picture in pictures}) == 4
    report = (result.save(tmp_path) / "report.html").read_text()
    carried = json.loads(Page(report).data)["targets"]
    assert [bool(target["fine"]) for target in carried] == [True, True]
    assert "deletion area" in report
    with pytest.raises(InvalidRequest):
        result.overlay(0, 2)


def test_the_command_line_asks_all_of_it(
    client: Client, tmp_path: Path, service_settings: Settings
) -> None:
    for k, image in enumerate(IMAGES):
        image.save(tmp_path / f"{k}.png")
    (tmp_path / "answer.txt").write_text("There is a nodule in the left lung.")
    command = [sys.executable, "-m", "medgemma_cli", "submit", "0.png", "1.png"]
    for part in ("Before:", "@1", "After:", "@2", "What has changed?"):
        command += ["-p", part]
    command += ["-k", "nodule", "-k", "lung", "--characters", "0:5", "--prompt-word", "changed"]
    command += ["--answer", "@answer.txt", "--system", "Be brief.", "--method", "rollout"]
    command += ["--left-of-image", "patient-right", "--top-of-image", "patient-head"]
    done = subprocess.run(
        [*command, "--json"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    record = ExplanationRecord.model_validate(json.loads(done.stdout))
    assert [target.span.text for target in record.targets] == ["nodule", "lung", "There", "changed"]
    assert record.answer_given
    assert record.model is not None
    assert record.model.method == "rollout"
    zones = record.targets[0].maps[0].zones
    assert zones is not None
    assert zones.zones[0].name == "patient right, upper third"
    plain = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "'nodule'" in plain.stdout
    assert "Given" in plain.stdout
    assert re.search(r"'nodule' .*; image [12], ", plain.stdout)


def test_a_method_that_is_not_there_fails_with_the_names_of_those_that_are(client: Client) -> None:
    job = client.submit(IMAGES[0], PROMPT, targets=KeywordTarget(keyword="zone"), method="no-such")
    with pytest.raises(InvalidRequest, match="chefer"):
        job.wait(WAIT, progress=False)
