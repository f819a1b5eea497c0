"""Progress as server-sent events."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from medgemma_tasks.settings import Settings
from medgemma_web.keys import read_keys, remove_key
from tests.service.harness import Service, until
from tests.web.asking import ask, ended
from tests.web.gateway import GatewayProcess

Header = dict[str, str]

pytestmark = pytest.mark.usefixtures("service")


def events(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """The statuses that are told, in order."""
    for line in lines:
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))


def test_a_stream_tells_each_change_and_ends_with_the_job(
    api: httpx.Client, ours: Header, service: Service
) -> None:
    where = ask(api, ours, "gate watched").headers["Location"]
    told: list[dict[str, Any]] = []
    with api.stream("GET", f"{where}/events", headers=ours) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert stream.headers["x-accel-buffering"] == "no"
        for status in events(stream.iter_lines()):
            told.append(status)
            if status["state"] == "running":
                service.worker.gate.touch()
    service.worker.gate.unlink()
    assert told[-1]["state"] == "succeeded"
    assert "running" in {status["state"] for status in told}
    assert all(one != other for one, other in pairwise(told))


def test_of_a_job_that_ended_it_tells_that_and_ends(api: httpx.Client, ours: Header) -> None:
    where = ask(api, ours, "Ended?").headers["Location"]
    ended(api, ours, where)
    stream = api.get(f"{where}/events", headers=ours)
    assert [one["state"] for one in events(iter(stream.text.splitlines()))] == ["succeeded"]


def test_an_unknown_job_is_a_problem_and_no_stream(api: httpx.Client, ours: Header) -> None:
    answer = api.get(f"/v1/explanations/{'0' * 32}/events", headers=ours)
    assert (answer.status_code, answer.json()["code"]) == (404, "job_not_found")


def test_a_silent_stream_shows_that_it_lives_and_ends_when_the_gateway_is_told_to_stop(
    servers: Settings, service: Service, folder: Path
) -> None:
    with GatewayProcess(folder, heartbeat=0.5) as gateway, gateway.client() as api:
        waits = service.ask("gate silent")
        where = f"/v1/explanations/{waits.id}/events"
        with api.stream("GET", where, headers=gateway.ours) as stream:
            lines = stream.iter_lines()
            while not next(lines).startswith(": "):
                pass
            began = time.monotonic()
            gateway.terminate()
            list(lines)
        assert gateway.wait(60) == 0
        assert time.monotonic() - began < 60  # it would live for ever
    waits.cancel()


def test_a_stream_ends_where_its_key_is_removed(
    gateway: GatewayProcess, api: httpx.Client, service: Service
) -> None:
    header = gateway.header("local")
    until(lambda: api.get("/v1/models", headers=header).status_code == 200, 30)
    waits = service.ask("gate removed")
    where = f"/v1/explanations/{waits.id}/events"
    with api.stream("GET", where, headers=header) as stream:
        lines = stream.iter_lines()
        assert next(lines) == "event: status"
        remove_key(gateway.keys_file, read_keys(gateway.keys_file)[-1].id)
        assert not any(line.startswith(":") for line in lines)  # it would live for ever
    assert api.get(where, headers=header).status_code == 401
    waits.cancel()
