"""Several questions answered together: each gets what it would get alone, or its own error."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from medgemma_tasks.errors import JobCancelled, MedGemmaError
from medgemma_worker.conversation import Prepared, embedded, read
from medgemma_worker.engine import TellBatch
from medgemma_worker.explaining import Answered
from medgemma_worker.generation import Decoder, generate_many
from medgemma_worker.targets import find_targets

if TYPE_CHECKING:
    from transformers import Gemma3ForConditionalGeneration, Gemma3Processor


def answer_many(
    model: Gemma3ForConditionalGeneration,
    processor: Gemma3Processor,
    asked: Sequence[Prepared],
    tell: TellBatch,
    decoder: Decoder | None = None,
) -> list[Answered | MedGemmaError]:
    """For each question its answer with the spans to explain, in order; JobCancelled for one that
    ``tell`` dropped, and the errors of ``read`` and ``find_targets``.

    Given answers are taken as they are, and generate nothing. ``tell`` is called as each picture is
    looked at and for each token. The seconds of each answer are its share of the batch.
    """
    began = time.perf_counter()
    dropped: set[int] = set()
    generated = [i for i, one in enumerate(asked) if one.given is None]

    def told(progress: Sequence[float]) -> Collection[int]:
        """Of the generated ones alone; the given are done."""
        by_place = dict(zip(generated, progress, strict=True))
        unwanted = set(tell([by_place.get(i, 1.0) for i in range(len(asked))]))
        dropped.update(unwanted)
        return [place for place, i in enumerate(generated) if i in unwanted]

    starts = []
    for one in asked:
        told([0.0] * len(generated))
        starts.append(embedded(model, one))
    said = {i: list(one.given) for i, one in enumerate(asked) if one.given is not None}
    if generated:
        answers = generate_many(
            model,
            [starts[i] for i in generated],
            [asked[i].limit for i in generated],
            tell=told,
            decoder=decoder,
        )
        said.update(zip(generated, answers, strict=True))
    seconds = (time.perf_counter() - began) / len(asked)

    def finished(i: int) -> Answered | MedGemmaError:
        if i in dropped:
            return JobCancelled("The job was cancelled while it was answered.")
        try:
            sequence = read(model, processor, asked[i], starts[i], said[i])
            spans = find_targets(
                asked[i].question.targets,
                sequence.answer,
                labels=sequence.labels,
                images=sequence.prompt.images,
                prompt=sequence.prompt_words,
            )
        except MedGemmaError as error:
            return error
        return Answered(asked[i].question, sequence, tuple(spans), seconds)

    return [finished(i) for i in range(len(asked))]
