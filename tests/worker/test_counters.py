from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from hypothesis import given
from hypothesis import strategies as st

from medgemma_worker.counters import BOUNDS, ENDS, STAGES, Counters

OTHER_PROCESS = """\
import os, signal, sys
from medgemma_worker.counters import Counters
counters = Counters(int(sys.argv[1]))
counters.job("failed", "out_of_memory", {"loading": 0.2}, 0)
counters.worked(0.5)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_nothing_is_counted_at_first_and_nothing_is_known_of_load_and_memory() -> None:
    counters = Counters()
    assert counters.jobs == {}
    assert (counters.answer_tokens, counters.busy) == (0, 0.0)
    assert all(sum(stage.jobs) == 0 for stage in counters.stages.values())
    assert (counters.load, counters.memory) == (None, {})


def test_what_one_process_after_another_counted_stays_when_it_was_killed() -> None:
    counters, file = Counters.shared()
    for _ in range(2):
        command = [sys.executable, "-c", OTHER_PROCESS, str(file)]
        subprocess.run(command, pass_fds=[file], timeout=60)
    counters.job("succeeded", "", {"loading": 7.0}, 12)
    os.close(file)
    assert counters.jobs == {("failed", "out_of_memory"): 2, ("succeeded", ""): 1}
    assert counters.answer_tokens == 12
    assert counters.busy == 1.0
    loading = counters.stages["loading"]
    assert (sum(loading.jobs), loading.seconds) == (3, 7.4)


@given(st.lists(st.floats(0, 5000), max_size=20))
def test_each_job_is_below_the_first_bound_that_it_does_not_pass(seconds: list[float]) -> None:
    counters = Counters()
    for one in seconds:
        counters.job("succeeded", "", {"explaining": one, "a stage of another engine": 1.0}, 0)
    found = counters.stages["explaining"].jobs
    for place, bound in enumerate(BOUNDS):
        assert sum(found[: place + 1]) == sum(one <= bound for one in seconds)
    assert sum(found) == len(seconds)
    assert list(counters.stages) == list(STAGES)


def test_threads_lose_no_count() -> None:
    counters = Counters()
    with ThreadPoolExecutor(8) as pool:
        for code in ("", "a", "b") * 500:
            pool.submit(counters.job, "ended", code, {"storing": 1.0}, 2)
    assert counters.jobs == {("ended", code): 500 for code in ("", "a", "b")}
    assert counters.answer_tokens == 3000


def test_an_end_for_which_there_is_no_row_left_is_counted_in_the_last() -> None:
    counters = Counters()
    for number in range(ENDS + 5):
        counters.job("failed", f"code_{number}", {}, 0)
    assert sum(counters.jobs.values()) == ENDS + 5
    assert len(counters.jobs) == ENDS


def test_of_load_and_memory_the_last_word_counts() -> None:
    counters = Counters()
    counters.loaded(3.0)
    counters.loaded(2.0)
    counters.note_memory(1, 2, 4)
    assert (counters.load, counters.memory) == (2.0, {"used": 1, "peak": 2, "total": 4})
    counters.note_memory(0, 0, 0)
    assert counters.memory == {}
