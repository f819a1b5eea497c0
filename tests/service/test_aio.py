"""One asynchronous client for a whole web application, over real Redis, S3 and a worker."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from medgemma_client import AsyncClient, Client
from medgemma_client.aio.threads import AT_ONCE
from medgemma_tasks.models import State
from medgemma_tasks.settings import Settings
from tests.parts import picture
from tests.service.harness import Service, until
from tests.stub_engine import ANSWER

MANY = 200


def application(settings: Settings) -> FastAPI:
    """Asks, tells and waits, as a web backend of somebody's own would."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncClient(settings) as client:
            app.state.client = client
            yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/jobs")
    async def ask(prompt: str) -> str:
        return (await app.state.client.submit(picture(), prompt)).id  # type: ignore[no-any-return]

    @app.get("/jobs/{job_id}")
    async def status(job_id: str) -> str:
        job = await app.state.client.job(job_id)
        return (await job.status()).state.value  # type: ignore[no-any-return]

    @app.get("/jobs/{job_id}/answer")
    async def answer(job_id: str) -> str:
        job = await app.state.client.job(job_id)
        return (await job.wait(60)).answer  # type: ignore[no-any-return]

    return app


@pytest.fixture
def quiet() -> Iterator[None]:
    """What a test starts it also ends: no thread of the client's is left."""
    before = set(threading.enumerate())
    yield
    ours = lambda: {  # noqa: E731
        thread
        for thread in set(threading.enumerate()) - before
        if thread.name.startswith("medgemma")
    }
    until(lambda: not ours(), 30.0, lambda: str(ours()))


def connections(settings: Settings) -> int:
    """How many this process has to Redis and the store."""
    urls = (settings.broker_url.get_secret_value(), settings.s3_endpoint_url or "")
    ports = {urlsplit(url).port for url in urls}
    found = psutil.Process().net_connections("tcp")
    return sum(bool(one.raddr) and one.raddr.port in ports for one in found)


def test_many_requests_wait_and_ask_at_once_on_one_client(quiet: None, service: Service) -> None:
    app, there = application(service.settings), set(threading.enumerate())
    before = connections(service.settings)

    async def use() -> None:
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://here", timeout=60) as http,
        ):
            asked = [http.post("/jobs", params={"prompt": f"Which is {k}?"}) for k in range(20)]
            ids = [answer.json() for answer in await asyncio.gather(*asked)]
            waits = [http.get(f"/jobs/{ids[k % 20]}/answer") for k in range(MANY)]
            tells = [http.get(f"/jobs/{ids[k % 20]}") for k in range(MANY)]
            answers = await asyncio.gather(*waits, *tells)
            assert {answer.status_code for answer in answers} == {200}
            assert {answer.json() for answer in answers[:MANY]} == {ANSWER}
            assert len(set(threading.enumerate()) - there) <= AT_ONCE + 1  # and the one that hears

    asyncio.run(use())
    until(
        lambda: connections(service.settings) <= before,
        30.0,
        lambda: f"{connections(service.settings)}, not {before}",
    )


def test_an_application_runs_in_the_test_client_of_its_framework(
    quiet: None, service: Service
) -> None:
    with TestClient(application(service.settings)) as http:
        job_id = http.post("/jobs", params={"prompt": "Does it run?"}).json()
        assert http.get(f"/jobs/{job_id}/answer").json() == ANSWER
        assert http.get(f"/jobs/{job_id}").json() == "succeeded"


def test_what_is_cancelled_leaves_nothing_behind_and_its_jobs_go_on(
    quiet: None, service: Service
) -> None:
    before = connections(service.settings)

    async def use() -> None:
        async with AsyncClient(service.settings) as client:
            jobs = [await client.submit(picture(), f"gate and {k}") for k in range(3)]
            waits = [asyncio.create_task(jobs[k % 3].wait()) for k in range(MANY)]
            await asyncio.sleep(0.3)
            submits = [
                asyncio.create_task(client.submit(picture(), f"Is {k} asked?")) for k in range(20)
            ]
            for task in (*waits, *submits):
                task.cancel()
            ended = await asyncio.gather(*waits, *submits, return_exceptions=True)
            assert {type(one) for one in ended} == {asyncio.CancelledError}
            assert client._bells.waiting == 0
            service.worker.gate.touch()
            results = await asyncio.gather(*(job.wait(30) for job in jobs))
            assert {result.answer for result in results} == {ANSWER}

    asyncio.run(use())
    service.worker.gate.unlink()
    until(
        lambda: connections(service.settings) <= before,
        30.0,
        lambda: f"{connections(service.settings)}, not {before}",
    )


def test_a_closed_client_holds_no_connection_and_takes_none_from_others(service: Service) -> None:
    before = connections(service.settings)
    stop, wrong = threading.Event(), []

    def asks_on() -> None:
        with Client(service.settings) as other:
            number = 0
            while not stop.is_set() and number < 200:
                number += 1
                try:
                    other.submit(picture(), f"Goes on {number}?")
                except Exception as error:  # noqa: BLE001 - told below
                    wrong.append(error)

    beside = threading.Thread(target=asks_on)
    beside.start()
    try:
        for number in range(10):
            with Client(service.settings) as client:
                job = client.submit(picture(), f"Is it closed {number}?")
            assert job.wait(30).record.state is State.SUCCEEDED
            client.close()
    finally:
        stop.set()
        beside.join()
    assert not wrong
    until(
        lambda: connections(service.settings) <= before,
        30.0,
        lambda: f"{connections(service.settings)}, not {before}",
    )


FORKING = """
import asyncio, os, sys
from contextlib import suppress
from medgemma_client import AsyncClient

async def ask(client):
    job = await asyncio.wait_for(client.job(sys.argv[1]), 10)
    return (await job.wait(10)).answer

def connections():
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            found.add(os.readlink(f"/proc/self/fd/{number}"))
    return {one for one in found if one.startswith("socket:")}

client = AsyncClient()
asyncio.run(ask(client))
before, child = connections(), os.fork()
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) if child else 0
print(asyncio.run(ask(client)), "new" if connections() - before else "old", flush=True)
sys.exit(code)
"""


def test_a_process_that_was_forked_uses_the_client_over_connections_of_its_own(
    service: Service,
) -> None:
    job = service.ask("Forked?")
    job.wait(30)
    command = [sys.executable, "-W", "ignore", "-c", FORKING, job.id]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == [f"{ANSWER} new", f"{ANSWER} old"]
