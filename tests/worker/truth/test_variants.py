"""The search for a better map: its maps are what they say, and its verdict is what it measured."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medgemma_worker.truth.evaluate import Setup, draw_maps
from medgemma_worker.truth.frozen import Frozen
from medgemma_worker.truth.job import areas

BENCHMARKS = str(Path(__file__).parents[3] / "benchmarks")


@pytest.fixture(scope="module", autouse=True)
def _benchmarks_on_the_path() -> Any:
    sys.path.insert(0, BENCHMARKS)
    yield
    sys.path.remove(BENCHMARKS)


@pytest.fixture(scope="module")
def case(loaded: tuple[Any, Any], frozen: Frozen) -> Any:
    from variant_maps import Case

    return Case(*loaded, frozen)


def test_the_baseline_is_the_map_that_the_product_draws(
    case: Any, loaded: tuple[Any, Any], frozen: Frozen
) -> None:
    from variant_maps import attention_all, chefer

    setup = Setup(*loaded, "phantom", "sha256-0", ("chefer", "attention-all"))
    (maps,), _ = draw_maps(setup, frozen, 0, swap=False)
    np.testing.assert_allclose(chefer(case), maps["chefer"], rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(attention_all(case), maps["attention-all"], rtol=1e-4)


def test_each_variant_is_a_map_of_its_own(case: Any) -> None:
    from variant_maps import VARIANTS

    maps = {name: draw(case) for name, draw in VARIANTS.items()}
    for name, values in maps.items():
        assert values.shape == (1, 16, 16), name
        assert np.isfinite(values).all(), name
        assert values.std() > 0, name
        others = [other for key, other in maps.items() if key != name]
        assert not any(np.allclose(values, other, rtol=1e-4, atol=0) for other in others), name


def test_layers_normalised_one_by_one_stream_as_the_rule_does(case: Any) -> None:
    from variant_maps import by_row, normalised_layers

    v = torch.zeros(case.frozen.target[-1])
    v[[p - 1 for p in case.frozen.target]] = 1 / len(case.frozen.target)
    for layer in reversed(case.layers):
        v = v + v @ by_row(layer.relevancy)
    np.testing.assert_allclose(normalised_layers(case), case.map(v), rtol=1e-3, atol=1e-7)


def test_rows_are_normalised_by_their_own_sum_and_rows_of_zeros_stay() -> None:
    from variant_maps import by_row

    found = by_row(torch.tensor([[1.0, 3.0], [0.0, 0.0]]))
    assert found.tolist() == [[0.25, 0.75], [0.0, 0.0]]


@pytest.mark.parametrize("name", ["integrated-gradients", "token-integrated-gradients"])
def test_integrated_gradients_add_up_to_what_the_image_gave(
    loaded: tuple[Any, Any], frozen: Frozen, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The axiom of completeness; 8 steps, as in the search, keep it less well."""
    import variant_maps

    monkeypatch.setattr(variant_maps, "STEPS", 32)
    values = variant_maps.VARIANTS[name](variant_maps.Case(*loaded, frozen))
    passage = frozen.passage
    scored = areas(
        *loaded, frozen.images, passage.token_ids, passage.kinds[0], frozen.target, {name: values}
    )
    gain = scored.log_whole - scored.log_covered
    assert values.sum() == pytest.approx(gain, rel=0.01)


@pytest.mark.parametrize(
    ("shift", "said"),
    [(-0.01, "is better than chefer"), (0.01, "is worse"), (0.0, "does not clear zero")],
)
def test_the_verdict_is_read_off_the_paired_interval(shift: float, said: str) -> None:
    from variants import Scores, verdict

    noise = np.random.default_rng(0).normal(scale=0.01, size=100)
    hardness = np.random.default_rng(1).random(100)
    found = [
        {
            "chefer": Scores(h, 0.9, True, 3.0),
            "normalised": Scores(h + shift + n - noise.mean(), 0.9, True, 3.0),
        }
        for h, n in zip(hardness, noise, strict=True)
    ]
    assert said in verdict(found, "normalised")


def test_the_lowest_deletion_area_is_chosen_and_the_rule_itself_is_no_choice() -> None:
    from variants import Scores, choose

    found = [{n: Scores(d, 0.9, True, 3.0) for n, d in (("chefer", 0.1), ("a", 0.3), ("b", 0.2))}]
    assert choose(found, ("chefer", "a", "b")) == "b"
