"""A cluster of real raylets for tests, with Ray's own health-check settings, and the signals that it can take."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import psutil
import ray
from ray.cluster_utils import Cluster

import ray_durable
from ray_durable.actors.cluster import hush
from ray_durable.connection import connected

STORE_BYTES = 100 * 1024 * 1024


def until(condition: Callable[[], Any], timeout_s: float = 30.0, what: str = "it") -> Any:
    """Poll until `condition` holds; returns what it returned."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} did not happen in {timeout_s} s"
        time.sleep(0.05)
    return found


class LiveCluster:
    """A head and worker nodes. Only processes that it started get signals."""

    def __init__(self, storage: str, nodes: int = 2, controller_on_worker: bool = False) -> None:
        self.storage = storage
        head = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": STORE_BYTES}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.workers = [self.start_node() for _ in range(nodes)]
        hush()
        ray.init(address=self.cluster.address, log_to_driver=False, logging_level="error")
        where = self.workers[0].node_id if controller_on_worker else None
        self.ready = ray_durable.init(storage, controller_node=where)
        self.until_hosts(nodes + 1)

    def start_node(self) -> Any:
        return self.cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)

    def add_node(self) -> Any:
        node = self.start_node()
        self.workers.append(node)
        return node

    def ask(self, method: str, *args: Any) -> Any:
        return connected("the test").ask(method, *args, timeout_s=60)

    def status(self) -> dict[str, Any]:
        return dict(self.ask("status"))

    def hosts(self) -> dict[str, dict[str, Any]]:
        """Live hosts by node id."""
        return {host["node"]: host for host in self.status()["hosts"] if host["state"] == "alive"}

    def until_hosts(self, count: int, timeout_s: float = 60.0) -> None:
        until(lambda: len(self.hosts()) >= count, timeout_s, f"{count} live hosts")

    def events(self, kind: str, host: str) -> list[dict[str, Any]]:
        return [e for e in self.ask("events_since", 0) if e["kind"] == kind and e.get("host") == host]

    def event(self, kind: str, host: str, timeout_s: float = 30.0) -> dict[str, Any]:
        """The first event of this kind about this host, waited for."""
        return dict(until(lambda: self.events(kind, host), timeout_s, f"{kind} of {host}")[0])

    def processes(self, node: Any) -> list[psutil.Process]:
        found: list[psutil.Process] = []
        for info in [info for infos in node.all_processes.values() for info in infos]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(info.process.pid)
                found += [process, *process.children(recursive=True)]
        return found

    def signal(self, processes: list[psutil.Process], number: signal.Signals) -> None:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def kill(self, node: Any) -> float:
        """SIGKILL to all processes of a node; returns the moment."""
        doomed = self.processes(node)
        at = time.time()
        self.signal(doomed, signal.SIGKILL)
        self.workers = [other for other in self.workers if other is not node]
        return at

    def worker_with_coroutines(self, least: int) -> tuple[Any, dict[str, Any]]:
        """A worker node (not the controller's) whose host has at least so many coroutines."""

        def found() -> Any:
            status = self.status()
            loaded = {h["node"]: h for h in status["hosts"] if h["state"] == "alive" and h["coroutines"] >= least}
            fitting = [n for n in self.workers if n.node_id in loaded and n.node_id != status["node"]]
            return fitting and (fitting[0], loaded[fitting[0].node_id])

        return until(found, 60, f"a worker with {least} coroutines")

    def stop(self) -> None:
        left = [p for node in [self.cluster.head_node, *self.workers] for p in self.processes(node)]
        ray_durable.shutdown()
        ray.shutdown()
        self.signal(left, signal.SIGKILL)
        psutil.wait_procs(left, timeout=20)


def log_objects(storage: str, writer: str) -> set[str]:
    """The names of a log's objects in a local store."""
    folder = os.path.join(storage, "logs", writer)
    return set(os.listdir(folder)) if os.path.isdir(folder) else set()
