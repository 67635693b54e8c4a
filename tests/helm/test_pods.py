"""The rendered pods, run as the kubelet and KubeRay would run them, answer, drain and stop in time.

A head and three workers of `ci/shared-volume-values.yaml` start in namespaces of their own (see `kubelet`), from the
image that the Dockerfile makes, and the spot exercise of the chart runs in them. Then one worker is stopped as the
kubelet stops a pod, and one is only sent SIGTERM.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.helm.conftest import found
from tests.helm.helms import CHART
from tests.helm.kubelet import Stopped, wait_for
from tests.helm.raycluster import SIGNING_KEY, START_S, Cluster, running
from tests.helm.schemas import manifests

VALUES = CHART / "ci/shared-volume-values.yaml"
EXERCISE = CHART / "examples/spot-interruption/exercise.py"
COROUTINES, STEPS, PAUSE_S = 40, 100, 0.5

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(500)]


@pytest.fixture(scope="module")
def cluster(image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Head and workers, started as the chart renders them, and ready by their rendered probes."""
    documents = manifests(found("3.6.2").template(VALUES).output)
    (ray_cluster,) = (d for d in documents if d["kind"] == "RayCluster")
    with running(ray_cluster, documents, tmp_path_factory.mktemp("node")) as started:
        yield started


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

    wait_for(spread, "coroutines on every worker", START_S)
    yield process
    process.kill()
    process.wait()


@dataclass(frozen=True)
class Story:
    """Two workers stopped while the exercise runs, one after the other, and the controller's word before and after."""

    loads: tuple[int, int]
    stops: tuple[Stopped, Stopped]
    migrations: tuple[dict[str, int], ...]


@pytest.fixture(scope="module")
def story(cluster: Cluster, exercise: subprocess.Popen[str]) -> Story:
    """The first worker is stopped as the kubelet stops a pod, the second is only sent SIGTERM."""
    first, first_load = cluster.busiest()
    before = cluster.status()["migrations"]
    first_stop = cluster.stop(first, prestop=True)
    between = cluster.status()["migrations"]
    second, second_load = cluster.busiest()
    second_stop = cluster.stop(second, prestop=False)
    after = cluster.status()["migrations"]
    assert exercise.poll() is None, "the exercise ended before the second worker was stopped"
    return Story((first_load, second_load), (first_stop, second_stop), (before, between, after))


def test_the_rendered_probes_answer(cluster: Cluster) -> None:
    for pod in [cluster.head, *cluster.workers]:
        for which in ("livenessProbe", "readinessProbe"):
            assert "success" in cluster.probe(pod, which)


def test_ray_needs_no_root_no_capability_and_no_writable_root(cluster: Cluster) -> None:
    status = cluster.workers[0].exec("cat", "/proc/1/status")
    fields = dict(re.findall(r"(?m)^(\w+):\s+(.*)$", status))
    assert fields["Uid"].split() == [str(cluster.workers[0].user())] * 4
    assert int(fields["CapEff"], 16) == int(fields["CapBnd"], 16) == 0
    assert fields["NoNewPrivs"] == "1"
    written = cluster.workers[0].exec("sh", "-c", "touch /x 2>&1; touch /home/ray/x 2>&1; touch /tmp/x && echo /tmp")
    assert written.count("Read-only file system") == 2
    assert "/tmp\n" in written


def test_the_keys_are_where_the_settings_say(cluster: Cluster) -> None:
    command = "from ray_durable.config import Settings; print(Settings.load().signing_key.reveal().decode())"
    assert cluster.head.exec("python", "-c", command).strip() == SIGNING_KEY


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


def test_a_worker_that_is_stopped_hands_over_its_coroutines_within_its_grace(story: Story) -> None:
    outcome, load = story.stops[0], story.loads[0]
    assert load > 0
    assert outcome.prestop_status == 0, outcome.prestop_output
    assert not outcome.killed
    assert outcome.total_s < outcome.grace_s
    assert drained(story.migrations[1]) - drained(story.migrations[0]) >= load


def test_sigterm_alone_hands_them_over_too(story: Story) -> None:
    """Who stops a container without its preStop hook gives Ray's own drain a chance, which the controller watches."""
    outcome, load = story.stops[1], story.loads[1]
    assert load > 0
    assert not outcome.killed
    assert outcome.total_s < outcome.grace_s
    assert drained(story.migrations[2]) - drained(story.migrations[1]) >= load


def drained(migrations: dict[str, int]) -> int:
    return migrations.get("node_draining", 0)


def test_a_stopped_worker_is_not_taken_for_a_dead_one(story: Story) -> None:
    """Handed over, not recovered: nothing was run twice."""
    assert not {"node_died", "host_died", "host_hung"} & story.migrations[-1].keys()


def test_every_result_is_right_after_all(story: Story, exercise: subprocess.Popen[str]) -> None:
    output, _ = exercise.communicate(timeout=300)
    assert exercise.returncode == 0, output
    assert f"results: {COROUTINES}, wrong: 0, lost: 0" in output
