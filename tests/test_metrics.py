"""The table of metrics keeps Prometheus's conventions, and counting is exact, bounded and free when off."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest

import ray_durable.metrics as metrics_module
from ray_durable.metrics import FUNCTIONS_MAX, OTHER, Declaration, Metrics, declarations

TABLE = declarations()


@pytest.mark.parametrize("about", TABLE, ids=lambda about: about.name)
def test_names_follow_the_conventions(about):
    assert re.fullmatch(r"durable_[a-z]+(_[a-z]+)*", about.name)
    assert about.name.endswith("_total") == (about.kind == "counter")
    assert about.text.endswith(".")
    if about.unit in ("seconds", "bytes"):
        assert f"_{about.unit}" in about.name
    assert (about.kind == "histogram") == bool(about.buckets)


def test_labels_are_closed_sets_but_for_function():
    labels = {label.name for about in TABLE for label in about.labels if label.values is None}
    assert labels == {"function"}


def test_a_label_value_outside_its_set_is_our_mistake():
    with pytest.raises(AssertionError, match="reason='bored'"):
        Metrics().migrations.add(1, "bored")
    with pytest.raises(AssertionError, match="takes labels"):
        Metrics().migrations.add(1)


def test_closed_sets_are_shown_from_the_start_with_zero():
    samples = Metrics().migrations.samples()
    assert ("node_died",) in samples
    assert set(samples.values()) == {0}


def test_further_functions_are_counted_as_other():
    metrics = Metrics()
    for i in range(FUNCTIONS_MAX + 10):
        metrics.checkpoints.add(2, f"f{i}")
        metrics.finished.add(1, f"f{i}", "completed")
    samples = metrics.checkpoints.samples()
    assert len(samples) == FUNCTIONS_MAX + 1
    assert samples[OTHER,] == 20
    assert metrics.finished.samples()[OTHER, "completed"] == 10


def test_nothing_is_lost_between_threads():
    metrics = Metrics()

    def count() -> None:
        for _ in range(20_000):
            metrics.checkpoints.add(1, "f")
            metrics.checkpoint_latency.observe(0.002)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert metrics.checkpoints.samples()["f",] == 80_000
    assert sum(metrics.checkpoint_latency.samples()[()].counts) == 80_000


def test_one_observation_counts_for_a_whole_batch():
    metrics = Metrics()
    metrics.checkpoint_latency.observe(0.003, 128)
    metrics.checkpoint_latency.observe(99.0)
    child = metrics.checkpoint_latency.samples()[()]
    assert sum(child.counts) == 129
    assert child.counts[-1] == 1
    assert child.sum == pytest.approx(0.003 * 128 + 99)


def test_a_value_on_a_bound_belongs_to_its_bucket():
    metrics = Metrics()
    metrics.commit_records.observe(64)
    child = metrics.commit_records.samples()[()]
    assert child.counts[metrics.commit_records.buckets.index(64)] == 1


def test_followed_numbers_are_read_when_asked_for():
    metrics, ready = Metrics(), []
    metrics.coroutines.follow(lambda: len(ready), "ready")
    ready.extend("abc")
    assert metrics.coroutines.samples()["ready",] == 3


def test_off_counts_nothing():
    metrics = Metrics(on=False)
    metrics.checkpoints.add(1, "f")
    metrics.checkpoint_latency.observe(1.0)
    metrics.oldest_ready.set(3)
    metrics.coroutines.follow(lambda: 7, "ready")
    assert metrics.checkpoints.samples() == {}
    assert sum(metrics.checkpoint_latency.samples()[()].counts) == 0
    assert set(metrics.coroutines.samples().values()) == {0}
    assert metrics.oldest_ready.samples() == {(): 0}


def test_instances_count_for_themselves():
    one, two = Metrics(), Metrics()
    one.checkpoints.add(1, "f")
    assert two.checkpoints.samples() == {}


def test_every_metric_is_counted_somewhere():
    package = Path(metrics_module.__file__).parent
    text = "".join(path.read_text() for path in package.rglob("*.py") if path.name != "metrics.py")
    attributes = [name for name, about in vars(Metrics).items() if isinstance(about, Declaration)]
    assert [
        name for name in attributes if not re.search(rf"\b(metrics|gauge)\.{name}\.(add|set|observe|follow)", text)
    ] == []
