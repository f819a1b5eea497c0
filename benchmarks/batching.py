"""Questions answered together on the phantom: the same tokens and maps, and for how much less.

    python benchmarks/batching.py

Exactness, float32 on the CPU: eight questions with 1 to 3 images and prompts of several lengths,
answered as one batch and one by one. Then, in interleaved rounds of one run, the seconds of each
job in batches of 1, 2, 4 and 8 (an answer from its prompt's embeddings, the same with the vision
tower, and 100 tokens, as long as real answers are), and of explaining eight answers one by one and
together.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import sys
from collections.abc import Callable, Collection, Sequence

import numpy as np
from _measure import interleaved, ratio, verdict

from medgemma_tasks.explanation import ExplanationResult
from medgemma_worker.answering import answer_many
from medgemma_worker.conversation import Prepared, embedded
from medgemma_worker.explainer import MedGemmaExplainer
from medgemma_worker.explaining import Answered, explain_answered
from medgemma_worker.generation import generate_many
from medgemma_worker.loading import load_medgemma
from medgemma_worker.phantom.images import make_phantom
from medgemma_worker.question import ask

BATCHES = (1, 2, 4, 8)
ALLOWED, WANTED = 1e-5, 2.5
PROMPTS = (
    "Is there a finding?",
    "Describe this film in a few words, please.",
    "What do you see, and where in the chest does it lie?",
)


def quiet(progress: Sequence[float]) -> Collection[int]:
    return ()


class Together:
    """The phantom, and its answers and maps by batch."""

    def __init__(self) -> None:
        model, processor, _ = load_medgemma("phantom", device="cpu")
        self.explainer = MedGemmaExplainer(model, processor)

    def ready(self, seed: int, prompt: str, images: int = 1) -> Prepared:
        films = [make_phantom(seed + i).image for i in range(images)]
        return self.explainer.prepare(ask(films, prompt))

    def answers(self, asked: Sequence[Prepared]) -> list[Answered]:
        found = answer_many(self.explainer.model, self.explainer.processor, asked, quiet)
        return [one for one in found if isinstance(one, Answered)]

    def maps(self, answered: Sequence[Answered]) -> list[ExplanationResult]:
        model, processor = self.explainer.model, self.explainer.processor
        found = explain_answered(model, processor, answered, lambda _: None)
        return [one for (one,) in found]


def exactness(phantom: Together) -> bool:
    asked = [
        phantom.ready(940_000 + 10 * i, PROMPTS[i % len(PROMPTS)], 1 + i % 3) for i in range(8)
    ]
    together = phantom.answers(asked)
    alone = [phantom.answers([one])[0] for one in asked]
    equal = [
        a.sequence.ids.tolist() == b.sequence.ids.tolist()
        for a, b in zip(together, alone, strict=True)
    ]
    lone = [phantom.maps([one])[0] for one in alone]
    good = verdict(
        f"{sum(equal)} of 8 answers equal token for token, of "
        f"{len({one.prompt.length for one in asked})} lengths of prompt",
        all(equal),
    )
    for name, found in (
        ("answered together, explained one by one", [phantom.maps([one])[0] for one in together]),
        ("answered together, explained together", phantom.maps(together)),
    ):
        gaps = [difference(a, b) for a, b in zip(found, lone, strict=True)]
        absolute, relative = (max(column) for column in zip(*gaps, strict=True))
        what = f"{name}: largest difference {absolute:.1e}, {relative:.1e} of the largest value"
        good = verdict(f"{what} (at most {ALLOWED:.0e})", relative <= ALLOWED) and good
    return good


def difference(one: ExplanationResult, other: ExplanationResult) -> tuple[float, float]:
    """Largest difference of any position's score, and as a part of the largest score."""
    a, b = (
        np.concatenate([result.image_scores.ravel(), result.text_scores]) for result in (one, other)
    )
    gap = float(np.abs(a - b).max())
    return gap, gap / float(np.abs(b).max())


def table(what: str, way: Callable[[int], object], rounds: int) -> float:
    """Seconds of each job by batch; returns how many times faster a batch of 8 is."""
    ways = {size: functools.partial(way, size) for size in BATCHES}
    named = {f"batches of {size}": one for size, one in ways.items()}
    seconds = interleaved(named, dict.fromkeys(named, rounds))
    print(f"{what:<52} {'s per job':>10} {'times faster':>13}")
    for name, times in seconds.items():
        faster = ratio(seconds["batches of 1"], times)
        print(f"  {name:<50} {statistics.median(times) / 8:>10.4f} {faster:>13.2f}")
    return ratio(seconds["batches of 1"], seconds["batches of 8"])


def generating(phantom: Together, asked: Sequence[Prepared], rounds: int, long: int) -> bool:
    model = phantom.explainer.model
    starts = [embedded(model, one) for one in asked]

    def answered(size: int) -> None:
        for i in range(0, 8, size):
            phantom.answers(asked[i : i + size])

    def said(limit: int, size: int) -> None:
        for i in range(0, 8, size):
            rows = starts[i : i + size]
            generate_many(model, rows, [limit] * len(rows), tell=quiet)

    own = table("generation, the phantom's own 12 tokens", functools.partial(said, 300), rounds)
    table("answering: the same with the vision tower", answered, rounds)
    ends = model.generation_config.eos_token_id
    model.generation_config.eos_token_id = []
    table(f"generation of {long} tokens each", functools.partial(said, long), max(1, rounds // 3))
    model.generation_config.eos_token_id = ends
    return verdict(f"a batch of 8 is {own:.2f} times faster ({WANTED} asked)", own >= WANTED)


def explaining(phantom: Together, asked: Sequence[Prepared], rounds: int) -> None:
    answered = phantom.answers(asked)
    ways: dict[str, Callable[[], object]] = {
        "one by one": lambda: [phantom.maps([one]) for one in answered],
        "together": lambda: phantom.maps(answered),
    }
    seconds = interleaved(ways, dict.fromkeys(ways, rounds))
    for name, times in seconds.items():
        print(f"explaining 8 answers {name:<11} {statistics.median(times) / 8:>8.4f} s per job")
    apart = ratio(seconds["together"], seconds["one by one"])
    print(f"explaining together takes {apart:.2f} times what one by one takes")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--long", type=int, default=100, help="tokens of the long answers")
    options = parser.parse_args()
    phantom = Together()
    exact = exactness(phantom)
    asked = [phantom.ready(950_000 + i, PROMPTS[0]) for i in range(8)]
    fast = generating(phantom, asked, options.rounds, options.long)
    explaining(phantom, asked, options.rounds)
    return 0 if fast and exact else 1


if __name__ == "__main__":
    sys.exit(main())
