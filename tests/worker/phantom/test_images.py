"""The films: repeatable, true to their masks, and coverable."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from medgemma_worker.phantom.images import (
    GRID,
    KINDS,
    NO_LESION,
    SIZE,
    ZONES,
    cover_cells,
    lesion_cells,
    make_phantom,
    overlaps_cell,
)

CASES = list(itertools.product(KINDS, ZONES))


def test_the_same_seed_draws_the_same_film() -> None:
    first, second = make_phantom(7), make_phantom(7)
    assert first.image.tobytes() == second.image.tobytes()
    assert np.array_equal(first.mask, second.mask)
    assert first.answer == second.answer


def test_other_seeds_draw_other_films() -> None:
    assert len({make_phantom(seed).image.tobytes() for seed in range(10)}) == 10


def test_a_film_has_the_promised_form() -> None:
    film = make_phantom(1, "nodule", "right mid zone")
    assert film.image.mode == "L"
    assert film.image.size == (SIZE, SIZE)
    assert film.mask.shape == (SIZE, SIZE)
    assert film.mask.dtype == np.bool_
    assert film.answer == "There is a nodule in the right mid zone."


def test_seeds_alone_draw_every_kind_every_zone_and_films_without_a_lesion() -> None:
    films = [make_phantom(seed) for seed in range(120)]
    assert {film.kind for film in films} == {*KINDS, None}
    assert {film.zone for film in films} == {*ZONES, None}


def test_a_film_without_a_lesion_says_so() -> None:
    film = make_phantom(3, kind=None)
    assert film.kind is None
    assert film.zone is None
    assert not film.mask.any()
    assert film.answer == NO_LESION


def test_one_of_kind_and_zone_is_enough_to_ask_for_a_lesion() -> None:
    for seed in range(20):
        assert make_phantom(seed, zone="left mid zone").zone == "left mid zone"
        assert make_phantom(seed, kind="cavity").kind == "cavity"


@pytest.mark.parametrize(("kind", "zone"), [("nodule", None), (None, "left mid zone")])
def test_half_a_lesion_is_an_error(kind: str | None, zone: str | None) -> None:
    with pytest.raises(ValueError, match="both a kind and a zone"):
        make_phantom(0, kind, zone)


def test_an_unknown_lesion_is_an_error() -> None:
    with pytest.raises(ValueError, match="unknown lesion"):
        make_phantom(0, "fracture", "left mid zone")


@pytest.mark.parametrize(("kind", "zone"), CASES)
def test_the_mask_lies_in_the_zone_on_the_patients_side(kind: str, zone: str) -> None:
    """The centre of the mask is in the named third of the lungs; patient right is image left."""
    for seed in range(5):
        mask = make_phantom(seed, kind, zone).mask
        rows, columns = np.nonzero(mask)
        assert (columns.mean() < SIZE / 2) == zone.startswith("right")
        lowest, highest = {"upper": (45, 95), "mid": (92, 146), "lower": (142, 198)}[
            zone.split()[1]
        ]
        assert lowest < rows.mean() < highest


@pytest.mark.parametrize("kind", KINDS)
def test_a_lesion_takes_about_two_to_four_per_cent_of_the_film(kind: str) -> None:
    shares = [make_phantom(seed, kind).mask.mean() for seed in range(30)]
    assert min(shares) > 0.015
    assert max(shares) < 0.048


@pytest.mark.parametrize("kind", KINDS)
def test_a_lesion_changes_its_own_place_and_no_other(kind: str) -> None:
    """Given the same seed, the film with and without the lesion are the same away from it."""
    for seed in range(5):
        film, bare = make_phantom(seed, kind), make_phantom(seed, None)
        change = np.abs(np.asarray(film.image, float) - np.asarray(bare.image, float))
        far = ~np.kron(lesion_cells(film.mask, grow=1), np.ones((16, 16), bool))
        assert change[far].max() <= 2  # grey levels, of 255
        assert change[film.mask].mean() > 15


def test_a_cell_counts_when_one_of_its_pixels_is_on_the_lesion() -> None:
    mask = np.zeros((SIZE, SIZE), dtype=bool)
    mask[47, 32] = True  # the last row of cell row 2, the first column of cell column 2
    assert overlaps_cell(mask, (2, 2), grow=0)
    assert not overlaps_cell(mask, (3, 2), grow=0)
    assert not overlaps_cell(mask, (2, 1), grow=0)


def test_growing_reaches_the_eight_neighbours_and_stops_at_the_border() -> None:
    mask = np.zeros((SIZE, SIZE), dtype=bool)
    mask[0, 0] = True
    assert lesion_cells(mask, grow=1).sum() == 4
    assert overlaps_cell(mask, (1, 1))
    assert not overlaps_cell(mask, (2, 1))
    assert not overlaps_cell(mask, (GRID - 1, GRID - 1))
    assert overlaps_cell(mask, (2, 2), grow=2)


def test_no_cell_overlaps_a_film_without_a_lesion() -> None:
    assert not lesion_cells(make_phantom(0, None).mask, grow=3).any()


def test_a_mask_that_does_not_divide_into_cells_is_an_error() -> None:
    with pytest.raises(ValueError, match="does not divide"):
        lesion_cells(np.zeros((30, 30), dtype=bool))


@pytest.mark.parametrize("fill", ["blur", "mean"])
def test_covering_changes_the_chosen_cells_only(fill: str) -> None:
    film = make_phantom(4, "cavity", "left upper zone")
    covered = cover_cells(film.image, [(3, 4), (10, 11)], fill)  # type: ignore[arg-type]
    changed = np.asarray(covered) != np.asarray(film.image)
    where = np.zeros_like(changed)
    where[48:64, 64:80] = where[160:176, 176:192] = True
    assert not changed[~where].any()
    assert changed[where].mean() > 0.9


def test_covering_nothing_is_the_same_film_and_leaves_the_input_alone() -> None:
    film = make_phantom(4)
    before = film.image.tobytes()
    assert cover_cells(film.image, []).tobytes() == before
    cover_cells(film.image, [(0, 0)], "mean")
    assert film.image.tobytes() == before


def test_mean_fill_is_the_films_mean_grey() -> None:
    film = make_phantom(4)
    covered = np.asarray(cover_cells(film.image, [(8, 8)], "mean"))
    assert set(covered[128:144, 128:144].ravel()) == {round(np.asarray(film.image).mean())}


def test_an_unknown_fill_is_an_error() -> None:
    with pytest.raises(ValueError, match="unknown fill"):
        cover_cells(make_phantom(4).image, [(0, 0)], "white")  # type: ignore[arg-type]
