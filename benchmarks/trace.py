"""What it costs to keep the map of every layer, and the heads of one, beside the map alone.

The model of benchmarks/relevancy.py (12 layers, random weights, float32), one target. Times are
medians of interleaved runs, and the ratios are taken within each round. Both sides have raw
attention too, as every explanation does.

    python benchmarks/trace.py --lengths 300 1000
"""

from __future__ import annotations

import argparse
import statistics

from relevancy import Way, build, passage_of, timed

from medgemma_worker.relevancy.attention import install
from medgemma_worker.relevancy.explain import explain
from medgemma_worker.relevancy.trace import trace


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--lengths", type=int, nargs="+", default=[300, 1000, 2000])
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    model = build()
    install(model)
    print(f"{'length':>6}  {'way':<26} {'seconds':>8} {'of the map':>11}")
    for length in options.lengths:
        passage, target = passage_of(model, length), (length,)
        ways: dict[str, Way] = {
            "the map": lambda p=passage, t=target: explain(model, [p], [[t]]),
            "all layers": lambda p=passage, t=target: trace(model, p, t),
            "all layers, heads of one": lambda p=passage, t=target: trace(model, p, t, heads_of=5),
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(options.rounds + 1):
            for name, way in ways.items():
                taken = timed(way)
                if turn:  # the first is for warming up
                    seconds[name].append(taken)
        for name, times in seconds.items():
            pairs = zip(times, seconds["the map"], strict=True)
            ratio = statistics.median(own / base for own, base in pairs)
            print(f"{length:>6}  {name:<26} {statistics.median(times):>8.3f} {ratio:>10.2f}x")


if __name__ == "__main__":
    main()
