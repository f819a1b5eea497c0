from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medgemma_client import writing as module
from medgemma_client.client import Client
from medgemma_client.job import Job
from medgemma_client.result import Result
from medgemma_tasks.errors import ArtifactDamaged, FileUnwritable, InvalidRequest
from medgemma_tasks.layout import job_prefix
from medgemma_tasks.ledger import Ledger
from tests.parts import picture
from tests.stub_engine import ANSWER

SAVED = {
    "result.json",
    "relevancy.npz",
    "report.html",
    *(f"{kind}-{k}.png" for kind in ("heatmap", "overlay") for k in (0, 1)),
}


@pytest.fixture
def result(client: Client, run: Callable[[Job], None]) -> Result:
    job = client.submit([picture(), picture(grey=9)], "What?")
    run(job)
    return job.result()


def test_maps_come_scaled_and_unscaled(result: Result) -> None:
    assert result.heatmaps.shape == result.scores.shape == (2, 16, 16)
    assert result.heatmap.shape == (16, 16)
    assert result.heatmap.dtype == result.scores.dtype == np.float32
    assert (result.scores.max(), result.heatmaps.max()) == (0.25, 1.0)
    assert result.explanation.generated_text == result.answer == ANSWER
    assert result.thinking is None


def test_pictures_are_fetched_by_index(result: Result) -> None:
    assert result.overlay(1).mode == "RGB"
    assert result.image(1).getpixel((0, 0)) == 9
    for index in (-1, 2):
        with pytest.raises(InvalidRequest):
            result.overlay(index)


def test_one_image_has_maps_of_the_same_shape(client: Client, run: Callable[[Job], None]) -> None:
    job = client.submit(picture(), "What?")
    run(job)
    assert job.result().heatmaps.shape == (1, 16, 16)


def test_an_artifact_that_was_changed_or_lost_is_refused(result: Result, ledger: Ledger) -> None:
    prefix = job_prefix("local", result.job_id)
    ledger.store.put(prefix + result.record.artifacts["overlay-0.png"].key, b"other")
    ledger.store.delete(prefix + result.record.artifacts["relevancy.npz"].key)
    for call in (result.overlay, lambda: result.heatmap):
        with pytest.raises(ArtifactDamaged):
            call()
    with pytest.raises(InvalidRequest):
        result.artifact("another.png")


def test_all_is_saved_and_nothing_else(result: Result, tmp_path: Path) -> None:
    folder = result.save(tmp_path / "a" / "b")
    assert {path.name for path in folder.iterdir()} == SAVED
    assert json.loads((folder / "result.json").read_text())["answer"] == ANSWER
    assert (folder / "report.html").read_text(encoding="utf-8").lstrip().startswith("<!")
    for name in result.record.artifacts:
        assert (folder / name).read_bytes() == result.artifact(name)


def test_nothing_is_saved_when_an_artifact_is_damaged(
    result: Result, ledger: Ledger, tmp_path: Path
) -> None:
    prefix = job_prefix("local", result.job_id)
    ledger.store.put(prefix + result.record.artifacts["heatmap-1.png"].key, b"other")
    with pytest.raises(ArtifactDamaged):
        result.save(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fails_leaves_no_half_file(
    result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, target: Path) -> Path:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))

    monkeypatch.setattr(module.Path, "replace", full)
    with pytest.raises(FileUnwritable, match="No space left"):
        result.report(tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_keeps_no_picture_of_an_earlier_job(result: Result, tmp_path: Path) -> None:
    for name in ("overlay-2.png", "heatmap-10.png", "overlay-mine.png", "input.png"):
        (tmp_path / name).write_bytes(b"x")
    result.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        *SAVED,
        "overlay-mine.png",
        "input.png",
    }


def test_while_pictures_change_no_earlier_record_says_what_they_are(
    result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "result.json").write_text("{}")
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(module.Path, "replace", lambda self, target: (_ for _ in ()).throw(full))
    with pytest.raises(FileUnwritable):
        result.save(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_an_error_without_its_name(
    result: Result, tmp_path: Path
) -> None:
    taken = tmp_path / "patient"
    taken.write_text("x")
    for call, path in (
        (result.save, taken),
        (result.save, taken / "inside"),
        (result.report, taken / "report.html"),
        (module.make_folder, taken),
    ):
        with pytest.raises(FileUnwritable) as caught:
            call(path)
        assert "patient" not in caught.value.message


def test_a_folder_is_tried_by_writing_into_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert module.make_folder(tmp_path / "a" / "b").is_dir()
    # What a read-only disk says; root may write everywhere else.
    readonly = OSError(errno.EROFS, os.strerror(errno.EROFS))
    monkeypatch.setattr(
        module.tempfile, "TemporaryFile", lambda **_: (_ for _ in ()).throw(readonly)
    )
    with pytest.raises(FileUnwritable, match="Read-only"):
        module.make_folder(tmp_path)


def test_a_saved_file_can_be_read_by_others(result: Result, tmp_path: Path) -> None:
    path = result.report(tmp_path / "report.html")
    assert path.stat().st_mode & 0o400
    (tmp_path / "plain").write_text("x")
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


BOXES = """```json
[{"box_2d": [0, 0, 500, 500], "label": "nodule"}, {"box_2d": [0, 0, 500, 5000], "label": "?"}]
```"""


def with_boxes(result: Result, ledger: Ledger) -> Result:
    return Result(result.record.model_copy(update={"answer": BOXES}), ledger)


def test_boxes_of_the_answer_lie_on_the_only_image(
    client: Client, run: Callable[[Job], None], ledger: Ledger
) -> None:
    job = client.submit(picture((8, 6)), "Where?")
    run(job)
    result = with_boxes(job.result(), ledger)
    boxes = result.boxes()
    (box,) = boxes
    assert (box.label, box.box, box.area) == ("nodule", (0.0, -1.0, 4.0, 3.0), 0.25)
    scores = result.scores[0].astype(float)
    assert box.share == pytest.approx(scores[:8, :8].sum() / scores.sum())
    assert boxes.left_out == 1
    assert result.boxes_overlay().mode == "RGB"


def test_of_several_images_the_one_with_the_boxes_must_be_named(
    result: Result, ledger: Ledger
) -> None:
    result = with_boxes(result, ledger)
    assert [box.label for box in result.boxes(1)] == ["nodule"]
    assert result.boxes_overlay(image=1).mode == "RGB"
    for call in (result.boxes, result.boxes_overlay):
        with pytest.raises(InvalidRequest, match="give image"):
            call()
        with pytest.raises(InvalidRequest, match="no image 2"):
            call(2)
        with pytest.raises(InvalidRequest, match="no target 1"):
            call(0, target=1)


def test_an_answer_without_boxes_has_none(result: Result) -> None:
    assert list(result.boxes(0)) == []


def test_a_result_shows_its_id_and_no_answer(result: Result) -> None:
    assert repr(result) == f"Result('{result.job_id}')"
