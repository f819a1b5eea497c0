"""The S3 client as the store needs it, and what its errors mean to us. boto3 is imported late."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medgemma_tasks.errors import InvalidSettings, ServiceError, StoreRefused, StoreUnreachable
from medgemma_tasks.settings import Settings
from medgemma_tasks.transport import travels_plain

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CONNECTIONS = 64
"""Connections that a client keeps. Of more threads at once the others make one for each call."""


def make_client(
    session: Any, settings: Settings, read_timeout: float, endpoint: str | None = None
) -> S3Client:
    """A client of a boto3 session. ``read_timeout``: seconds that the server may take to answer.
    ``endpoint``: in place of the settings', for URLs that others use.

    Raises InvalidSettings where AWS's own settings lead to a server in the clear.
    """
    from botocore.config import Config
    from botocore.handlers import add_expect_header

    config = Config(
        signature_version="s3v4",
        s3={"addressing_style": "path"},
        connect_timeout=settings.connect_timeout,
        read_timeout=read_timeout,
        max_pool_connections=CONNECTIONS,
        retries={"mode": "standard", "total_max_attempts": 2},
        # The newer checksum trailers are unknown to many S3 servers.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        # For a call with a small body the client's own work is what takes long. A fifth of it goes
        # into describing itself anew, and into looking at parameters that we made ourselves.
        user_agent="medgemma-explainer",
        parameter_validation=False,
    )
    client: S3Client = session.client(
        "s3",
        endpoint_url=endpoint or settings.s3_endpoint_url,
        verify=settings.ca_file,  # None: by the authorities that boto3 trusts
        config=config,
    )
    if travels_plain(client.meta.endpoint_url) and not settings.allow_plain:
        # Not ours, which was looked at before: AWS_ENDPOINT_URL, or that of a profile.
        raise InvalidSettings(
            "The AWS settings name an endpoint that would send everything in the clear to another "
            "machine. Use https://, or set MEDGEMMA_S3_ENDPOINT_URL and, on a network of your own, "
            "MEDGEMMA_ALLOW_PLAIN=true."
        )
    # It waits a second for a word before each body: with it a silent server takes 6 s to tell.
    client.meta.events.unregister("before-call.s3", add_expect_header)
    return client


def refusal(settings: Settings, response: Any, code: str) -> ServiceError:
    """The error of ours for an answer that says no, or that the server is out of order."""
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    where = settings.store_address
    if (status >= 500 and status != 501) or code in ("SlowDown", "RequestTimeout"):
        return StoreUnreachable(f"The store at {where} is out of order (HTTP {status}).")
    if code == "NoSuchBucket":
        return StoreRefused(f"The store at {where}: there is no such bucket. Make it first.")
    return StoreRefused(
        f"The store at {where} refused (HTTP {status}, {code}). "
        "Check the AWS credentials and the bucket's policy; without s3:ListBucket, AWS refuses "
        "to say that a key is absent.",
        status=status,
    )


def failure(settings: Settings, error: Exception) -> ServiceError:
    """The error of ours for a call without an answer."""
    from botocore.exceptions import (
        NoCredentialsError,
        PartialCredentialsError,
        ProfileNotFound,
    )

    where = settings.store_address
    if isinstance(error, (NoCredentialsError, PartialCredentialsError, ProfileNotFound)):
        return StoreRefused(
            f"There are no AWS credentials for the store at {where}. "
            "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or an AWS_PROFILE that exists."
        )
    # The library's own message may hold a URL with credentials; its class says enough.
    return StoreUnreachable(
        f"The store at {where} cannot be reached ({type(error).__name__}). "
        "Check MEDGEMMA_S3_ENDPOINT_URL and that the server runs (and, where it is about SSL, that "
        "MEDGEMMA_CA_FILE vouches for it)."
    )
