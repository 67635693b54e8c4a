"""What happens when something cannot start: a host, or a controller whose storage another cluster works on."""

from __future__ import annotations

import contextlib
import threading
import uuid

import pytest
import ray

import ray_durable
from ray_durable.actors.client import CONTROLLER
from ray_durable.actors.fleet import HOST_PREFIX
from ray_durable.actors.terms import beat, lead_cluster
from ray_durable.checkpoint.stores import open_store
from ray_durable.clock import SYSTEM_CLOCK
from ray_durable.errors import HostStartError, StorageInUseError, StoreError
from tests.cluster import jobs
from tests.cluster.live import until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]

NOWHERE = {"working_dir": "https://127.0.0.1:1/nothing.zip"}


@pytest.fixture
def elsewhere(live):
    """Another namespace for a controller of its own, which is ended with its hosts."""
    namespace = f"other-{uuid.uuid4().hex[:8]}"
    yield namespace
    for actor in ray.util.list_named_actors(all_namespaces=True):
        name = actor["name"]
        if actor["namespace"] == namespace and (name == CONTROLLER or name.startswith(HOST_PREFIX)):
            with contextlib.suppress(ValueError):
                ray.kill(ray.get_actor(name, namespace))
    ray_durable.shutdown()
    ray_durable.init(live.storage)


@contextlib.contextmanager
def living_cluster(storage):
    """Another cluster that works on a storage, as far as that shows."""
    store = open_store(storage)
    number = lead_cluster(store, "another", storage, lease_s=0.01, takeover=True, clock=SYSTEM_CLOCK)
    over = threading.Event()

    def live_on():
        while not over.wait(0.05):
            beat(store, number, SYSTEM_CLOCK.unique())

    thread = threading.Thread(target=live_on)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_a_storage_in_use_is_refused_and_can_then_be_taken_over(elsewhere, tmp_path):
    storage = str(tmp_path / "storage")
    with living_cluster(storage):
        for _ in range(2):
            with pytest.raises(StorageInUseError, match="another"):
                ray_durable.init(storage, namespace=elsewhere, lease_s=1.0)
        assert ray_durable.init(storage, namespace=elsewhere, takeover=True)["storage"] == storage
    assert ray.get(jobs.ticks.remote(3, 0.01), timeout=60) == [0, 1, 2]


def test_after_a_storage_that_fails_another_one_can_be_named(elsewhere, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError):
        ray_durable.init(str(tmp_path / "file"), namespace=elsewhere)
    good = str(tmp_path / "storage")
    assert ray_durable.init(good, namespace=elsewhere)["storage"] == good


@pytest.mark.parametrize("cpus", [0, 0.1], ids=["shared", "of its own"])
def test_a_host_that_cannot_start_is_tried_a_few_times_and_the_user_learns_why(live, cpus):
    before = live.ask("events_since", 0)[-1]["number"]
    ref = jobs.helper.options(name=f"nowhere {cpus}", runtime_env=NOWHERE, num_cpus=cpus).remote(1)
    handle = ray_durable.get_handle(f"nowhere {cpus}")
    until(lambda: "no host starts" in (handle.status()["trouble"] or ""), 60, "word of a host that did not start")
    with pytest.raises(HostStartError, match="runtime_env") as caught:
        ray.get(ref, timeout=90)
    assert caught.value.tries == 3
    failed = [event for event in live.ask("events_since", before) if event["kind"] == "host_failed"]
    assert [event["failures"] for event in failed] == [1, 2, 3]
    assert all(0 < event["again_in_s"] <= 60 for event in failed)
