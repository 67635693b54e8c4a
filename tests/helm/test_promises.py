"""What the rendered manifests promise: time to drain, no privileges, settings that exist, ports that agree."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ray_durable.config import Settings, unknown_variables
from tests.helm.helms import CHART
from tests.helm.schemas import Manifest

Render = Callable[[Path], list[Manifest]]
Write = Callable[[dict[str, Any]], Path]


def of_kind(documents: list[Manifest], kind: str) -> list[Manifest]:
    return [document for document in documents if document["kind"] == kind]


def ray_pods(documents: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """The pod templates of every Ray cluster, the demo's too, by name."""
    specs = [("cluster", d["spec"]) for d in of_kind(documents, "RayCluster")]
    specs += [("demo", d["spec"]["rayClusterSpec"]) for d in of_kind(documents, "RayJob")]
    for name, spec in specs:
        yield f"{name} head", spec["headGroupSpec"]["template"]
        for group in spec["workerGroupSpecs"]:
            yield f"{name} {group['groupName']}", group["template"]


def all_pod_specs(documents: list[Manifest]) -> Iterator[Manifest]:
    yield from (template["spec"] for _, template in ray_pods(documents))
    yield from (d["spec"] for d in of_kind(documents, "Pod"))
    yield from (d["spec"]["submitterPodTemplate"]["spec"] for d in of_kind(documents, "RayJob"))


def environment(container: Manifest) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in container["env"]}


def test_the_grace_period_leaves_time_for_both_drains(ci_values: Path, rendered: Render) -> None:
    for name, template in ray_pods(rendered(ci_values)):
        (container,) = template["spec"]["containers"]
        *command, timeout = container["lifecycle"]["preStop"]["exec"]["command"]
        assert command == ["ray-durable", "drain", "--this-node", "--wait", "--timeout"]
        ray_s = float(environment(container)["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"])
        grace_s = template["spec"]["terminationGracePeriodSeconds"]
        assert int(timeout) + ray_s < grace_s, f"{name}: nothing is left for Ray's processes to end"


def test_a_group_says_for_itself_how_long_it_drains(rendered: Render) -> None:
    pods = dict(ray_pods(rendered(CHART / "ci/spot-values.yaml")))
    grace = {name: template["spec"]["terminationGracePeriodSeconds"] for name, template in pods.items()}
    assert grace["cluster default"] == 90
    assert grace["cluster spot-gke"] == 15, "pods on GKE's spot nodes get 15 s at most"
    assert grace["cluster spot-aws"] < 120, "AWS gives two minutes' notice"


def test_no_pod_has_privileges(ci_values: Path, rendered: Render) -> None:
    """The restricted Pod Security Standard, and a read-only root file system."""
    for spec in all_pod_specs(rendered(ci_values)):
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        for container in spec["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert context["readOnlyRootFilesystem"] is True
        for volume in spec.get("volumes", []):
            assert volume.keys() <= {"name", "emptyDir", "persistentVolumeClaim", "secret", "configMap"}


def test_only_the_autoscaler_has_a_token(ci_values: Path, rendered: Render) -> None:
    documents = rendered(ci_values)
    autoscaled = any(d["spec"].get("enableInTreeAutoscaling") for d in of_kind(documents, "RayCluster"))
    for name, template in ray_pods(documents):
        assert template["spec"]["automountServiceAccountToken"] is (autoscaled and name == "cluster head")
    assert bool(of_kind(documents, "Role")) is autoscaled
    for role in of_kind(documents, "Role"):
        rules = {rule["resources"][0]: rule for rule in role["rules"]}
        assert rules.keys() == {"pods", "rayclusters"}
        assert rules["pods"]["verbs"] == ["get", "list", "watch"]
        assert rules["rayclusters"]["resourceNames"] == [of_kind(documents, "RayCluster")[0]["metadata"]["name"]]


def test_every_setting_in_a_pod_is_one_of_ray_durable(ci_values: Path, rendered: Render) -> None:
    """Names and values as the package itself reads them; keys come from files, which are not there now."""
    for name, template in ray_pods(rendered(ci_values)):
        env = environment(template["spec"]["containers"][0])
        assert unknown_variables(env) == {}, name
        settings = Settings.load({key: value for key, value in env.items() if not key.endswith("_FILE")})
        assert settings.storage == env["RAY_DURABLE_STORAGE"]


def test_every_setting_can_be_given(values_file: Write, rendered: Render) -> None:
    given = {"lease_s": 6, "retention_s": 2592000, "turn_size": 64, "log_format": "json", "heartbeat_s": 0.25}
    _, template = next(ray_pods(rendered(values_file({"settings": given}))))
    settings = Settings.load(environment(template["spec"]["containers"][0]))
    assert {name: getattr(settings, name) for name in given} == given


def test_keys_are_in_files_and_in_no_environment(ci_values: Path, rendered: Render) -> None:
    for _, template in ray_pods(rendered(ci_values)):
        (container,) = template["spec"]["containers"]
        env = environment(container)
        assert not {"RAY_DURABLE_SIGNING_KEY", "RAY_DURABLE_ENCRYPTION_KEY"} & env.keys()
        files = [value for name, value in env.items() if name.endswith("_KEY_FILE")]
        volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
        for file in files:
            directory, _, entry = file.rpartition("/")
            (mount,) = (m for m in container["volumeMounts"] if m["mountPath"] == directory)
            secret = volumes[mount["name"]]["secret"]
            assert entry in [item["path"] for item in secret["items"]]
            assert secret["defaultMode"] == 0o440


def test_the_monitors_scrape_ports_that_the_pods_declare(ci_values: Path, rendered: Render) -> None:
    documents = rendered(ci_values)
    for name, template in ray_pods(documents):
        (container,) = template["spec"]["containers"]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        env = environment(container)
        assert ports["durable-0"] == int(env["RAY_DURABLE_METRICS_PORT"])
        assert ("durable-ctrl" in ports) is ("head" in name), "the controller prefers the head"
        assert ports.get("durable-ctrl", 8070) == int(env["RAY_DURABLE_CONTROLLER_METRICS_PORT"])
        assert env["RAY_DURABLE_METRICS_HOST"] == "0.0.0.0", f"{name}: Prometheus comes from another pod"
        assert len(ports) == len(set(ports.values())) == len(container["ports"])
        for monitor in of_kind(documents, "PodMonitor"):
            assert monitor["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
            scraped = {endpoint["port"] for endpoint in monitor["spec"]["podMetricsEndpoints"]}
            assert scraped <= ports.keys() if "head" in name else scraped & ports.keys()


def test_metrics_can_be_off(values_file: Write, rendered: Render) -> None:
    values = {"metrics": {"enabled": False}, "monitoring": {"podMonitor": {"enabled": True}}}
    documents = rendered(values_file(values))
    for _, template in ray_pods(documents):
        (container,) = template["spec"]["containers"]
        assert environment(container)["RAY_DURABLE_METRICS"] == "0"
        assert not [port for port in container["ports"] if port["name"].startswith("durable")]
    (monitor,) = of_kind(documents, "PodMonitor")
    assert monitor["metadata"]["name"].endswith("-ray")


def test_a_budget_keeps_all_but_one_pod_of_each_group(rendered: Render) -> None:
    """As a number of pods: Kubernetes takes maxUnavailable from owners with a scale subresource only."""
    documents = rendered(CHART / "ci/spot-values.yaml")
    budgets = {
        d["spec"]["selector"]["matchLabels"]["ray.io/group"]: d["spec"]
        for d in of_kind(documents, "PodDisruptionBudget")
    }
    groups = {g["groupName"]: g["replicas"] for g in of_kind(documents, "RayCluster")[0]["spec"]["workerGroupSpecs"]}
    assert {name: budget["minAvailable"] for name, budget in budgets.items()} == {n: r - 1 for n, r in groups.items()}
    assert not [budget for budget in budgets.values() if "maxUnavailable" in budget]


@pytest.mark.parametrize(("replicas", "budgets"), [(0, 0), (1, 0), (2, 1)])
def test_a_budget_never_blocks_the_last_drain(
    replicas: int, budgets: int, values_file: Write, rendered: Render
) -> None:
    documents = rendered(values_file({"worker": {"replicas": replicas}}))
    assert len(of_kind(documents, "PodDisruptionBudget")) == budgets


def test_the_network_is_closed_but_for_what_is_needed(rendered: Render) -> None:
    documents = rendered(CHART / "ci/gke-workload-identity-values.yaml")
    (policy,) = of_kind(documents, "NetworkPolicy")
    spec = policy["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    for _, template in ray_pods(documents):
        assert spec["podSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    assert all("from" in rule for rule in spec["ingress"]), "nobody else may come in"
    open_to_all = [rule for rule in spec["egress"] if "to" not in rule]
    assert [port["port"] for rule in open_to_all for port in rule["ports"]] == [53, 53]
    blocks = [peer["ipBlock"] for rule in spec["egress"] for peer in rule.get("to", []) if "ipBlock" in peer]
    everywhere = [block for block in blocks if block["cidr"] == "0.0.0.0/0"]
    assert [block["except"] for block in everywhere] == [["169.254.0.0/16"]]
    assert "169.254.169.254/32" in [block["cidr"] for block in blocks], "workload identity asks there"


def test_a_group_may_say_none(values_file: Write, rendered: Render) -> None:
    """0, false and the empty string of a group count, against defaults that say otherwise."""
    values = {
        "worker": {"priorityClassName": "high", "podLabels": {"team": "a"}},
        "workerGroups": {"idle": {"replicas": 0, "priorityClassName": "", "podLabels": {"team": "b"}}, "default": None},
    }
    (cluster,) = of_kind(rendered(values_file(values)), "RayCluster")
    (group,) = cluster["spec"]["workerGroupSpecs"]
    assert (group["groupName"], group["replicas"]) == ("idle", 0)
    assert "priorityClassName" not in group["template"]["spec"]
    assert group["template"]["metadata"]["labels"]["team"] == "b"


def test_gcs_fault_tolerance_by_redis_and_by_rocksdb(rendered: Render) -> None:
    def options(name: str) -> Manifest:
        (cluster,) = of_kind(rendered(CHART / f"ci/{name}-values.yaml"), "RayCluster")
        found: Manifest = cluster["spec"]["gcsFaultToleranceOptions"]
        return found

    redis, rocksdb = options("production-s3"), options("gke-workload-identity")
    assert redis["redisAddress"] == "redis.ray-system.svc:6379"
    assert "backend" not in redis, "operators without rocksdb do not know that field"
    assert redis["redisPassword"]["valueFrom"]["secretKeyRef"]["name"] == "redis"
    assert rocksdb["backend"] == "rocksdb"
    assert rocksdb["storage"]["deletionPolicy"] == "Retain"


def test_names_fit_what_kuberay_adds(values_file: Write, rendered: Render) -> None:
    values = {"fullnameOverride": "a" * 40, "demo": {"enabled": True}}
    for document in rendered(values_file(values)):
        limit = 47 if document["kind"] == "RayJob" else 63
        assert len(document["metadata"]["name"]) <= limit
