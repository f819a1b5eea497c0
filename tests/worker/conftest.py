"""The parts without servers, and the shipped phantom with a film of a known lesion."""

from __future__ import annotations

import pytest

from medgemma_worker import MedGemmaExplainer, load_medgemma
from medgemma_worker.phantom.images import Phantom, make_phantom
from tests.parts import boto_session, ledger, live, redis_fake, settings, store

__all__ = ["boto_session", "ledger", "live", "redis_fake", "settings", "store"]


@pytest.fixture(scope="module")
def explainer() -> MedGemmaExplainer:
    model, processor, _ = load_medgemma("phantom", device="cpu")
    return MedGemmaExplainer(model, processor)


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return make_phantom(910_000, kind="consolidation")
