"""A question that is sent again under its Idempotency-Key."""

from __future__ import annotations

import httpx
import pytest

from tests.service.harness import Service
from tests.web.asking import ask, ended

Header = dict[str, str]


def test_a_forced_question_is_one_job_for_each_key_also_if_redis_forgets(
    api: httpx.Client, ours: Header, service: Service
) -> None:
    first = ask(api, ours, "Forced?", key="a", force=True).json()["id"]
    assert ask(api, ours, "Forced?", key="a", force=True).json()["id"] == first
    ended(api, ours, f"/v1/explanations/{first}")
    service.redis.flushdb()
    assert ask(api, ours, "Forced?", key="a", force=True).json()["id"] == first
    assert ask(api, ours, "Forced?", key="b", force=True).json()["id"] != first


def test_a_key_stands_for_one_question_of_one_tenant(
    api: httpx.Client, ours: Header, theirs: Header, service: Service
) -> None:
    assert ask(api, ours, "Once?", key="c").status_code == 202
    other = ask(api, ours, "Something else?", key="c")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert ask(api, theirs, "Something else?", key="c").status_code == 202


def test_one_that_ended_badly_is_told_and_not_run_again(
    api: httpx.Client, ours: Header, service: Service
) -> None:
    failed = ask(api, ours, "What?", key="d", keyword="absent")
    assert ended(api, ours, failed.headers["Location"])["state"] == "failed"
    again = ask(api, ours, "What?", key="d", keyword="absent")
    assert (again.json()["id"], again.json()["state"]) == (failed.json()["id"], "failed")


def test_without_a_key_one_that_was_cancelled_runs_again_and_no_old_state_is_shown(
    api: httpx.Client, ours: Header, service: Service
) -> None:
    asked = ask(api, ours, "sleep 2 again")
    where = asked.headers["Location"]
    assert api.delete(where, headers=ours).json()["state"] == "cancelled"
    assert api.get(where, headers=ours).json()["state"] == "cancelled"
    assert ask(api, ours, "sleep 2 again").json()["state"] in ("submitted", "running")
    assert ended(api, ours, where)["state"] == "succeeded"


@pytest.mark.parametrize("key", ["", "with space", "x" * 256])
def test_a_key_that_is_none_is_refused(
    key: str, api: httpx.Client, ours: Header, service: Service
) -> None:
    answer = ask(api, ours, "A key?", key=key)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
