"""Answering and explaining a shard's questions on a GPU, at MedGemma 4B's shape, random weights.

    python benchmarks/gpu_pipeline.py            on a data-centre GPU
    python benchmarks/gpu_pipeline.py --tiny     on a CPU, at a tiny shape

It has been run on a CPU at the tiny shape only, and a test keeps it running so: no GPU was at hand
when it was written, so nothing here is known of the true shape's times.

Needs torch and transformers alone, and the package on PYTHONPATH (client:tasks:worker). Each
question is one picture and a prompt of 300 tokens with it; each answer has 100 tokens (no token
ends it), and one keyword in it is explained. For shards of 1, 8 and 32: tokens and jobs in a
second, beside

- the floor: decoding reads all weights of the language model once for each token of a batch; the
  vision pass, the prompt's forward pass and a backward pass over activations are matrix products at
  the card's speed (``docs/method.md``). The card's two speeds are measured in the same run.
- the seed's way: one question at a time, generated twice, with eager attention and a dynamic cache,
  and every layer's attention retained, weights trainable. Timed on a few questions.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch
from _measure import timed
from _models import BETWEEN, IMAGE, LEAD, build, layout, pixels_of
from gpu_relevancy import ceilings
from torch import Tensor
from transformers import Gemma3ForConditionalGeneration, GenerationConfig

from medgemma_worker.generation import Decoder, Embedded, Plain, generate_many
from medgemma_worker.recording import Recorded, cuda_graph, decoder_for
from medgemma_worker.relevancy.attention import install
from medgemma_worker.relevancy.explain import Passage, embed, explain
from medgemma_worker.relevancy.retained import retained_row

Model = Gemma3ForConditionalGeneration
PROMPT, KEYWORD = 300, 3
"""Tokens of a prompt with its picture, and of the keyword."""


class Shard:
    """Questions of one picture each, and the ways through them."""

    def __init__(self, model: Model, answer: int) -> None:
        self.model, self.answer = model, answer
        kinds, self.runs = layout(1, PROMPT - LEAD - IMAGE - BETWEEN)
        self.kinds = kinds.to(model.device)
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(3, 900, (1, PROMPT), generator=generator).to(model.device)
        self.ids = ids.masked_fill(self.kinds == 1, model.config.image_token_id)
        self.pixels = pixels_of(model, 1)

    def embedded(self) -> Embedded:
        return Embedded(embed(self.model, self.ids, self.kinds, self.pixels), self.kinds)

    def said(self, starts: Sequence[Embedded], decoder: Decoder) -> list[list[int]]:
        def quiet(progress: Sequence[float]) -> Collection[int]:
            return ()

        limits = [self.answer] * len(starts)
        return generate_many(self.model, starts, limits, tell=quiet, decoder=decoder)

    def passage(self, start: Embedded, said: Sequence[int]) -> Passage:
        new = torch.tensor([said], device=self.model.device)
        rest = embed(self.model, new, torch.zeros_like(new), None)
        return Passage(
            torch.cat([start.embeddings, rest], dim=1),
            torch.nn.functional.pad(self.kinds, (0, len(said))),
            torch.cat([self.ids[0], new[0]]),
            images=tuple(self.runs),
            answer_first=PROMPT,
        )

    def target(self) -> tuple[int, ...]:
        """The keyword, in the middle of the answer."""
        first = PROMPT + self.answer // 2
        return tuple(range(first, min(first + KEYWORD, PROMPT + self.answer)))

    def jobs(self, count: int, decoder: Decoder, together: bool) -> None:
        """All of it: the tower, answers together, explanations one by one or together."""
        starts = [self.embedded() for _ in range(count)]
        said = self.said(starts, decoder)
        passages = [self.passage(*pair) for pair in zip(starts, said, strict=True)]
        for group in [passages] if together else [[one] for one in passages]:
            explain(self.model, group, [[self.target()]] * len(group))

    def seeds_job(self) -> None:
        """One question as the library that this grew from did it."""
        self.model.set_attn_implementation({"text_config": "eager"})
        try:
            self._generated()  # once for the answer, and once more for the keyword in it
            said = self._generated()
        finally:
            install(self.model)
        passage = self.passage(self.embedded(), said)
        cut = self.target()[-1]
        whole = passage.embeddings[:, :cut], passage.kinds[:, :cut]
        retained_row(self.model, *whole, passage.token_ids, (cut,), trainable=True)

    def _generated(self) -> list[int]:
        config = GenerationConfig(
            do_sample=False, max_new_tokens=self.answer, pad_token_id=0, eos_token_id=None
        )
        found: Tensor = self.model.generate(
            input_ids=self.ids,
            attention_mask=torch.ones_like(self.ids),
            token_type_ids=self.kinds,
            pixel_values=self.pixels,
            generation_config=config,
        )
        return found[0, PROMPT:].tolist()


def floor(model: Model, card: dict[str, float], answer: int, count: int) -> dict[str, float]:
    """Seconds that a shard cannot go below: decoding, and all of it."""
    text = model.model.language_model
    layers = sum(weight.numel() for weight in text.layers.parameters())
    table = text.embed_tokens.weight.numel()  # also what the logits are computed from
    vision = sum(weight.numel() for weight in model.model.vision_tower.parameters())
    patches = int(model.model.multi_modal_projector.patches_per_image) ** 2
    itemsize = text.embed_tokens.weight.element_size()
    decoding = answer * (layers + table) * itemsize / (card["TB/s"] * 1e12)
    # Twice a weight for each token: the tower, the prompt, the explaining pass forward and back.
    products = 2 * (vision * patches + layers * (PROMPT + 2 * (PROMPT + answer // 2)))
    return {
        "decoding": decoding,
        "all": decoding + count * products / (card["TFLOP/s"] * 1e12),
    }


def median(way: object, device: torch.device, rounds: int) -> float:
    """Seconds: one warming run, then the median of ``rounds``."""
    assert callable(way)
    return statistics.median([timed(way, device) for _ in range(rounds + 1)][1:])


def rows_of(
    shard: Shard, count: int, decoders: dict[str, Decoder], card: dict[str, float], rounds: int
) -> list[dict[str, object]]:
    model, answer = shard.model, shard.answer
    least = floor(model, card, answer, count)
    starts = [shard.embedded() for _ in range(count)]
    rows: list[dict[str, object]] = []
    for name, decoder in decoders.items():
        for explained in ("one by one", "together") if count > 1 else ("one by one",):
            row: dict[str, object] = {"shard": count, "decoding": name, "explaining": explained}
            try:
                said = median(lambda d=decoder: shard.said(starts, d), model.device, rounds)
                whole = median(
                    lambda d=decoder, t=explained == "together": shard.jobs(count, d, t),
                    model.device,
                    rounds,
                )
            except torch.cuda.OutOfMemoryError:
                torch.cuda.empty_cache()
                rows.append({**row, "failed": "out of memory"})
                continue
            row |= {"tokens/s": count * answer / said, "jobs/s": count / whole}
            row |= {
                "of floor, decoding": said / least["decoding"],
                "of floor": whole / least["all"],
            }
            rows.append(row)
        decoder.release()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tiny", action="store_true", help="a tiny shape on the CPU")
    parser.add_argument("--shards", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--answer", type=int, default=100, help="tokens of an answer")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    device = torch.device("cpu" if options.tiny else "cuda")
    dtype = torch.float32 if options.tiny else torch.bfloat16
    card = ceilings(device, dtype)
    name = "cpu" if options.tiny else torch.cuda.get_device_name(device)
    report: dict[str, object] = {"card": name, "date": datetime.now(UTC).date().isoformat()}
    report |= {"torch": torch.__version__, "ceilings": card, "answer tokens": options.answer}
    print(json.dumps(report), flush=True)
    model = build("tiny" if options.tiny else "medgemma-4b", device, dtype)
    model.generation_config.eos_token_id = None  # every answer is as long as it may be
    shard = Shard(model, options.answer)
    # On a CPU nothing is recorded: the same steps over fixed shapes stand for it.
    recorded = decoder_for(model) if not options.tiny else Recorded(model, lambda step, _: step)
    decoders: dict[str, Decoder] = {"recorded": recorded, "plain": Plain(model)}
    if not options.tiny:  # a fallback would be timed as if it were the recording
        report["recording"] = "failed" if not recordable(model) else "works"
    rows: list[dict[str, object]] = []
    for count in options.shards:
        rows += rows_of(shard, count, decoders, card, options.rounds)
        print(*(json.dumps(row) for row in rows if row["shard"] == count), sep="\n", flush=True)
    row: dict[str, object] = {"shard": 1, "decoding": "the seed's way"}
    try:
        row["jobs/s"] = 1 / median(shard.seeds_job, device, options.rounds)
    except torch.cuda.OutOfMemoryError:
        row["failed"] = "out of memory"
    rows.append(row)
    print(json.dumps(row), flush=True)
    report["rows"] = rows
    if out := os.environ.get("OUT"):
        Path(out, "gpu_pipeline.json").write_text(json.dumps(report, indent=2))


def recordable(model: Model) -> bool:
    """Whether a step of one row can be recorded; prints why not."""
    kept = Plain(model).room(1, 512)
    kept.whole = True
    try:
        cuda_graph(lambda: kept.step(model), model.device)
    except RuntimeError as error:
        print(f"no recording: {error}", flush=True)
        return False
    return True


if __name__ == "__main__":
    main()
