"""The explaining pass: embeddings in, the relevancy rows of one or many targets out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import Gemma3ForConditionalGeneration

from medgemma_tasks.errors import NonFiniteRelevancy
from medgemma_worker.relevancy.capture import LayerCapture
from medgemma_worker.relevancy.checkpointing import checkpointed
from medgemma_worker.relevancy.memory import attention_fits
from medgemma_worker.relevancy.methods import DEFAULT, METHODS, check_method
from medgemma_worker.relevancy.methods.base import Method, Target

RAW = "attention-all"
"""The baseline without gradient that goes with every map."""

Tracers = Mapping[str, Callable[[Target], Method]]
"""Methods of one's own by name, whose results may be rows: float32 (..., S)."""

Value = Literal["logit", "log-probability"]
"""What a target's y is the sum of. The logit is the published rule. The log-probability, float32
log_softmax of the row, is that logit less what all tokens have in common: its gradient tells the
token from its rivals, and fades as p nears 1."""


@dataclass(frozen=True)
class Passage:
    """A prompt with its answer, T tokens, ready to be explained.

    embeddings: (1, T, hidden), images merged in. kinds: int64 (1, T), 1 on image tokens.
    token_ids: int64 (T,). images: first and one past the last position of each image's tokens.
    answer_first: where the greedy answer begins, to be scored again; None scores nothing.
    covered: (n, tokens, hidden), the image tokens with the images covered, for the one method that
    compares with them.
    """

    embeddings: Tensor
    kinds: Tensor
    token_ids: Tensor
    images: tuple[tuple[int, int], ...] = ()
    answer_first: int | None = None
    covered: Tensor | None = None


@dataclass(frozen=True)
class RelevancyRow:
    """The rows that belong to one target, over the S positions before its last token.

    rows: float32 (S,) by method, on the CPU. Those of the rule exclude the identity that they start
    from, so the target's own positions (p-1) hold what they gained from themselves and from later
    rows.
    own: the positions p-1.
    checked, misses: answer tokens scored again in the same pass, and those not the argmax there.
    gradient: dy/d(image features), (n, tokens, hidden) in the model's dtype and on its device, 0
    for an image after the target; None where it was not asked for, or there is no image.
    """

    rows: dict[str, Tensor]
    own: tuple[int, ...]
    checked: int
    misses: int
    gradient: Tensor | None = None

    @property
    def gained(self) -> Tensor:
        """The row of the first method asked for."""
        return next(iter(self.rows.values()))

    @property
    def attention(self) -> Tensor:
        """Raw attention of the rows p-1, mean over heads and layers."""
        return self.rows[RAW]


@torch.no_grad()
def embed(
    model: Gemma3ForConditionalGeneration, token_ids: Tensor, kinds: Tensor, pixels: Tensor | None
) -> Tensor:
    """Input embeddings of the language model with the images merged in: (1, S, hidden).

    Args:
        token_ids, kinds: int64 (1, S); kinds is 1 on image tokens.
        pixels: (n, 3, height, width) or None.
    """
    where = kinds == 1
    # The image token may lie beyond the embedding table, as it does in some checkpoints.
    embeddings: Tensor = model.get_input_embeddings()(token_ids.masked_fill(where, 0))
    if pixels is not None:
        features = model.model.get_image_features(pixels, return_dict=True).pooler_output
        embeddings = embeddings.masked_scatter(where[..., None], features.to(embeddings))
    return embeddings


def explain(
    model: Gemma3ForConditionalGeneration,
    passages: Sequence[Passage],
    targets: Sequence[Sequence[Sequence[int]]],
    *,
    methods: Sequence[str] = (DEFAULT, RAW),
    checkpoint: bool = False,
    tracers: Tracers | None = None,
    gradients: bool = False,
    value: Value = "logit",
    tell: Callable[[float], None] = lambda _: None,
) -> list[list[RelevancyRow]]:
    """Explain targets of passages: one forward pass, and one backward pass for each round of
    targets, a round taking one target of every passage.

    A target is its ascending positions p, each at least 1; explained is the sum of the logits of
    the tokens there. The logit at p-1 predicts token p; the id is the one generated, never the
    argmax. Tokens from a passage's last target on cannot influence it and are left out. Weights
    must be frozen: the graph starts at the embeddings.

    Args:
        targets: for each passage its targets, at least one.
        methods: names in METHODS.
        checkpoint: keep activations of one layer at a time, for one forward pass more.
        tracers: fed beside the methods; their results stand in ``rows`` after those.
        gradients: keep the gradient at the image tokens, see ``RelevancyRow``.
        value: sum the targets' log-probabilities instead of their logits.
        tell: called between rounds with the fraction of them that is done; it may raise.

    Raises NonFiniteRelevancy; InvalidRequest for a method that does not exist.
    """
    for name in methods:
        check_method(name)
    makers = {name: METHODS[name] for name in methods} | dict(tracers or {})
    lengths = [max(p[-1] for p in of_passage) for of_passage in targets]
    batch = _Batch(passages, lengths, targets)
    layers = model.model.language_model.layers
    config = model.config.text_config
    windowed = [kind == "sliding_attention" for kind in config.layer_types]
    rounds = max(len(of_passage) for of_passage in targets)
    size = batch.start.shape[:2]
    capture = LayerCapture(windowed, keep=rounds > 1 and attention_fits(config, *size))
    with torch.enable_grad(), checkpointed(layers, checkpoint):
        logits = model(
            inputs_embeds=batch.start,
            token_type_ids=batch.kinds,
            attention_mask=batch.attention_mask,
            use_cache=False,
            logits_to_keep=batch.rows,
            relevancy_capture=capture,
        ).logits
        scored = [batch.score(logits.detach(), b) for b in range(len(passages))]
        found: list[list[RelevancyRow]] = [[] for _ in passages]
        for turn in range(rounds):
            if turn:
                tell(turn / rounds)
            working = []
            wanted = []
            for b, of_passage in enumerate(targets):
                positions = of_passage[turn] if turn < len(of_passage) else ()
                target = batch.target(b, positions, len(layers))
                working.append([make(target) for make in makers.values()] if positions else [])
                wanted.append(batch.value(logits, b, positions, value))
            capture.begin(working)
            # The sequences of a batch do not see each other, so one sum explains each on its own.
            y = torch.stack(wanted).sum()
            if not bool(torch.isfinite(y)):
                raise NonFiniteRelevancy(
                    f"The target's {value} is NaN or infinite, so there is no map. Try dtype "
                    "float32.",
                    layer=None,
                )
            batch.start.grad = None
            # Not autograd.grad, which reentrant checkpointing does not know.
            torch.autograd.backward(y, retain_graph=turn + 1 < rounds)
            capture.check()
            for b, of_passage in enumerate(targets):
                if turn < len(of_passage):
                    rows = batch.finish(b, of_passage[turn][-1], list(makers), working[b])
                    own = tuple(p - 1 for p in of_passage[turn])
                    gradient = batch.image_gradient(b) if gradients else None
                    found[b].append(RelevancyRow(rows, own, *scored[b], gradient))
    return found


class _Batch:
    """Passages cut after their last target and padded on the right to one length."""

    def __init__(
        self,
        passages: Sequence[Passage],
        lengths: Sequence[int],
        targets: Sequence[Sequence[Sequence[int]]],
    ) -> None:
        self._passages = passages
        self._lengths = lengths
        pairs = list(zip(passages, lengths, strict=True))
        start = pad_sequence([p.embeddings[0, :n] for p, n in pairs], batch_first=True)
        self.start = start.detach().requires_grad_(True)
        self.kinds = pad_sequence([p.kinds[0, :n] for p, n in pairs], batch_first=True)
        self.attention_mask = None
        if len(set(lengths)) > 1:
            ones = [torch.ones(n, dtype=torch.long, device=start.device) for n in lengths]
            self.attention_mask = pad_sequence(ones, batch_first=True)
        needed = {p - 1 for of_passage in targets for ps in of_passage for p in ps}
        for passage, length in pairs:
            first = passage.answer_first
            if first is not None:
                needed |= set(range(first - 1, length))
        self._place = {row: i for i, row in enumerate(sorted(needed))}
        self.rows = torch.tensor(sorted(needed), device=start.device)

    def target(self, b: int, positions: Sequence[int], layers: int) -> Target:
        weights = torch.zeros(self.start.shape[1], device=self.start.device)
        for p in positions:
            weights[p - 1] = 1.0 / len(positions)
        images = [(a, e) for a, e in self._passages[b].images if e <= self._lengths[b]]
        return Target(weights, layers, images)

    def value(self, logits: Tensor, b: int, positions: Sequence[int], value: Value) -> Tensor:
        """y of a target, float32; 0 for none."""
        if not positions:
            return logits.new_zeros((), dtype=torch.float32)
        places = [self._place[p - 1] for p in positions]
        ids = self._passages[b].token_ids[list(positions)]
        if value == "logit":
            return logits[b, places, ids].float().sum()
        log_p = torch.log_softmax(logits[b, places].float(), dim=-1)
        return log_p.gather(-1, ids[:, None]).sum()

    def score(self, logits: Tensor, b: int) -> tuple[int, int]:
        """How many answer tokens were scored again, and how many were not the argmax."""
        passage, length = self._passages[b], self._lengths[b]
        if passage.answer_first is None or passage.answer_first > length:
            return 0, 0
        rows = range(passage.answer_first - 1, length)
        expected = passage.token_ids[passage.answer_first : length + 1]
        hits = logits[b, [self._place[row] for row in rows]].argmax(dim=-1) == expected
        return len(rows), len(rows) - int(hits.sum())

    def finish(
        self, b: int, length: int, names: Sequence[str], working: Sequence[Method]
    ) -> dict[str, Tensor]:
        gradient = self.start.grad
        if gradient is None:
            raise NonFiniteRelevancy("The backward pass did not reach the input.", layer=None)
        start = self.start.detach()[b]
        return {
            name: method.finish(start, gradient[b])[..., :length].cpu()
            for name, method in zip(names, working, strict=True)
        }

    def image_gradient(self, b: int) -> Tensor | None:
        """dy/d(image features) of the last backward pass, see ``RelevancyRow``."""
        images, gradient = self._passages[b].images, self.start.grad
        if not images or gradient is None:
            return None
        # Copied, since it must outlive the graph. Rows that were cut off had no influence: zeros.
        found = gradient.new_zeros(len(images), images[0][1] - images[0][0], gradient.shape[-1])
        for i, (first, end) in enumerate(images):
            if end <= self._lengths[b]:
                found[i] = gradient[b, first:end]
        return found


def relevancy_row(
    model: Gemma3ForConditionalGeneration,
    embeddings: Tensor,
    kinds: Tensor,
    token_ids: Tensor,
    positions: Sequence[int],
    *,
    answer_first: int | None = None,
) -> RelevancyRow:
    """``explain`` for one target of one passage, by the default method."""
    passage = Passage(embeddings, kinds, token_ids, answer_first=answer_first)
    return explain(model, [passage], [[positions]])[0][0]
