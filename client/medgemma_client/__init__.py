"""The client: submit a question about images, wait for its answer, look at what it rests on.

Importing this loads neither torch nor celery nor boto3. The public names are imported when they
are first asked for, and what they need when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medgemma_client.aio import AsyncClient, AsyncJob, AsyncResult
    from medgemma_client.client import Client
    from medgemma_client.job import Job
    from medgemma_client.result import Result

__all__ = ["AsyncClient", "AsyncJob", "AsyncResult", "Client", "Job", "Result"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    module = "aio" if name.startswith("Async") else name.lower()
    return getattr(importlib.import_module(f"medgemma_client.{module}"), name)
