"""The demo's RayJob does what it says: on a cluster of its own it kills workers, and checks every result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helm.helms import CHART
from tests.helm.raycluster import running
from tests.helm.schemas import Manifest

COROUTINES, KILLS = 40, 1

pytestmark = [pytest.mark.cluster, pytest.mark.chaos, pytest.mark.timeout(500)]


@pytest.mark.usefixtures("image")
def test_the_job_kills_nodes_and_ends_well(
    values_file: Callable[[dict[str, Any]], Path], rendered: Callable[[Path], list[Manifest]], tmp_path: Path
) -> None:
    values = yaml.safe_load((CHART / "ci/shared-volume-values.yaml").read_text())
    values["demo"] = {"enabled": True, "coroutines": COROUTINES, "kills": KILLS}
    documents = rendered(values_file(values))
    (job,) = (d for d in documents if d["kind"] == "RayJob")
    configs = {d["metadata"]["name"]: d["data"] for d in documents if d["kind"] == "ConfigMap"}
    # KubeRay makes a RayCluster of the job's spec, and runs the entrypoint in its head by a shell.
    ray_cluster = {"metadata": job["metadata"], "spec": job["spec"]["rayClusterSpec"]}
    with running(ray_cluster, documents, tmp_path, configs) as cluster:
        output = cluster.head.exec("/bin/sh", "-c", job["spec"]["entrypoint"], timeout_s=200)
        dead = [worker for worker in cluster.workers if worker.process.poll() is not None]
    assert f"results: {COROUTINES}, wrong: 0, lost: 0" in output
    assert len(dead) == KILLS, "the container ends with its raylet, and the kubelet would start it anew"
