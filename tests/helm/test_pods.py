"""The rendered pods, run as the kubelet and KubeRay would run them, answer, drain and stop in time.

A head and three workers of `ci/shared-volume-values.yaml` start in namespaces of their own (see `kubelet`), from the
image that the Dockerfile makes, and the spot exercise of the chart runs in them. Then one worker is stopped as the
kubelet stops a pod, and one is only sent SIGTERM.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.helm.conftest import found
from tests.helm.helms import CHART
from tests.helm.kubelet import Node, NoNamespaces, RunningPod, Stopped, wait_for
from tests.helm.kuberay import head_pod, worker_pod
from tests.helm.schemas import Manifest, manifests

VALUES = CHART / "ci/shared-volume-values.yaml"
EXERCISE = CHART / "examples/spot-interruption/exercise.py"
COROUTINES, STEPS, PAUSE_S = 40, 60, 0.5

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(280)]


@dataclass
class Cluster:
    """A RayCluster of the chart whose pods run here."""

    node: Node
    documents: list[Manifest]
    head: RunningPod
    workers: list[RunningPod] = field(default_factory=list)

    def status(self) -> dict[str, Any]:
        shown: dict[str, Any] = json.loads(self.head.exec("ray-durable", "status", "--json"))
        return shown

    def load(self) -> dict[str, int]:
        """Coroutines by the address of their pod."""
        nodes = {node["node_id"]: node["node_ip"] for node in self.ray_nodes()}
        load = dict.fromkeys((worker.address for worker in self.workers), 0)
        for host in self.status()["hosts"]:
            if host["state"] != "dead" and (address := nodes.get(host["node"])) in load:
                load[address] += host["coroutines"]
        return load

    def ray_nodes(self) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = json.loads(self.head.exec("ray", "list", "nodes", "--format", "json"))
        return listed

    def busiest(self) -> RunningPod:
        load = self.load()
        return max(self.workers, key=lambda worker: load[worker.address])

    def metric(self, name: str) -> float:
        """The sum of a metric's samples, over all pods that run."""
        total = 0.0
        for page in self.pages("durable").values():
            total += sum(float(value) for value in re.findall(rf"(?m)^{name} (\S+)$", page))
        return total

    def pages(self, monitor: str) -> dict[tuple[str, str], str]:
        """What Prometheus would scrape by a PodMonitor: pages by pod and port, where somebody listens."""
        (spec,) = (
            d["spec"]
            for d in self.documents
            if d["kind"] == "PodMonitor" and d["metadata"]["name"].endswith(f"-{monitor}")
        )
        found = {}
        for pod in [self.head, *self.workers]:
            ports = {port["name"]: port["containerPort"] for port in pod.pod.container["ports"]}
            for endpoint in spec["podMetricsEndpoints"]:
                if endpoint["port"] in ports:
                    try:
                        page = self.node.get(pod, ports[endpoint["port"]], endpoint["path"])
                    except subprocess.CalledProcessError:
                        continue  # nobody listens: a pod without a host, or without the controller
                    found[pod.pod.name, endpoint["port"]] = page
        return found


@pytest.fixture(scope="module")
def cluster(image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Head and workers, started as the chart renders them, and ready by their rendered probes."""
    documents = manifests(found("3.6.2").template(VALUES).output)
    (ray_cluster,) = (d for d in documents if d["kind"] == "RayCluster")
    directory = tmp_path_factory.mktemp("node")
    (directory / "checkpoints").mkdir()
    node = Node(
        directory,
        claims={"checkpoints": directory / "checkpoints"},
        secrets={"coroutine-keys": {"signing": "5e" * 32}},
    )
    try:
        node.__enter__()
    except NoNamespaces as reason:
        pytest.skip(str(reason))
    try:
        spec = head_pod(ray_cluster)
        head = node.start(spec, {})
        wait_for(lambda: probe(node, head, "readinessProbe"), "the head's readiness", 60)
        running = Cluster(node, documents, head)
        group = ray_cluster["spec"]["workerGroupSpecs"][0]
        for number in range(group["replicas"]):
            worker = worker_pod(ray_cluster, group["groupName"], number)
            running.workers.append(node.start(worker, {spec.service: head.address}))
        for worker_running in running.workers:
            wait_for(lambda: probe(node, worker_running, "readinessProbe"), "a worker's readiness", 60)  # noqa: B023
        yield running
    finally:
        node.__exit__()


def probe(node: Node, pod: RunningPod, which: str) -> str:
    """Ask what the kubelet would ask. Raises CalledProcessError while the answer is no."""
    page = pod.pod.container[which]["httpGet"]
    return node.get(pod, page["port"], page["path"])


@pytest.fixture(scope="module")
def exercise(cluster: Cluster) -> Iterator[subprocess.Popen[str]]:
    """The chart's exercise, begun in the head's pod, with coroutines on every worker."""
    sizes = ["--coroutines", str(COROUTINES), "--steps", str(STEPS), "--pause", str(PAUSE_S)]
    process = cluster.head.begin("python", str(EXERCISE), *sizes)

    def spread() -> bool:
        if process.poll() is not None:
            assert process.stdout is not None
            raise AssertionError(f"the exercise ended early: {process.stdout.read()}")
        return min(cluster.load().values()) > 0

    wait_for(spread, "coroutines on every worker", 60)
    yield process
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def stopped(cluster: Cluster, exercise: subprocess.Popen[str]) -> tuple[int, Stopped]:
    """One worker stopped as the kubelet stops a pod: how many coroutines it had, and how it went."""
    pod = cluster.busiest()
    had = cluster.load()[pod.address]
    outcome = pod.stop()
    cluster.workers.remove(pod)
    return had, outcome


def test_the_rendered_probes_answer(cluster: Cluster) -> None:
    for pod in [cluster.head, *cluster.workers]:
        for which in ("livenessProbe", "readinessProbe"):
            assert "success" in probe(cluster.node, pod, which)


def test_ray_needs_no_root_no_capability_and_no_writable_root(cluster: Cluster) -> None:
    status = cluster.workers[0].exec("cat", "/proc/1/status")
    fields = dict(re.findall(r"(?m)^(\w+):\s+(.*)$", status))
    assert fields["Uid"].split() == ["1000"] * 4
    assert int(fields["CapEff"], 16) == int(fields["CapBnd"], 16) == 0
    assert fields["NoNewPrivs"] == "1"
    written = cluster.workers[0].exec("sh", "-c", "touch /x 2>&1; touch /home/ray/x 2>&1; touch /tmp/x && echo /tmp")
    assert written.count("Read-only file system") == 2
    assert "/tmp\n" in written


def test_the_keys_are_where_the_settings_say(cluster: Cluster) -> None:
    command = "from ray_durable.config import Settings; print(Settings.load().signing_key.reveal().decode())"
    assert cluster.head.exec("python", "-c", command).strip() == "5e" * 32


def test_the_rendered_metrics_ports_answer(cluster: Cluster, exercise: subprocess.Popen[str]) -> None:
    durable, ray_pages = cluster.pages("durable"), cluster.pages("ray")
    hosts = {pod for pod, port in durable if port == "durable-0"}
    assert hosts >= {worker.pod.name for worker in cluster.workers}
    assert len([port for _, port in durable if port == "durable-ctrl"]) == 1, "one controller"
    assert all("durable_checkpoints_total" in durable[pod, "durable-0"] for pod in hosts)
    assert {pod for pod, port in ray_pages if port == "metrics"} == {
        pod.pod.name for pod in [cluster.head, *cluster.workers]
    }
    assert all("ray_" in page for (_, port), page in ray_pages.items() if port == "metrics")


def test_a_worker_that_is_stopped_hands_over_its_coroutines_within_its_grace(
    cluster: Cluster, stopped: tuple[int, Stopped]
) -> None:
    had, outcome = stopped
    assert had > 0
    assert outcome.prestop_status == 0, outcome.prestop_output
    timeout_s = int(cluster.head.pod.container["lifecycle"]["preStop"]["exec"]["command"][-1])
    assert outcome.prestop_s < timeout_s
    assert not outcome.killed
    assert outcome.total_s < outcome.grace_s
    assert cluster.metric(r'durable_migrations_total\{[^}]*reason="node_draining"[^}]*\}') >= had


def test_a_stopped_worker_is_not_taken_for_a_dead_one(cluster: Cluster, stopped: tuple[int, Stopped]) -> None:
    """Handed over, not recovered: nothing was run twice."""
    wait_for(lambda: sum(cluster.load().values()) == cluster.status()["states"].get("running", 0), "all running", 30)
    assert cluster.metric(r"durable_takeovers_total\{[^}]*\}") == 0


def test_sigterm_alone_drains_too_and_every_result_is_right(
    cluster: Cluster, exercise: subprocess.Popen[str], stopped: tuple[int, Stopped]
) -> None:
    """Who stops a container without its preStop hook gives Ray's own drain a chance, which the controller watches."""
    pod = cluster.busiest()
    before = cluster.metric(r'durable_migrations_total\{[^}]*reason="node_draining"[^}]*\}')
    had = cluster.load()[pod.address]
    assert had > 0
    outcome = pod.stop(prestop=False)
    cluster.workers.remove(pod)
    assert not outcome.killed
    assert outcome.total_s < outcome.grace_s
    assert cluster.metric(r'durable_migrations_total\{[^}]*reason="node_draining"[^}]*\}') - before >= had
    output, _ = exercise.communicate(timeout=90)
    assert exercise.returncode == 0, output
    assert f"results: {COROUTINES}, wrong: 0, lost: 0" in output
