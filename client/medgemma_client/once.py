"""Doing what was asked under an Idempotency-Key once, however often it is sent."""

from __future__ import annotations

import hashlib

from medgemma_tasks.allowances import Allowances, Asked
from medgemma_tasks.errors import IdempotencyKeyReused
from medgemma_tasks.ledger import Ledger


def nonce_of(tenant: str, key: str) -> str:
    """What makes a forced job another one: the same for the same key, also if Redis forgets."""
    return hashlib.sha256(f"{tenant}\n{key}".encode()).hexdigest()[:16]


def earlier_job(
    allowances: Allowances, ledger: Ledger, key: str, question: str, job_id: str
) -> str | None:
    """The job that the key made before and that needs nothing more; None where ``job_id`` is to be
    submitted (again).

    question: a hash of all that is asked, without what workers may change meanwhile.
    Raises IdempotencyKeyReused where the key made another question's.
    """
    wanted = Asked(question, job_id)
    before = allowances.remember(ledger.tenant, key, wanted)
    if before.question != question:
        raise IdempotencyKeyReused(
            "This Idempotency-Key came with another question. Use a new key for each."
        )
    if before.job_id == job_id:
        # One that ended badly too: whoever sends the same once more does not know of it yet.
        return job_id if ledger.finished(job_id) else None
    if ledger.has_request(before.job_id):
        return before.job_id  # of an earlier revision of the model
    allowances.correct(ledger.tenant, key, wanted)
    return None
