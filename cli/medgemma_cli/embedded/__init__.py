"""Real parts for a demo and for tests: a Redis and an S3 server, in temporary folders, on loopback.

Both come from PyPI by the ``[embedded]`` extra; nothing is downloaded and no port is fixed.
"""

from __future__ import annotations

from medgemma_cli.embedded.redis import EmbeddedRedis
from medgemma_cli.embedded.s3 import EmbeddedS3
from medgemma_cli.embedded.service import EmbeddedService
from medgemma_cli.embedded.stack import EmbeddedStack
from medgemma_cli.embedded.worker import EmbeddedWorker

__all__ = ["EmbeddedRedis", "EmbeddedS3", "EmbeddedService", "EmbeddedStack", "EmbeddedWorker"]
