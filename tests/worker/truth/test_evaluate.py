"""The whole protocol on three phantoms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from medgemma_tasks.errors import InvalidRequest
from medgemma_worker.truth.evaluate import Setup, evaluate
from medgemma_worker.truth.plot import draw
from medgemma_worker.truth.questions import Question, phantoms
from medgemma_worker.truth.report import Evaluation
from medgemma_worker.truth.table import table

METHODS = ("chefer", "attention-all", "random", "gaussian")


def setup(loaded: tuple[Any, Any]) -> Setup:
    model, processor = loaded
    return Setup(model, processor, "phantom", "sha256-0", METHODS, max_new_tokens=30)


@pytest.fixture(scope="module")
def report(loaded: tuple[Any, Any]) -> Evaluation:
    questions = phantoms(3, seed=420_000)
    return evaluate(setup(loaded), questions, source="phantoms", first_seed=420_000)


def test_the_report_survives_its_own_schema(report: Evaluation) -> None:
    assert Evaluation.model_validate_json(report.model_dump_json()) == report
    assert (report.asked, report.unanswered, report.explained, report.misses) == (3, 0, 3, 0)
    assert report.steps == (1, 2, 4, 8, 16, 32, 64, 128)


def test_chefer_knows_more_than_chance(report: Evaluation) -> None:
    assert report.kept > 0
    chefer, chance = report.methods["chefer"], report.methods["random"]
    assert chefer.deletion
    assert chefer.insertion
    assert chance.deletion
    assert chefer.deletion.area.mean < chance.deletion.area.mean
    assert chefer.deletion.minus["random"].high < 0
    assert chefer.insertion.minus["gaussian"].low > 0
    assert chefer.plausibility
    assert chefer.plausibility.hits == 1.0


def test_each_area_is_the_mean_over_the_questions_kept(report: Evaluation) -> None:
    for name, method in report.methods.items():
        assert method.deletion
        each = [question.deletion[name] for question in report.questions if question.kept]
        assert method.deletion.area.mean == pytest.approx(np.mean(each))
        assert len(method.deletion.values) == len(report.steps)


def test_maps_that_know_nothing_fail_the_sanity_checks(report: Evaluation) -> None:
    for name in ("random", "gaussian"):
        sanity = report.methods[name].sanity
        assert sanity.randomised.mean == pytest.approx(1.0)
        assert sanity.swapped
        assert sanity.swapped.mean == pytest.approx(1.0)
    sanity = report.methods["chefer"].sanity
    assert sanity.randomised.mean < 0.7
    assert sanity.swapped
    assert sanity.swapped.mean < 0.95


def test_the_table_names_methods_and_marks_what_clears_zero(report: Evaluation) -> None:
    shown = table(report)
    for name in METHODS:
        assert shown.count(name) >= 3
    assert "*" in shown
    assert max(len(line) for line in shown.splitlines()) <= 130


def test_the_plot_is_drawn(report: Evaluation) -> None:
    image = draw(report)
    assert image.mode == "RGB"
    assert image.width > image.height > 400
    colours = image.getcolors(image.width * image.height)
    assert colours is not None
    assert len(colours) > 100


def test_an_image_without_details_is_explained_and_scores_nothing(
    loaded: tuple[Any, Any], question: Question
) -> None:
    flat = Question(question.image.resize((1, 1)).resize((90, 90)), question.prompt)
    report = evaluate(setup(loaded), [flat], source="questions")
    assert report.kept == 0
    assert report.methods["chefer"].deletion is None
    assert report.methods["chefer"].plausibility is None
    assert "sanity" in table(report)
    assert draw(report).width > 400


def test_a_keyword_that_no_answer_holds_is_an_error(
    loaded: tuple[Any, Any], question: Question
) -> None:
    never = Question(question.image, question.prompt, keyword="kidney")
    with pytest.raises(InvalidRequest, match="None of 1"):
        evaluate(setup(loaded), [never], source="questions")
