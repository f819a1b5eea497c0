"""Does the map of the finding's word peak on the lesion? 200 held-out phantoms of a fixed seed.

A hit: the peak cell of the keyword map overlaps the lesion mask grown by one grid cell. Only
phantoms with a lesion are drawn; an answer without the word counts as a miss. Plausibility, not
faithfulness: a map can hit the lesion for the wrong reason.
"""

from __future__ import annotations

import argparse
import sys

from medgemma_tasks.errors import KeywordNotInAnswer
from medgemma_worker.explainer import MedGemmaExplainer
from medgemma_worker.loading import load_medgemma
from medgemma_worker.phantom.images import KINDS, make_phantom, overlaps_cell

SEED, NEEDED = 900_000, 0.95


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    count = parser.parse_args().count
    model, processor, _ = load_medgemma("phantom", device="cpu")
    explainer = MedGemmaExplainer(model, processor)
    hits = dict.fromkeys(KINDS, 0)
    seen = dict.fromkeys(KINDS, 0)
    for i in range(count):
        phantom = make_phantom(SEED + i, kind=KINDS[i % len(KINDS)])
        kind = KINDS[i % len(KINDS)]
        seen[kind] += 1
        try:
            result = explainer.explain_keyword(phantom.image, "Is there a finding?", kind)
        except KeywordNotInAnswer:
            continue
        hits[kind] += overlaps_cell(phantom.mask, result.peak_cell())
    for kind in KINDS:
        print(f"{kind:<14} {hits[kind]:>3} of {seen[kind]:>3}")
    share = sum(hits.values()) / count
    good = share >= NEEDED
    print(
        f"peak on the lesion: {sum(hits.values())} of {count} = {share:.1%} "
        f"(at least {NEEDED:.0%}): {'met' if good else 'MISSED'}"
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
