"""What is started, and by which settings: as the command line and the settings know them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from typer.core import TyperGroup
from typer.main import get_command

from medgemma_cli.main import app
from medgemma_tasks.census import Jobs
from medgemma_tasks.settings import Settings
from medgemma_web.settings import WebSettings
from medgemma_worker.exporter.looking import Looker, Seen
from medgemma_worker.exporter.metrics import Fleet
from tests.deploy.manifests import FOLDER, container, of_kind, pods, rendered, variables

ROOT = Path(__file__).parents[2]
PROGRAM = "medgemma-explainer"
TOP = get_command(app)


def compose() -> dict[str, dict[str, Any]]:
    loaded: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())[
        "services"
    ]
    return loaded


def started() -> dict[str, list[str]]:
    """Each command line of ours, by where it stands."""
    found = {}
    for name, service in compose().items():
        line = [*service.get("entrypoint", ()), *service.get("command", ())]
        found[f"compose {name}"] = line
    for name, pod in pods(rendered(FOLDER / "base")).items():
        found[f"kubernetes {name}"] = container(pod)["args"]
        if "lifecycle" in container(pod):
            found[f"kubernetes {name} preStop"] = container(pod)["lifecycle"]["preStop"]["exec"][
                "command"
            ]
    for path in (ROOT / "deploy").glob("*.Dockerfile"):
        (line,) = re.findall(r"^CMD (\[.+\])$", path.read_text(), flags=re.MULTILINE)
        found[path.name] = yaml.safe_load(line)
    return {where: line for where, line in found.items() if PROGRAM in line}


def test_a_command_that_is_started_is_one_that_there_is() -> None:
    for where, line in started().items():
        program, *arguments = line
        assert program == PROGRAM, where
        command, name = TOP, PROGRAM
        while isinstance(command, TyperGroup) and arguments and arguments[0] in command.commands:
            name, *arguments = arguments
            command = command.commands[name]
        assert command is not TOP or arguments == ["--help"], where
        if arguments != ["--help"]:
            command.make_context(name, arguments)  # refuses options that it does not know


def test_every_variable_of_ours_is_a_setting() -> None:
    known = {f"MEDGEMMA_{field.upper()}" for field in Settings.model_fields}
    known |= {f"MEDGEMMA_WEB_{field.upper()}" for field in WebSettings.model_fields}
    given = {name for service in compose().values() for name in service.get("environment", {})}
    for overlay in ("base", "overlays/example"):
        manifests = rendered(FOLDER / overlay)
        for config in of_kind(manifests, "ConfigMap"):
            given |= set(config["data"])
        for pod in pods(manifests).values():
            given |= set(variables(pod))
    for path in (ROOT / "deploy").glob("*.Dockerfile"):
        given |= set(re.findall(r"\b(MEDGEMMA_\w+)=", path.read_text()))
    ours = {name for name in given if name.startswith("MEDGEMMA_")}
    assert len(ours) > 10
    assert ours <= known


def test_a_gateway_has_the_time_to_end_what_it_is_asked() -> None:
    grace = WebSettings.model_fields["stop_grace"].default
    assert int(compose()["gateway"]["stop_grace_period"].removesuffix("s")) >= grace + 10
    pod = pods(rendered(FOLDER / "base"))["gateway"]
    (_, waits) = container(pod)["lifecycle"]["preStop"]["exec"]["command"]
    assert int(waits) + grace + 5 <= pod["spec"]["terminationGracePeriodSeconds"]


def test_the_room_for_uploads_is_as_large_as_what_may_come_at_once() -> None:
    fields = WebSettings.model_fields
    most = fields["uploads_at_once"].default * fields["max_upload_bytes"].default
    pod = pods(rendered(FOLDER / "base"))["gateway"]
    sizes = {volume["name"]: volume.get("emptyDir") for volume in pod["spec"]["volumes"]}
    room = int(sizes["tmp"]["sizeLimit"].removesuffix("Gi")) * 2**30
    assert most <= room
    limit = container(pod)["resources"]["limits"]["ephemeral-storage"]
    assert room <= int(limit.removesuffix("Gi")) * 2**30


def test_a_worker_s_image_asks_the_port_of_its_metrics_for_its_health() -> None:
    text = (ROOT / "deploy" / "worker.Dockerfile").read_text()
    (port,) = re.findall(r"MEDGEMMA_METRICS_PORT=(\d+)", text)
    assert f"http://127.0.0.1:{port}/readyz" in text


def test_workers_are_scaled_on_numbers_that_an_exporter_tells() -> None:
    manifests = rendered(FOLDER / "overlays" / "example")
    (config,) = of_kind(manifests, "ConfigMap")
    (scaled,) = of_kind(manifests, "ScaledObject")
    seen = Seen({config["data"]["MEDGEMMA_MODEL"]: Jobs()}, {}, [], {}, store=True)

    class Still(Looker):
        def __init__(self) -> None:
            """It looks at nothing."""

        def look(self) -> Seen:
            return seen

    told = [sample for metric in Fleet(Still()).collect() for sample in metric.samples]
    for trigger in scaled["spec"]["triggers"]:
        name, _, labels = trigger["metadata"]["valueLocation"].partition("{")
        meant = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        found = [one for one in told if one.name == name and meant.items() <= one.labels.items()]
        assert [(one.labels, one.value) for one in found] == [(meant, 0.0)]
