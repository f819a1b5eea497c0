"""``runs/<run_id>/manifest.jsonl``: the jobs that belong together, one a line."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, ConfigDict, StringConstraints

from medgemma_tasks.models.base import Discreet, JobId


def _is_no_job_id(name: str) -> str:
    if len(name) == 32 and set(name) <= set("0123456789abcdef"):
        raise ValueError("a run must not be named like a job")
    return name


RunId = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$"),
    AfterValidator(_is_no_job_id),
]
"""The name of a run. Never 32 hexadecimal digits, so that it cannot be taken for a job's id."""


class ManifestLine(Discreet):
    """One job of a run. Whoever writes a manifest may add what it needs: other keys are kept, and
    no concern of the queue's."""

    model_config = ConfigDict(extra="allow")

    job: JobId
