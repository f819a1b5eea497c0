from __future__ import annotations

from pathlib import Path

import pytest

from medgemma_cli.study import asked_study, window_of
from medgemma_client.study import Study
from medgemma_tasks.errors import InvalidRequest

CHOICES = {"window": "medgemma", "gaps": "refuse", "burned_in": "warn", "max_slices": None}


class Client:
    """Keeps what a study is read with."""

    def __init__(self) -> None:
        self.asked: dict[str, object] = {}

    def read_study(self, source: Path, **choices: object) -> Study:
        self.asked = {"source": source, **choices}
        return Study("images", "CR", (), ("Shown: CR, 1 image.",))


def ask(client: Client, study: Path | None = Path("s"), **said: object) -> Study | None:
    given = {"prior": None, "series": None, **CHOICES, **said}
    return asked_study(client, study, **given)  # type: ignore[arg-type]


def test_what_was_chosen_is_printed_beside_the_result(capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(Client()) is not None
    out, err = capsys.readouterr()
    assert (out, err) == ("", "study: Shown: CR, 1 image.\n")


@pytest.mark.parametrize(("said", "meant"), [("2", 2), ("MR", "MR"), (None, None)])
def test_a_series_is_a_number_or_a_modality(said: str | None, meant: object) -> None:
    client = Client()
    ask(client, series=said)
    assert client.asked["series"] == meant


def test_each_choice_reaches_the_reader() -> None:
    client = Client()
    ask(client, prior=Path("p"), window="40:400", gaps="report", max_slices=7)
    assert client.asked == {
        "source": Path("s"),
        "prior": Path("p"),
        "series": None,
        "window": (40.0, 400.0),
        "gaps": "report",
        "burned_in": "warn",
        "max_slices": 7,
    }


def test_without_a_study_nothing_is_read_and_a_prior_makes_no_sense() -> None:
    assert ask(Client(), None) is None
    with pytest.raises(InvalidRequest, match="--study"):
        ask(Client(), None, prior=Path("p"))


def test_a_window_that_is_no_two_numbers_is_refused() -> None:
    assert window_of("file") == "file"
    with pytest.raises(InvalidRequest, match="40:400"):
        window_of("wide:open")
