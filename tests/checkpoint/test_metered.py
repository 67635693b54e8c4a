"""A metered store is the store inside, with each request counted once, and failures told from answers."""

from __future__ import annotations

import pytest

from ray_durable.checkpoint.stores import open_store
from ray_durable.checkpoint.stores.metered import MeteredStore
from ray_durable.errors import AlreadyExists, NotFoundError, StoreError
from ray_durable.metrics import Metrics


@pytest.fixture
def metrics():
    return Metrics()


@pytest.fixture
def store(tmp_path, metrics):
    return MeteredStore(open_store(str(tmp_path)), metrics)


def test_requests_are_counted_by_operation(store, metrics):
    store.create("logs/a/1", b"x")
    assert store.read("logs/a/1") == b"x"
    assert [each.name for each in store.list("logs/a/")] == ["logs/a/1"]
    assert store.folders("logs/") == ["a"]
    store.overwrite("cluster/1", b"y")
    store.delete("logs/a/1")
    counts = {operation: n for (operation,), n in metrics.store_requests.samples().items()}
    assert counts == {"create": 1, "read": 1, "list": 2, "delete": 1, "overwrite": 1}
    assert sum(metrics.store_errors.samples().values()) == 0
    assert sum(metrics.store_time.samples()["list",].counts) == 2


def test_an_answer_is_no_failure(store, metrics):
    store.create("a", b"x")
    with pytest.raises(AlreadyExists):
        store.create("a", b"x")
    with pytest.raises(NotFoundError):
        store.read("b")
    assert sum(metrics.store_errors.samples().values()) == 0


def test_a_failure_is_counted_and_raised(store, metrics):
    with pytest.raises(StoreError):
        store.create("../outside", b"x")
    assert metrics.store_errors.samples()["create",] == 1
    assert metrics.store_requests.samples()["create",] == 1


def test_it_shows_as_the_store_inside(store, tmp_path):
    assert (store.url, store.remote) == (f"file://{tmp_path}", False)
