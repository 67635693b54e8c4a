"""Where coroutines go."""

from __future__ import annotations

from collections import Counter

import pytest

from ray_durable.actors.cluster import Node
from ray_durable.actors.placement import HostView, choose, lacking, matches_labels
from ray_durable.actors.transfer import Demands


def hosts(*loads, **facts):
    return [HostView(f"h{i}", f"n{i}", load, **facts) for i, load in enumerate(loads)]


def test_the_least_loaded_usable_host_takes_it():
    views = [*hosts(5, 2, 3), HostView("draining", "n9", 0, usable=False)]
    assert choose(Demands(), views) == "h1"


def test_a_batch_is_spread_as_if_each_had_arrived():
    extra = Counter()
    assert sorted(choose(Demands(), hosts(0, 0, 0), extra) for _ in range(6)) == ["h0", "h0", "h1", "h1", "h2", "h2"]


def test_hard_affinity_waits_for_its_node_and_soft_affinity_goes_elsewhere():
    assert choose(Demands(node_id="n1", soft=False), hosts(1, 9)) == "h1"
    assert choose(Demands(node_id="gone", soft=False), hosts(1, 9)) is None
    assert choose(Demands(node_id="gone", soft=True), hosts(1, 9)) == "h0"


def test_an_environment_of_its_own_is_not_shared():
    assert choose(Demands(runtime_env={"pip": ["six"]}), hosts(0)) is None


@pytest.mark.parametrize(
    ("selector", "fits"),
    [
        ({}, True),
        ({"zone": "eu"}, True),
        ({"zone": "us"}, False),
        ({"zone": "!us"}, True),
        ({"zone": "in(us, eu)"}, True),
        ({"zone": "!in(us, eu)"}, False),
        ({"gpu": "!a100"}, True),
        ({"zone": "eu", "gpu": "a100"}, False),
    ],
)
def test_label_selectors_mean_what_they_mean_in_ray(selector, fits):
    assert matches_labels(selector, {"zone": "eu"}) is fits


def test_what_waits_for_a_new_cluster_is_spread_over_hosts_that_are_about_to_be_ready():
    extra = Counter()
    views = [*hosts(0, 0), HostView("coming", "n9", 0, usable=False, expected=True)]
    placed = [choose(Demands(), views, extra) for _ in range(6)]
    assert Counter(placed) == {"h0": 2, "h1": 2, None: 2}


@pytest.mark.parametrize(
    ("demands", "told"),
    [
        (Demands(num_gpus=64), "no node has num_gpus=64: the most is 2"),
        (Demands(num_cpus=8, label_selector={"zone": "b"}), "no node has num_cpus=8: the most is 4"),
        (Demands(resources={"disk": 1}), "no node has resource 'disk'=1: the most is 0"),
        (Demands(label_selector={"zone": "c"}), "no node has the labels {'zone': 'c'}"),
        (Demands(node_id="n9", soft=False), "its node n9 is not in the cluster"),
        (Demands(num_cpus=3), "no node has num_cpus=3 free just now"),
        (Demands(), None),
        (Demands(node_id="n9", soft=True), None),
    ],
)
def test_it_is_said_why_one_has_no_place(demands, told):
    nodes = [
        Node("n1", "", 0, True, True, {"CPU": 16, "GPU": 2}, {"zone": "a"}),
        Node("n2", "", 0, True, False, {"CPU": 4}, {"zone": "b"}),
    ]
    why = lacking(demands, nodes)
    assert why == told if told is None else told in why
