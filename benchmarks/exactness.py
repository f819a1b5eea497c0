"""How far the streaming relevancy lies from the retained-gradient reference, in float32.

The trained phantom model, with its own sliding window and with one of 64 tokens, on 1 and 3 images,
for all three kinds of target. ``others``: largest absolute difference over positions other than
the target's own (p-1), over the largest reference value there. ``own``: largest absolute difference
on the target's own positions, the identity taken off.
"""

from __future__ import annotations

import sys

import torch

from medgemma_tasks.models import ImagePart, Message, TextPart
from medgemma_worker.generation import Embedded, end_tokens, generate
from medgemma_worker.loading import load_medgemma
from medgemma_worker.phantom.images import make_phantom
from medgemma_worker.prompt import build_prompt
from medgemma_worker.relevancy.explain import embed, relevancy_row
from medgemma_worker.relevancy.retained import retained_row

OTHERS, OWN = 1e-5, 1e-6


def main() -> int:
    worst_others = worst_own = 0.0
    print(f"{'window':>6} {'images':>6} {'length':>6}  {'target':<8} {'others':>9} {'own':>9}")
    for window in (None, 64):
        model, processor, _ = load_medgemma("phantom", device="cpu")
        if window is not None:
            model.config.text_config.sliding_window = window
        for images in (1, 3):
            pictures = [make_phantom(70_000 + i).image.convert("RGB") for i in range(images)]
            parts = [ImagePart(image=i) for i in range(images)] + [TextPart(text="Any finding?")]
            messages = [Message(role="user", content=tuple(parts))]
            prompt = build_prompt(model, processor, messages, pictures, room=40)
            read = Embedded(
                embed(model, prompt.input_ids, prompt.token_type_ids, prompt.pixel_values),
                prompt.token_type_ids,
            )
            generated = generate(model, read, max_new_tokens=40, tell=lambda _: None)
            while generated[-1] in end_tokens(model):
                generated.pop()
            new = torch.tensor([generated])
            ids = torch.cat([prompt.input_ids, new], dim=1)
            kinds = torch.cat([prompt.token_type_ids, torch.zeros_like(new)], dim=1)
            embeddings = embed(model, ids, kinds, prompt.pixel_values)
            first, end = prompt.length, ids.shape[1]
            targets = {
                "token": (end - 1,),
                "keyword": (first + 1, first + 2),
                "answer": tuple(range(first, end)),
            }
            for name, positions in targets.items():
                row = relevancy_row(model, embeddings, kinds, ids[0], positions)
                reference = retained_row(model, embeddings, kinds, ids[0], positions)
                own = torch.zeros(end, dtype=torch.bool)
                own[list(row.own)] = True
                gained = torch.zeros(end)
                gained[: positions[-1]] = row.gained
                expected = reference - own.float() / len(positions)
                gap = (gained - expected).abs()
                others = float(gap[~own].max() / expected[~own].abs().max())
                mine = float(gap[own].max())
                worst_others, worst_own = max(worst_others, others), max(worst_own, mine)
                used = model.config.text_config.sliding_window
                print(f"{used:>6} {images:>6} {end:>6}  {name:<8} {others:>9.1e} {mine:>9.1e}")
    good = worst_others <= OTHERS and worst_own <= OWN
    print(
        f"worst: others {worst_others:.1e} (at most {OTHERS:.0e}), own {worst_own:.1e} "
        f"(at most {OWN:.0e}): {'met' if good else 'MISSED'}"
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
