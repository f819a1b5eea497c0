"""evaluate.json: strict, versioned, with no image, no path and no answer in it."""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime, Field

from medgemma_tasks.models import Fraction, Strict

EVALUATION_VERSION = 1


class Interval(Strict):
    """A mean over images with its 95% bootstrap interval."""

    mean: float
    low: float
    high: float


class CurveReport(Strict):
    """One curve of one method over the questions kept."""

    area: Interval
    """Mean area; deletion: low is good, insertion: high is good."""
    minus: dict[str, Interval]
    """This method's area less that of another, by the other's name, paired over images."""
    values: tuple[float, ...]
    """Mean normalised probability at each step."""


class Plausibility(Strict):
    """Does the map lie where the lesion is? Known for phantoms alone, and not faithfulness."""

    hits: Fraction
    """Share of peaks on the lesion's cells, grown by one."""
    mass_over_area: Interval
    """Share of the mass in the grown lesion over its share of the area; 1 is chance."""


class Sanity(Strict):
    """Spearman's correlations of maps that ought to differ."""

    randomised: Interval
    """Before and after the text layers' weights became noise: ought to be near 0."""
    swapped: Interval | None
    """Of the target and of another word of the same answer: ought to be below 1."""


class MethodReport(Strict):
    deletion: CurveReport | None
    """None where no question was kept."""
    insertion: CurveReport | None
    plausibility: Plausibility | None
    """None where no lesion is known."""
    sanity: Sanity


class QuestionReport(Strict):
    """One question that was explained."""

    index: int = Field(ge=0)
    """Its place among the questions, from 0."""
    tokens: int = Field(ge=1)
    """Tokens of the target."""
    log_p: float
    """Natural log of the target's probability, the image as it is."""
    log_p_covered: float
    """The same with every cell covered."""
    kept: bool
    misses: int = Field(ge=0)
    """Answer tokens that were not the most likely ones when scored again."""
    deletion: dict[str, float]
    """Area by method; empty if not kept."""
    insertion: dict[str, float]


class Evaluation(Strict):
    """What ``medgemma-explainer evaluate`` writes."""

    schema_version: Literal[1] = 1
    made_at: AwareDatetime
    package_version: str
    model: str
    revision: str
    dtype: str
    source: Literal["phantoms", "questions"]
    first_seed: int | None
    """Of the phantoms."""
    fill: Literal["blur", "mean"]
    steps: tuple[int, ...]
    """Cells deleted or inserted at each step of a curve."""
    cells: int = Field(ge=1)
    least_gain: float
    """log p(image) - log p(covered), in nats, above which a question is kept."""
    bootstrap_draws: int
    bootstrap_seed: int
    asked: int = Field(ge=1)
    unanswered: int = Field(ge=0)
    """Questions with an empty answer, or one without the keyword."""
    explained: int = Field(ge=0)
    kept: int = Field(ge=0)
    kept_share: Fraction
    """Of those explained."""
    misses: int = Field(ge=0)
    methods: dict[str, MethodReport]
    questions: tuple[QuestionReport, ...]
    seconds: float
