"""Where coroutines go."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_durable.actors.placement import HostView, Move, choose, drain_moves, matches_labels, rebalance
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


def test_a_new_node_attracts_its_share():
    moves = rebalance(hosts(30, 30, 30, 0))
    assert {move.target for move in moves} == {"h3"}
    assert sorted(move.count for move in moves) == [7, 7, 7]


def test_nearly_equal_hosts_leave_each_other_alone():
    assert rebalance(hosts(10, 11, 12)) == []
    assert rebalance(hosts(1, 0)) == []
    assert rebalance(hosts(100)) == []


@given(st.lists(st.integers(0, 500), min_size=1, max_size=8))
def test_rebalancing_loses_nothing_and_settles_at_once(loads):
    views = hosts(*loads)
    after = Counter({view.host: view.load for view in views})
    for move in rebalance(views):
        assert move.count > 0
        assert move.source != move.target
        after[move.source] -= move.count
        after[move.target] += move.count
    assert sum(after.values()) == sum(loads)
    assert min(after.values()) >= 0
    assert rebalance([HostView(v.host, v.node, after[v.host]) for v in views]) == []


def test_a_drained_host_gives_everything_to_the_emptiest_others():
    views = hosts(5, 1, 3)
    assert drain_moves(views[0], views) == [Move("h0", "h1", 4), Move("h0", "h2", 1)]
    assert drain_moves(views[0], views[:1]) == []
