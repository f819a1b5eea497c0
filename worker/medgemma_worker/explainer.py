"""MedGemmaExplainer: ask, answer, explain, in this process and without a queue."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from medgemma_tasks.errors import EmptyPrompt, InvalidRequest
from medgemma_tasks.explanation import ExplanationResult
from medgemma_tasks.making import make
from medgemma_tasks.models import (
    AnswerTarget,
    Consistency,
    KeywordTarget,
    Message,
    Options,
    Span,
    Stage,
    Target,
    TextPart,
    TokenTarget,
)
from medgemma_worker.conversation import Conversation, converse, shares, texts_of
from medgemma_worker.pictures_in import Picture, read_picture
from medgemma_worker.prompt import Prompt
from medgemma_worker.relevancy.attention import install
from medgemma_worker.relevancy.explain import Passage, RelevancyRow, embed, explain
from medgemma_worker.relevancy.memory import must_checkpoint
from medgemma_worker.targets import find_target

if TYPE_CHECKING:
    from transformers import Gemma3ForConditionalGeneration, Gemma3Processor

METHOD = "chefer"
METHOD_VERSION = "1"
"""Part of every job id: raised whenever the same question would get other numbers."""

Report = Callable[[Stage, float], None]


def _quiet(stage: Stage, progress: float) -> None:
    """Reports to nobody."""


class MedGemmaExplainer:
    """Explains what a Gemma 3 vision-language model says about images.

    The model must come from ``load_medgemma``, or be any frozen
    ``Gemma3ForConditionalGeneration`` in eval mode. One explanation runs at a time; calls from
    other threads wait.
    """

    def __init__(
        self,
        model: Gemma3ForConditionalGeneration,
        processor: Gemma3Processor,
        device: torch.device | str | None = None,
    ) -> None:
        if device is not None:
            model.to(device)
        # Weights that need gradients would fill as much memory again as the model itself.
        model.requires_grad_(False)
        model.eval()
        install(model)
        self.model = model
        self.processor = processor
        self._lock = threading.Lock()

    # The API of the library this grew from.

    def explain(
        self,
        image: Picture | Sequence[Picture],
        prompt: str,
        target_token_position: int | None = None,
        *,
        options: Options | None = None,
    ) -> ExplanationResult:
        """Explain one token by its position in the sequence, or the whole answer by default."""
        target: Target = AnswerTarget()
        if target_token_position is not None:
            target = TokenTarget(position=target_token_position)
        return self._ask(image, prompt, target, options)

    def explain_keyword(
        self,
        image: Picture | Sequence[Picture],
        prompt: str,
        keyword: str,
        *,
        occurrence: int = 1,
        whole_word: bool = True,
        options: Options | None = None,
    ) -> ExplanationResult:
        """Explain a word or phrase of the answer. Raises KeywordNotInAnswer."""
        target = _keyword(keyword, occurrence=occurrence, whole_word=whole_word)
        return self._ask(image, prompt, target, options)

    def explain_answer_span(
        self,
        image: Picture | Sequence[Picture],
        prompt: str,
        *,
        options: Options | None = None,
    ) -> ExplanationResult:
        """Explain the whole answer, without its end markers and thinking block."""
        return self._ask(image, prompt, AnswerTarget(), options)

    # Beyond it: many targets for the price of one generation and one forward pass.

    def explain_keywords(
        self,
        image: Picture | Sequence[Picture],
        prompt: str,
        keywords: Sequence[str],
        *,
        options: Options | None = None,
    ) -> list[ExplanationResult]:
        """Explain several words of one answer. Raises KeywordNotInAnswer for the first missing."""
        images, message = _question(image, prompt)
        targets = [_keyword(keyword) for keyword in keywords]
        return self._run(images, [message], lambda _: targets, options or Options())

    def explain_tokens(
        self,
        image: Picture | Sequence[Picture],
        prompt: str,
        *,
        options: Options | None = None,
    ) -> list[ExplanationResult]:
        """Explain every token of the answer, each on its own, in the order of the answer."""

        def each(sequence: Conversation) -> list[Target]:
            answer = sequence.answer
            return [TokenTarget(position=p) for p in answer.span(0, len(answer.text))]

        images, message = _question(image, prompt)
        return self._run(images, [message], each, options or Options())

    def _ask(
        self,
        image: Picture | Sequence[Picture],
        prompt: str,
        target: Target,
        options: Options | None,
    ) -> ExplanationResult:
        images, message = _question(image, prompt)
        return self.run(images, [message], target, options or Options())

    # What the queue side calls.

    def run(
        self,
        images: Sequence[Image.Image],
        messages: Sequence[Message],
        target: Target,
        options: Options,
        report: Report = _quiet,
    ) -> ExplanationResult:
        """Generate once, find the target, explain it.

        ``report`` is called as each stage begins and while tokens come; it may raise, to cancel.
        Raises the errors of ``build_prompt``, ``read_answer``, ``find_target`` and ``explain``.
        """
        return self._run(images, messages, lambda _: [target], options, report)[0]

    def _run(
        self,
        images: Sequence[Image.Image],
        messages: Sequence[Message],
        choose: Callable[[Conversation], Sequence[Target]],
        options: Options,
        report: Report = _quiet,
    ) -> list[ExplanationResult]:
        """One generation, one forward pass, and one backward pass for each target."""
        with self._lock:
            began = time.perf_counter()
            report(Stage.GENERATING, 0.0)
            sequence = converse(
                self.model,
                self.processor,
                images,
                messages,
                options,
                tell=lambda progress: report(Stage.GENERATING, progress),
            )
            answered = time.perf_counter()
            report(Stage.EXPLAINING, 0.0)
            spans = [
                find_target(
                    target, sequence.answer, labels=sequence.labels, images=sequence.prompt.images
                )
                for target in choose(sequence)
            ]
            rows = self._explain(sequence, [span.token_positions for span in spans])
            seconds = {
                "generating": answered - began,
                "explaining": time.perf_counter() - answered,
            }
        texts = [p.text for m in messages for p in m.content if isinstance(p, TextPart)]
        return [
            self._result(sequence, span, row, options, "\n".join(texts), seconds)
            for span, row in zip(spans, rows, strict=True)
        ]

    def _result(
        self,
        sequence: Conversation,
        span: Span,
        row: RelevancyRow,
        options: Options,
        prompt: str,
        seconds: dict[str, float],
    ) -> ExplanationResult:
        last = span.token_positions[-1]
        return ExplanationResult.from_scores(
            image_scores=self._maps(row.gained, sequence.prompt),
            raw_image_relevancy=self._maps(row.attention, sequence.prompt),
            **texts_of(row, sequence),
            generated_text=sequence.answer.text,
            pad_to_square=options.pad_to_square,
            thinking=sequence.answer.thinking,
            own_relevancy=float(row.gained[list(row.own)].sum()),
            shares=shares(row, sequence.roles),
            consistency=Consistency(checked=row.checked, misses=row.misses),
            spans=(span,),
            metadata={
                "seq_len": len(sequence.labels),
                "num_layers": int(self.model.config.text_config.num_hidden_layers),
                "input_len": sequence.prompt.length,
                "prompt": prompt,
                "target_token": "".join(span.tokens),
                "target_token_position": last,
                "logit_position": last - 1,
                "method": METHOD,
                "method_version": METHOD_VERSION,
                "seconds": seconds,
            },
        )

    def _explain(
        self, sequence: Conversation, targets: Sequence[Sequence[int]]
    ) -> list[RelevancyRow]:
        model = self.model
        passage = Passage(
            embed(model, sequence.ids[None], sequence.kinds, sequence.prompt.pixel_values),
            sequence.kinds,
            sequence.ids,
            images=sequence.prompt.images,
            answer_first=sequence.prompt.length,
        )
        longest = max(positions[-1] for positions in targets)
        return explain(
            model,
            [passage],
            [targets],
            checkpoint=must_checkpoint(
                model.config.text_config, longest, model.dtype, model.device
            ),
        )[0]

    def _maps(self, row: torch.Tensor, prompt: Prompt) -> NDArray[np.float32]:
        """The row's image parts: float32 (n, rows, columns); zero where the target comes first."""
        count = int(self.model.config.mm_tokens_per_image)
        side = round(count**0.5)
        maps = np.zeros((len(prompt.images), side, side), dtype=np.float32)
        for index, (first, end) in enumerate(prompt.images):
            if end <= row.numel():
                maps[index] = row[first:end].numpy().reshape(side, side)
        return maps


def _question(image: Picture | Sequence[Picture], prompt: str) -> tuple[list[Image.Image], Message]:
    """The images and the one turn of a question: the images, then the text."""
    one = isinstance(image, (Image.Image, np.ndarray, str, PathLike))
    pictures: Sequence[Picture] = [image] if one else list(image)  # type: ignore[list-item,arg-type]
    if not pictures:
        raise InvalidRequest("There is no image; pass one or more.")
    if not prompt.strip():
        raise EmptyPrompt("The prompt is empty; ask something about the image.")
    images = [read_picture(picture) for picture in pictures]
    parts = (*({"type": "image", "image": i} for i in range(len(images))),)
    content = (*parts, {"type": "text", "text": prompt})
    return images, make(Message, "prompt", role="user", content=content)


def _keyword(keyword: str, **options: Any) -> KeywordTarget:
    return make(KeywordTarget, "keyword", keyword=keyword, **options)
