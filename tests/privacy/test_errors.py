"""Errors say what was wrong and quote no header, prompt, path, UID, credential or signed URL."""

from __future__ import annotations

import pytest

from medgemma_cli.embedded import EmbeddedStack
from tests.privacy.canaries import found
from tests.privacy.commands import BAD_IMAGES
from tests.privacy.scene import Told

CODES = (
    *BAD_IMAGES,
    *("file_unreadable", "empty_prompt", "invalid_request", "job_not_found", "wait_timeout"),
    *("job_not_finished", "job_expired", "job_cancelled", "time_limit", "worker_lost"),
    *("out_of_memory", "internal_error", "keyword_not_in_answer"),
    *("broker_unreachable", "store_unreachable"),
)


def test_each_of_them_was_met(told: Told) -> None:
    assert told.errors.keys() == set(CODES)


@pytest.mark.parametrize("code", CODES)
def test_an_error_quotes_nothing(code: str, told: Told) -> None:
    error = told.errors[code]
    said = f"{error!r} {error} {error.message} {error.details!r} {told.traces[code]}"
    if code == "keyword_not_in_answer":  # it says which word, and what was answered
        said = said.replace("qxcanary-keyword", "").replace("canary-answer", "")
    assert found(said) == []
    assert "Signature" not in said
    assert str(told.folder) not in f"{error.message} {error.details!r}"


def test_no_secret_is_in_a_log_or_an_error(told: Told, stack: EmbeddedStack) -> None:
    password = stack.redis.url.partition("://:")[2].partition("@")[0]
    for said in (*told.logs.values(), *told.traces.values(), *told.printed.values()):
        assert password not in said
        assert stack.s3.secret_key not in said
