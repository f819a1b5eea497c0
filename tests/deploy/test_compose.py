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
from medgemma_tasks.settings import Settings
from tests.tools import tool

ROOT = Path(__file__).parents[2]
REDIS_SECRETS = ("REDIS_PASSWORD", "REDIS_WORKER_PASSWORD", "REDIS_CLIENT_PASSWORD")
SECRETS = (*REDIS_SECRETS, "S3_ACCESS_KEY", "S3_SECRET_KEY")
ONE_SHOT = {"store-init"}


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
    profiles = ["--profile", "two-gpus", "--profile", "flower"]
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
    assert yaml.safe_load(answer.stdout)["services"]["worker-1"]["profiles"] == ["two-gpus"]


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
    assert "${HF_TOKEN:-}" in text
    assert "${FLOWER_BASIC_AUTH:-}" in text


def test_the_example_names_every_variable_and_holds_no_secret(example: dict[str, str]) -> None:
    used = set(re.findall(r"(?<!\$)\$\{(\w+)", (ROOT / "docker-compose.yml").read_text()))
    assert used == set(example)
    for name in (*SECRETS, "HF_TOKEN", "FLOWER_BASIC_AUTH"):
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
    assert len(ports) == 3
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_images_are_pinned(services: dict[str, dict[str, Any]]) -> None:
    for service in services.values():
        assert re.fullmatch(r"[\w./-]+:\d+\.\d+[\w.-]*", service["image"])


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


def test_variables_of_ours_are_settings(services: dict[str, dict[str, Any]]) -> None:
    known = {f"MEDGEMMA_{field.upper()}" for field in Settings.model_fields}
    for service in services.values():
        given = {name for name in service.get("environment", {}) if name.startswith("MEDGEMMA_")}
        assert given <= known


@pytest.mark.parametrize("name", ["worker", "client"])
def test_images_run_as_nobody_special_and_take_no_env_file(name: str) -> None:
    dockerfile = (ROOT / "deploy" / f"{name}.Dockerfile").read_text()
    assert dockerfile.index("USER medgemma") < dockerfile.index("CMD [")
    assert "--constraint constraints.txt" in dockerfile
    ignored = (ROOT / "deploy" / f"{name}.Dockerfile.dockerignore").read_text().splitlines()
    assert "*" in ignored
    copied = re.findall(r"^COPY (.+) \S+$", dockerfile, flags=re.MULTILINE)
    allowed = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    for source in " ".join(copied).split():
        assert source in allowed or "deploy/*.py" in allowed


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
        process.wait(10)


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


@pytest.mark.parametrize("answer", [(0, ""), (1, "set FLOWER_BASIC_AUTH in .env")])
def test_flower_does_not_start_without_credentials(
    answer: tuple[int, str], services: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    status, said = answer
    celery = tmp_path / "celery"
    celery.write_text("#!/bin/sh\nexit 0\n")
    celery.chmod(0o755)
    shell, option, script = services["flower"]["command"]
    given = {} if status else {"FLOWER_BASIC_AUTH": "user:password"}
    ran = subprocess.run(
        [shell, option, script.replace("$$", "$")],
        env={"PATH": f"{tmp_path}:{os.defpath}", **given},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == status
    assert said in ran.stderr
