"""One look breaks no other."""

from __future__ import annotations

from medgemma_cli.doctor.finding import Level, Told, examine, failed, not_applicable, ok
from medgemma_cli.doctor.show import as_json, in_sum
from medgemma_tasks.errors import BrokerUnreachable


def breaks() -> Told:
    raise ValueError("/home/somebody/secret")


def is_away() -> Told:
    raise BrokerUnreachable("Redis at x cannot be used. Check it.")


def fine() -> Told:
    return ok("It is there.")


def test_a_check_that_breaks_off_leaves_the_others_be_and_quotes_nothing() -> None:
    first, second, third = examine(("part", [("a", fine), ("b", breaks), ("c", fine)]))
    assert [one.level for one in (first, second, third)] == [Level.OK, Level.FAILED, Level.OK]
    assert "ValueError" in second.found
    assert "secret" not in second.found + second.advice


def test_an_error_of_ours_is_told_as_what_was_found_and_what_to_do() -> None:
    (one,) = examine(("part", [("a", is_away)]))
    assert (one.level, one.found, one.advice) == (
        Level.FAILED,
        "Redis at x cannot be used.",
        "Check it.",
    )


def test_behind_a_door_that_is_closed_nothing_is_looked_at() -> None:
    for door in (is_away, lambda: failed("No.", "Do."), lambda: not_applicable("None.")):
        _, second = examine(("part", [("a", door), ("b", breaks)]))
        assert (second.level, second.found) == (Level.NOT_APPLICABLE, "See part, a.")


def test_all_levels_are_counted_and_what_failed_is_named_where_it_has_scrolled_by() -> None:
    found = list(examine(("part", [("a", fine), ("b", breaks)])))
    counts = "2 checks: 1 ok, 0 warning, 1 failed, 0 not applicable."
    assert in_sum(found) == f"{counts} To be mended: part, b."
    assert "To be mended" not in in_sum(found[:1])
    assert '"failed": 1' in as_json(found)
