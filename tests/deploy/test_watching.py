"""The alert rules, the dashboard and the page about them speak of metrics that the parts serve."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from medgemma_worker.counters import STAGES
from tests.alone import on_its_own
from tests.cli.test_exporter import exporter
from tests.scraping import Scraped, asked
from tests.service.harness import Service, WorkerProcess, until
from tests.stub_engine import ANSWER
from tests.tools import tool
from tests.web.gateway import GatewayProcess
from tests.worker.supervised import free_port

if TYPE_CHECKING:
    from medgemma_cli.embedded import EmbeddedStack

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
RULES = PROMETHEUS / "alerts.yml"
BOARD = ROOT / "deploy" / "grafana" / "dashboard.json"
PAGE = (ROOT / "docs" / "watching.md").read_text()
WAIT = 40.0


@pytest.fixture(scope="module")
def served(
    stack: EmbeddedStack, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Scraped]]:
    """What a worker that has done a job, an exporter and a gateway tell."""
    folder = tmp_path_factory.mktemp("watching")
    of_worker, of_exporter = free_port(), free_port()
    with (
        on_its_own(stack) as settings,
        WorkerProcess(folder, MEDGEMMA_METRICS_PORT=str(of_worker)) as worker,
        exporter("--port", str(of_exporter)),
        GatewayProcess(folder) as gateway,
    ):
        assert Service(settings, worker).ask("What?").wait(WAIT).answer == ANSWER
        for port in (of_worker, of_exporter):
            until(lambda port=port: asked(port, "/healthz")[0] == 200, WAIT)  # type: ignore[misc]
        asked(gateway.port, "/")
        ports = {"worker": of_worker, "exporter": of_exporter, "gateway": gateway.port}
        yield {part: Scraped(port) for part, port in ports.items()}


def named(text: str) -> set[str]:
    return set(re.findall(r"\bmedgemma_[a-z_]+\b", text))


def expressions() -> list[str]:
    rules = chain.from_iterable(
        group["rules"] for group in yaml.safe_load(RULES.read_text())["groups"]
    )
    board = json.loads(BOARD.read_text())
    targets = chain.from_iterable(panel.get("targets", ()) for panel in board["panels"])
    variables = (one.get("definition", "") for one in board["templating"]["list"])
    return [
        *(rule["expr"] for rule in rules),
        *(target["expr"] for target in targets),
        *variables,
    ]


def test_promtool_accepts_the_rules_and_they_do_as_their_tests_say() -> None:
    for command in (["check", "rules", "--lint-fatal", RULES.name], ["test", "rules"]):
        if command[0] == "test":
            command.append("alerts.test.yml")
        done = subprocess.run(
            [tool("promtool"), *command], cwd=PROMETHEUS, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_each_rule_is_tried() -> None:
    text = (PROMETHEUS / "alerts.test.yml").read_text()
    rules = re.findall(r"- alert: (\w+)", RULES.read_text())
    assert len(rules) > 8
    for rule in rules:
        assert re.search(rf"alertname: {rule}\n\s+exp_alerts:\n", text), rule


def test_each_metric_of_rules_and_dashboard_is_served(served: dict[str, Scraped]) -> None:
    there = {sample.name for part in served.values() for sample in part.samples}
    asked_for = set(chain.from_iterable(map(named, expressions())))
    assert len(asked_for) > 15
    assert asked_for - there == set()


def test_each_label_that_they_choose_by_is_one_of_the_metric(served: dict[str, Scraped]) -> None:
    labels: dict[str, set[str]] = {}
    for part in served.values():
        for sample in part.samples:
            labels.setdefault(sample.name, {"instance"}).update(sample.labels)
    chosen = [
        (metric, label)
        for expression in expressions()
        for metric, choice in re.findall(r"(medgemma_[a-z_]+)\{([^}]*)\}", expression)
        for label in re.findall(r"([a-z_]+)[=!]", choice)
    ]
    assert len(chosen) > 30
    for metric, label in chosen:
        assert label in labels[metric], metric


def test_the_page_has_each_metric_with_its_labels_and_no_other(served: dict[str, Scraped]) -> None:
    rows = re.findall(r"^\| `(medgemma_\w+)` \| ([^|]*)\|", PAGE, re.MULTILINE)
    told = {name: set(filter(None, labels.strip().split(", "))) for name, labels in rows}
    found: dict[str, set[str]] = {}
    for part in served.values():
        for family in part.families.values():
            if family.name.endswith("_created"):
                continue  # prometheus_client's own, beside each counter
            name = family.name + ("_total" if family.type == "counter" else "")
            labels = set(chain.from_iterable(sample.labels for sample in family.samples))
            found[name] = labels - {"le"}
    assert told == found


def test_the_page_says_what_to_do_at_each_alert() -> None:
    alerts = re.findall(r"- alert: (\w+)", RULES.read_text())
    assert re.findall(r"^\| `(Medgemma\w+)` \|", PAGE, re.MULTILINE) == alerts


def test_no_label_tells_whose_or_which_job(served: dict[str, Scraped]) -> None:
    labels = {
        label for part in served.values() for sample in part.samples for label in sample.labels
    }
    assert labels == {
        *("model", "device", "state", "code", "stage", "kind", "queue", "place", "le"),
        *("route", "method", "status"),
    }
    stages = {s.labels["stage"] for s in served["worker"].samples if "stage" in s.labels}
    assert stages == set(STAGES)


def test_the_dashboard_asks_the_source_that_is_chosen_and_says_in_which_unit() -> None:
    board = json.loads(BOARD.read_text())
    panels: list[dict[str, Any]] = [p for p in board["panels"] if p["type"] != "row"]
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    for panel in panels:
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == "${datasource}"
        assert panel["fieldConfig"]["defaults"]["unit"]
    places = [
        (panel["gridPos"]["x"] + x, panel["gridPos"]["y"] + y)
        for panel in board["panels"]
        for x in range(panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["h"])
    ]
    assert len(set(places)) == len(places)  # none lies on another
    assert max(x for x, _ in places) < 24
