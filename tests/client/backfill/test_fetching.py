"""Images of S3, and what a header tells of an image."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import boto3
import numpy as np
import pytest
from moto import mock_aws
from PIL import Image

from medgemma_client.backfill.fetching import Fetcher
from medgemma_client.backfill.resolve import S3Object
from medgemma_client.images.looking import HEAD, look_at
from medgemma_tasks.errors import (
    FileUnreadable,
    ImageTooLarge,
    MedGemmaError,
    NotAnImage,
    StoreUnreachable,
    TruncatedImage,
)
from medgemma_tasks.settings import Settings
from tests.client.conftest import settings

__all__ = ["settings"]


def png(side: int = 4) -> bytes:
    buffer = BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (side, side), np.uint8)
    Image.fromarray(noise).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def bucket(settings: Settings) -> Iterator[None]:
    with mock_aws():
        s3 = boto3.client("s3", region_name="us-east-1")
        s3.create_bucket(Bucket="images")
        s3.put_object(Bucket="images", Key="a.png", Body=png())
        s3.put_object(Bucket="images", Key="large.png", Body=png(600))
        s3.put_object(Bucket="images", Key="no-bytes", Body=b"")
        yield


@pytest.mark.usefixtures("bucket")
@pytest.mark.parametrize("key", ["a.png", "large.png"])
def test_an_object_is_read_as_a_file_is(settings: Settings, key: str) -> None:
    fetcher = Fetcher(settings)
    fetcher.look(S3Object("images", key))
    side = 4 if key == "a.png" else 600
    assert fetcher.read(S3Object("images", key)).pixels.size == (side, side)


@pytest.mark.usefixtures("bucket")
@pytest.mark.parametrize(
    ("bucket_name", "key", "kind"),
    [
        ("images", "nowhere", FileUnreadable),
        ("nowhere", "a.png", FileUnreadable),
        ("images", "no-bytes", NotAnImage),
        ("images", "large.png", ImageTooLarge),
    ],
)
@pytest.mark.parametrize("way", ["read", "look"])
def test_an_object_that_cannot_be_used_is_refused_without_its_name(
    settings: Settings, bucket_name: str, key: str, kind: type[MedGemmaError], way: str
) -> None:
    fetcher = Fetcher(settings.model_copy(update={"max_file_bytes": 300_000}))
    with pytest.raises(kind) as told:
        getattr(fetcher, way)(S3Object(bucket_name, key))
    assert key not in told.value.message


def test_a_server_that_is_not_there_is_said_to_be(settings: Settings) -> None:
    nowhere = settings.model_copy(update={"s3_endpoint_url": "http://127.0.0.1:9"})
    with pytest.raises(StoreUnreachable):
        Fetcher(nowhere).look(S3Object("images", "a.png"))


@pytest.mark.parametrize("name", ["nowhere.png", "."])
def test_a_file_that_cannot_be_read_is_not_looked_at(
    settings: Settings, tmp_path: Path, name: str
) -> None:
    with pytest.raises(FileUnreadable):
        Fetcher(settings).look(tmp_path / name)


def test_the_whole_file_is_asked_for_only_where_its_head_does_not_tell() -> None:
    data = png(600)
    assert len(data) > HEAD

    def whole() -> bytes:
        raise AssertionError("the head tells all")

    look_at(data[:HEAD], len(data), whole)
    # The directory of a TIFF file may stand behind its pixels.
    buffer = BytesIO()
    Image.fromarray(np.zeros((600, 600), np.uint8)).save(buffer, "TIFF")
    tiff = buffer.getvalue()
    look_at(tiff[:8], len(tiff), lambda: tiff)
    with pytest.raises(TruncatedImage):
        look_at(tiff[:8], len(tiff), lambda: tiff[:8])
