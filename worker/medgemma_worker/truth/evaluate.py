"""The whole protocol over many questions."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from medgemma_tasks.errors import EmptyAnswer, InvalidRequest, KeywordNotInAnswer
from medgemma_worker.phantom.images import lesion_cells, overlaps_cell
from medgemma_worker.relevancy.integrated import explain_all
from medgemma_worker.truth.agreement import mass_over_area, peak, rank_correlation
from medgemma_worker.truth.bootstrap import DRAWS
from medgemma_worker.truth.frozen import Frozen, freeze
from medgemma_worker.truth.job import LEAST_GAIN, areas
from medgemma_worker.truth.measured import Maps, Measured
from medgemma_worker.truth.perturb import Fill
from medgemma_worker.truth.questions import Question
from medgemma_worker.truth.report import Evaluation, QuestionReport
from medgemma_worker.truth.sanity import randomised_text_layers
from medgemma_worker.truth.score import BATCH
from medgemma_worker.truth.summary import method_reports

if TYPE_CHECKING:
    from transformers import Gemma3ForConditionalGeneration, Gemma3Processor

SEED = 0
"""Of the bootstrap, of equal scores' order, of the random map and of the random weights."""

RANDOM = "random"


@dataclass(frozen=True)
class Setup:
    """What is evaluated, and how."""

    model: Gemma3ForConditionalGeneration
    processor: Gemma3Processor
    name: str
    revision: str
    methods: Sequence[str]
    fill: Fill = "blur"
    batch: int = BATCH
    max_new_tokens: int = 300


def evaluate(
    setup: Setup,
    questions: Iterable[Question],
    *,
    source: Literal["phantoms", "questions"],
    first_seed: int | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> Evaluation:
    """Run the protocol. ``tell`` gets a line for each question.

    Raises InvalidRequest when no question could be explained.
    """
    began = time.perf_counter()
    measured: list[Measured] = []
    asked = 0
    for index, question in enumerate(questions):
        asked += 1
        try:
            one = measure(setup, question, index)
        except (KeywordNotInAnswer, EmptyAnswer) as error:
            tell(f"question {index + 1}: left out [{error.code}]")
            continue
        measured.append(one)
        gain = one.scored.log_whole - one.scored.log_covered
        kept = "kept" if one.scored.depends else "left out of the curves"
        tell(f"question {index + 1}: log p - log p(covered) = {gain:.2f}, {kept}")
    if not measured:
        raise InvalidRequest(
            f"None of {asked} questions could be explained: the answers were empty or did not hold "
            "the keyword."
        )
    tell("the same with random weights in the text layers")
    randomise(setup, measured)
    kept_count = sum(one.scored.depends for one in measured)
    counts = next((a.counts for m in measured for a in m.scored.areas.values()), ())
    rows, columns = measured[0].frozen.grid
    return Evaluation(
        made_at=datetime.now(UTC),
        package_version=importlib.metadata.version("medgemma-explainer"),
        model=setup.name,
        revision=setup.revision,
        dtype=str(setup.model.dtype).removeprefix("torch."),
        source=source,
        first_seed=first_seed,
        fill=setup.fill,
        steps=counts,
        cells=rows * columns,
        least_gain=LEAST_GAIN,
        bootstrap_draws=DRAWS,
        bootstrap_seed=SEED,
        asked=asked,
        unanswered=asked - len(measured),
        explained=len(measured),
        kept=kept_count,
        kept_share=kept_count / len(measured),
        misses=sum(one.misses for one in measured),
        methods=method_reports(setup.methods, measured, SEED),
        questions=tuple(_question_report(one) for one in measured),
        seconds=time.perf_counter() - began,
    )


def measure(setup: Setup, question: Question, index: int) -> Measured:
    """Everything about one question that needs the true weights."""
    frozen = freeze(setup.model, setup.processor, question, max_new_tokens=setup.max_new_tokens)
    (maps, *others), misses = draw_maps(setup, frozen, index, swap=True)
    scored = areas(
        setup.model,
        setup.processor,
        frozen.images,
        frozen.passage.token_ids,
        frozen.passage.kinds[0],
        frozen.target,
        maps,
        fill=setup.fill,
        seed=SEED,
        batch=setup.batch,
    )
    # Without its images, which for hundreds of large ones would fill the memory.
    one = Measured(index, replace(frozen, images=()), maps, scored, misses)
    for other in others:
        one.swapped = {name: rank_correlation(maps[name], other[name]) for name in maps}
    lesion = question.lesion
    if lesion is not None and lesion.any():
        side = frozen.grid[0]
        near = lesion_cells(lesion, side, grow=1)
        for name, values in maps.items():
            one.hits[name] = overlaps_cell(lesion, peak(values[0]), side, grow=1)
            one.mass[name] = mass_over_area(values[0].astype(np.float64), near)
    return one


def randomise(setup: Setup, measured: Sequence[Measured]) -> None:
    """Fill in ``randomised``: the same tokens explained with the weights forgotten."""
    with randomised_text_layers(setup.model, SEED):
        for one in measured:
            (maps, *_), _ = draw_maps(setup, one.frozen, one.index, swap=False)
            one.randomised = {
                name: rank_correlation(one.maps[name], values) for name, values in maps.items()
            }


def draw_maps(setup: Setup, frozen: Frozen, index: int, *, swap: bool) -> tuple[list[Maps], int]:
    """Maps of the target and, with ``swap``, of the other word: one forward pass for all methods.

    Also how many answer tokens were not the most likely ones in that pass.
    """
    targets = [frozen.target, *([frozen.other] if swap and frozen.other else [])]
    rows = explain_all(setup.model, [frozen.passage], [targets], methods=setup.methods)[0]
    found = [
        {name: _map(row, frozen) for name, row in of_target.rows.items()} for of_target in rows
    ]
    for maps in found:
        if RANDOM in maps:
            # The method gives one map to all sequences of a length: over many images that would be
            # a lucky or an unlucky map, and not chance.
            draw = np.random.Generator(np.random.PCG64([SEED, index]))
            maps[RANDOM] = draw.random(maps[RANDOM].shape, dtype=np.float32)
    return found, rows[0].misses


def _map(row: Tensor, frozen: Frozen) -> NDArray[np.float32]:
    """The image's part of a row: text tokens order no cells."""
    parts = [row[first:end].numpy().reshape(frozen.grid) for first, end in frozen.passage.images]
    return np.stack(parts)


def _question_report(one: Measured) -> QuestionReport:
    return QuestionReport(
        index=one.index,
        tokens=len(one.frozen.target),
        log_p=one.scored.log_whole,
        log_p_covered=one.scored.log_covered,
        kept=one.scored.depends,
        misses=one.misses,
        deletion={name: areas.deletion for name, areas in one.scored.areas.items()},
        insertion={name: areas.insertion for name, areas in one.scored.areas.items()},
    )
