"""The client for asyncio."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

import medgemma_client
from medgemma_client.aio import AsyncClient, AsyncJob
from medgemma_client.client import Client
from medgemma_client.job import Job
from medgemma_tasks.errors import EmptyPrompt, InternalError, JobCancelled, JobNotFound
from medgemma_tasks.models import State, Status
from medgemma_tasks.settings import Settings
from tests.parts import OTHER_JOB, picture
from tests.stub_engine import ANSWER

Run = Callable[[Job], None]


@pytest.fixture
def aio(client: Client, settings: Settings) -> AsyncClient:
    found = AsyncClient(settings)
    found._client = client
    return found


def test_it_is_there_by_name_and_loads_nothing_heavy() -> None:
    assert medgemma_client.AsyncClient is AsyncClient
    assert medgemma_client.AsyncJob is AsyncJob
    heavy = "{'torch', 'transformers', 'celery', 'kombu', 'boto3', 'PIL', 'pydicom'}"
    program = (
        "import sys, medgemma_client.aio\n"
        f"wrong = {heavy} & set(sys.modules)\n"
        "sys.exit(f'imported {wrong}' if wrong else 0)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_a_question_is_asked_and_waited_for(aio: AsyncClient, run: Run) -> None:
    async def ask() -> None:
        job = await aio.submit(picture(), "What?")
        assert (await job.status()).state is State.SUBMITTED
        seen: list[Status] = []
        waiting = asyncio.create_task(job.wait(20, seen.append))
        while not seen:
            await asyncio.sleep(0.01)
        run(job._job)
        assert (await waiting).answer == ANSWER
        assert (await job.result()).answer == ANSWER
        again = await aio.job(job.id)
        assert again.id == job.id
        assert await aio.models() == ["phantom"]

    asyncio.run(ask())


def test_many_wait_at_once_and_hold_up_nothing_else(aio: AsyncClient, run: Run) -> None:
    """More than the loop's own pool has threads."""

    async def ask() -> None:
        jobs = [await aio.submit(picture(), f"What {k}?") for k in range(40)]
        waits = [asyncio.create_task(job.wait(60)) for job in jobs]
        await asyncio.sleep(0)
        assert (await aio.submit(picture(), "And this?")).id not in {job.id for job in jobs}
        for job in jobs:
            run(job._job)
        assert {result.answer for result in await asyncio.gather(*waits)} == {ANSWER}

    asyncio.run(ask())


def test_a_wait_that_is_cancelled_ends_its_thread_and_not_the_job(
    aio: AsyncClient, run: Run
) -> None:
    async def ask() -> None:
        job = await aio.submit(picture(), "What?")
        before = set(threading.enumerate())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(job.wait(), 0.2)
        while any(thread.is_alive() for thread in set(threading.enumerate()) - before):
            await asyncio.sleep(0.02)
        run(job._job)
        assert (await job.wait(5)).answer == ANSWER

    asyncio.run(ask())


def test_what_goes_wrong_is_raised_where_it_is_awaited(aio: AsyncClient, run: Run) -> None:
    async def ask() -> None:
        with pytest.raises(EmptyPrompt):
            await aio.submit(picture(), " ")
        with pytest.raises(JobNotFound):
            await aio.job(OTHER_JOB)
        failing = await aio.submit(picture(), "crash please")
        run(failing._job)
        with pytest.raises(InternalError):
            await failing.wait(5)
        assert [job.job_id async for job in aio.dead(all_codes=True)] == [failing.id]
        assert (await aio.requeue(failing.id)).id == failing.id
        assert (await failing.status()).state is State.SUBMITTED
        assert await failing.cancel()
        with pytest.raises(JobCancelled):
            await failing.wait(5)

    asyncio.run(ask())
