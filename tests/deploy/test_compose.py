"""The compose file: its syntax, and the rules that every service of it keeps.

No engine runs it here; what its shell lines do is tried with the programs that are installed.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from medgemma_cli.embedded.process import free_port
from medgemma_cli.embedded.redis import redis_program
from tests.tools import tool

ROOT = Path(__file__).parents[2]
REDIS_SECRETS = (
    "REDIS_PASSWORD",
    "REDIS_WORKER_PASSWORD",
    "REDIS_CLIENT_PASSWORD",
    "REDIS_GATEWAY_PASSWORD",
    "REDIS_EXPORTER_PASSWORD",
)
SECRETS = (*REDIS_SECRETS, "S3_ACCESS_KEY", "S3_SECRET_KEY")
OF_A_PROFILE = {"GRAFANA_PASSWORD": "grafana", "FLOWER_BASIC_AUTH": "flower"}
"""Secrets that are asked for by the service itself, where it is wanted."""
ONE_SHOT = {"store-init", "keys"}
PROFILES = ("two-gpus", "watch", "flower", "keys")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return loaded


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = compose["services"]
    return found


@pytest.fixture(scope="module")
def example() -> dict[str, str]:
    """The variables of .env.example."""
    lines = (ROOT / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def workers(services: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [service for name, service in services.items() if name.startswith("worker-")]


def config(folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """``docker-compose config`` with no variables but these."""
    program = tool("docker-compose")
    empty = folder / "empty.env"  # else an .env of the checkout would be read
    empty.touch()
    profiles = [part for name in PROFILES for part in ("--profile", name)]
    return subprocess.run(
        [program, "--env-file", str(empty), *profiles, "config"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_with_its_secrets_set_the_file_is_accepted(tmp_path: Path) -> None:
    answer = config(tmp_path, dict.fromkeys(SECRETS, "given"))
    assert answer.returncode == 0, answer.stderr
    accepted = yaml.safe_load(answer.stdout)["services"]
    assert accepted["worker-1"]["profiles"] == ["two-gpus"]
    assert {name for service in accepted.values() for name in service.get("profiles", ())} == set(
        PROFILES
    )


@pytest.mark.parametrize("missing", SECRETS)
def test_if_a_secret_is_missing_it_is_named(missing: str, tmp_path: Path) -> None:
    answer = config(tmp_path, {name: "given" for name in SECRETS if name != missing})
    assert answer.returncode != 0
    assert f"set {missing} in .env" in answer.stderr


def test_no_secret_has_a_default() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    for name in SECRETS:
        uses = re.findall(rf"\$\{{{name}[^}}]*\}}", text)
        assert uses
        assert set(uses) == {f"${{{name}:?set {name} in .env}}"}
    for name in ("HF_TOKEN", *OF_A_PROFILE):
        assert f"${{{name}:-}}" in text


def test_the_example_names_every_variable_and_holds_no_secret(example: dict[str, str]) -> None:
    used = set(re.findall(r"(?<!\$)\$\{(\w+)", (ROOT / "docker-compose.yml").read_text()))
    assert used == set(example)
    for name in (*SECRETS, "HF_TOKEN", *OF_A_PROFILE):
        assert example[name] == ""


def test_each_gpu_has_one_worker_of_its_own(services: dict[str, dict[str, Any]]) -> None:
    claims = []
    for worker in workers(services):
        (device,) = worker["deploy"]["resources"]["reservations"]["devices"]
        (claim,) = device["device_ids"]
        assert "gpu" in device["capabilities"]
        claims.append(claim)
    assert claims == ["${GPU_0:-0}", "${GPU_1:-1}"]
    assert "profiles" not in services["worker-0"]
    assert services["worker-1"]["profiles"] == ["two-gpus"]


def test_every_service_that_stays_is_watched_and_comes_back(
    services: dict[str, dict[str, Any]],
) -> None:
    for name, service in services.items():
        if name not in ONE_SHOT:
            assert service["healthcheck"]["test"], name
            assert service["restart"] == "unless-stopped", name


def test_a_worker_has_more_time_to_stop_than_its_shutdown_takes(
    services: dict[str, dict[str, Any]],
) -> None:
    for worker in workers(services):
        grace = int(worker["stop_grace_period"].removesuffix("s"))
        assert grace >= worker["environment"]["MEDGEMMA_SHUTDOWN_GRACE"] + 10


def test_ports_are_published_on_this_machine_alone(services: dict[str, dict[str, Any]]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert len(ports) == len(set(ports)) == 6
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_images_are_pinned(services: dict[str, dict[str, Any]]) -> None:
    for service in services.values():
        assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.?[\w.-]*", service["image"])


def test_what_is_built_and_mounted_is_there(services: dict[str, dict[str, Any]]) -> None:
    for service in services.values():
        if "build" in service:
            assert (ROOT / service["build"]["dockerfile"]).is_file()
        for part in (*service.get("command", ()), *service.get("healthcheck", {}).get("test", ())):
            if part.startswith("/opt/medgemma/") and "build" not in service:
                assert "./deploy/redis:/opt/medgemma:ro" in service["volumes"]
                assert (ROOT / "deploy" / "redis" / Path(part).name).is_file()
            elif part.startswith("/opt/medgemma/"):
                dockerfile = (ROOT / service["build"]["dockerfile"]).read_text()
                assert f"COPY deploy/{Path(part).name} /opt/medgemma/" in dockerfile
                assert (ROOT / "deploy" / Path(part).name).is_file()


def test_what_is_ours_writes_nothing_but_temporary_files_and_its_volumes(
    services: dict[str, dict[str, Any]],
) -> None:
    ours = [service for service in services.values() if "build" in service]
    assert len(ours) == 6
    for service in ours:
        assert service["read_only"] is True
        # What is uploaded is large: not in memory.
        assert service["tmpfs"] == ["/tmp"] or "uploads:/tmp" in service["volumes"]
        assert service["cap_drop"] == ["ALL"]
    for service in services.values():
        assert "no-new-privileges:true" in service["security_opt"]


def test_a_health_check_asks_the_port_that_its_service_serves(
    services: dict[str, dict[str, Any]],
) -> None:
    for name, path in {"gateway": "readyz", "exporter": "healthz", "worker-0": "readyz"}.items():
        service = services[name]
        (asked,) = re.findall(r"http://127\.0\.0\.1:(\d+)/(\w+)", str(service["healthcheck"]))
        given = service["environment"].get("MEDGEMMA_METRICS_PORT")
        port = str(given or service["command"][service["command"].index("--port") + 1])
        assert asked == (port, path)


def test_keys_are_written_by_one_service_and_read_by_the_gateway(
    services: dict[str, dict[str, Any]],
) -> None:
    assert services["keys"]["volumes"] == ["keys:/keys"]
    assert "keys:/keys:ro" in services["gateway"]["volumes"]
    files = {
        services[name]["environment"]["MEDGEMMA_WEB_KEYS_FILE"] for name in ("keys", "gateway")
    }
    assert files == {"/keys/keys.json"}


@pytest.fixture
def broker(services: dict[str, dict[str, Any]], tmp_path: Path) -> Iterator[redis.Redis]:
    """Redis as the compose file starts it, with its folders and port replaced."""
    program = redis_program()
    assert program is not None
    port = free_port()
    shell, script, *options = services["redis"]["command"]
    script = script.replace("/opt/medgemma", str(ROOT / "deploy" / "redis"))
    options = [option.replace("/data", str(tmp_path)) for option in options]
    process = subprocess.Popen(
        [shell, script, *options, "--port", str(port)],
        env={
            "PATH": f"{program.parent}:{os.defpath}",
            "TMPDIR": str(tmp_path),
            **dict.fromkeys(REDIS_SECRETS, "a1b2"),
        },
        stdout=subprocess.DEVNULL,
    )
    retry = Retry(ConstantBackoff(0.1), 100)
    client = redis.Redis(port=port, password="a1b2", retry=retry, decode_responses=True)
    try:
        yield client
    finally:
        client.close()
        process.terminate()
        process.wait(60)


def test_redis_starts_as_a_broker_must_and_its_password_is_in_no_command_line(
    broker: redis.Redis, services: dict[str, dict[str, Any]]
) -> None:
    settings = broker.config_get("*")
    assert settings["appendonly"] == "yes"
    assert settings["appendfsync"] == "everysec"
    assert settings["maxmemory-policy"] == "noeviction"
    assert settings["save"] == ""
    assert {"./deploy/redis:/opt/medgemma:ro"} < set(services["redis"]["volumes"])
    assert set(REDIS_SECRETS) == set(services["redis"]["environment"])
    command = str(services["redis"]["command"]) + str(services["redis"]["healthcheck"])
    assert "${" not in command  # "$$REDIS_PASSWORD" is read inside, from the environment


@pytest.mark.parametrize("name", OF_A_PROFILE)
@pytest.mark.parametrize("given", ["", "user:password"])
def test_a_page_does_not_start_without_credentials(
    name: str, given: str, services: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    service = services[OF_A_PROFILE[name]]
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o755)
    shell, option, script = service.get("entrypoint") or service["command"]
    script = re.sub(r"exec \S+", f"exec {program}", script.replace("$$", "$"))
    (variable,) = [key for key, value in service["environment"].items() if name in value]
    ran = subprocess.run(
        [shell, option, script],
        env={"PATH": os.defpath, variable: given},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == (0 if given else 1)
    assert (f"set {name} in .env" in ran.stderr) is not bool(given)
