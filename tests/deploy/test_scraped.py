"""A real Prometheus asks a real worker, exporter and gateway: what the dashboard, the alert rules
and KEDA ask for is there. Grafana is not run: its variables are filled in as it would."""

from __future__ import annotations

import json
import math
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from medgemma_tasks.queue import queue_names
from medgemma_tasks.settings import load_settings
from tests.alone import on_its_own
from tests.cli.test_exporter import exporter
from tests.deploy.prometheus import DEPLOYED, WAIT, Prometheus, scraping
from tests.scraping import Scraped, asked
from tests.service.harness import ROOT, Service, WorkerProcess, until
from tests.service.test_lanes import ask_batch
from tests.web.asking import ask, ended
from tests.web.gateway import GatewayProcess
from tests.worker.supervised import free_port

if TYPE_CHECKING:
    from medgemma_cli.embedded import EmbeddedStack

BOARD = json.loads((ROOT / "deploy" / "grafana" / "dashboard.json").read_text())
PANELS: list[dict[str, Any]] = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
VARIABLES = {one["name"]: one for one in BOARD["templating"]["list"] if one["type"] == "query"}
EVERY: dict[str, str] = {name: one["allValue"] for name, one in VARIABLES.items()}
SCALED = yaml.safe_load((ROOT / "deploy" / "kubernetes" / "keda" / "scaledobject.yaml").read_text())
MODEL = "google/medgemma-1.5-4b-it"
RATE_INTERVAL = "1m"
"""What Grafana makes of $__rate_interval where Prometheus asks every 15 s."""
PARTS = {"worker", "exporter", "gateway", "prometheus"}
JOBS = '{__name__=~"medgemma_(queue_jobs|jobs_total)"}'
FAILED = dict.fromkeys(("internal_error", "keyword_not_in_answer"), 1)


@dataclass(frozen=True)
class Scene:
    """One job succeeded, two failed, one runs for as long as it is let, and one waits behind it in
    each queue."""

    prometheus: Prometheus
    service: Service
    exporter: subprocess.Popen[str]
    gateway: GatewayProcess
    ports: dict[str, int]


@pytest.fixture(scope="module")
def scene(stack: EmbeddedStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("scraped")
    gateway = GatewayProcess(folder)
    ports = {"worker": free_port(), "exporter": free_port(), "gateway": gateway.port}
    limits = {"MEDGEMMA_VISIBILITY_TIMEOUT": "4", "MEDGEMMA_MAX_ATTEMPTS": "1"}
    watched = {"MEDGEMMA_METRICS_PORT": str(ports["worker"]), "MEDGEMMA_DEVICE": "cpu"}
    late = ("MedgemmaNoReadyWorker", "MedgemmaExporterDown", "MedgemmaGatewayDown")
    with pytest.MonkeyPatch.context() as patch, on_its_own(stack):
        patch.setenv("MEDGEMMA_MODEL", MODEL)
        with (
            scraping(folder, ports, dict.fromkeys(late, "1s")) as prometheus,
            exporter("--port", str(ports["exporter"]), "--model", MODEL) as process,
            WorkerProcess(folder, **limits, **watched) as worker,
            gateway,
        ):
            until(lambda: prometheus.healthy() == PARTS, WAIT, prometheus.targets)
            service = Service(load_settings(), worker)
            _work(service, gateway)
            until(lambda: _seen(prometheus), WAIT, lambda: str(prometheus.values(JOBS)))
            yield Scene(prometheus, service, process, gateway, ports)


def _work(service: Service, gateway: GatewayProcess) -> None:
    with gateway.client() as api:
        for prompt, said in (("What?", {}), ("crash", {}), ("Where?", {"keyword": "effusion"})):
            job = ask(api, gateway.ours, prompt, **said).headers["Location"]
            ended(api, gateway.ours, job)
    service.running(service.ask("gate"))
    service.ask("And this?")
    ask_batch(service)


def _seen(prometheus: Prometheus) -> bool:
    """Whether it knows of all jobs of the scene."""
    waiting = {labels["queue"]: jobs for labels, jobs in prometheus.values("medgemma_queue_jobs")}
    ended = sum(jobs for _, jobs in prometheus.values("medgemma_jobs_total"))
    return waiting == {"interactive": 1, "batch": 1} and ended == 3


def filled(expression: str, chosen: dict[str, str]) -> str:
    """An expression of the dashboard as Grafana asks it."""
    for name, value in {**chosen, "__rate_interval": RATE_INTERVAL}.items():
        expression = expression.replace(f"${name}", value)
    assert "$" not in expression
    return expression


def numbers(scene: Scene, expression: str) -> list[tuple[dict[str, str], float]]:
    """Once there are any: a scrape that takes too long leaves a second without."""
    found: list[tuple[dict[str, str], float]] = []

    def some() -> bool:
        found[:] = scene.prometheus.values(expression)
        return any(math.isfinite(value) for _, value in found)

    until(some, WAIT, lambda: f"{expression}: {found}")
    return found


def choices(scene: Scene, name: str) -> list[str]:
    """What a variable of the dashboard lets one choose."""
    asked_for = re.fullmatch(r"label_values\((\w+), (\w+)\)", VARIABLES[name]["definition"])
    assert asked_for is not None
    metric, label = asked_for.groups()
    found: list[str] = scene.prometheus.api(f"label/{label}/values", **{"match[]": metric})
    return found


def test_every_part_is_asked_and_answers(scene: Scene) -> None:
    until(lambda: scene.prometheus.healthy() == PARTS, WAIT, scene.prometheus.targets)
    assert {labels["job"] for labels, _ in numbers(scene, "up")} == PARTS


def test_the_variables_of_the_dashboard_have_what_is_there_to_choose(scene: Scene) -> None:
    assert {name: choices(scene, name) for name in VARIABLES} == {
        "model": [MODEL],
        "device": ["cpu"],
    }


TARGETS = [
    pytest.param(target, id=f"{panel['title']} {target['refId']}")
    for panel in PANELS
    for target in panel["targets"]
]


@pytest.mark.parametrize("target", TARGETS)
def test_each_panel_has_numbers_whatever_is_chosen_and_a_name_for_each_line(
    scene: Scene, target: dict[str, Any]
) -> None:
    one = {name: literally(choices(scene, name)[0]) for name in VARIABLES}
    for chosen in (EVERY, one):
        asked(scene.ports["gateway"], "/v1/models")  # or, after a minute, none took any time
        found = numbers(scene, filled(target["expr"], chosen))
    legend = target["legendFormat"]
    labels = set(re.findall(r"{{(\w+)}}", legend))
    for series, _ in found:
        assert labels <= series.keys()
    lines = [tuple(series[label] for label in sorted(labels)) for series, _ in found]
    assert len(set(lines)) == len(lines)  # no two have one name


def literally(value: str) -> str:
    """A chosen value as Grafana writes it into an expression of ours, which compares by =~."""
    return re.sub(r"[$^*{}\[\]'+?.()|]", r"\\\\\g<0>", value)


def test_the_first_job_that_ends_in_some_way_is_seen(scene: Scene) -> None:
    """What begins at 1 has risen by nothing, as Prometheus counts."""

    def shown(title: str, label: str) -> dict[str, float]:
        (target,) = next(panel["targets"] for panel in PANELS if panel["title"] == title)
        found = numbers(scene, filled(target["expr"], EVERY))
        return {labels[label]: value for labels, value in found}

    assert shown("Failures in an hour, by code", "code") == FAILED
    states = shown("Jobs a second, by how they end", "state")
    assert states.keys() == {"succeeded", "failed", "cancelled"}


def test_all_rules_are_judged_and_none_is_told_of_a_fleet_at_work(scene: Scene) -> None:
    deployed = yaml.safe_load((DEPLOYED / "alerts.yml").read_text())["groups"]
    rules = scene.prometheus.rules()
    assert [rule["name"] for rule in rules] == [
        rule["alert"] for group in deployed for rule in group["rules"]
    ]
    assert {rule["health"] for rule in rules} == {"ok"}
    # A scrape that came late is gone a second later.
    until(lambda: not scene.prometheus.alerts(), WAIT, lambda: str(scene.prometheus.alerts()))


def test_what_keda_asks_for_is_one_number_of_the_exporter(scene: Scene) -> None:
    """KEDA reads the text itself, without Prometheus, and compares labels for equality alone."""
    text = Scraped(scene.ports["exporter"])
    found = {}
    for trigger in SCALED["spec"]["triggers"]:
        selector = trigger["metadata"]["valueLocation"]
        name, chosen = re.fullmatch(r"(\w+)\{(.*)\}", selector).groups()  # type: ignore[union-attr]
        assert re.fullmatch(r'(\w+="[^"]+",?)+', chosen)
        assert text.families[name].type == "gauge"
        said = text.value(name, **dict(re.findall(r'(\w+)="([^"]+)"', chosen)))
        ((_, seen),) = numbers(scene, selector)
        assert said is not None
        found[name] = (said, seen)
    assert found["medgemma_pending_jobs"] == (3, 3)
    assert all(0 < age < 300 for age in found["medgemma_queue_oldest_seconds"])


def test_an_alert_is_told_when_its_cause_is_there_and_of_whom(scene: Scene) -> None:
    """The last of this file: of the scene nothing is left."""
    worker = scene.service.worker

    def told(alert: str, **labels: str) -> None:
        wanted = {"alertname", "severity", *labels}

        def fires() -> bool:
            found = scene.prometheus.alerts().get(alert)
            if found is None or found["state"] != "firing":
                return False
            said: dict[str, str] = found["labels"]
            return said.keys() == wanted and said.items() >= labels.items()

        until(fires, WAIT, lambda: str(scene.prometheus.alerts()))

    worker.gate.touch()
    queue, _ = queue_names(MODEL)
    scene.service.redis.lpush(queue, "rubbish")
    scene.service.ask("die")
    told("MedgemmaMessagesDropped", place=queue)
    told("MedgemmaDeadLetters", model=MODEL)

    worker.signal_all(signal.SIGKILL)
    # Not sooner: one that dies may yet take a job off its queue, and then none waits.
    until(
        lambda: scene.prometheus.values("sum(medgemma_workers)") == [({}, 0)],
        WAIT,
        lambda: str(scene.prometheus.values("medgemma_workers")) + worker.log[-2000:],
    )
    scene.service.ask("Is anybody there?")
    told("MedgemmaNoReadyWorker", model=MODEL)
    until(lambda: scene.prometheus.healthy() == PARTS - {"worker"}, WAIT, scene.prometheus.targets)

    scene.exporter.kill()
    told("MedgemmaExporterDown")

    scene.gateway.kill()
    told("MedgemmaGatewayDown", job="gateway", instance=f"127.0.0.1:{scene.gateway.port}")
