"""A Ray cluster of several nodes on this machine, and what the demo does to it."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import shutil
import signal
import tempfile
import time
from typing import TYPE_CHECKING, Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what is killed here on purpose need not be told

import psutil
import ray
from ray.cluster_utils import Cluster

import ray_durable
from ray_durable.actors.cluster import hush
from ray_durable.connection import connected

if TYPE_CHECKING:
    from progress import Progress

STORE_BYTES = 150 * 1024 * 1024


class LocalCluster:
    """A head and some nodes, each a raylet of its own. Only processes that it started are ever ended, and what Ray
    writes goes into a directory of its own."""

    def __init__(self, nodes: int) -> None:
        self.count = nodes
        self.cluster: Any = None
        self.nodes: list[Any] = []
        self.directory = tempfile.mkdtemp(prefix="ray_", dir=short_directory())
        os.environ["RAY_TMPDIR"] = self.directory

    def start(self) -> None:
        """Start all nodes and connect this process."""
        logging.getLogger("ray").setLevel(logging.ERROR)
        self.cluster = Cluster()
        self.cluster.add_node(num_cpus=2, include_dashboard=False, object_store_memory=STORE_BYTES)
        for _ in range(self.count):
            self.add()
        hush()
        ray.init(address=self.cluster.address, log_to_driver=False, logging_level="error")

    def add(self) -> Any:
        """Start one more node."""
        node = self.cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
        if node not in self.nodes:
            self.nodes.append(node)
        return node

    def processes(self, node: Any) -> list[psutil.Process]:
        """The raylet of a node and everything that it started."""
        found: list[psutil.Process] = []
        for info in [info for infos in node.all_processes.values() for info in infos]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(info.process.pid)
                found += [process, *process.children(recursive=True)]
        return found

    def kill(self, node: Any) -> None:
        """SIGKILL to every process of a node, as if its machine lost power."""
        send(self.processes(node), signal.SIGKILL)
        if node in self.nodes:
            self.nodes.remove(node)

    def kill_everything(self) -> None:
        """SIGKILL to the whole cluster, its head and metadata store included."""
        doomed = [process for node in [self.cluster.head_node, *self.nodes] for process in self.processes(node)]
        send(doomed, signal.SIGKILL)
        psutil.wait_procs(doomed, timeout=10)
        ray_durable.shutdown()
        ray.shutdown()
        self.cluster, self.nodes = None, []

    def stop(self) -> None:
        """End everything that is left, also of a start that was cut short."""
        left = psutil.Process().children(recursive=True)
        ray_durable.shutdown()
        ray.shutdown()
        send(left, signal.SIGTERM)
        _, alive = psutil.wait_procs(left, timeout=5)
        send(alive, signal.SIGKILL)
        psutil.wait_procs(alive, timeout=5)
        self.cluster = None
        shutil.rmtree(self.directory, ignore_errors=True)


def short_directory() -> str | None:
    """Where Ray's sockets may lie: their paths must stay under 108 bytes, which a long TMPDIR leaves no room for."""
    default = tempfile.gettempdir()
    return default if len(default) <= 20 or not os.access("/tmp", os.W_OK) else "/tmp"


def send(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


class Disturbances:
    """Two node kills, a host kill, a drain and a new node, at random moments while the job runs."""

    def __init__(self, cluster: LocalCluster, progress: Progress, seed: int | None) -> None:
        self.cluster, self.progress = cluster, progress
        self.chance = random.Random(seed)
        self.killed: list[str] = []
        self.coming = [self.kill_node, self.drain_node, self.add_node, self.kill_host, self.kill_node]
        self.due = time.monotonic() + self.chance.uniform(3.0, 6.0)

    @property
    def done(self) -> bool:
        return not self.coming

    def act(self) -> None:
        """Do the next one, if its moment has come and there are hosts to choose from."""
        if self.coming and time.monotonic() >= self.due and len(self.hosts()) > 1:
            self.coming.pop(0)()
            self.due = time.monotonic() + self.chance.uniform(2.0, 5.0)

    def hosts(self) -> dict[str, dict[str, Any]]:
        """Live hosts by node; the controller's own node is spared here: a test of its own kills that."""
        status = connected("the demo").ask("status")
        return {host["node"]: host for host in status["hosts"] if host["state"] == "alive"}

    def choose(self) -> tuple[Any, dict[str, Any]]:
        hosts = self.hosts()
        nodes = [node for node in self.cluster.nodes if node.node_id in hosts]
        busy = [node for node in nodes if hosts[node.node_id]["coroutines"]]  # not one that has only just come up
        node = self.chance.choice(busy or nodes)
        return node, hosts[node.node_id]

    def kill_node(self) -> None:
        node, host = self.choose()
        self.cluster.kill(node)
        self.progress.killed(host["host"], f"SIGKILL to all processes of node {node.node_id[:8]}")
        self.killed.append(host["host"])

    def kill_host(self) -> None:
        _, host = self.choose()
        os.kill(host["pid"], signal.SIGKILL)
        self.progress.killed(host["host"], f"SIGKILL to host process {host['pid']}")
        self.killed.append(host["host"])

    def drain_node(self) -> None:
        node, _ = self.choose()
        self.progress.note(f"draining node {node.node_id[:8]}")
        refusal = connected("the demo").ask("drain", node.node_id, 20.0)
        if refusal:
            self.progress.note(f"Ray refused: {refusal}")

    def add_node(self) -> None:
        node = self.cluster.add()
        self.progress.note(f"added node {node.node_id[:8]}")
