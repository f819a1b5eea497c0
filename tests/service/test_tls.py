"""Redis and S3 behind TLS: who shows the right certificate is used, and nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from kombu.exceptions import OperationalError

from medgemma_cli.embedded import EmbeddedStack
from medgemma_client.client import Client
from medgemma_tasks.errors import BrokerUnreachable, StoreUnreachable
from medgemma_tasks.layout import model_key
from medgemma_tasks.live import LiveState
from medgemma_tasks.queue import make_app, publish
from medgemma_tasks.settings import Settings, load_settings
from medgemma_tasks.store import Store
from tests.parts import JOB, picture
from tests.service.harness import WorkerProcess, until
from tests.stub_engine import ANSWER
from tests.tls import Authority, tls_before

WAIT = 30.0


@dataclass
class Secured:
    """Ports of the TLS servers before Redis and S3, and two authorities; the first vouches."""

    redis: int
    s3: int
    right: Path
    wrong: Path
    plain: Settings

    def settings(self, patch: pytest.MonkeyPatch, ca_file: Path | None, host: str) -> Settings:
        """As somebody has them who trusts this authority and goes to this host."""
        url = self.plain.broker_url.get_secret_value()
        credentials, _, database = url.removeprefix("redis://").rpartition("/")
        secret = credentials.rpartition("@")[0]
        patch.setenv("MEDGEMMA_BROKER_URL", f"rediss://{secret}@{host}:{self.redis}/{database}")
        patch.setenv("MEDGEMMA_S3_ENDPOINT_URL", f"https://{host}:{self.s3}")
        patch.setenv("MEDGEMMA_CA_FILE", "" if ca_file is None else str(ca_file))
        patch.setenv("no_proxy", "127.0.0.1,localhost")
        return load_settings()


@pytest.fixture
def secured(stack: EmbeddedStack, stack_settings: Settings, tmp_path: Path) -> Iterator[Secured]:
    right, wrong = Authority(tmp_path, "right"), Authority(tmp_path, "wrong")
    context = right.context("localhost")
    with tls_before(stack.redis.port, context) as redis, tls_before(stack.s3.port, context) as s3:
        yield Secured(redis, s3, right.file, wrong.file, stack_settings)


def test_a_client_and_a_worker_meet_behind_tls(
    secured: Secured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = secured.settings(monkeypatch, secured.right, "localhost")
    with WorkerProcess(tmp_path) as worker:
        job = Client(settings).submit(picture(), "Who listens?")
        assert job.wait(WAIT).answer == ANSWER
        assert "ready." in worker.log
        assert "insecure" not in worker.log


@pytest.mark.parametrize(
    ("trusted", "host"), [("wrong", "localhost"), (None, "localhost"), ("right", "127.0.0.1")]
)
def test_whoever_shows_another_certificate_is_told_nothing(
    secured: Secured, monkeypatch: pytest.MonkeyPatch, trusted: str | None, host: str
) -> None:
    """One that nobody trusted vouches for, or that is for another host than was asked for."""
    ca_file = None if trusted is None else getattr(secured, trusted)
    settings = secured.settings(monkeypatch, ca_file, host)
    with pytest.raises(BrokerUnreachable, match="MEDGEMMA_CA_FILE"):
        LiveState(settings).ping()
    with pytest.raises(BrokerUnreachable):
        publish(make_app(settings), settings, "phantom", [JOB])
    with pytest.raises(OperationalError, match="certificate verify failed"):
        make_app(settings).connection_for_read().ensure_connection(max_retries=1)
    with pytest.raises(StoreUnreachable, match="SSLError"):
        Store(settings).get(model_key("phantom"))


@pytest.mark.parametrize(("trusted", "host"), [("wrong", "localhost"), ("right", "127.0.0.1")])
def test_a_worker_takes_no_job_of_a_server_with_another_certificate(
    secured: Secured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trusted: str, host: str
) -> None:
    secured.settings(monkeypatch, getattr(secured, trusted), host)
    with WorkerProcess(tmp_path).spawned() as worker:
        until(lambda: "certificate verify failed" in worker.log, WAIT, lambda: worker.log)
        until(lambda: "could not be written (store_unreachable)" in worker.log, WAIT)
        assert "ready." not in worker.log
