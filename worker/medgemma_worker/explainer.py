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

from medgemma_tasks.explanation import ExplanationResult
from medgemma_tasks.models import (
    AnswerTarget,
    Consistency,
    ImagePart,
    KeywordTarget,
    Message,
    Options,
    Stage,
    Target,
    TextPart,
    TokenTarget,
)
from medgemma_worker.answer import read_answer
from medgemma_worker.conversation import Conversation, roles, shares
from medgemma_worker.generation import end_tokens, generate
from medgemma_worker.pictures_in import Picture, prepared, read_picture
from medgemma_worker.prompt import THINKING, Prompt, build_prompt
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
        target = KeywordTarget(keyword=keyword, occurrence=occurrence, whole_word=whole_word)
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

    def _ask(
        self,
        image: Picture | Sequence[Picture],
        prompt: str,
        target: Target,
        options: Options | None,
    ) -> ExplanationResult:
        one = isinstance(image, (Image.Image, np.ndarray, str, PathLike))
        pictures: Sequence[Picture] = [image] if one else list(image)  # type: ignore[list-item,arg-type]
        images = [read_picture(picture) for picture in pictures]
        parts = (*(ImagePart(image=i) for i in range(len(images))), TextPart(text=prompt))
        message = Message(role="user", content=parts)
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
        with self._lock:
            began = time.perf_counter()
            report(Stage.GENERATING, 0.0)
            sequence = self._answer(images, messages, options, report)
            answered = time.perf_counter()
            report(Stage.EXPLAINING, 0.0)
            span = find_target(
                target, sequence.answer, labels=sequence.labels, images=sequence.prompt.images
            )
            row = self._explain(sequence, span.token_positions)
            seconds = {
                "generating": answered - began,
                "explaining": time.perf_counter() - answered,
            }
        config = self.model.config.text_config
        last = span.token_positions[-1]
        texts = [p.text for m in messages for p in m.content if isinstance(p, TextPart)]
        return ExplanationResult.from_scores(
            image_scores=self._maps(row.gained, sequence.prompt),
            raw_image_relevancy=self._maps(row.attention, sequence.prompt),
            **self._texts(row, sequence),
            generated_text=sequence.answer.text,
            pad_to_square=options.pad_to_square,
            thinking=sequence.answer.thinking,
            own_relevancy=float(row.gained[list(row.own)].sum()),
            shares=shares(row, sequence.roles),
            consistency=Consistency(checked=row.checked, misses=row.misses),
            spans=(span,),
            metadata={
                "seq_len": len(sequence.labels),
                "num_layers": int(config.num_hidden_layers),
                "input_len": sequence.prompt.length,
                "prompt": "\n".join(texts),
                "target_token": "".join(span.tokens),
                "target_token_position": last,
                "logit_position": last - 1,
                "method": METHOD,
                "method_version": METHOD_VERSION,
                "seconds": seconds,
            },
        )

    def _answer(
        self,
        images: Sequence[Image.Image],
        messages: Sequence[Message],
        options: Options,
        report: Report,
    ) -> Conversation:
        tokenizer = self.processor.tokenizer
        shown = [prepared(image, pad=options.pad_to_square) for image in images]
        prompt = build_prompt(
            self.model, self.processor, messages, shown, room=options.max_new_tokens
        )
        generated = generate(
            self.model,
            prompt,
            max_new_tokens=options.max_new_tokens,
            tell=lambda progress: report(Stage.GENERATING, progress),
        )
        vocabulary = tokenizer.get_vocab()
        answer = read_answer(
            generated,
            first=prompt.length,
            decode=lambda ids: str(
                tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
            ),
            ends=end_tokens(self.model),
            thinking=(vocabulary.get(THINKING[0]), vocabulary.get(THINKING[1])),
        )
        new = torch.tensor([generated], device=prompt.input_ids.device)
        ids = torch.cat([prompt.input_ids, new], dim=1)
        kinds = torch.cat([prompt.token_type_ids, torch.zeros_like(new)], dim=1)
        labels = tuple(token.replace("▁", " ") for token in tokenizer.convert_ids_to_tokens(ids[0]))
        special = set(tokenizer.all_special_ids) | {tokenizer.boi_token_id, tokenizer.eoi_token_id}
        return Conversation(
            ids=ids[0],
            kinds=kinds,
            labels=labels,
            roles=roles(ids[0].tolist(), labels, prompt, special),
            prompt=prompt,
            answer=answer,
        )

    def _explain(self, sequence: Conversation, positions: Sequence[int]) -> RelevancyRow:
        embeddings = embed(
            self.model, sequence.ids[None], sequence.kinds, sequence.prompt.pixel_values
        )
        passage = Passage(
            embeddings,
            sequence.kinds,
            sequence.ids,
            images=sequence.prompt.images,
            answer_first=sequence.prompt.length,
        )
        model = self.model
        return explain(
            model,
            [passage],
            [[positions]],
            checkpoint=must_checkpoint(
                model.config.text_config, positions[-1], model.dtype, model.device
            ),
        )[0][0]

    def _maps(self, row: torch.Tensor, prompt: Prompt) -> NDArray[np.float32]:
        """The row's image parts: float32 (n, rows, columns); zero where the target comes first."""
        count = int(self.model.config.mm_tokens_per_image)
        side = round(count**0.5)
        maps = np.zeros((len(prompt.images), side, side), dtype=np.float32)
        for index, (first, end) in enumerate(prompt.images):
            if end <= row.numel():
                maps[index] = row[first:end].numpy().reshape(side, side)
        return maps

    def _texts(self, row: RelevancyRow, sequence: Conversation) -> dict[str, Any]:
        """What belongs to the text tokens that the target could see."""
        positions = [p for p in range(row.gained.numel()) if sequence.roles[p] != "image"]
        return {
            "text_scores": row.gained[positions].numpy(),
            "raw_text_relevancy": row.attention[positions].numpy(),
            "text_positions": np.array(positions, dtype=np.int64),
            "token_labels": [sequence.labels[p] for p in positions],
            "text_roles": [sequence.roles[p] for p in positions],
        }
