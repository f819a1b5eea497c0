"""What is left of a run, read straight from the store: is the promise kept?"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from medgemma_tasks.layout import is_artifact, job_prefix, result_key
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.models import Artifact, ExplanationRecord, State
from medgemma_tasks.versions import read_record
from tests.faults.chaos.asks import Asked
from tests.faults.s3_proxy import Put

ARTIFACTS = {"relevancy.npz", "heatmap-0.png", "overlay-0.png"}
"""What a job of one image that succeeded must name."""

LOST = "no job is lost: each has its terminal mark"
TWICE = "no job is committed twice"
CHANGED = "no mark changed after it was seen"
ENDS = "each job came to what it was meant to"
WHOLE = "each mark has all its artifacts, with their hashes and sizes"
ORPHANS = "after the sweep the store holds nothing that no job names"


@dataclass
class Findings:
    """By check, all that was found against it, a line each; and what was counted on the way."""

    checks: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    ends: Counter[str] = field(default_factory=Counter)
    """Jobs by what they came to."""
    put_back: int = 0
    """Earlier marks, in the history of jobs that were asked again."""

    def ask(self, check: str) -> list[str]:
        """The list of a check; that it is asked at all is part of the report."""
        return self.checks[check]

    @property
    def failed(self) -> bool:
        return any(self.checks.values())


def audit_jobs(
    ledger: Ledger,
    asked: Iterable[Asked],
    puts: Iterable[Put],
    seen: Mapping[str, set[str]],
    findings: Findings,
) -> None:
    """Each job by itself. ``seen``: hashes of what was read under a mark's key during the run."""
    for check in (LOST, TWICE, CHANGED, ENDS, WHOLE):
        findings.ask(check)
    start = f"/{ledger.store.settings.bucket}/{ledger.store.settings.prefix}"
    put: dict[str, list[Put]] = defaultdict(list)
    for one in puts:
        if one.path.endswith("/result.json"):
            put[one.path.removeprefix(start)].append(one)
    for job in asked:
        key = result_key(ledger.tenant, job.job_id)
        content = ledger.store.get(key)
        if content is None:
            findings.ask(LOST).append(f"job {job.job_id} ({job.ask.prompt})")
            continue
        _audit_commits(ledger, job, content, put[key], seen.get(key, set()), findings)
        _audit_mark(ledger, job, read_record(content), findings)


def _audit_commits(
    ledger: Ledger,
    job: Asked,
    content: bytes,
    puts: list[Put],
    seen: set[str],
    findings: Findings,
) -> None:
    store, prefix = ledger.store, job_prefix(ledger.tenant, job.job_id)
    earlier = {_hash(store.get(key) or b"") for key in store.keys(prefix + "history/")}
    findings.put_back += len(earlier)
    known, now = earlier | {_hash(content)}, _hash(content)
    twice = {one.sha256 for one in puts if one.stored} - known
    if twice:
        findings.ask(TWICE).append(f"job {job.job_id}: {1 + len(twice)} marks were stored")
    if earlier and not job.put_back:
        findings.ask(TWICE).append(f"job {job.job_id}: has a history, and was not asked again")
    if now not in {one.sha256 for one in puts}:
        findings.ask(TWICE).append(f"job {job.job_id}: nobody is known to have put its mark")
    if seen - known:
        findings.ask(CHANGED).append(f"job {job.job_id}")


def _audit_mark(ledger: Ledger, job: Asked, mark: ExplanationRecord, findings: Findings) -> None:
    code = None if mark.error is None else mark.error.code
    findings.ends[mark.state.value + (f" ({code})" if code else "")] += 1
    if (mark.state, code) not in job.ends:
        findings.ask(ENDS).append(
            f"job {job.job_id} ({job.ask.prompt}): {mark.state.value}, {code}, attempt "
            f"{mark.attempt}"
        )
    if mark.job_id != job.job_id:
        findings.ask(WHOLE).append(f"job {job.job_id}: its mark is of {mark.job_id}")
    if set(mark.artifacts) != (ARTIFACTS if mark.state is State.SUCCEEDED else set()):
        findings.ask(WHOLE).append(f"job {job.job_id}: names {sorted(mark.artifacts)}")
    prefix = job_prefix(ledger.tenant, job.job_id)
    for artifact in mark.artifacts.values():
        fault = _fault(artifact, ledger.store.get_large(prefix + artifact.key))
        if fault:
            findings.ask(WHOLE).append(f"job {job.job_id}: {artifact.key} {fault}")


def _fault(artifact: Artifact, content: bytes | None) -> str | None:
    if content is None:
        return "is not there"
    if len(content) != artifact.size:
        return f"has {len(content)} bytes, not {artifact.size}"
    return None if _hash(content) == artifact.sha256 else "has another hash"


def unnamed(ledger: Ledger, asked: Iterable[Asked]) -> list[str]:
    """All keys in the store that no job, no input and no model accounts for."""
    job_ids = {job.job_id for job in asked}
    named: dict[str, set[str]] = {}
    found = []
    for key in ledger.store.keys(""):
        parts = key.split("/")
        if parts[0] == "models" or parts[:2] == [ledger.tenant, "inputs"]:
            continue
        if parts[:2] != [ledger.tenant, "jobs"] or parts[2] not in job_ids:
            found.append(key)
        elif is_artifact(key):
            job_id = parts[2]
            if job_id not in named:
                mark = ledger.record(job_id)
                artifacts = () if mark is None else mark.artifacts.values()
                named[job_id] = {artifact.key for artifact in artifacts}
            if "/".join(parts[3:]) not in named[job_id]:
                found.append(key)
        elif parts[3:] not in (["request.json"], ["result.json"]) and parts[3] != "history":
            found.append(key)
    return found


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
