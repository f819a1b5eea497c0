"""The client for asyncio."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import medgemma_client
from medgemma_client.aio import AsyncClient, AsyncJob, AsyncResult
from medgemma_client.aio.backfill import AsyncBackfill
from medgemma_client.aio.bells import LoopBells
from medgemma_client.aio.threads import AT_ONCE
from medgemma_client.backfill.run import Backfill
from medgemma_client.client import Client
from medgemma_client.job import Job
from medgemma_tasks.errors import (
    EmptyPrompt,
    InternalError,
    InvalidRequest,
    JobCancelled,
    JobNotFound,
    KeywordNotInAnswer,
    WaitTimeout,
)
from medgemma_tasks.models import State, Status
from medgemma_tasks.settings import Settings
from tests.parts import OTHER_JOB, picture
from tests.stub_engine import ANSWER

Run = Callable[[Job], None]


@pytest.fixture
def aio(client: Client, settings: Settings) -> AsyncClient:
    found = AsyncClient(settings)
    found._client, found._bells = client, LoopBells(client._live)
    return found


def test_it_is_there_by_name_and_loads_nothing_heavy() -> None:
    assert medgemma_client.AsyncClient is AsyncClient
    assert medgemma_client.AsyncJob is AsyncJob
    assert medgemma_client.AsyncResult is AsyncResult
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


def test_many_wait_at_once_in_few_threads_and_hold_up_nothing_else(
    aio: AsyncClient, run: Run
) -> None:
    async def ask() -> None:
        before = threading.active_count()
        jobs = [await aio.submit(picture(), f"What {k}?") for k in range(40)]
        waits = [asyncio.create_task(job.wait(60)) for job in jobs]
        await asyncio.sleep(0)
        assert (await aio.submit(picture(), "And this?")).id not in {job.id for job in jobs}
        assert threading.active_count() - before <= AT_ONCE + 1  # and the one that hears
        for job in jobs:
            run(job._job)
        assert {result.answer for result in await asyncio.gather(*waits)} == {ANSWER}

    asyncio.run(ask())


def test_a_wait_that_is_cancelled_leaves_nothing_and_does_not_end_the_job(
    aio: AsyncClient, run: Run
) -> None:
    async def ask() -> None:
        before = set(threading.enumerate())
        job = await aio.submit(picture(), "What?")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(job.wait(), 0.2)
        assert aio._bells.waiting == 0
        await aio.aclose()
        while any(thread.is_alive() for thread in set(threading.enumerate()) - before):
            await asyncio.sleep(0.02)
        run(job._job)
        assert (await job.wait(5)).answer == ANSWER

    asyncio.run(ask())


def test_a_wait_has_a_time_and_is_woken_long_before_its_next_look(
    aio: AsyncClient, run: Run
) -> None:
    async def ask() -> None:
        job = await aio.submit(picture(), "What?")
        for timeout in (0.1, 0):
            with pytest.raises(WaitTimeout):
                await job.wait(timeout)
        waiting = asyncio.create_task(job.wait(60, poll=50.0))
        await asyncio.sleep(0.3)
        run(job._job)
        assert (await asyncio.wait_for(waiting, 20)).answer == ANSWER

    asyncio.run(ask())


def test_a_job_in_a_notebook_shows_where_it_was_last_seen_and_asks_nobody(
    aio: AsyncClient, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ask() -> None:
        job = await aio.submit(picture(), "What?", keyword="absent")
        again = await aio.job(job.id)
        assert f"<code>{job.id}</code>: <code>await job.status()</code> says" in job._repr_html_()
        await job.status()
        with monkeypatch.context() as alone:
            alone.delattr(Job, "status")
            assert re.search(r": submitted, 0%, as of \d\d:\d\d:\d\d UTC<", job._repr_html_())
        run(job._job)
        assert "submitted" in job._repr_html_()
        await job.ended()
        assert ": failed (keyword_not_in_answer), as of" in job._repr_html_()
        with pytest.raises(KeywordNotInAnswer):
            await again.wait(5)
        assert ": failed (keyword_not_in_answer), as of" in again._repr_html_()
        await aio.requeue(job.id)
        await again.cancel()
        assert "await job.status()" in again._repr_html_()

    asyncio.run(ask())


def test_a_result_is_fetched_in_threads(aio: AsyncClient, run: Run, tmp_path: Path) -> None:
    async def ask() -> None:
        job = await aio.submit([picture(), picture(grey=9)], "What?")
        run(job._job)
        result = await job.result()
        assert repr(result) == f"AsyncResult({job.id!r})"
        assert (result.job_id, result.thinking, result.is_volume) == (job.id, None, False)
        assert len(result.targets) == len(result.record.targets) == 1
        shapes = [(await call()).shape for call in (result.heatmap, result.heatmaps, result.scores)]
        assert shapes == [(16, 16), (2, 16, 16), (2, 16, 16)]
        assert (await result.explanation()) is (await result.explanations())[0]
        assert (await result.request()).job_id == job.id
        assert (await result.overlay(1)).mode == (await result.slices()).mode == "RGB"
        assert len(result.slice_shares()) == 2
        assert (await result.peak()).image in (0, 1)
        with pytest.raises(InvalidRequest):
            await result.overlay(index=2)
        assert (await result.report(tmp_path / "report.html")).exists()
        assert (await result.save(tmp_path / "out") / "result.json").exists()

    asyncio.run(ask())


def test_one_client_serves_one_loop_after_another_and_what_is_closed_opens_again(
    aio: AsyncClient, run: Run
) -> None:
    async def ask(prompt: str) -> str:
        async with aio as client:
            job = await client.submit(picture(), prompt)
            waiting = asyncio.create_task(job.wait(20))
            await asyncio.sleep(0.1)
            run(job._job)
            return (await waiting).answer

    assert [asyncio.run(ask(prompt)) for prompt in ("What?", "And now?")] == [ANSWER, ANSWER]


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


def test_a_backfill_is_made_once_however_many_tasks_await_it(aio: AsyncClient) -> None:
    made: list[Backfill] = []
    go = threading.Event()

    def make() -> Backfill:
        assert go.wait(20)
        made.append(aio._client.backfill([]))
        return made[-1]

    async def ask() -> None:
        run = AsyncBackfill(make, aio._threads)
        tasks = [asyncio.ensure_future(run) for _ in range(2)]
        for _ in range(3):
            await asyncio.sleep(0)  # each has found that it is not there yet
        go.set()
        await asyncio.gather(*tasks)
        assert made == [run._work]

    asyncio.run(ask())
