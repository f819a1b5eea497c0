"""``python -m tests.faults.chaos``: exit status 1 where the promise was not kept."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.faults.chaos.run import Options, Run


def main() -> int:
    given, default = argparse.ArgumentParser(prog="chaos", description=__doc__), Options()
    given.add_argument("--seconds", type=float, default=default.seconds)
    given.add_argument("--jobs", type=int, default=default.jobs)
    given.add_argument("--workers", type=int, default=default.workers)
    given.add_argument(
        "--supervisors",
        action=argparse.BooleanOptionalAction,
        default=default.supervisors,
        help="instead of lone workers, as many supervisors with two devices each",
    )
    given.add_argument("--seed", type=int, default=default.seed)
    given.add_argument(
        "--conditional",
        action=argparse.BooleanOptionalAction,
        default=default.conditional,
        help="enforce conditional puts in the proxy, as AWS does; without, workers fall back to "
        "their lock in Redis",
    )
    given.add_argument("--folder", type=Path, default=Path("out/chaos"), help="is emptied first")
    given.add_argument("--report", type=Path, default=Path("out/chaos.md"))
    options = vars(given.parse_args())
    folder, file = options.pop("folder"), options.pop("report")
    try:
        report = Run(Options(**options), folder, say=_say)()
    except KeyboardInterrupt:
        _say("interrupted: all that ran is stopped")
        return 130
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(report.text())
    _say("\n" + report.text())
    return 1 if report.findings.failed else 0


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
