"""The OpenAPI document against the gateway that serves it."""

from __future__ import annotations

import base64
import contextlib
from collections import Counter
from itertools import count, cycle
from typing import Any

import httpx
import jsonschema
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.service.harness import Service, until
from tests.web.asking import ask, ended, png
from tests.web.gateway import GatewayProcess

CASES = 2_000
CHECKS: list[Any] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]
MOST = {
    "POST /v1/explanations": 450,
    "GET /v1/explanations/{job_id}/report": 40,
    "GET /v1/explanations/{job_id}/question": 40,
}
"""Cases of an operation, of each mode; of the others so many:"""
OTHERS = 150
IMAGE = base64.b64encode(png()).decode()


@pytest.fixture(scope="module")
def described(api: httpx.Client) -> dict[str, Any]:
    document: dict[str, Any] = api.get("/openapi.json").json()
    return document


@pytest.fixture(scope="module")
def operations(described: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{method.upper()} {path}": operation
        for path, methods in described["paths"].items()
        for method, operation in methods.items()
    }


def test_two_thousand_made_up_requests_meet_no_defect_and_no_status_that_is_not_told(
    service: Service,
    gateway: GatewayProcess,
    api: httpx.Client,
    described: dict[str, Any],
    operations: dict[str, Any],
) -> None:
    """Half of them as the document allows, half not. Every second one about a job has one that is
    there, and every second question an image that can be read."""
    header = gateway.header("fuzzed", requests_per_minute=10**6, jobs_per_day=10**6)
    until(lambda: api.get("/v1/models", headers=header).status_code == 200, 30)
    jobs = cycle(finished(api, header))
    turns, met = count(), Counter[str]()
    schema = schemathesis.openapi.from_dict(described)
    session = requests.Session()

    def attempt(case: Case) -> None:
        if next(turns) % 2:
            known(case, jobs)
        response = case.call(base_url=gateway.url, session=session, headers=header)
        met[case.operation.label] += 1
        case.validate_response(response, checks=CHECKS)

    for operation in (found.ok() for found in schema.get_all_operations()):
        most = MOST.get(operation.label, OTHERS)
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            made = operation.as_strategy(generation_mode=mode)
            # What takes no parameter cannot be asked wrongly.
            with contextlib.suppress(Unsatisfiable):
                settled(most)(seed(7)(given(case=made)(attempt)))()
    assert met.total() >= CASES, met
    assert met.keys() == operations.keys()
    assert "defect" not in gateway.log


def test_every_operation_tells_what_it_is_for_and_shows_an_example(
    described: dict[str, Any], operations: dict[str, Any]
) -> None:
    for name, operation in operations.items():
        assert operation["description"], name
        assert {"200", "202"} & operation["responses"].keys(), name
        for status, response in operation["responses"].items():
            assert response["description"], (name, status)
            problem = response["content"].get("application/problem+json")
            if problem is not None:
                jsonschema.validate(
                    problem["example"],
                    {**problem["schema"], "components": described["components"]},
                )
    body = operations["POST /v1/explanations"]["requestBody"]["content"]
    assert body.keys() == {"multipart/form-data", "application/json"}
    assert all("example" in shown for shown in body.values())


def finished(api: httpx.Client, header: dict[str, str]) -> list[str]:
    """A job that succeeded, and one that failed."""
    asked = [ask(api, header, "What is it?"), ask(api, header, "What?", keyword="absent")]
    found = [answer.json()["id"] for answer in asked]
    states = [ended(api, header, f"/v1/explanations/{job}")["state"] for job in found]
    assert states == ["succeeded", "failed"]
    return found


def known(case: Case, jobs: Any) -> None:
    """Have it be about something that is there."""
    if "job_id" in (case.path_parameters or {}):
        case.path_parameters["job_id"] = next(jobs)
    if isinstance(case.body, dict) and case.media_type == "application/json":
        case.body["images"] = [IMAGE]


def settled(most: int) -> settings:
    return settings(
        max_examples=most,
        deadline=None,
        database=None,
        derandomize=False,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
