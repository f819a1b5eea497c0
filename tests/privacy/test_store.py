"""Prompts and answers lie in the store alone, and nothing of a header does; what goes is gone."""

from __future__ import annotations

import json

from tests.privacy.canaries import ASKED, FILES, HEADERS, ITEMS, found
from tests.privacy.scene import FORGED, Told

RECORDS = ("/request.json", "/result.json")
TECHNICAL = {
    *("source", "modality", "photometric", "bits_stored", "window", "spacing_mm", "frame"),
    *("frames", "left_of_image", "top_of_image", "lie_by", "plane"),
}


def test_no_key_and_no_metadata(told: Told) -> None:
    assert len(told.objects) == len(told.contents) > 40
    for key, said in told.objects.items():
        assert found(key) == []
        assert found(said) == [], key
        assert json.loads(said)["Metadata"].keys() <= {"mtime"}, key


def test_what_is_uploaded_of_a_file_is_pixels_and_technical_attributes(told: Told) -> None:
    for key, content in told.contents.items():
        assert found(content, (*HEADERS, *FILES, *ITEMS)) == [], key
        if key.endswith("/request.json") and not any(job in key for job in FORGED):
            for image in json.loads(content)["images"]:
                assert image["attributes"].keys() <= TECHNICAL


def test_prompts_are_in_records_alone(told: Told) -> None:
    held = {key for key, content in told.contents.items() if found(content, ASKED)}
    assert held
    assert all(key.endswith(RECORDS) or "/history/" in key for key in held)


def test_a_record_of_a_failure_quotes_no_prompt(told: Told) -> None:
    failed = 0
    for key, content in told.contents.items():
        if key.endswith("/result.json") and (error := json.loads(content)["error"]):
            failed += 1
            assert found(json.dumps(error), (*HEADERS, *FILES, "qxcanary-prompt")) == []
    assert failed >= 9


def test_a_deleted_job_leaves_neither_input_nor_result(told: Told) -> None:
    assert told.deleted
    for key in told.after:
        assert not any(name in key for name in told.deleted), key
