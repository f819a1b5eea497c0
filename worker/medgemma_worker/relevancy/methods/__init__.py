"""The methods by name. Each is one file, states its source, and never builds an S x S matrix."""

from __future__ import annotations

from collections.abc import Callable

from medgemma_tasks.errors import InvalidRequest
from medgemma_worker.relevancy.methods.attention import (
    AllAttention,
    GlobalAttention,
    LastAttention,
)
from medgemma_worker.relevancy.methods.base import Method, Target
from medgemma_worker.relevancy.methods.baselines import CentredGaussian, Random
from medgemma_worker.relevancy.methods.chefer import Chefer, CheferGlobal
from medgemma_worker.relevancy.methods.input_gradient import InputGradient
from medgemma_worker.relevancy.methods.own_row import OwnRow
from medgemma_worker.relevancy.methods.rollout import Rollout

METHODS: dict[str, Callable[[Target], Method]] = {
    "chefer": Chefer,
    "chefer-global": CheferGlobal,
    "own-row": OwnRow,
    "attention-last": LastAttention,
    "attention-global": GlobalAttention,
    "attention-all": AllAttention,
    "rollout": Rollout,
    "input-gradient": InputGradient,
    "random": Random,
    "gaussian": CentredGaussian,
}

DEFAULT = "chefer"

INTEGRATED = "token-integrated-gradients"
"""The one method that is not fed layer by layer: see ``relevancy/integrated.py``."""

NAMES = (*METHODS, INTEGRATED)


def check_method(name: str) -> None:
    """Raise InvalidRequest where there is no method of this name."""
    if name not in NAMES:
        raise InvalidRequest(f"There is no method {name!r}; there are {', '.join(NAMES)}.")
