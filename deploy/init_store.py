"""Make the bucket that MEDGEMMA_STORE_URL names, and check that the store is fit for production.

Without atomic conditional puts two workers could both commit a result for one job; such a store is
refused here, before the first job.
"""

from __future__ import annotations

import sys

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from medgemma_tasks.errors import MedGemmaError
from medgemma_tasks.settings import Settings, load_settings
from medgemma_tasks.store import Store


def make_bucket(settings: Settings) -> None:
    """Make the bucket unless it is there."""
    client = boto3.client(
        "s3",
        endpoint_url=settings.s3_endpoint_url,
        region_name=settings.s3_region,
        verify=settings.ca_file,
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )
    try:
        client.create_bucket(Bucket=settings.bucket)
    except ClientError as error:
        if error.response["Error"]["Code"] not in (
            "BucketAlreadyOwnedByYou",
            "BucketAlreadyExists",
        ):
            raise
    finally:
        client.close()


def main() -> str | None:
    """What is wrong, or None. Messages name the address and never the keys."""
    try:
        settings = load_settings()
        make_bucket(settings)
        if not Store(settings).conditional:
            return f"{settings.store_address} does not enforce conditional puts (If-None-Match)."
    except MedGemmaError as error:
        return error.message
    except (BotoCoreError, ClientError) as error:
        return f"{settings.store_address}: the bucket cannot be made ({type(error).__name__})."
    print(f"{settings.store_address} is ready.")
    return None


if __name__ == "__main__":
    sys.exit(main())
