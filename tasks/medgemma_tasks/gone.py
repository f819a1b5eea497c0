"""Telling a job that was deleted from one that is still to come, for whoever waits for it."""

from __future__ import annotations

from medgemma_tasks.errors import JobPurged
from medgemma_tasks.ledger import Ledger


def check_not_purged(ledger: Ledger, job_id: str) -> None:
    """Raise JobPurged where a job that was submitted, and that no worker runs, has neither request
    nor mark: no mark will come. Also BrokerUnreachable: then nobody knows.

    One question to the store, as long as the request is there. The mark is asked for last: a purge
    deletes it after the request, and a worker writes it before it reports no more.
    """
    if (
        not ledger.has_request(job_id)
        and ledger.first_writer.live.read(job_id) is None
        and not ledger.finished(job_id)
    ):
        raise JobPurged(
            f"Job {job_id} was deleted before it ended: its run was purged, or somebody emptied "
            "the store. Ask again.",
            job_id=job_id,
        )
