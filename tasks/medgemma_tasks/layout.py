"""Where everything lies in the store: the only place that spells a key.

    models/<name>.json
    <tenant>/inputs/<sha256>.png  .json
    <tenant>/jobs/<job_id>/request.json
    <tenant>/jobs/<job_id>/<attempt>-<nonce>/relevancy.npz  heatmap-<k>.png  overlay-<k>.png
    <tenant>/jobs/<job_id>/result.json
    <tenant>/jobs/<job_id>/history/<time>-<hash>.json
    <tenant>/runs/<run_id>/manifest.jsonl, or in parts: manifest-<number>.jsonl
    <tenant>/runs/<run_id>/run.json  summary.json
    <tenant>/probe/<nonce>

Every part of a key is matched against its alphabet first, so no id can walk out of its place.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import StringConstraints, TypeAdapter, ValidationError

from medgemma_tasks.errors import InvalidRequest
from medgemma_tasks.models import JobId, ModelName, RunId, Sha256, Tenant

_tenant: TypeAdapter[str] = TypeAdapter(Tenant)
_job: TypeAdapter[str] = TypeAdapter(JobId)
_sha256: TypeAdapter[str] = TypeAdapter(Sha256)
_model: TypeAdapter[str] = TypeAdapter(ModelName)
_ATTEMPT = re.compile("[0-9]+-[0-9a-f]+")
_attempt: TypeAdapter[str] = TypeAdapter(
    Annotated[str, StringConstraints(pattern=rf"^{_ATTEMPT.pattern}$")]
)
_run: TypeAdapter[str] = TypeAdapter(RunId)
_file: TypeAdapter[str] = TypeAdapter(
    Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]{0,63}$")]
)
_past: TypeAdapter[str] = TypeAdapter(
    Annotated[str, StringConstraints(pattern=r"^[0-9]{8}T[0-9]{6}-[0-9a-f]{16}$")]
)
_probe: TypeAdapter[str] = TypeAdapter(Annotated[str, StringConstraints(pattern=r"^[0-9a-f]+$")])


def _checked(adapter: TypeAdapter[str], value: Any, what: str) -> str:
    try:
        return adapter.validate_python(value, strict=True)
    except ValidationError:
        # The value itself stays out of the message: it may be anything.
        raise InvalidRequest(
            f"This is not a well-formed {what}; check where it came from."
        ) from None


def check_job_id(job_id: Any) -> str:
    """The id unchanged, or InvalidRequest."""
    return _checked(_job, job_id, "job id (32 hexadecimal digits)")


def is_job_id(name: str) -> bool:
    """Whether a name is a job's id; it then is no run's."""
    try:
        check_job_id(name)
    except InvalidRequest:
        return False
    return True


def check_tenant(tenant: Any) -> str:
    """The tenant unchanged, or InvalidRequest."""
    return _checked(_tenant, tenant, "tenant name (small letters, digits and hyphens)")


def model_slug(name: str) -> str:
    """A model's name as one path part: ``google/medgemma`` becomes ``google--medgemma``."""
    return _checked(_model, name, "model name").replace("/", "--")


MODELS = "models/"
"""Prefix of what workers say they hold."""


def model_key(name: str) -> str:
    return f"{MODELS}{model_slug(name)}.json"


def model_name(key: str) -> str | None:
    """The name of the model that a key under MODELS is about, or None for any other key."""
    if not (key.startswith(MODELS) and key.endswith(".json")):
        return None
    return key.removeprefix(MODELS).removesuffix(".json").replace("--", "/")


def input_key(tenant: str, image: str, suffix: str = "png") -> str:
    return f"{check_tenant(tenant)}/inputs/{_checked(_sha256, image, 'image name')}.{suffix}"


def inputs_prefix(tenant: str) -> str:
    return f"{check_tenant(tenant)}/inputs/"


def input_name(key: str) -> str | None:
    """The name of the image whose pixels lie under a key; None of any other."""
    parts = key.split("/")
    return parts[2].removesuffix(".png") if len(parts) == 3 and key.endswith(".png") else None


def job_prefix(tenant: str, job_id: str) -> str:
    return f"{check_tenant(tenant)}/jobs/{check_job_id(job_id)}/"


def jobs_prefix(tenant: str) -> str:
    return f"{check_tenant(tenant)}/jobs/"


def is_request(key: str) -> bool:
    """Whether a key below a job's prefix is that of its request."""
    return key.count("/") == 3 and key.endswith("/request.json")


def is_result(key: str) -> bool:
    """Whether a key below a job's prefix is that of its terminal mark."""
    return key.count("/") == 3 and key.endswith("/result.json")


def is_artifact(key: str) -> bool:
    """Whether a key below a job's prefix lies in the folder of an attempt."""
    parts = key.split("/")
    return len(parts) == 5 and _ATTEMPT.fullmatch(parts[3]) is not None


def request_key(tenant: str, job_id: str) -> str:
    return job_prefix(tenant, job_id) + "request.json"


def result_key(tenant: str, job_id: str) -> str:
    return job_prefix(tenant, job_id) + "result.json"


def artifact_key(tenant: str, job_id: str, attempt: str, file: str) -> str:
    attempt = _checked(_attempt, attempt, "attempt name")
    return f"{job_prefix(tenant, job_id)}{attempt}/{_checked(_file, file, 'artifact name')}"


def artifact_path(key: str) -> str | None:
    """``<attempt>/<file>``, as a mark names it, of an artifact's key; None of any other."""
    try:
        tenant, _, job_id, attempt, file = key.split("/")
        ours = artifact_key(tenant, job_id, attempt, file)
    except (ValueError, InvalidRequest):
        return None
    return f"{attempt}/{file}" if key == ours else None


def attempt_of(key: str) -> str:
    """The attempt whose artifact lies under a key."""
    return key.split("/")[3]


def history_key(tenant: str, job_id: str, name: str) -> str:
    """Where an earlier mark lies; its name is its time and the beginning of its hash."""
    return f"{job_prefix(tenant, job_id)}history/{_checked(_past, name, 'name of a mark')}.json"


def run_key(tenant: str, run_id: str, file: str = "manifest.jsonl") -> str:
    """Where the manifest of a run lies, or another file of it."""
    return run_prefix(tenant, run_id) + _checked(_file, file, "name of a run's file")


def run_prefix(tenant: str, run_id: str) -> str:
    run_id = _checked(_run, run_id, "run id (small letters, digits and hyphens; no job's id)")
    return f"{runs_prefix(tenant)}{run_id}/"


def runs_prefix(tenant: str) -> str:
    return f"{check_tenant(tenant)}/runs/"


def manifest_part_key(tenant: str, run_id: str, number: int) -> str:
    """Where the part of a manifest lies, counted from 0."""
    return run_key(tenant, run_id, f"manifest-{number:05}.jsonl")


def probes_prefix(tenant: str) -> str:
    return f"{check_tenant(tenant)}/probe/"


def probe_key(tenant: str, nonce: str) -> str:
    """A throwaway key, to learn what the server can do. Where its writer may write anyway."""
    return probes_prefix(tenant) + _checked(_probe, nonce, "nonce")
