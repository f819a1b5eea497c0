"""Exit statuses of a worker and of its supervisor that say more than "it failed" (1)."""

from __future__ import annotations

LOAD_FAILED = 78
"""Of a worker (EX_CONFIG): its model cannot be loaded. Its supervisor counts these."""

SOME_GIVEN_UP = 3
"""Of a supervisor that was told to stop, and did in order, after it had given up a device."""
