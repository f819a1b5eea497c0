"""What results, statuses and settings are made of, for those who build on the client."""

from medgemma_tasks.models import (
    Artifact,
    Consistency,
    ErrorRecord,
    ExplanationRecord,
    ExplanationRequest,
    ImageGrid,
    ModelRecord,
    Stage,
    State,
    Status,
    TargetRecord,
    Tenant,
    Token,
)
from medgemma_tasks.settings import Settings, load_settings

__all__ = [
    "Artifact",
    "Consistency",
    "ErrorRecord",
    "ExplanationRecord",
    "ExplanationRequest",
    "ImageGrid",
    "ModelRecord",
    "Settings",
    "Stage",
    "State",
    "Status",
    "TargetRecord",
    "Tenant",
    "Token",
    "load_settings",
]
