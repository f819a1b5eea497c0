from __future__ import annotations

import os
import uuid
from contextlib import ExitStack

import pytest

from medgemma_tasks.models import Stage
from medgemma_worker.board import Board
from medgemma_worker.places import MOST_GUESTS, PLACES, Hosted, InHand
from tests.parts import JOB, OTHER_JOB
from tests.worker.dying import never_left

HELD = InHand("local", JOB, 2)


def test_nothing_is_on_it_at_first() -> None:
    board = Board()
    assert (board.pid, board.loads, board.done, board.memory) == (0, 0, 0, 0)
    assert not any((board.ready, board.busy, board.failed))
    assert not board.in_hand
    assert board.stopping == ""


def test_what_a_forked_child_writes_its_parent_reads_also_after_its_death() -> None:
    board = Board()
    pid = os.fork()
    if pid == 0:
        board.begin_loading(os.getpid())
        board.loaded()
        with board.working(), board.holding(HELD):
            board.note_stage(JOB, Stage.EXPLAINING)
            os._exit(9)
    os.waitpid(pid, 0)
    assert (board.pid, board.ready, board.busy) == (pid, True, True)
    assert board.in_hand == [HELD]
    assert board.in_hand[0].stage == "explaining"
    assert board.beaten > 0


def test_a_job_that_ends_is_counted_and_no_longer_in_hand() -> None:
    board = Board()
    with pytest.raises(KeyError), board.working(), board.holding(HELD):
        raise KeyError
    assert not board.in_hand
    assert not board.busy
    assert board.done == 1


def test_the_job_of_a_dead_child_stays_while_the_next_one_loads() -> None:
    board = Board()
    never_left(board.holding(HELD))
    board.begin_loading(1)
    assert board.in_hand == [HELD]
    board.clear([HELD])
    assert not board.in_hand


def test_loads_are_counted_until_one_succeeds() -> None:
    board = Board()
    for pid in (1, 2, 3):
        board.begin_loading(pid)
    assert (board.loads, board.ready) == (3, False)
    board.loaded()
    assert (board.loads, board.ready) == (0, True)


def test_the_parent_names_the_job_that_is_to_stop() -> None:
    board = Board()
    board.stop(OTHER_JOB)
    assert board.stopping == OTHER_JOB


def test_several_jobs_are_in_hand_at_once_each_with_its_stage() -> None:
    board = Board()
    other = InHand("clinic", OTHER_JOB, 1, "b")
    with board.holding(HELD):
        with board.holding(other):
            board.note_stage(OTHER_JOB, Stage.STORING)
            assert board.in_hand == [HELD, other]
            assert [held.stage for held in board.in_hand] == [None, "storing"]
        assert board.in_hand == [HELD]
    assert not board.in_hand
    assert board.done == 2


def test_the_place_of_a_job_that_ended_is_taken_again() -> None:
    board = Board()
    held = [InHand("local", f"{number:032x}", 1) for number in range(PLACES)]
    for _ in range(2):
        with ExitStack() as stack:
            for one in held:
                stack.enter_context(board.holding(one))
            assert board.in_hand == held
    assert not board.in_hand


def test_of_a_dead_childs_jobs_only_those_are_cleared_that_are_written_down() -> None:
    """The next child may have begun with another message meanwhile."""
    board = Board()
    other = InHand("local", OTHER_JOB, 1)
    never_left(board.holding(HELD))
    never_left(board.holding(other))
    board.clear([HELD])
    assert board.in_hand == [other]


def test_the_guest_of_a_child_is_on_it_as_long_as_it_is_there_and_after_a_death() -> None:
    board = Board()
    tag, jobs = str(uuid.uuid4()), tuple(f"{number:032x}" for number in range(MOST_GUESTS))
    assert board.guest is None
    board.begin_loading(7)
    with board.hosting(tag, jobs):
        assert board.guest == Hosted(tag, jobs, 7)
    assert board.guest is None
    never_left(board.hosting(tag, jobs[:1]))
    board.begin_loading(8)
    assert board.guest == Hosted(tag, jobs[:1], 7)
    board.clear_guest()
    assert board.guest is None


def test_the_parent_says_which_queue_goes_first() -> None:
    board = Board()
    assert not board.bulk_first
    board.put_bulk_first(True)
    assert board.bulk_first


def test_the_parent_says_whether_messages_are_taken() -> None:
    board = Board()
    assert not board.taken_out
    assert not board.emptied
    board.take_out(True)
    board.note_emptied(True)
    assert board.taken_out
    assert board.emptied
