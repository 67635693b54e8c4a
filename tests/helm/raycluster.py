"""A RayCluster of the chart that runs here: pods by `kubelet`, from manifests by `kuberay`; what they answer."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.helm.kubelet import CommandFailed, Node, NoNamespaces, RunningPod, Stopped, wait_for
from tests.helm.kuberay import head_pod, worker_pod
from tests.helm.schemas import Manifest

START_S = 150  # for a pod to be ready: 5 s on an idle machine, a minute on one that is busy
REPORTER = """
import json, sys, ray
from ray_durable.connection import connected
ray.init(address="auto", log_to_driver=False)
for _ in sys.stdin:
    try:
        shown = connected("status").ask("status")
    except Exception as error:
        shown = {"error": repr(error)}
    print(json.dumps(shown), flush=True)
"""
SIGNING_KEY = "5e" * 32


@contextmanager
def running(
    ray_cluster: Manifest,
    documents: list[Manifest],
    directory: Path,
    configs: Mapping[str, Mapping[str, str]] | None = None,
) -> Iterator[Cluster]:
    """Start the head and all workers of a rendered RayCluster, and wait until their rendered probes call them ready."""
    (directory / "checkpoints").mkdir()
    node = Node(
        directory,
        claims={"checkpoints": directory / "checkpoints"},
        secrets={"coroutine-keys": {"signing": SIGNING_KEY}},
        configs=configs or {},
    )
    try:
        node.__enter__()
    except NoNamespaces as reason:
        pytest.skip(str(reason))
    try:
        spec = head_pod(ray_cluster)
        cluster = Cluster(node, documents, node.start(spec, {}))
        cluster.wait_until_ready(cluster.head)
        for group in ray_cluster["spec"]["workerGroupSpecs"]:
            for number in range(group["replicas"]):
                worker = worker_pod(ray_cluster, group["groupName"], number)
                cluster.workers.append(node.start(worker, {spec.service: cluster.head.address}))
        for started in cluster.workers:
            cluster.wait_until_ready(started)
        yield cluster
    finally:
        node.__exit__()


@dataclass
class Cluster:
    """A RayCluster of the chart whose pods run here."""

    node: Node
    documents: list[Manifest]
    head: RunningPod
    workers: list[RunningPod] = field(default_factory=list)
    reporter: subprocess.Popen[str] | None = None

    def wait_until_ready(self, pod: RunningPod) -> None:
        def ready() -> str:
            self.node.restart_ended()  # Ray gives a node 30 s to start, which a busy machine may exceed
            return self.probe(pod, "readinessProbe")

        wait_for(ready, f"{pod.pod.name} ready", START_S)

    def probe(self, pod: RunningPod, which: str) -> str:
        """Ask what the kubelet would ask. Raises CalledProcessError while the answer is no."""
        page = pod.pod.container[which]["httpGet"]
        return self.node.get(pod, page["port"], page["path"])

    def status(self) -> dict[str, Any]:
        """What `ray-durable status --json` shows, of a process that stays: each start would take seconds. Raises
        CommandFailed while there is no controller."""
        if self.reporter is None:
            self.reporter = self.head.begin("python", "-c", REPORTER, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert self.reporter.stdin is not None and self.reporter.stdout is not None
        self.reporter.stdin.write("status\n")
        self.reporter.stdin.flush()
        shown: dict[str, Any] = json.loads(self.reporter.stdout.readline() or "{}")
        if "hosts" not in shown:
            raise CommandFailed(f"no status: {shown}")
        return shown

    def load(self) -> dict[str, int]:
        """Coroutines by the address of their worker's pod."""
        load = dict.fromkeys((worker.address for worker in self.workers), 0)
        for host in self.status()["hosts"]:
            address = (host["metrics"] or "").rpartition(":")[0]  # none until it has started
            if address in load:
                load[address] += host["coroutines"]
        return load

    def busiest(self) -> tuple[RunningPod, int]:
        """The worker with most coroutines, and their number."""
        load = self.load()
        worker = max(self.workers, key=lambda worker: load[worker.address])
        return worker, load[worker.address]

    def stop(self, worker: RunningPod, *, prestop: bool) -> Stopped:
        self.workers.remove(worker)
        return worker.stop(prestop)

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
