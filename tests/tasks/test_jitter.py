from __future__ import annotations

from medgemma_tasks.jitter import SPREAD, jittered


def test_pauses_differ_and_stay_near_what_was_meant() -> None:
    pauses = [jittered(2.0) for _ in range(100)]
    assert len(set(pauses)) == 100
    assert all(2.0 * (1 - SPREAD) <= pause <= 2.0 * (1 + SPREAD) for pause in pauses)
    assert jittered(0.0) == 0.0
