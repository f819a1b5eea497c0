"""The S3 policies of deploy/s3 on a server that enforces policies: moto's, with signatures checked.

moto knows actions, resources and denials. What it does not know of AWS is not shown here: a 403 in
place of a 404 for who may not list; and of a call that deletes many keys it asks for the bucket,
where AWS asks for each key, so that here such a call is always refused.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import boto3
import fakeredis
import pytest
from moto import settings as moto_settings
from moto.core.authorization import ActionAuthenticatorMixin

from medgemma_client.client import Client
from medgemma_tasks import reconcile
from medgemma_tasks.errors import InternalError, JobCancelled, StoreRefused
from medgemma_tasks.layout import history_key, input_key, model_key, request_key, result_key
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.live import LiveState
from medgemma_tasks.models import State
from medgemma_tasks.reconcile import Reconciler
from medgemma_tasks.settings import Settings
from medgemma_tasks.store import Store
from medgemma_worker.board import Board
from medgemma_worker.job import JobRunner
from tests.parts import JOB, NOW, SHA, picture, record_of
from tests.stub_engine import ANSWER, StubEngine
from tests.worker.direct import Direct

FOLDER = Path(__file__).parents[2] / "deploy" / "s3"
USERS = ("client", "worker", "gateway", "exporter")


def policy(name: str, settings: Settings) -> str:
    """A policy, its placeholders replaced as docs/security.md says."""
    # A gateway is a client of every tenant.
    file, tenant = ("client", "*") if name == "gateway" else (name, settings.tenant)
    text = (FOLDER / f"{file}-policy.json").read_text()
    text = text.replace(":::BUCKET/", f":::{settings.bucket}/{settings.prefix}")
    return text.replace("BUCKET", settings.bucket).replace("TENANT", tenant)


@pytest.fixture
def session_of(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], boto3.session.Session]:
    """A session with the keys of a user that has one of the policies. From here on they count."""
    iam = boto3.client("iam", region_name="us-east-1")
    sessions = {}
    for name in USERS:
        iam.create_user(UserName=name)
        iam.put_user_policy(UserName=name, PolicyName=name, PolicyDocument=policy(name, settings))
        key = iam.create_access_key(UserName=name)["AccessKey"]
        sessions[name] = boto3.session.Session(
            key["AccessKeyId"], key["SecretAccessKey"], region_name="us-east-1"
        )
    monkeypatch.setattr(moto_settings, "INITIAL_NO_AUTH_ACTION_COUNT", 0)
    monkeypatch.setattr(ActionAuthenticatorMixin, "request_count", 0)
    return sessions.__getitem__


@pytest.fixture
def ledger_of(
    session_of: Callable[[str], boto3.session.Session], settings: Settings, live: LiveState
) -> Callable[[str], Ledger]:
    def make(name: str, tenant: str = "local") -> Ledger:
        store = Store(settings)
        store.__dict__["_session"] = session_of(name)
        return Ledger(store, live.of_tenant(tenant))

    return make


@pytest.fixture
def client(
    session_of: Callable[[str], boto3.session.Session],
    settings: Settings,
    redis_fake: fakeredis.FakeRedis,
    monkeypatch: pytest.MonkeyPatch,
) -> Client:
    monkeypatch.setattr("medgemma_tasks.connection.connect", lambda settings: redis_fake)
    monkeypatch.setattr("medgemma_tasks.queue.publish", lambda *_, **options: None)
    client = Client(settings)
    client._ledger.store.__dict__["_session"] = session_of("client")
    return client


@pytest.fixture
def worker(ledger_of: Callable[..., Ledger], live: LiveState, settings: Settings) -> JobRunner:
    engine = StubEngine()
    return JobRunner(engine, Direct(engine), ledger_of("worker"), live, settings, Board())


def test_a_client_and_a_worker_do_all_their_work_by_their_policies(
    client: Client,
    worker: JobRunner,
    ledger_of: Callable[..., Ledger],
    live: LiveState,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    of_worker = ledger_of("worker")
    of_worker.publish_model(StubEngine().served)
    job = client.submit(picture(), "What is there?")
    worker.run(job.id)
    assert client.job(job.id).wait(1).answer == ANSWER
    assert job.result().overlay().size == (8, 6)
    failing = client.submit(picture(), "crash please")
    for _ in range(2):
        worker.run(failing.id)
        with pytest.raises(InternalError):
            failing.wait(1)
        assert client.submit(picture(), "crash please").id == failing.id
    client._ledger.put_manifest("run-1", [])
    cancelled = client.submit(picture(), "Cancelled?")
    assert cancelled.cancel()
    worker.run(cancelled.id)
    with pytest.raises(JobCancelled):
        cancelled.wait(1)
    assert client.models() == ["phantom"]

    class Later(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return datetime.now(UTC) + timedelta(minutes=1)

    monkeypatch.setattr(reconcile, "datetime", Later)
    lost = client.submit(picture(), "Lost?")
    sent: list[str] = []
    Reconciler(
        of_worker.store, live, settle=0, publish=lambda model, tenant, job, *_: sent.append(job)
    ).sweep()
    assert lost.id in sent


def test_an_attempt_that_lost_clears_up(ledger_of: Callable[..., Ledger]) -> None:
    ledger = ledger_of("worker")
    artifacts = ledger.put_artifacts(JOB, "1-ab", {"a.png": (b"1", "image/png")})
    assert ledger.commit(record_of(JOB, State.FAILED))
    assert not ledger.commit(record_of(JOB, State.CANCELLED))
    ledger.discard(JOB, artifacts.values())
    assert ledger.store.keys("local/jobs/") == [result_key("local", JOB)]


PUTS = [
    ("client", model_key("phantom")),
    ("client", "local/jobs/x/1-ab/relevancy.npz"),
    ("client", input_key("other", SHA)),
    ("client", request_key("other", JOB)),
    ("client", result_key("other", JOB)),
    ("client", "elsewhere"),
    ("worker", request_key("local", JOB)),
    ("worker", input_key("local", SHA)),
    ("worker", "elsewhere"),
    ("gateway", model_key("phantom")),
    ("gateway", "other/jobs/x/1-ab/relevancy.npz"),
    ("gateway", "elsewhere"),
    ("exporter", request_key("local", JOB)),
    ("exporter", model_key("phantom")),
]
DELETIONS = [
    ("client", request_key("local", JOB)),
    ("client", input_key("local", SHA)),
    ("client", model_key("phantom")),
    ("client", "local/jobs/x/1-ab/relevancy.npz"),
    ("client", history_key("local", JOB, f"{NOW:%Y%m%dT%H%M%S}-{SHA[:16]}")),
    ("client", result_key("other", JOB)),
    ("worker", request_key("local", JOB)),
    ("worker", result_key("local", JOB)),
    ("worker", input_key("local", SHA)),
    ("worker", model_key("phantom")),
    ("gateway", request_key("other", JOB)),
    ("gateway", input_key("other", SHA)),
    ("exporter", request_key("local", JOB)),
]
READINGS = [
    ("client", request_key("other", JOB)),
    ("client", result_key("other", JOB)),
    ("client", input_key("other", SHA)),
    ("client", "elsewhere"),
    ("worker", "elsewhere"),
    ("gateway", "elsewhere"),
    ("exporter", result_key("local", JOB)),
    ("exporter", input_key("local", SHA)),
]


def test_a_gateway_asks_for_every_tenant_and_the_exporter_sees_since_when_a_job_waits(
    ledger_of: Callable[..., Ledger],
) -> None:
    exporter = ledger_of("exporter").store
    for tenant in ("local", "other"):
        gateway = ledger_of("gateway", tenant).store
        for key in (input_key(tenant, SHA), request_key(tenant, JOB), result_key(tenant, JOB)):
            gateway.put(key, b"1")
            assert gateway.get(key) == b"1"
        assert exporter.get(request_key(tenant, JOB)) == b"1"
        gateway.delete(result_key(tenant, JOB))
        assert gateway.get(result_key(tenant, JOB)) is None
    assert exporter.get(request_key("local", "0" * 32)) is None


def test_nobody_reads_writes_or_deletes_what_is_not_his(ledger_of: Callable[..., Ledger]) -> None:
    stores = {who: ledger_of(who).store for who in USERS}
    allowed: list[str] = []
    for who, key in PUTS:
        allowed += done(f"{who} wrote {key}", partial(stores[who].put, key, b"1"))
    for who, key in READINGS:
        allowed += done(f"{who} read {key}", partial(stores[who].get, key))
    for who, key in DELETIONS:
        allowed += done(f"{who} deleted {key}", partial(stores[who].delete, key))
    assert allowed == []


def done(what: str, action: Callable[[], object]) -> list[str]:
    """What was done although it must be refused."""
    try:
        action()
    except StoreRefused:
        return []
    return [what]


def test_keys_of_nobody_are_refused(
    session_of: Callable[[str], boto3.session.Session], settings: Settings
) -> None:
    store = Store(settings)
    store.__dict__["_session"] = boto3.session.Session("AKIANOBODY", "x", region_name="us-east-1")
    with pytest.raises(StoreRefused):
        store.get("models/phantom.json")
