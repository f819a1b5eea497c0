"""The bytes of an image, from a file or from S3, whole or only their beginning."""

from __future__ import annotations

import os
import re
import stat
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgemma_client.backfill.resolve import Place, S3Object
from medgemma_client.images import SourceImage, read_image
from medgemma_client.images.looking import HEAD, look_at
from medgemma_client.images.source import check_size
from medgemma_tasks.errors import FileUnreadable, MedGemmaError, StoreUnreachable
from medgemma_tasks.s3 import failure, make_client
from medgemma_tasks.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_READ_TIMEOUT = 60.0
"""Seconds that S3 may take to begin sending."""
_ABSENT = frozenset({"NoSuchKey", "NoSuchBucket", "404", "NotFound"})


class Fetcher:
    """Reads images within the limits of the settings. Raises InputError, StoreUnreachable."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._limits = {
            "max_pixels": settings.max_pixels,
            "max_file_bytes": settings.max_file_bytes,
        }

    def read(self, place: Place) -> SourceImage:
        """The image, decoded."""
        if isinstance(place, S3Object):
            return read_image(self._object(place)[0], **self._limits)
        return read_image(place, **self._limits)

    def look(self, place: Place) -> None:
        """Raise what reading it would, as far as its header tells."""
        if isinstance(place, S3Object):
            head, size = self._object(place, HEAD)
            look_at(head, size, lambda: self._object(place)[0], **self._limits)
        else:
            head, size = _beginning(place)
            look_at(head, size, place.read_bytes, **self._limits)

    def _object(self, place: S3Object, head: int | None = None) -> tuple[bytes, int]:
        """The bytes of an object, or the first ``head`` of them; and how many it has in all."""
        from botocore.exceptions import BotoCoreError, ClientError

        most = self._settings.max_file_bytes
        part: dict[str, Any] = {} if head is None else {"Range": f"bytes=0-{head - 1}"}
        try:
            answer = self._client.get_object(Bucket=place.bucket, Key=place.key, **part)
            with answer["Body"] as body:
                size = _size(answer)
                check_size(size, most)
                # One byte over, so that more than was announced is found by the next check.
                data = body.read(most + 1 if head is None else head)
            return data, size
        except ClientError as error:
            if error.response["Error"].get("Code") in ("InvalidRange", "416"):
                return b"", 0  # there is no beginning of nothing
            raise _refusal(error.response) from None
        except (BotoCoreError, OSError) as error:
            raise failure(self._settings, error) from None

    @cached_property
    def _client(self) -> S3Client:
        import boto3

        session = boto3.session.Session(region_name=self._settings.s3_region)
        return make_client(session, self._settings, _READ_TIMEOUT)


def _beginning(path: Path) -> tuple[bytes, int]:
    try:
        status = os.stat(path)
        if stat.S_ISREG(status.st_mode):
            with path.open("rb") as file:
                return file.read(HEAD), status.st_size
    except (OSError, ValueError):
        pass
    read_image(path)  # knows why a file cannot be read, and says so
    raise FileUnreadable("The file cannot be read: it changes. Try again.")


def _size(answer: Any) -> int:
    whole = re.search(r"/([0-9]+)$", answer.get("ContentRange") or "")
    return int(whole[1]) if whole else int(answer["ContentLength"])


def _refusal(response: Any) -> MedGemmaError:
    code = str(response["Error"].get("Code"))
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code in _ABSENT:
        return FileUnreadable("The object cannot be read: it does not exist. Check its name.")
    if status >= 500 or code in ("SlowDown", "RequestTimeout"):
        return StoreUnreachable(f"The S3 server of the image is out of order (HTTP {status}).")
    return FileUnreadable(
        f"The object cannot be read: the S3 server refused (HTTP {status}). Check the AWS "
        "credentials and the bucket's policy."
    )
