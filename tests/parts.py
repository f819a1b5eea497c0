"""Store and Redis without servers (moto and fakeredis), and small things made of the contract."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import boto3
import fakeredis
import pytest
from moto import mock_aws
from PIL import Image

from medgemma_tasks.identity import image_name, job_id
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.live import LiveState
from medgemma_tasks.models import (
    AnswerTarget,
    ExplanationRecord,
    ExplanationRequest,
    ImagePart,
    ImageRef,
    Message,
    Options,
    State,
    Target,
    TextPart,
)
from medgemma_tasks.settings import Settings
from medgemma_tasks.store import Store
from tests.stub_engine import StubEngine

JOB = "0123456789abcdef0123456789abcdef"
OTHER_JOB = "f" * 32
SHA = "a" * 64
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in ("AWS_PROFILE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "testing")
    return Settings(store_url="s3://bucket/some/prefix", s3_endpoint_url=None)


@pytest.fixture(scope="session")
def boto_session() -> boto3.session.Session:
    """Shared, because reading the description of S3 is what takes long."""
    return boto3.session.Session("testing", "testing", region_name="us-east-1")


@pytest.fixture
def store(settings: Settings, boto_session: boto3.session.Session) -> Iterator[Store]:
    with mock_aws():
        boto_session.client("s3").create_bucket(Bucket="bucket")
        store = Store(settings)
        store.__dict__["_session"] = boto_session
        yield store


@pytest.fixture
def redis_fake() -> fakeredis.FakeRedis:
    return fakeredis.FakeRedis(decode_responses=True)


@pytest.fixture
def live(settings: Settings, redis_fake: fakeredis.FakeRedis) -> LiveState:
    return LiveState(settings, connection=redis_fake)


@pytest.fixture
def ledger(store: Store, live: LiveState) -> Ledger:
    return Ledger(store, live)


def picture(size: tuple[int, int] = (8, 6), grey: int = 7) -> Image.Image:
    return Image.new("L", size, grey)


def reference(image: Image.Image) -> ImageRef:
    mode = "RGB" if image.mode == "RGB" else "L"
    return ImageRef(name=image_name(image), width=image.width, height=image.height, mode=mode)


def request_for(
    prompt: str = "Is there a pneumothorax?",
    *,
    image: Image.Image | None = None,
    target: Target | None = None,
    revision: str = "stub-1",
) -> ExplanationRequest:
    images = (reference(picture() if image is None else image),)
    messages = (Message(role="user", content=(ImagePart(image=0), TextPart(text=prompt))),)
    served = StubEngine(revision=revision).served
    chosen = AnswerTarget() if target is None else target
    return ExplanationRequest(
        job_id=job_id(
            tenant="local",
            images=images,
            messages=messages,
            targets=(chosen,),
            options=Options(),
            model=served,
        ),
        tenant="local",
        model=served.name,
        revision=served.revision,
        method_version=served.method_version,
        images=images,
        messages=messages,
        targets=(chosen,),
        submitted_at=NOW,
    )


def record_of(
    job: str = JOB, state: State = State.SUCCEEDED, attempt: int = 1
) -> ExplanationRecord:
    return ExplanationRecord.model_validate(
        {
            "job_id": job,
            "tenant": "local",
            "state": state,
            "attempt": attempt,
            "submitted_at": NOW,
            "finished_at": NOW,
        }
    )
