"""The Kubernetes manifests: valid to the API's own schemas, and to the rules that we keep.

No cluster runs them here: Kustomize is kubectl's, the schemas are those of kubernetes-validate and,
for KEDA's kind, the one beside its manifest.
"""

from __future__ import annotations

import json
import re
import shutil
from copy import deepcopy
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from tests.deploy.manifests import (
    FOLDER,
    Manifest,
    container,
    named,
    of_kind,
    pods,
    probes,
    rendered,
    variables,
)

OVERLAYS = ["base", "overlays/example"]
DEPLOYED = ["gateway", "exporter", "worker"]


@pytest.fixture(scope="module", params=OVERLAYS)
def manifests(request: pytest.FixtureRequest) -> list[Manifest]:
    return rendered(FOLDER / request.param)


@pytest.fixture(scope="module")
def base() -> list[Manifest]:
    return rendered(FOLDER / "base")


@pytest.fixture(scope="module")
def example() -> list[Manifest]:
    return rendered(FOLDER / "overlays" / "example")


@pytest.fixture(scope="module")
def scaled() -> Draft202012Validator:
    schema = json.loads((FOLDER / "keda" / "scaledobject.schema.json").read_text())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def test_every_manifest_is_valid_to_the_newest_schema_that_is_known(
    manifests: list[Manifest], scaled: Draft202012Validator
) -> None:
    newest = kubernetes_validate.latest_version()
    for manifest in manifests:
        if manifest["kind"] == "ScaledObject":
            scaled.validate(manifest)
        else:
            kubernetes_validate.validate(manifest, newest, strict=True)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "minReplicas"), 1),
        (("spec", "fallback"), {"replicas": 1}),
        (("spec", "triggers", 0, "metadata", "targetValue"), 8),
        (("spec", "triggers", 0, "metadata", "listName"), "medgemma"),
        (("spec", "triggers", 0, "type"), "redis"),
    ],
)
def test_keda_s_schema_refuses_what_keda_would_not_understand(
    path: tuple[Any, ...], value: object, example: list[Manifest], scaled: Draft202012Validator
) -> None:
    wrong = deepcopy(named(example, "ScaledObject", "worker"))
    at: Any = wrong
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    with pytest.raises(ValidationError):
        scaled.validate(wrong)


def test_everything_lies_in_one_namespace_that_lets_restricted_pods_in_alone(
    manifests: list[Manifest],
) -> None:
    (namespace,) = of_kind(manifests, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for manifest in manifests:
        if manifest is not namespace:
            assert manifest["metadata"]["namespace"] == namespace["metadata"]["name"]


def test_pods_are_nobody_special_and_write_to_their_own_volumes_alone(
    manifests: list[Manifest],
) -> None:
    for pod in pods(manifests).values():
        security = pod["spec"]["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] == security["runAsGroup"] == 10001  # of the Dockerfiles
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container(pod)["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        kinds = {kind for volume in pod["spec"]["volumes"] for kind in volume if kind != "name"}
        assert kinds <= {"emptyDir", "secret", "persistentVolumeClaim"}
        mounts = {mount["mountPath"]: mount for mount in container(pod)["volumeMounts"]}
        assert set(mounts) <= {"/tmp", "/models", "/keys"}
        assert "/tmp" in mounts


def test_pods_hold_no_token_of_the_cluster_and_learn_of_no_service(
    manifests: list[Manifest],
) -> None:
    accounts = {one["metadata"]["name"] for one in of_kind(manifests, "ServiceAccount")}
    for account in of_kind(manifests, "ServiceAccount"):
        assert account["automountServiceAccountToken"] is False
    for pod in pods(manifests).values():
        assert pod["spec"]["automountServiceAccountToken"] is False
        assert pod["spec"]["serviceAccountName"] in accounts
        # A Service's variables could be taken for settings.
        assert pod["spec"]["enableServiceLinks"] is False
    assert not of_kind(manifests, "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")


def test_secrets_are_named_and_none_is_here(manifests: list[Manifest]) -> None:
    assert not of_kind(manifests, "Secret")
    (config,) = of_kind(manifests, "ConfigMap")
    for name in config["data"]:
        assert not re.search("URL$|KEY|TOKEN|PASSWORD", name) or name in {
            "MEDGEMMA_STORE_URL",
            "MEDGEMMA_S3_ENDPOINT_URL",
        }
    for pod in pods(manifests).values():
        assert variables(pod)["MEDGEMMA_BROKER_URL"] is None
        assert all(value is None for name, value in variables(pod).items() if "TOKEN" in name)


def test_each_part_has_credentials_of_its_own(manifests: list[Manifest]) -> None:
    parts = {"gateway": "gateway", "exporter": "exporter"}
    for name, pod in pods(manifests).items():
        part = parts.get(name, "worker")  # the upkeep does what a worker's supervisor does
        (broker,) = [one for one in container(pod)["env"] if one["name"] == "MEDGEMMA_BROKER_URL"]
        assert broker["valueFrom"]["secretKeyRef"]["key"] == f"{part}-url"
        secrets = [one["secretRef"] for one in container(pod)["envFrom"] if "secretRef" in one]
        # Optional, since a pod may get its role by its account.
        assert secrets == [{"name": f"medgemma-s3-{part}", "optional": True}]
        assert pod["spec"]["serviceAccountName"] == part


def test_all_pods_have_one_configuration(manifests: list[Manifest]) -> None:
    (config,) = of_kind(manifests, "ConfigMap")
    for pod in pods(manifests).values():
        (named_here,) = [
            one["configMapRef"]["name"]
            for one in container(pod)["envFrom"]
            if "configMapRef" in one
        ]
        assert named_here == config["metadata"]["name"]  # a hash of it, so that pods are replaced


def test_each_worker_s_pod_has_one_gpu(manifests: list[Manifest]) -> None:
    for name, pod in pods(manifests).items():
        resources = container(pod)["resources"]
        assert {"cpu", "memory"} <= set(resources["requests"])
        assert "memory" in resources["limits"]
        gpus = [resources[kind].get("nvidia.com/gpu") for kind in ("requests", "limits")]
        assert gpus == (["1", "1"] if name == "worker" else [None, None])
    worker = pods(manifests)["worker"]
    assert variables(worker)["MEDGEMMA_DEVICE"] == "cuda"
    assert "nvidia.com/gpu" in {one["key"] for one in worker["spec"]["tolerations"]}


def test_selectors_find_the_pods_that_they_mean_and_no_others(manifests: list[Manifest]) -> None:
    labels = {name: pod["metadata"]["labels"] for name, pod in pods(manifests).items()}

    def found(selector: dict[str, str]) -> set[str]:
        return {name for name, has in labels.items() if selector.items() <= has.items()}

    for manifest in of_kind(manifests, "Deployment"):
        assert found(manifest["spec"]["selector"]["matchLabels"]) == {manifest["metadata"]["name"]}
    for manifest in of_kind(manifests, "PodDisruptionBudget"):
        assert found(manifest["spec"]["selector"]["matchLabels"]) == {manifest["metadata"]["name"]}
    for manifest in of_kind(manifests, "Service"):
        assert found(manifest["spec"]["selector"]) == {manifest["metadata"]["name"]}
    policy = named(manifests, "NetworkPolicy", "to-gateway")
    assert found(policy["spec"]["podSelector"]["matchLabels"]) == {"gateway"}
    (expression,) = named(manifests, "NetworkPolicy", "to-metrics")["spec"]["podSelector"][
        "matchExpressions"
    ]
    watched = {
        name for name, has in labels.items() if has[expression["key"]] in expression["values"]
    }
    assert watched == set(DEPLOYED)


def test_ports_are_those_that_are_served_probed_scraped_and_let_through(
    manifests: list[Manifest],
) -> None:
    served = {}
    for name in DEPLOYED:
        pod = pods(manifests)[name]
        (port,) = container(pod)["ports"]
        arguments = container(pod)["args"]
        said = (
            arguments[arguments.index("--port") + 1]
            if "--port" in arguments
            else variables(pod)["MEDGEMMA_METRICS_PORT"]
        )
        assert str(port["containerPort"]) == said
        assert pod["metadata"]["annotations"]["prometheus.io/port"] == said
        assert {probe["httpGet"]["port"] for probe in probes(pod)} == {port["name"]}
        assert container(pod)["livenessProbe"]["httpGet"]["path"] == "/healthz"
        ready = container(pod)["readinessProbe"]["httpGet"]["path"]
        assert ready == ("/healthz" if name == "exporter" else "/readyz")
        served[name] = port
    for service in of_kind(manifests, "Service"):
        (forwarded,) = service["spec"]["ports"]
        assert forwarded["targetPort"] == served[service["metadata"]["name"]]["name"]
    (let,) = named(manifests, "NetworkPolicy", "to-metrics")["spec"]["ingress"]
    assert {port["port"] for port in let["ports"]} == {
        port["containerPort"] for port in served.values()
    }
    (let,) = named(manifests, "NetworkPolicy", "to-gateway")["spec"]["ingress"]
    assert [port["port"] for port in let["ports"]] == [served["gateway"]["name"]]


def test_a_worker_has_the_time_that_it_needs_to_load_and_to_stop(
    manifests: list[Manifest],
) -> None:
    pod = pods(manifests)["worker"]
    startup = container(pod)["startupProbe"]
    load = int(variables(pod)["MEDGEMMA_LOAD_TIMEOUT"] or 0)
    assert startup["httpGet"]["path"] == "/readyz"
    assert startup["periodSeconds"] * startup["failureThreshold"] > load
    assert named(manifests, "Deployment", "worker")["spec"]["progressDeadlineSeconds"] > load
    *command, waits = container(pod)["lifecycle"]["preStop"]["exec"]["command"]
    assert command == ["medgemma-explainer", "drain", "--here", "--wait"]
    grace = int(variables(pod)["MEDGEMMA_SHUTDOWN_GRACE"] or 0)
    assert int(waits) + grace + 15 < pod["spec"]["terminationGracePeriodSeconds"]
    strategy = named(manifests, "Deployment", "worker")["spec"]["strategy"]["rollingUpdate"]
    assert strategy == {"maxSurge": 0, "maxUnavailable": 1}  # no GPU is spare


def test_nothing_is_let_in_or_out_but_what_a_policy_names(manifests: list[Manifest]) -> None:
    deny = named(manifests, "NetworkPolicy", "nothing-else")["spec"]
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for policy in of_kind(manifests, "NetworkPolicy"):
        for rule in policy["spec"].get("ingress", ()):
            for source in rule["from"]:
                assert source["namespaceSelector"]["matchLabels"]
    names, away = named(manifests, "NetworkPolicy", "to-broker-and-store")["spec"]["egress"]
    assert {port["port"] for port in names["ports"]} == {53}
    (block,) = away["to"]
    assert "169.254.169.254/32" in block["ipBlock"]["except"]


def test_a_job_that_redis_lost_is_found_also_where_no_worker_is(base: list[Manifest]) -> None:
    jobs = {one["metadata"]["name"]: one for one in of_kind(base, "CronJob")}
    assert set(jobs) == {"reconcile", "sweep"}
    for name, job in jobs.items():
        pod = pods(base)[name]
        assert container(pod)["args"] == ["medgemma-explainer", name, "--json"]
        assert job["spec"]["concurrencyPolicy"] == "Forbid"


def test_workers_are_scaled_on_jobs_that_wait_and_run_as_the_exporter_tells(
    example: list[Manifest],
) -> None:
    spec = named(example, "ScaledObject", "worker")["spec"]
    target = named(example, spec["scaleTargetRef"]["kind"], spec["scaleTargetRef"]["name"])
    assert "replicas" not in target["spec"]  # they are KEDA's to say
    (config,) = of_kind(example, "ConfigMap")
    exporter = named(example, "Service", "exporter")
    (port,) = exporter["spec"]["ports"]
    host = f"{exporter['metadata']['name']}.{exporter['metadata']['namespace']}.svc"
    asked = {}
    for trigger in spec["triggers"]:
        assert trigger["metadata"]["url"] == f"http://{host}:{port['port']}/metrics"
        match = re.fullmatch(r'(\w+)\{model="([^"]+)".*\}', trigger["metadata"]["valueLocation"])
        assert match is not None
        assert match[2] == config["data"]["MEDGEMMA_MODEL"]  # said once, in the config
        asked[match[1]] = trigger["metricType"]
    assert asked == dict.fromkeys(
        ("medgemma_pending_jobs", "medgemma_queue_oldest_seconds"), "AverageValue"
    )
    assert spec["fallback"]["replicas"] >= 1
    assert spec["minReplicaCount"] < spec["maxReplicaCount"]
    calm = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
    drain = pods(example)["worker"]["spec"]["terminationGracePeriodSeconds"]
    assert calm["stabilizationWindowSeconds"] >= drain


def test_a_namespace_and_a_model_are_said_once_and_scaling_follows(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FOLDER, tmp_path / "kubernetes")) / "overlays" / "example"
    path = folder / "kustomization.yaml"
    text = path.read_text().replace("namespace: medgemma\n", "namespace: another\n")
    path.write_text(re.sub("MEDGEMMA_MODEL=.*", "MEDGEMMA_MODEL=phantom", text))
    for trigger in named(rendered(folder), "ScaledObject", "worker")["spec"]["triggers"]:
        assert trigger["metadata"]["url"] == "http://exporter.another.svc:9464/metrics"
        assert '{model="phantom"' in trigger["metadata"]["valueLocation"]


def test_the_example_says_what_is_its_own_and_leaves_the_rest(
    example: list[Manifest], base: list[Manifest]
) -> None:
    for pod in pods(example).values():
        assert container(pod)["image"].startswith("registry.example.org/")
    (models,) = [
        volume
        for volume in pods(example)["worker"]["spec"]["volumes"]
        if volume["name"] == "models"
    ]
    claim = named(example, "PersistentVolumeClaim", "models")
    assert models["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert "emptyDir" not in models
    (ingress,) = of_kind(example, "Ingress")
    (encrypted,) = ingress["spec"]["tls"]
    for rule in ingress["spec"]["rules"]:
        assert rule["host"] in encrypted["hosts"]
        for path in rule["http"]["paths"]:
            named(example, "Service", path["backend"]["service"]["name"])
    assert {one["metadata"]["name"] for one in of_kind(base, "Deployment")} == set(DEPLOYED)
