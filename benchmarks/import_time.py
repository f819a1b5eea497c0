"""``import medgemma_client`` and its names: seconds in fresh interpreters, and what stays out."""

from __future__ import annotations

import statistics
import subprocess
import sys

PROBE = """
import sys, time
began = time.perf_counter()
import medgemma_client
medgemma_client.Client, medgemma_client.Job, medgemma_client.Result  # loaded when asked for
print(time.perf_counter() - began, "torch" in sys.modules, "transformers" in sys.modules)
"""
RUNS, LIMIT = 9, 0.5


def main() -> int:
    seconds, heavy = [], False
    for run in range(RUNS + 1):
        out = subprocess.run(
            [sys.executable, "-c", PROBE], capture_output=True, text=True, check=True
        ).stdout.split()
        heavy = heavy or "True" in out
        if run:  # the first fills the disk's cache
            seconds.append(float(out[0]))
    median = statistics.median(seconds)
    good = median < LIMIT and not heavy
    print(
        f"import medgemma_client, Client, Job, Result: median {median:.3f} s, "
        f"most {max(seconds):.3f} s "
        f"(under {LIMIT} s); torch or transformers loaded: {'yes' if heavy else 'no'}: "
        f"{'met' if good else 'MISSED'}"
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
