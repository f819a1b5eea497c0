from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgemma_tasks import layout
from medgemma_tasks.errors import InvalidRequest
from tests.parts import JOB, SHA

TENANT = st.from_regex(r"[a-z0-9][a-z0-9-]{0,62}", fullmatch=True)
IDS = st.from_regex(r"[0-9a-f]{32}", fullmatch=True)


@given(TENANT, IDS)
def test_every_key_of_a_job_lies_under_its_prefix(tenant: str, job: str) -> None:
    prefix = layout.job_prefix(tenant, job)
    keys = [
        layout.request_key(tenant, job),
        layout.result_key(tenant, job),
        layout.artifact_key(tenant, job, "1-ab", "overlay-0.png"),
        layout.history_key(tenant, job, "20261122T120000-0123456789abcdef"),
    ]
    assert all(key.startswith(prefix) for key in keys)
    assert len(set(keys)) == 4


@given(st.text(max_size=40))
def test_no_text_that_is_no_id_becomes_a_key(text: str) -> None:
    if re.fullmatch(r"[0-9a-f]{32}", text):
        return
    with pytest.raises(InvalidRequest) as caught:
        layout.request_key("local", text)
    assert len(text) < 4 or text not in caught.value.message


@pytest.mark.parametrize("bad", ["..", "a/b", "", "A", JOB + "\n", " " + JOB, None, 5])
def test_no_part_of_a_key_walks_out_of_its_place(bad: str) -> None:
    for make in (
        lambda: layout.check_job_id(bad),
        lambda: layout.check_tenant(bad),
        lambda: layout.input_key("local", bad),
        lambda: layout.artifact_key("local", JOB, bad, "x.png"),
        lambda: layout.artifact_key("local", JOB, "1-ab", bad),
        lambda: layout.history_key("local", JOB, bad),
        lambda: layout.probe_key("local", bad),
        lambda: layout.probe_key(bad, "ab"),
    ):
        if bad in ("..", "a/b", "") or not isinstance(bad, str):
            with pytest.raises(InvalidRequest):
                make()


def test_a_final_newline_is_not_overlooked() -> None:
    for text, check in ((JOB, layout.check_job_id), ("local", layout.check_tenant)):
        assert check(text) == text
        with pytest.raises(InvalidRequest):
            check(text + "\n")


def test_other_keys_name_no_model() -> None:
    assert layout.model_name("local/jobs/x.json") is None
    assert layout.model_name("models/x.txt") is None


def test_an_input_has_pixels_and_a_note() -> None:
    assert layout.input_key("local", SHA) == f"local/inputs/{SHA}.png"
    assert layout.input_key("local", SHA, "json") == f"local/inputs/{SHA}.json"
