"""The Redis users of deploy/redis: they can do their work, and nothing that is not theirs."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis
from pydantic import SecretStr
from redis.backoff import NoBackoff
from redis.retry import Retry

from medgemma_cli.embedded.process import HOST, Launch
from medgemma_cli.embedded.redis import EmbeddedRedis, redis_program
from medgemma_tasks import workers
from medgemma_tasks.errors import InternalError, JobCancelled, WorkerLost
from medgemma_tasks.in_hand import UNACKED
from medgemma_tasks.live import LiveState
from medgemma_tasks.models import WorkerHealth, WorkerState
from medgemma_tasks.orders import order
from medgemma_tasks.queue import make_app, publish, queue_names
from medgemma_tasks.settings import Settings, load_settings
from medgemma_worker.board import Board
from medgemma_worker.exporter.looking import Looker
from medgemma_worker.guests import Guests
from medgemma_worker.parent.hosted import give_back
from medgemma_worker.parent.lanes import Lane
from medgemma_worker.parent.taken_out import Orders
from medgemma_worker.places import Hosted
from tests.parts import JOB, picture
from tests.service.harness import Service, WorkerProcess, until
from tests.stub_engine import ANSWER
from tests.web.asking import ask, ended
from tests.web.gateway import GatewayProcess

ROOT = Path(__file__).parents[2]
WAIT = 40.0
PASSWORDS = {
    name: letter * 32
    for name, letter in zip(
        ("default", "worker", "client", "gateway", "exporter"), "abcde", strict=True
    )
}
ONCE = Retry(NoBackoff(), 0)
QUEUE = queue_names("phantom")[0]


class GuardedRedis(EmbeddedRedis):
    """Redis as deploy/redis/start.sh starts it."""

    def as_user(self, name: str) -> str:
        return f"redis://{name}:{PASSWORDS[name]}@{HOST}:{self.port}/0"

    @property
    def url(self) -> str:
        return self.as_user("default")

    def _launch(self, folder: Path, port: int) -> Launch:
        program = redis_program()
        assert program is not None
        script = ROOT / "deploy" / "redis" / "start.sh"
        return Launch(
            command=("sh", str(script), "--bind", HOST, "--port", str(port), "--dir", str(folder)),
            env={
                "PATH": f"{program.parent}:{os.defpath}",
                "TMPDIR": str(folder),
                "REDIS_PASSWORD": PASSWORDS["default"],
                "REDIS_WORKER_PASSWORD": PASSWORDS["worker"],
                "REDIS_CLIENT_PASSWORD": PASSWORDS["client"],
                "REDIS_GATEWAY_PASSWORD": PASSWORDS["gateway"],
                "REDIS_EXPORTER_PASSWORD": PASSWORDS["exporter"],
            },
        )

    def _secrets(self) -> Sequence[str]:
        return tuple(PASSWORDS.values())


@pytest.fixture(scope="module")
def guarded() -> Iterator[GuardedRedis]:
    with GuardedRedis() as server:
        yield server


@pytest.fixture
def operator(guarded: GuardedRedis) -> Iterator[Any]:
    with redis.Redis.from_url(guarded.url, decode_responses=True) as client:
        client.flushall()
        client.execute_command("ACL", "LOG", "RESET")
        yield client


@pytest.fixture
def client_settings(
    stack_settings: Settings, guarded: GuardedRedis, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    monkeypatch.setenv("MEDGEMMA_BROKER_URL", guarded.as_user("client"))
    return load_settings()


def worker_of(guarded: GuardedRedis, folder: Path, name: str) -> WorkerProcess:
    return WorkerProcess(
        folder,
        name,
        MEDGEMMA_BROKER_URL=guarded.as_user("worker"),
        MEDGEMMA_VISIBILITY_TIMEOUT="4",
        MEDGEMMA_MAX_ATTEMPTS="2",
    )


def refusals(operator: Any) -> list[str]:
    """What was refused to whom, but for what redis-py tries on every connection and can do
    without."""
    return [
        f"{entry['username']}: {entry['reason']} {entry['object']}"
        for entry in operator.acl_log()
        if not entry["object"].startswith("client")
    ]


def test_a_worker_and_a_client_do_all_their_work_as_users_of_their_own(
    guarded: GuardedRedis,
    operator: Any,
    client_settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = (worker_of(guarded, tmp_path, name) for name in ("first", "second"))
    with first:
        service = Service(client_settings, first)
        assert service.ask("What is there?").wait(WAIT).answer == ANSWER
        ask_by_the_gateway(guarded, tmp_path, monkeypatch)
        look_as_the_exporter(guarded, client_settings)
        assert service.ask("sleep 0.2 die once").wait(WAIT).record.attempt == 2
        with pytest.raises(WorkerLost):
            service.ask("die").wait(WAIT)
        failing = service.ask("crash please")
        with pytest.raises(InternalError):
            failing.wait(WAIT)
        assert service.ask("crash please").id == failing.id  # put back: archived, locked, queued
        with pytest.raises(InternalError):
            failing.wait(WAIT)
        cancelled = service.ask("sleep 20")
        service.running(cancelled)
        assert cancelled.cancel()
        with pytest.raises(JobCancelled):
            cancelled.wait(WAIT)
        # What a worker held that was killed is another's once its lease has run out.
        held = service.ask("sleep 3 held")
        service.running(held)
        os.killpg(first.pid, signal.SIGKILL)
        with second:
            assert held.wait(WAIT).answer == ANSWER
            # What Redis lost comes back: the reconciler of a worker alone runs beside it.
            busy = service.ask("sleep 5 busy")
            service.running(busy)
            lost = service.ask("Lost?")
            operator.flushdb()
            assert lost.wait(WAIT).answer == ANSWER
            assert busy.wait(WAIT).answer == ANSWER
            picture().save(tmp_path / "x.png")
            rows = [{"item": k, "image": "x.png", "prompt": f"Row {k}?"} for k in range(3)]
            manifest = tmp_path / "manifest.jsonl"
            manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
            items = service.client.backfill(manifest, out=tmp_path / "out", shard=2)
            assert [item.answer for item in items] == [ANSWER] * 3
            second.terminate()
            assert second.wait(WAIT) == 0
        assert service.client.models() == ["phantom"]
    assert refusals(operator) == []


def ask_by_the_gateway(
    guarded: GuardedRedis, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever callers of two tenants do."""
    with monkeypatch.context() as patch:
        patch.setenv("MEDGEMMA_BROKER_URL", guarded.as_user("gateway"))
        with GatewayProcess(folder) as gateway, gateway.client() as api:
            theirs = gateway.header("other")
            until(lambda: api.get("/v1/models", headers=theirs).status_code == 200, 30)
            for header in (gateway.ours, theirs):
                for _ in range(2):
                    asked = ask(api, header, "What is there, gateway?", key="once")
                    assert ended(api, header, asked.headers["Location"])["state"] == "succeeded"
                for _ in range(2):  # the second time it is put back: archived, locked, queued
                    where = ask(api, header, "crash please, gateway").headers["Location"]
                    assert ended(api, header, where)["state"] == "failed"
                where = ask(api, header, "sleep 20 gateway").headers["Location"]
                assert api.delete(where, headers=header).json()["state"] == "cancelled"
            assert api.get("/readyz").status_code == 200


def look_as_the_exporter(guarded: GuardedRedis, settings: Settings) -> None:
    """All that its metrics are made of."""
    url = SecretStr(guarded.as_user("exporter"))
    seen = Looker(settings.model_copy(update={"broker_url": url})).look()
    assert [worker.model for worker in seen.team] == list(seen.jobs) == ["phantom"]
    assert seen.store


def test_a_worker_may_take_guests_turn_its_queues_round_and_drain(
    guarded: GuardedRedis, operator: Any, stack_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDGEMMA_BROKER_URL", guarded.as_user("worker"))
    settings = load_settings()
    guests, board, live = Guests(settings), Board(), LiveState(settings)
    operator.lpush(QUEUE, "no message of ours")
    publish(make_app(settings), settings, "phantom", [JOB])
    assert guests.take() is None
    for _ in range(2):
        guest = guests.take()
        assert guest is not None
        give_back(board, live, Hosted(guest.tag, guest.shard.jobs, 1))
    guest = guests.take()
    assert guest is not None
    guest.done()
    assert not operator.exists(QUEUE, UNACKED)
    now = datetime.now(UTC)
    for name in ("one", "other"):
        health = WorkerHealth(
            name=name,
            host="here",
            model="phantom",
            device="cpu",
            pid=1,
            state=WorkerState.READY,
            since=now,
            started_at=now,
        )
        with live.connected() as connection:
            workers.say(connection, health, 60)
    lane = Lane(board, live, "one")
    lane.look()
    lane.look()
    assert board.bulk_first
    with live.connected() as connection:
        order(connection, workers.workers(connection)[0], out=True)
    orders = Orders(board, live, "one", "")
    orders.look(lambda: False)
    assert board.emptied
    assert refusals(operator) == []


DANGEROUS = (
    "FLUSHALL",
    "FLUSHDB",
    "CONFIG GET *",
    "CONFIG SET dir /tmp",
    "KEYS *",
    "RANDOMKEY",
    "SHUTDOWN NOSAVE",
    "DEBUG SLEEP 0",
    "MONITOR",
    "ACL LIST",
    "ACL SETUSER default nopass",
    "CLIENT LIST",
    "CLIENT KILL TYPE normal",
    "SCRIPT FLUSH",
    "MODULE LIST",
    "REPLICAOF 127.0.0.1 1",
    "MIGRATE 127.0.0.1 1 x 0 1",
    "SAVE",
    "SWAPDB 0 1",
    "GET other",
    "SET other 1",
    "DEL other",
    "LPUSH other 1",
    "EXPIRE other 1",
    "PUBLISH other 1",
    "EVAL return(redis.call('get','other')) 0",
    "EVAL return(redis.call('flushall')) 0",
)
THE_CLIENT = (
    f"LRANGE {QUEUE} 0 -1",
    f"RPOP {QUEUE}",
    f"BRPOP {QUEUE} 1",
    "HGETALL unacked",
    "HGET unacked x",
    "ZRANGE unacked_index 0 -1",
    "SCAN 0",
    f"GET medgemma:live:other:{JOB}",
    f"SET medgemma:cancel:other:{JOB} 1",
    f"SET medgemma:lock:other/jobs/{JOB}/result.json 1",
    "SET medgemma:lock:reconcile 1",
    "SET medgemma:lock:bulk-first:phantom 1",
    "SET medgemma:running:x 1",
    "SET medgemma:order:phantom/gpu-0@here 1",
    # A model may have the name of the tenant.
    "SET medgemma:worker:local:gpu-0@here 1",
    "DEL medgemma:worker:local:gpu-0@here",
    "SET medgemma:running:local:gpu-0@here 1",
    "SET medgemma:order:local/gpu-0@here 1",
    "SET medgemma:lock:places:local 1",
    # Of its own jobs: a worker's claim to one, and the reconciler's.
    f"SET medgemma:held:local:{JOB} 1",
    f"SET medgemma:put-back:local:{JOB} 1",
    f"SUBSCRIBE medgemma:done:other:{JOB}",
    f"PUBLISH medgemma:done:other:{JOB} 1",
    "PUBLISH /0.celery.pidbox {}",  # by which a worker is told to shut down
    "SUBSCRIBE /0.celery.pidbox",
    "PSUBSCRIBE medgemma:done:*",
    "PSUBSCRIBE *",
    f"LPUSH {JOB}.reply.celery.pidbox x",
    f"EVAL return(redis.call('rpop','{QUEUE}')) 0",
)
WHAT_CALLERS_USED_UP = (
    "DEL medgemma:rate:local:somebody",
    "DEL medgemma:jobs:local:somebody",
    "DEL medgemma:asked:local:something",
)
THE_GATEWAY = (
    *(command for command in THE_CLIENT if "other" not in command and "done" not in command),
    "SET medgemma:worker:phantom:x 1",
    "SET medgemma:dropped:no-request 1",
    f"SET medgemma:held:other:{JOB} 1",  # a worker's claim to a job
)
THE_EXPORTER = (
    f"LPUSH {QUEUE} x",
    f"RPOP {QUEUE}",
    f"DEL {QUEUE}",
    "HDEL unacked x",
    "SET medgemma:lock:reconcile 1",
    f"SET medgemma:live:local:{JOB} 1",
    f"EXPIRE medgemma:live:local:{JOB} 1",
    f"PUBLISH medgemma:done:local:{JOB} 1",
    f"SUBSCRIBE medgemma:done:local:{JOB}",
    "PUBLISH /0.celery.pidbox {}",
)
FORBIDDEN = [
    *((user, command) for user in PASSWORDS if user != "default" for command in DANGEROUS),
    *(("client", command) for command in (*THE_CLIENT, *WHAT_CALLERS_USED_UP)),
    *(("gateway", command) for command in THE_GATEWAY),
    *(("exporter", command) for command in THE_EXPORTER),
]


@pytest.mark.parametrize(("user", "command"), FORBIDDEN)
def test_whatever_is_not_its_own_is_refused(
    guarded: GuardedRedis, operator: Any, user: str, command: str
) -> None:
    operator.set("other", "x")
    operator.lpush(QUEUE, "x")
    with (
        redis.Redis.from_url(guarded.as_user(user)) as client,
        pytest.raises(redis.ResponseError, match=r"permission|can't (run|access)|not allowed"),
    ):
        client.execute_command(*command.split(" "))
    assert operator.get("other") == "x"
    assert operator.llen(QUEUE) == 1


@pytest.mark.parametrize("user", [*PASSWORDS, "nobody"])
def test_nobody_comes_in_without_the_right_password(guarded: GuardedRedis, user: str) -> None:
    with (
        redis.Redis(port=guarded.port, username=user, password="wrong", retry=ONCE) as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.ping()


def test_no_password_is_in_a_file_or_on_a_command_line(guarded: GuardedRedis) -> None:
    users = (guarded.folder / "users.acl").read_text()
    command = Path(f"/proc/{guarded.pid}/cmdline").read_text()
    assert users.count("#") == len(PASSWORDS)
    for password in PASSWORDS.values():
        assert password not in users + command
