"""MedGemmaExplainer: ask, answer, explain, in this process and without a queue."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, Unpack

import torch

from medgemma_tasks.asking import Prompt
from medgemma_tasks.errors import MedGemmaError
from medgemma_tasks.explanation import ExplanationResult
from medgemma_tasks.making import make
from medgemma_tasks.models import (
    AnswerTarget,
    CharactersTarget,
    EveryTokenTarget,
    KeywordTarget,
    PromptTarget,
    Stage,
    Target,
    TokenTarget,
)
from medgemma_worker.answering import answer_many
from medgemma_worker.conversation import Prepared, prepare
from medgemma_worker.engine import TellBatch
from medgemma_worker.explaining import Answered, explain_answered
from medgemma_worker.layers import LayerMaps, layer_maps
from medgemma_worker.pictures_in import Picture
from medgemma_worker.question import Asked, Question, ask
from medgemma_worker.recording import decoder_for
from medgemma_worker.relevancy.attention import install

if TYPE_CHECKING:
    from transformers import Gemma3ForConditionalGeneration, Gemma3Processor

Report = Callable[[Stage, float], None]
Pictures = Picture | Sequence[Picture]


def _quiet(stage: Stage, progress: float) -> None:
    """Reports to nobody."""


class MedGemmaExplainer:
    """Explains what a Gemma 3 vision-language model says about images.

    The model must come from ``load_medgemma``, or be any frozen
    ``Gemma3ForConditionalGeneration`` in eval mode. One explanation runs at a time; calls from
    other threads wait.

    Every way of asking takes one picture or several, and a prompt that is a text (read after the
    pictures) or texts and pictures in order (``["Before:", 0, "After:", 1, "What changed?"]``);
    besides, by keyword, a ``system`` prompt, an ``answer`` to explain instead of generating one,
    and ``options`` (``medgemma_tasks.models.Options``).
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
        self._decoder = decoder_for(model)
        self._lock = threading.Lock()

    # The API of the library this grew from.

    def explain(
        self,
        image: Pictures,
        prompt: Prompt,
        target_token_position: int | None = None,
        **asked: Unpack[Asked],
    ) -> ExplanationResult:
        """Explain one token by its position in the sequence, or the whole answer by default."""
        target: Target = AnswerTarget()
        if target_token_position is not None:
            target = TokenTarget(position=target_token_position)
        return self._one(image, prompt, target, asked)

    def explain_keyword(
        self,
        image: Pictures,
        prompt: Prompt,
        keyword: str,
        *,
        occurrence: int = 1,
        whole_word: bool = True,
        **asked: Unpack[Asked],
    ) -> ExplanationResult:
        """Explain a word or phrase of the answer. Raises KeywordNotInAnswer."""
        target = _words(KeywordTarget, keyword, occurrence=occurrence, whole_word=whole_word)
        return self._one(image, prompt, target, asked)

    def explain_answer_span(
        self,
        image: Pictures,
        prompt: Prompt,
        start: int | None = None,
        end: int | None = None,
        **asked: Unpack[Asked],
    ) -> ExplanationResult:
        """Explain the whole answer, without its end markers and thinking block; or of it the
        characters ``start`` to ``end - 1``, counted from 0. Raises CharactersOutOfRange."""
        target: Target = AnswerTarget()
        if start is not None or end is not None:
            target = make(CharactersTarget, "span of characters", start=start or 0, end=end)
        return self._one(image, prompt, target, asked)

    # Beyond it.

    def explain_prompt(
        self,
        image: Pictures,
        prompt: Prompt,
        words: str,
        *,
        occurrence: int = 1,
        whole_word: bool = True,
        **asked: Unpack[Asked],
    ) -> ExplanationResult:
        """Explain words of the prompt: why the model would have said them there itself.

        Raises KeywordNotInPrompt.
        """
        target = _words(PromptTarget, words, occurrence=occurrence, whole_word=whole_word)
        return self._one(image, prompt, target, asked)

    def explain_keywords(
        self, image: Pictures, prompt: Prompt, keywords: Sequence[str], **asked: Unpack[Asked]
    ) -> list[ExplanationResult]:
        """Explain several words of one answer, for one generation and one forward pass.

        Raises KeywordNotInAnswer for the first that is missing.
        """
        targets = [_words(KeywordTarget, keyword) for keyword in keywords]
        return self.run(ask(image, prompt, targets, **asked))

    def explain_tokens(
        self, image: Pictures, prompt: Prompt, **asked: Unpack[Asked]
    ) -> list[ExplanationResult]:
        """Explain every token of the answer, each on its own, in the order of the answer."""
        return self.run(ask(image, prompt, [EveryTokenTarget()], **asked))

    def explain_layers(
        self,
        image: Pictures,
        prompt: Prompt,
        target: Target | None = None,
        *,
        heads_of: int | None = None,
        **asked: Unpack[Asked],
    ) -> LayerMaps:
        """How the map of a target (by default the whole answer) builds up layer by layer, and with
        ``heads_of`` what each head of that layer, counted from 0, adds.

        Always by the default method. Raises InvalidRequest for a layer that does not exist.
        """
        question = self.prepare(ask(image, prompt, [target or AnswerTarget()], **asked))
        with self._lock:
            (answered,) = self._answered([question], _quiet)
            return layer_maps(self.model, answered, heads_of)

    def _one(
        self, image: Pictures, prompt: Prompt, target: Target, asked: Asked
    ) -> ExplanationResult:
        return self.run(ask(image, prompt, [target], **asked))[0]

    # What the queue side calls.

    def run(self, question: Question, report: Report = _quiet) -> list[ExplanationResult]:
        """Generate once, find the targets, explain them: a result for each target.

        ``report`` is called as each stage begins and while tokens come; it may raise, to cancel.
        Raises the errors of ``build_prompt``, ``read_answer``, ``find_targets`` and ``explain``.
        """
        return self.run_many([question], report)[0]

    def run_many(
        self, questions: Sequence[Question], report: Report = _quiet
    ) -> list[list[ExplanationResult]]:
        """Several questions answered and explained together: for each what it would get alone.

        Memory grows with their number; one that cannot be explained fails all.
        """
        asked = [self.prepare(question) for question in questions]
        with self._lock:
            answered = self._answered(asked, report)
            report(Stage.EXPLAINING, 0.0)
            return self._explained(answered, lambda done: report(Stage.EXPLAINING, done))

    # The same in parts, for a queue that overlaps them.

    def prepare(self, question: Question) -> Prepared:
        """A question as tensors. For any thread, beside whatever else runs.

        Raises the errors of ``conversation.prepare``.
        """
        return prepare(self.model, self.processor, question)

    def answer(self, asked: Sequence[Prepared], tell: TellBatch) -> list[Answered | MedGemmaError]:
        """Questions answered together; see ``answering.answer_many``."""
        with self._lock:
            return answer_many(self.model, self.processor, asked, tell, self._decoder)

    def explain_answers(
        self, answered: Sequence[Answered], tell: Callable[[float], None] = lambda _: None
    ) -> list[list[ExplanationResult]]:
        """Answers explained together, each with a result for each of its targets."""
        with self._lock:
            return self._explained(answered, tell)

    def warm(self) -> None:
        """Make ready what takes time, before the first question."""
        with self._lock:
            self._decoder.warm()

    def release(self) -> None:
        """Give back the memory that is held between questions."""
        with self._lock:
            self._decoder.release()

    def _explained(
        self, answered: Sequence[Answered], tell: Callable[[float], None]
    ) -> list[list[ExplanationResult]]:
        """Those of one method together; see ``explaining.explain_answered``."""
        found: dict[int, list[ExplanationResult]] = {}
        methods = [one.question.options.method for one in answered]
        for method in dict.fromkeys(methods):
            places = [place for place, of_one in enumerate(methods) if of_one == method]
            results = explain_answered(
                self.model, self.processor, [answered[place] for place in places], tell
            )
            found.update(zip(places, results, strict=True))
        return [found[place] for place in range(len(answered))]

    def _answered(self, asked: Sequence[Prepared], report: Report) -> list[Answered]:
        """All of them, or the first one's error. The progress is that of the slowest."""
        report(Stage.GENERATING, 0.0)

        def tell(progress: Sequence[float]) -> Collection[int]:
            report(Stage.GENERATING, min(progress))
            return ()

        found: list[Answered] = []
        for one in answer_many(self.model, self.processor, asked, tell, self._decoder):
            if isinstance(one, MedGemmaError):
                raise one
            found.append(one)
        return found


def _words(kind: type[KeywordTarget | PromptTarget], words: str, **options: Any) -> Target:
    return make(kind, "keyword", keyword=words, **options)
