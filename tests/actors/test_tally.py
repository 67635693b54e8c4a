"""A host's figures: nothing counts as durable before it is, and nothing is lost or counted twice."""

from __future__ import annotations

import pytest

from ray_durable.actors.tally import Tally
from ray_durable.metrics import Metrics


@pytest.fixture
def metrics():
    return Metrics()


def test_a_turn_counts_when_all_of_it_is_durable(metrics):
    tally = Tally(metrics)
    for _ in range(3):
        tally.turn["f"].append(100)
    tally.turn["g"].append(7)
    tally.turn_ends(began=1.0)
    tally.turn["f"].append(1)
    tally.turn_ends(began=2.0)
    tally.committed(2, now=2.5)
    assert metrics.checkpoints.samples() == {}
    tally.committed(2, now=3.0)
    assert metrics.checkpoints.samples() == {("f",): 3, ("g",): 1}
    tally.committed(1, now=4.0)
    assert metrics.checkpoints.samples()["f",] == 4
    assert metrics.checkpoint_bytes.samples() == {("f",): 301, ("g",): 7}
    latency = metrics.checkpoint_latency.samples()[()]
    assert (sum(latency.counts), latency.sum) == (5, 4 * 2.0 + 1 * 2.0)
    assert (tally.checkpoints, tally.bytes) == (5, 308)


def test_items_and_messages_are_followed(metrics):
    tally = Tally(metrics)
    tally.items, tally.messages = 3, 2
    assert metrics.stream_items.samples() == {(): 3}
    assert metrics.messages.samples() == {(): 2}


def test_ready_delay_is_from_the_turn_that_found_it_ready(metrics):
    tally = Tally(metrics)
    tally.turn_begins(1.0, ready=10, count=4)
    tally.turn_begins(1.5, ready=8, count=8)
    delay = metrics.ready_delay.samples()[()]
    assert (sum(delay.counts), delay.sum) == (12, 6 * 0.5)
