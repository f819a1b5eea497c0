"""``python -m medgemma_cli`` is ``medgemma-explainer``."""

from __future__ import annotations

from medgemma_cli.main import run

if __name__ == "__main__":
    run()
