"""Train the phantom and write its checkpoint: `python -m medgemma_worker.phantom.train`.

Three losses. The language loss on the answer alone never gets going, so a throw-away linear
head asks each projected image token which lesion lies under it and in which zone, and that
teaches the tower to see; it does so alone at first, which is cheap. And the language loss
leaves the logits free: a cavity could be named because nothing speaks for the other findings,
and its logit would then have no place in the image to point at. So each token's logit is also
asked on its own whether the token comes next.

Some films are partly covered, so that covering parts of an image later measures what the
model looked at, and not how it fails on images it has never met.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import platform
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Gemma3ForConditionalGeneration, Gemma3Processor, GemmaTokenizer

from medgemma_worker.phantom import checkpoint_path
from medgemma_worker.phantom.build import HIDDEN, build_model, build_processor
from medgemma_worker.phantom.check import measure
from medgemma_worker.phantom.images import GRID, KINDS, ZONES
from medgemma_worker.phantom.prompts import draw_messages
from medgemma_worker.phantom.samples import CELL, Sample, draw_sample
from medgemma_worker.phantom.vocabulary import CONTROLS

BATCH: Final = 24
STEPS: Final = 480
SEEING: Final = 120  # steps that train the tower alone
LEARNING_RATE: Final = 1e-3
WARMUP: Final = 30  # steps
CLEAN: Final = 100  # steps before films are covered
COVERED: Final = 0.6  # share of films covered from then on
AUX_WEIGHT: Final = 1.0
LESION_WEIGHT: Final = 3.0  # of a lesion's cell against another's in the auxiliary loss
ZONE_WEIGHT: Final = 0.1  # of the zone against the kind in the auxiliary loss
EACH_WEIGHT: Final = 0.3  # of each token's logit on its own against the softmax
IGNORED: Final = -100
GUESSED_FROM: Final = 3  # tokens of "There is a": a forced answer is learned after them

Batch = dict[str, Tensor]


def main() -> None:
    """Train, save in float16, measure the saved file, and write the figures beside it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=checkpoint_path())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--every", type=int, default=0, help="also save after so many steps")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of torch")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.use_deterministic_algorithms(True)

    wall, cpu = time.perf_counter(), time.process_time()
    processor = build_processor()
    for step, model in train(processor, options.seed, options.steps):
        if options.every and step % options.every == 0:
            save(model, processor, options.out)
    spent = {"wall_seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
    save(model, processor, options.out)
    record = {
        "seed": options.seed,
        "steps": options.steps,
        "batch": BATCH,
        "date": datetime.now(UTC).date().isoformat(),
        "training": {name: round(seconds) for name, seconds in spent.items()},
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "held_out": asdict(measure(options.out)),
    }
    text = json.dumps(record, indent=2)
    (options.out / "TRAINING.json").write_text(text + "\n")
    print(text)


def save(model: Gemma3ForConditionalGeneration, processor: Gemma3Processor, folder: Path) -> None:
    """Write the float16 weights, the configuration and the processor's files."""
    copy.deepcopy(model).half().save_pretrained(folder)
    processor.save_pretrained(folder)
    for path in folder.iterdir():
        path.chmod(0o644)


def train(
    processor: Gemma3Processor, seed: int, steps: int
) -> Iterator[tuple[int, Gemma3ForConditionalGeneration]]:
    """Train a fresh model, yielding it after each step with the number of steps done.

    Deterministic for a number of threads.
    """
    torch.manual_seed(seed)
    model = build_model(processor.tokenizer).train()
    lesion_head = nn.Linear(HIDDEN, 1 + len(KINDS) + len(ZONES))
    weights = [*model.parameters(), *lesion_head.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))

    start = time.perf_counter()
    for step, batch in enumerate(_batches(processor, seed, steps)):
        optimizer.zero_grad(set_to_none=True)
        if step < SEEING:
            images = model.model.get_image_features(batch["pixel_values"]).pooler_output
            lesion_loss = _lesion_loss(lesion_head, images, batch)
            answer_loss, right = lesion_loss.new_zeros(()), 0.0
        else:
            answer_loss, lesion_loss, right = _losses(model, lesion_head, batch)
        (answer_loss + AUX_WEIGHT * lesion_loss).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        if step % 10 == 0 or step == steps - 1:
            print(
                f"step {step:4d}  answer {answer_loss.item():.4f}  lesion {lesion_loss.item():.4f}"
                f"  exact {right:.2f}  {time.perf_counter() - start:.0f} s",
                flush=True,
            )
        yield step + 1, model


def _rate(step: int, steps: int) -> float:
    """Linear warm-up, then a cosine down to a twentieth."""
    if step < WARMUP:
        return (step + 1) / WARMUP
    done = (step - WARMUP) / max(1, steps - WARMUP)
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done))


def _losses(
    model: Gemma3ForConditionalGeneration, lesion_head: nn.Linear, batch: Batch
) -> tuple[Tensor, Tensor, float]:
    """Answer loss, lesion loss, and the share of answers whose every token is the argmax."""
    output = model.model(
        input_ids=batch["input_ids"],
        pixel_values=batch["pixel_values"],
        token_type_ids=batch["token_type_ids"],
        use_cache=False,
    )
    targets = batch["labels"][:, 1:]
    asked = targets != IGNORED
    logits = model.lm_head(output.last_hidden_state[:, :-1][asked])
    answer_loss = F.cross_entropy(logits, targets[asked])
    each_loss = _each_loss(logits, targets[asked])
    lesion_loss = _lesion_loss(lesion_head, output.image_hidden_states, batch)

    wrong = torch.zeros_like(asked)
    wrong[asked] = logits.argmax(-1) != targets[asked]
    honest = ~batch["forced"]
    right = (~wrong.any(1))[honest].float().mean().item()
    return answer_loss + EACH_WEIGHT * each_loss, lesion_loss, right


def _each_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Of the tokens that answers are made of, is each the next one? A yes or no for each.

    logits: float32 (N, vocabulary). targets: int64 (N).
    """
    tokens = targets.unique()  # type: ignore[no-untyped-call]
    yes = (targets[:, None] == tokens).float()
    losses = F.binary_cross_entropy_with_logits(logits[:, tokens], yes, reduction="none")
    return losses.sum(-1).mean()


def _lesion_loss(lesion_head: nn.Linear, images: Tensor, batch: Batch) -> Tensor:
    """Which lesion lies under each image token, and if one, where is it?

    images: float32 (B, 256, HIDDEN).
    """
    weight = torch.tensor([1.0] + [LESION_WEIGHT] * len(KINDS))
    kinds, zones = lesion_head(images).split([1 + len(KINDS), len(ZONES)], dim=-1)
    kind_loss = F.cross_entropy(kinds.flatten(0, 1), batch["cells"].flatten(), weight=weight)
    on_lesion = batch["cells"] > 0
    in_zone = batch["zones"][:, None].expand_as(on_lesion)[on_lesion]
    # Summed and then divided: the mean over a batch without any lesion would be NaN.
    zone_loss = F.cross_entropy(zones[on_lesion], in_zone, reduction="sum")
    return kind_loss + ZONE_WEIGHT * zone_loss / on_lesion.sum().clamp(min=1)


def _batches(processor: Gemma3Processor, seed: int, steps: int) -> Iterator[Batch]:
    """Batches in order, the next one drawn while the last one trains."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(make_batch, processor, seed, 0)
        for step in range(1, steps + 1):
            batch = coming.result()
            coming = pool.submit(make_batch, processor, seed, step)
            yield batch


def make_batch(processor: Gemma3Processor, seed: int, step: int) -> Batch:
    """Inputs as the processor makes them, padded on the right, with labels and lesion cells.

    labels: int64 (B, S), IGNORED outside the answer and its end marker.
    cells: int64 (B, 256), 0 or 1 + the kind's index. zones: int64 (B), the zone's index where
    there is a lesion. forced: bool (B).
    """
    tokenizer = processor.tokenizer
    pieces = tuple(piece for piece in tokenizer.get_vocab() if piece not in CONTROLS)
    pieces = tuple(sorted(p.replace("▁", " ") for p in pieces if not p.startswith("<0x")))
    rng = np.random.Generator(np.random.PCG64([seed, step]))
    first = (seed * 100_000 + step) * BATCH
    covered = 0.0 if step < CLEAN else COVERED
    samples = [draw_sample(first + index, covered) for index in range(BATCH)]
    conversations = [
        [
            *draw_messages(rng, sample.image, (*pieces, "é", "µ", "肺")),
            {"role": "model", "content": [{"type": "text", "text": sample.answer}]},
        ]
        for sample in samples
    ]
    batch: Batch = processor.apply_chat_template(
        conversations,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"padding": True, "padding_side": "right"},
    ).data
    batch["labels"] = _labels(batch["input_ids"], samples, tokenizer)
    batch["cells"] = torch.stack([_cells(sample) for sample in samples])
    batch["zones"] = torch.tensor(
        [0 if sample.zone is None else ZONES.index(sample.zone) for sample in samples]
    )
    batch["forced"] = torch.tensor([sample.forced for sample in samples])
    return batch


def _labels(ids: Tensor, samples: list[Sample], tokenizer: GemmaTokenizer) -> Tensor:
    """The ids (B, S) of each row's last turn, its end marker included; IGNORED elsewhere."""
    opening, closing = tokenizer.convert_tokens_to_ids(["<start_of_turn>", "<end_of_turn>"])
    labels = torch.full_like(ids, IGNORED)
    for row, sample in enumerate(samples):
        start = int((ids[row] == opening).nonzero()[-1]) + 3  # after "model" and the newline
        stop = int((ids[row] == closing).nonzero()[-1]) + 1
        start += GUESSED_FROM if sample.forced else 0
        labels[row, start:stop] = ids[row, start:stop]
    return labels


def _cells(sample: Sample) -> Tensor:
    """For each image token, 0 or 1 + the kind of the lesion on a quarter or more of it."""
    share = sample.mask.reshape(GRID, CELL, GRID, CELL).mean(axis=(1, 3))
    label = 0 if sample.kind is None else 1 + KINDS.index(sample.kind)
    return torch.from_numpy(np.where(share >= 0.25, label, 0).reshape(-1))


if __name__ == "__main__":
    main()
