"""200 clients that poll 500 jobs through one gateway process, each about once a second.

Redis, S3, a worker with the stub engine and the gateway are processes of their own, and so are the
clients, on connections that they keep. Of the jobs most have ended, and the rest waits. Printed is
how long a status takes, as a client sees it. With --working a worker starts halfway on the same
cores, and ends the jobs that wait while they are polled.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from medgemma_cli.embedded import EmbeddedStack
from medgemma_client import Client
from medgemma_tasks.settings import load_settings
from tests.parts import picture
from tests.service.harness import WorkerProcess, until
from tests.web.gateway import GatewayProcess

CLIENTS, JOBS, WAITING, LATE = 200, 500, 150, 50
LIMIT = 0.050
"""Seconds: the 95th percentile of a status."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--jobs", type=int, default=JOBS)
    parser.add_argument("--working", action="store_true", help="a worker starts halfway")
    parser.add_argument("--polls", help=argparse.SUPPRESS)  # what the clients' process is told
    given = parser.parse_args()
    if given.polls:
        asyncio.run(poll(json.loads(given.polls)))
        return 0
    with EmbeddedStack() as stack, tempfile.TemporaryDirectory() as name:
        os.environ.update(stack.environment())
        polled = measured(Path(name), given)
    taken = sorted(polled["taken"])
    p95 = statistics.quantiles(taken, n=20)[-1]
    p99 = statistics.quantiles(taken, n=100)[-1]
    good = p95 <= LIMIT and not polled["errors"]
    print(
        f"{given.clients} clients, {given.jobs} jobs, {given.seconds:.0f} s: {len(taken):,} "
        f"statuses, {len(taken) / given.seconds:.0f} a second, {polled['errors']} errors"
    )
    states = ", ".join(f"{count:,} {state}" for state, count in sorted(polled["states"].items()))
    print(f"states told: {states}")
    print(
        f"a status: median {statistics.median(taken) * 1000:.1f} ms, p95 {p95 * 1000:.1f} ms, "
        f"p99 {p99 * 1000:.1f} ms, longest {taken[-1] * 1000:.0f} ms "
        f"(p95 at most {LIMIT * 1000:.0f} ms, no error): {'met' if good else 'MISSED'}"
    )
    return 0 if good else 1


def measured(folder: Path, given: argparse.Namespace) -> dict[str, object]:
    """What the clients' process prints."""
    clients, jobs, seconds = given.clients, given.jobs, given.seconds
    client = Client(load_settings())
    waiting, late = jobs * WAITING // JOBS, jobs * LATE // JOBS
    with WorkerProcess(folder) as worker:
        done = [client.submit(picture(), f"Question {n}").id for n in range(jobs - waiting - late)]
        until(lambda: client.job(done[-1]).status().state.terminal, 120, lambda: worker.log)
    held = [client.submit(picture(), f"sleep 0.2 {n}").id for n in range(waiting + late)]
    with GatewayProcess(folder) as gateway:
        header = gateway.header("local", requests_per_minute=10**6)
        time.sleep(1.5)  # until the gateway has read the new key
        said = {
            "port": gateway.port,
            "header": header["Authorization"],
            "jobs": done + held,
            "clients": clients,
            "seconds": seconds,
        }
        polling = subprocess.Popen(
            [sys.executable, __file__, "--polls", json.dumps(said)], stdout=subprocess.PIPE
        )
        time.sleep(seconds / 2)
        with WorkerProcess(folder, "late") if given.working else nullcontext():
            out, _ = polling.communicate(timeout=seconds + 60)
    found: dict[str, object] = json.loads(out)
    return found


async def poll(said: dict[str, object]) -> None:
    """The clients: prints seconds of each answer, errors, and which states were told."""
    taken: list[float] = []
    states: dict[str, int] = {}
    errors = 0
    clients, seconds = int(str(said["clients"])), float(str(said["seconds"]))
    jobs: list[str] = said["jobs"]  # type: ignore[assignment]
    end = time.monotonic() + seconds

    async def one(number: int) -> None:
        nonlocal errors
        chance = random.Random(number)
        await asyncio.sleep(chance.random())
        reader, writer = await asyncio.open_connection("127.0.0.1", int(str(said["port"])))
        while time.monotonic() < end:
            job = chance.choice(jobs)
            began = time.perf_counter()
            writer.write(
                f"GET /v1/explanations/{job} HTTP/1.1\r\nHost: localhost\r\n"
                f"Authorization: {said['header']}\r\n\r\n".encode()
            )
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.split("content-length: ")[1].split("\r\n")[0])
            body = await reader.readexactly(length)
            taken.append(time.perf_counter() - began)
            if not head.startswith("http/1.1 200 "):
                errors += 1
            else:
                state = json.loads(body)["state"]
                states[state] = states.get(state, 0) + 1
            await asyncio.sleep(max(0.0, 0.5 + chance.random() - (time.perf_counter() - began)))
        writer.close()

    await asyncio.gather(*(one(number) for number in range(clients)))
    print(json.dumps({"taken": taken, "errors": errors, "states": states}))


if __name__ == "__main__":
    sys.exit(main())
