"""How much a key may ask."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.faults.proxy import Proxy
from tests.service.harness import Service, until
from tests.web.asking import ask, png
from tests.web.gateway import GatewayProcess, answer, status_of

if TYPE_CHECKING:
    from medgemma_cli.embedded import EmbeddedStack


def key(gateway: GatewayProcess, api: httpx.Client, tenant: str, **limits: int) -> dict[str, str]:
    """A new key, once the gateway knows it. That takes one of its requests."""
    header = gateway.header(tenant, **limits)
    until(lambda: api.get("/v1/models", headers=header).status_code != 401, 30)
    return header


def test_more_requests_than_a_minute_has_are_told_when_to_come_again(
    gateway: GatewayProcess, api: httpx.Client
) -> None:
    header = key(gateway, api, "local", requests_per_minute=3)
    told = [api.get("/v1/models", headers=header) for _ in range(3)]
    assert [answer.status_code for answer in told] == [200, 200, 429]
    assert told[2].json()["code"] == "too_many_requests"
    assert 1 <= int(told[2].headers["Retry-After"]) <= 20


def test_another_key_of_the_same_tenant_is_not_limited_by_it(
    gateway: GatewayProcess, api: httpx.Client, ours: dict[str, str]
) -> None:
    header = key(gateway, api, "local", requests_per_minute=1)
    assert api.get("/v1/models", headers=header).status_code == 429
    assert api.get("/v1/models", headers=ours).status_code == 200


def test_jobs_a_day_are_counted_and_those_that_were_refused_are_not(
    service: Service, gateway: GatewayProcess, api: httpx.Client
) -> None:
    header = key(gateway, api, "local", jobs_per_day=2)
    assert ask(api, header, "").status_code == 422
    told = [ask(api, header, f"Number {n}?") for n in range(3)]
    assert [answer.status_code for answer in told] == [202, 202, 429]
    assert told[2].json()["code"] == "quota_used_up"
    assert 1 <= int(told[2].headers["Retry-After"]) <= 86_401
    assert api.get("/v1/models", headers=header).status_code == 200


def test_a_job_that_redis_left_amid_its_submission_does_not_count(
    service: Service, stack: EmbeddedStack, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    question = json.dumps({"prompt": "Lost?", "images": [base64.b64encode(png()).decode()]})
    with Proxy(stack.redis.port) as proxy:
        url = service.settings.broker_url.get_secret_value()
        way = url.replace(f":{stack.redis.port}/", f":{proxy.port}/")
        monkeypatch.setenv("MEDGEMMA_BROKER_URL", way)
        with GatewayProcess(folder) as gateway, gateway.client() as api:
            header = key(gateway, api, "local", jobs_per_day=1)
            before = counted(service)
            head = gateway.post(
                "Content-Type: application/json",
                f"Content-Length: {len(question)}",
                "Connection: close",
                header=header,
            )
            with gateway.connection(head) as connection:
                until(lambda: counted(service) == before + 1, 30)
                proxy.refuse()
                connection.sendall(question.encode())
                assert status_of(answer(connection)) == 503
            assert counted(service) == before + 1
            proxy.restore()
            told = [ask(api, header, f"Number {n} after it?").status_code for n in range(2)]
            assert told == [202, 429]


def counted(service: Service) -> int:
    """Jobs of today, of all keys."""
    return sum(int(service.redis.get(name)) for name in service.redis.keys("medgemma:jobs:*"))
