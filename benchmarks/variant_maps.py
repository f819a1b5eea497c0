"""Maps that the published rule is held against in ``variants.py``: each one function, its source
stated. "Ours" means that no source is known for it.

The rule itself and what only changes its target or its image come from the streaming pass; what
changes the rule comes from the retained attention of the reference, since here nothing is long.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medgemma_worker.relevancy.explain import Passage, RelevancyRow, Value, embed, explain
from medgemma_worker.relevancy.retained import RetainedLayer, retained_layers
from medgemma_worker.truth.frozen import Frozen
from medgemma_worker.truth.perturb import Cells, Covering

DRAWS, SEED = 8, 0
"""Half-covered images of ``half_covered``, and the seed of their cells."""

STEPS = 8
"""Points on the straight way from the blurred image to the image, where it is gone along."""


class Case:
    """One frozen question, and the passes over it that variants share, each made once.

    Rows are float32 (S,), of the mean over the rows p-1 of the target, the identity taken off.
    """

    def __init__(self, model: Any, processor: Any, frozen: Frozen) -> None:
        self.model, self.processor, self.frozen = model, processor, frozen
        self.covering = Covering(frozen.images)
        self.grid = (len(frozen.images), *frozen.grid)

    def map(self, row: Tensor) -> NDArray[np.float32]:
        """The image's part of a row: float32 (1, rows, columns)."""
        first, end = self.frozen.passage.images[0]
        return np.asarray(row[first:end].cpu().numpy().reshape(self.grid), dtype=np.float32)

    def pixels(self, shown: Cells) -> Tensor:
        """What the vision tower gets with cells covered: float32 (1, 3, height, width)."""
        images = self.covering.show(shown)
        found = self.processor.image_processor(images=images, return_tensors="pt")["pixel_values"]
        return torch.as_tensor(found).to(self.model.device, self.model.dtype)

    def passage(self, pixels: Tensor) -> Passage:
        """The same tokens over another image."""
        was = self.frozen.passage
        embeddings = embed(self.model, was.token_ids[None], was.kinds, pixels)
        return replace(was, embeddings=embeddings, answer_first=None)

    @cached_property
    def everything(self) -> Cells:
        return np.ones(self.grid, dtype=np.bool_)

    @cached_property
    def blurred(self) -> Passage:
        return self.passage(self.covered)

    @cached_property
    def whole(self) -> Tensor:
        return self.pixels(self.everything)

    @cached_property
    def covered(self) -> Tensor:
        return self.pixels(~self.everything)

    @cached_property
    def tokens(self) -> Tensor:
        """Image tokens, of the blurred image and of the image: float32 (2, tokens, hidden)."""
        pixels = torch.cat([self.covered, self.whole])
        with torch.no_grad():
            features = self.model.model.get_image_features(pixels, return_dict=True)
        return torch.as_tensor(features.pooler_output)

    @cached_property
    def part(self) -> Tensor:
        """How far each of STEPS points lies on the way from covered to whole: the midpoint rule."""
        return (torch.arange(STEPS) + 0.5) / STEPS

    @cached_property
    def blends(self) -> Tensor:
        """float32 (STEPS, 3, height, width)."""
        return self.covered + self.part.view(-1, 1, 1, 1) * (self.whole - self.covered)

    def _explained(self, value: Value) -> tuple[RelevancyRow, RelevancyRow]:
        target = [self.frozen.target]
        passages = [self.frozen.passage, self.blurred]
        of_image, of_blurred = explain(self.model, passages, [target, target], value=value)
        return of_image[0], of_blurred[0]

    @cached_property
    def logit(self) -> tuple[RelevancyRow, RelevancyRow]:
        """Of the image and of the blurred image, y the sum of logits."""
        return self._explained("logit")

    @cached_property
    def log_probability(self) -> tuple[RelevancyRow, RelevancyRow]:
        """The same, y the sum of log-probabilities."""
        return self._explained("log-probability")

    @cached_property
    def layers(self) -> list[RetainedLayer]:
        """Attention and gradient of y, the sum of logits, first layer first."""
        was, end = self.frozen.passage, self.frozen.target[-1]
        return retained_layers(
            self.model,
            was.embeddings[:, :end],
            was.kinds[:, :end],
            was.token_ids,
            self.frozen.target,
        )

    def target_row(self, relevancy: Tensor) -> Tensor:
        """The mean of a matrix's rows p-1."""
        return relevancy[[p - 1 for p in self.frozen.target]].mean(dim=0)


def chefer(case: Case) -> NDArray[np.float32]:
    """The default: equations 5 and 6, Chefer, Gur, Wolf, ICCV 2021; y is the sum of logits."""
    return case.map(case.logit[0].gained)


def attention_all(case: Case) -> NDArray[np.float32]:
    """Attention of the rows p-1, mean over heads and layers: no gradient."""
    return case.map(case.logit[0].attention)


def normalised(case: Case) -> NDArray[np.float32]:
    """R <- R + Abar Rbar with Rbar = Rhat / rowsum(Rhat) + I, Rhat = R - I.

    Rbar is equations 8 and 9 of Chefer, Gur, Wolf, ICCV 2021. There it stands in the rule of
    attention between two modalities (10); to put it into the rule of self-attention (6) is ours.
    """
    eye = torch.eye(case.frozen.target[-1])
    relevancy = eye
    for layer in case.layers:
        relevancy = relevancy + layer.relevancy @ (by_row(relevancy - eye) + eye)
    return case.map(case.target_row(relevancy))


def normalised_layers(case: Case) -> NDArray[np.float32]:
    """R <- R + Abar / rowsum(Abar) R: equation 8's sums, taken of each layer's own part. Ours.

    It streams as the published rule does, v <- v + (v / rowsum(Abar)) Abar.
    """
    relevancy = torch.eye(case.frozen.target[-1])
    for layer in case.layers:
        relevancy = relevancy + by_row(layer.relevancy) @ relevancy
    return case.map(case.target_row(relevancy))


def co_attention(case: Case) -> NDArray[np.float32]:
    """Equations 6 to 11 of Chefer, Gur, Wolf, ICCV 2021, the image one modality and all other
    tokens the other; the row of R^sq. To cut one self-attention into such blocks is ours."""
    length = case.frozen.target[-1]
    q = case.frozen.passage.kinds[0, :length] == 1
    s = ~q
    r_ss, r_qq = torch.eye(int(s.sum())), torch.eye(int(q.sum()))
    r_sq, r_qs = torch.zeros(len(r_ss), len(r_qq)), torch.zeros(len(r_qq), len(r_ss))
    for layer in case.layers:
        a = layer.relevancy
        a_ss, a_qq, a_sq, a_qs = a[s][:, s], a[q][:, q], a[s][:, q], a[q][:, s]
        n_ss = by_row(r_ss - torch.eye(len(r_ss))) + torch.eye(len(r_ss))
        n_qq = by_row(r_qq - torch.eye(len(r_qq))) + torch.eye(len(r_qq))
        r_ss, r_qq, r_sq, r_qs = (
            r_ss + a_ss @ r_ss + a_sq @ r_qs,
            r_qq + a_qq @ r_qq + a_qs @ r_sq,
            r_sq + a_ss @ r_sq + n_ss.T @ a_sq @ n_qq,
            r_qs + a_qq @ r_qs + n_qq.T @ a_qs @ n_ss,
        )
    relevancy = torch.zeros(length, length)
    relevancy[s.nonzero(), q.nonzero().T] = r_sq
    return case.map(case.target_row(relevancy))


def log_probability(case: Case) -> NDArray[np.float32]:
    """The rule with y the sum of log-probabilities: what tells the word from its rivals. Ours."""
    return case.map(case.log_probability[0].gained)


def minus_blurred(case: Case) -> NDArray[np.float32]:
    """The rule less the rule over the blurred image, not clipped. Ours."""
    return case.map(case.logit[0].gained - case.logit[1].gained)


def log_probability_minus_blurred(case: Case) -> NDArray[np.float32]:
    """Both of the above. Ours."""
    return case.map(case.log_probability[0].gained - case.log_probability[1].gained)


def times_attention(case: Case) -> NDArray[np.float32]:
    """The rule times attention_all: what is looked at and also matters. Ours."""
    return case.map(case.logit[0].gained * case.logit[0].attention)


def half_covered(case: Case) -> NDArray[np.float32]:
    """The rule's mean over 8 images with each cell covered by a fair coin: what still counts when
    other cells are gone. Ours, after SmoothGrad (Smilkov and others, 2017) with the masks of RISE
    (Petsiuk, Das, Saenko, BMVC 2018)."""
    generator = np.random.Generator(np.random.PCG64(SEED))
    shown = [generator.random(case.grid) < 0.5 for _ in range(DRAWS)]
    passages = [case.passage(case.pixels(cells)) for cells in shown]
    rows = explain(case.model, passages, [[case.frozen.target]] * DRAWS)
    return case.map(torch.stack([of_passage[0].gained for of_passage in rows]).mean(dim=0))


def integrated_gradients(case: Case) -> NDArray[np.float32]:
    """Integrated gradients of log p over pixels, from the blurred image to the image, summed in
    each cell; no attention. Sundararajan, Taly, Yan, *Axiomatic Attribution for Deep Networks*,
    ICML 2017; the midpoint rule with 8 steps."""
    pixels = case.blends.clone().requires_grad_(True)
    with torch.enable_grad():
        model = case.model.model
        features = model.get_image_features(pixels, return_dict=True).pooler_output
        (gradient,) = torch.autograd.grad(_y(case, features, "log-probability"), pixels)
    parts = (gradient.mean(dim=0) * (case.whole - case.covered)[0]).sum(dim=0)
    rows, columns = case.frozen.grid
    height, width = parts.shape[0] // rows, parts.shape[1] // columns
    cells = parts.view(rows, height, columns, width).sum(dim=(1, 3))
    return np.asarray(cells.numpy()[None], dtype=np.float32)


def token_integrated_gradients(case: Case) -> NDArray[np.float32]:
    """The same over the image tokens, the straight way between those of the two images: it needs
    no gradient through the vision tower."""
    covered, whole = case.tokens
    blends = covered + case.part.view(-1, 1, 1) * (whole - covered)
    return _token_gain(case, blends, "log-probability")


def token_difference(case: Case) -> NDArray[np.float32]:
    """Gradient of the logit, at the image, times the image tokens less those of the blurred image:
    one step of the above. Shrikumar, Greenside, Kundaje, *Learning Important Features Through
    Propagating Activation Differences*, ICML 2017, have it as gradient x difference."""
    return _token_gain(case, case.tokens[1:], "logit")


def _token_gain(case: Case, tokens: Tensor, value: Value) -> NDArray[np.float32]:
    """The mean gradient at image tokens (n, tokens, hidden) times what the image changed there."""
    covered, whole = case.tokens
    start = tokens.clone().requires_grad_(True)
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(_y(case, start, value), start)
    cells = (gradient.mean(dim=0) * (whole - covered)).sum(dim=-1).view(case.grid)
    return np.asarray(cells.numpy(), dtype=np.float32)


def _y(case: Case, features: Tensor, value: Value) -> Tensor:
    """The target's value, summed over n images, image tokens (n, tokens, hidden)."""
    was, target = case.frozen.passage, case.frozen.target
    end, count = target[-1], len(features)
    kinds = was.kinds[:, :end].expand(count, -1)
    text = was.embeddings[:, :end].expand(count, -1, -1)
    scores = case.model(
        inputs_embeds=text.masked_scatter((kinds == 1)[..., None], features.to(text)),
        token_type_ids=kinds,
        use_cache=False,
        logits_to_keep=torch.tensor([p - 1 for p in target]),
    ).logits.float()
    if value == "log-probability":
        scores = torch.log_softmax(scores, dim=-1)
    ids = was.token_ids[list(target)].expand(count, -1)[..., None]
    return scores.gather(-1, ids).sum()


def by_row(matrix: Tensor) -> Tensor:
    """Each row over its sum; rows of zeros stay."""
    sums = matrix.sum(dim=-1, keepdim=True)
    return torch.where(sums > 0, matrix / sums, torch.zeros_like(matrix))


VARIANTS: Mapping[str, Callable[[Case], NDArray[np.float32]]] = {
    "chefer": chefer,
    "attention-all": attention_all,
    "normalised": normalised,
    "normalised-layers": normalised_layers,
    "co-attention": co_attention,
    "log-probability": log_probability,
    "minus-blurred": minus_blurred,
    "log-p-minus-blurred": log_probability_minus_blurred,
    "times-attention": times_attention,
    "half-covered": half_covered,
    "token-difference": token_difference,
    "integrated-gradients": integrated_gradients,
    "token-integrated-gradients": token_integrated_gradients,
}

OTHERS = ("attention-all", "token-difference", "token-integrated-gradients", "integrated-gradients")
"""Methods of another kind: no rule of relevancy in them."""

OF_THE_RULE = tuple(name for name in VARIANTS if name not in OTHERS)
"""The rule, and those that change it, its target or its image."""
