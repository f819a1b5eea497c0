"""What is around every request: headers, problems, counts, the log, and whether it is ready."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest

from medgemma_tasks.settings import Settings
from tests.scraping import Scraped
from tests.service.harness import Service
from tests.web.asking import ask
from tests.web.gateway import GatewayProcess, free_port

Header = dict[str, str]
TRICKS = ("..", "%2e%2e", "..%2f..%2fetc%2fpasswd", "%00", "A" * 32, "0" * 33, "%ff", "x" * 5000)


@pytest.mark.parametrize("trick", TRICKS)
def test_an_id_that_none_could_have_is_unknown_like_any_other(
    trick: str, gateway: GatewayProcess, ours: Header, api: httpx.Client
) -> None:
    with gateway.connection(
        f"GET /v1/explanations/{trick}/result HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        f"Authorization: {ours['Authorization']}\r\n\r\n"
    ) as connection:
        said = connection.makefile("rb").read()
    assert said.startswith(b"HTTP/1.1 404 ")
    assert b"application/problem+json" in said
    assert b"passwd" not in said


def test_no_answer_about_an_unknown_job_says_where_it_was_looked_for(
    servers: Settings, api: httpx.Client, ours: Header
) -> None:
    where = f"/v1/explanations/{'2' * 32}"
    told = [
        api.delete(where, headers=ours),
        *(
            api.get(where + tail, headers=ours)
            for tail in ("", "/question", "/events", "/result", "/result?urls=presigned", "/report")
        ),
        api.get(f"{where}/artifacts/overlay-0.png", headers=ours),
    ]
    assert {answer.status_code for answer in told} == {404}
    assert len({answer.text for answer in told}) == 1
    assert servers.bucket not in told[0].text.replace("urn:medgemma-explainer", "")


@pytest.mark.parametrize("trick", ["..%2fresult.json", "result.json", "%2fetc%2fpasswd"])
def test_a_file_that_is_none_of_the_result_is_not_found(
    trick: str, service: Service, api: httpx.Client, ours: Header
) -> None:
    job = service.ask("A file?")
    job.wait(20)
    answer = api.get(f"/v1/explanations/{job.id}/artifacts/{trick}", headers=ours)
    assert answer.status_code == 404


@pytest.mark.parametrize(
    ("method", "place", "status"),
    [("GET", "/nowhere", 404), ("PUT", "/v1/models", 405), ("POST", "/healthz", 405)],
)
def test_what_the_framework_turns_away_is_a_problem_too(
    method: str, place: str, status: int, api: httpx.Client
) -> None:
    answer = api.request(method, place)
    assert (answer.status_code, answer.json()["status"]) == (status, status)
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_slash_too_many_leads_nowhere(api: httpx.Client, ours: Header) -> None:
    for answer in (
        api.post("/v1/explanations/", headers=ours, content=b"x"),
        api.get("/v1/models/", headers=ours),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "route_not_found")
        assert "location" not in answer.headers


def test_another_kind_of_body_is_told_so(api: httpx.Client, ours: Header) -> None:
    answer = api.post("/v1/explanations", headers=ours, content=b"x")
    assert (answer.status_code, answer.json()["code"]) == (415, "upload_unknown_type")


def test_no_answer_quotes_what_was_wrong_in_a_question(api: httpx.Client, ours: Header) -> None:
    for question in (
        {"prompt": "x", "images": ["x"], "canary-field": 1},
        {"prompt": {"canary": 1}, "images": ["x"]},
        {"prompt": "x", "images": ["canary!"]},
        {"prompt": "x", "images": ["x"], "resolution": "canary"},
    ):
        answer = api.post("/v1/explanations", headers=ours, json=question)
        assert answer.status_code == 422
        assert "canary" not in answer.text


def test_browsers_are_told_to_be_careful(api: httpx.Client, ours: Header) -> None:
    for answer in (api.get("/v1/models", headers=ours), api.get("/nowhere")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert "server" not in answer.headers
        assert "access-control-allow-origin" not in answer.headers


def test_the_log_has_routes_and_neither_question_nor_key(
    service: Service, gateway: GatewayProcess, api: httpx.Client, ours: Header
) -> None:
    ask(api, ours, "canary prompt?", keyword="canary-keyword")
    api.get("/v1/models?canary=1", headers=ours)
    api.get("/canary-path", headers=ours)
    assert "/v1/explanations 202" in gateway.log
    assert "canary" not in gateway.log
    assert ours["Authorization"].removeprefix("Bearer ") not in gateway.log


def test_requests_are_counted_by_route_and_not_by_whose_they_are(
    api: httpx.Client, ours: Header
) -> None:
    api.get(f"/v1/explanations/{'1' * 32}", headers=ours)
    page = api.get("/metrics").text
    found = 'route="/v1/explanations/{job_id}",status="404"'
    assert re.search(r"medgemma_http_requests_total\{.*" + re.escape(found), page)
    assert "medgemma_http_request_seconds_bucket" in page
    assert "medgemma_http_uploads_in_progress 0.0" in page
    assert "1" * 32 not in page


def test_errors_of_its_own_are_counted_from_zero(servers: Settings, folder: Path) -> None:
    """From nothing at all to 1 is no rise, as Prometheus counts."""
    with GatewayProcess(folder) as gateway:
        counted = {
            (sample.labels["route"], sample.labels["status"]): sample.value
            for sample in Scraped(gateway.port).samples
            if sample.name == "medgemma_http_requests_total"
        }
    assert counted["/v1/explanations", "503"] == 0
    assert counted["/v1/explanations/{job_id}/report", "502"] == 0
    assert {status for _, status in counted} == {"200", "202", "500", "502", "503"}
    assert set(counted.values()) == {0}


def test_what_watches_the_gateway_is_not_counted_among_those_who_ask_it(
    gateway: GatewayProcess, api: httpx.Client
) -> None:
    watching = {"/healthz", "/readyz", "/metrics"}
    assert {api.get(path).status_code for path in watching} == {200}
    counted = {sample.labels.get("route") for sample in Scraped(gateway.port).samples}
    assert "/v1/models" in counted
    assert not counted & watching


def test_it_is_ready_where_redis_and_store_answer(api: httpx.Client) -> None:
    answer = api.get("/readyz")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ready", "redis": True, "store": True}


def test_with_redis_away_it_is_not_ready_and_still_tells_what_the_store_holds(
    service: Service, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = service.ask("Kept?")
    job.wait(20)
    monkeypatch.setenv("MEDGEMMA_BROKER_URL", f"redis://127.0.0.1:{free_port()}/0")
    with GatewayProcess(folder) as gateway, gateway.client() as api:
        answer = api.get("/readyz")
        assert answer.status_code == 503
        assert answer.json() == {"status": "not ready", "redis": False, "store": True}
        where = f"/v1/explanations/{job.id}"
        assert api.get(where, headers=gateway.ours).json()["state"] == "succeeded"
        assert api.get(f"{where}/result", headers=gateway.ours).status_code == 200
        asked = ask(api, gateway.ours, "Now?")
        assert (asked.status_code, asked.json()["code"]) == (503, "broker_unreachable")
        assert "127.0.0.1" not in asked.text
        assert int(asked.headers["Retry-After"]) > 0


def test_pages_of_other_origins_may_call_it_only_where_they_are_named(
    servers: Settings, folder: Path
) -> None:
    named = "https://app.example.org"
    with GatewayProcess(folder, cors_origins=named) as gateway, gateway.client() as api:
        for origin, allowed in ((named, True), ("https://x.org", False)):
            asks = {"Origin": origin, "Access-Control-Request-Method": "POST"}
            answer = api.options("/v1/explanations", headers=asks)
            assert (answer.headers.get("access-control-allow-origin") == origin) == allowed
