"""When coroutines move to even out the load: rarely, in one round, and never to and fro."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_durable.actors.balancing import LASTS_S, REST_S, Calm, is_uneven, look, moves_to_mean
from ray_durable.actors.placement import HostView, choose
from ray_durable.actors.transfer import Demands


def hosts(*loads, **facts):
    return [HostView(f"h{i}", f"n{i}", load, **facts) for i, load in enumerate(loads)]


def test_a_new_node_gets_its_share_in_one_round():
    moves = moves_to_mean(hosts(30, 30, 30, 0))
    assert {move.target for move in moves} == {"h3"}
    assert sorted(move.count for move in moves) == [7, 7, 7]


def test_nearly_equal_hosts_leave_each_other_alone():
    assert not any(is_uneven(views) for views in (hosts(10, 11, 12), hosts(1, 0), hosts(100), hosts(60, 50, 80, 45)))


def test_an_imbalance_must_last_and_a_round_be_over_before_the_next():
    views = hosts(30, 0)
    calm, moves = look(Calm(), views, 10.0, False)
    assert moves == []
    assert look(calm, views, 10.0 + LASTS_S / 2, False) == (calm, [])
    assert look(calm, views, 10.0 + LASTS_S, True) == (calm, [])
    calm, moves = look(calm, views, 10.0 + LASTS_S, False)
    assert [move.count for move in moves] == [15]
    calm, moves = look(calm, views, 10.0 + 2 * LASTS_S, False)
    assert moves == []
    assert look(calm, views, 10.0 + LASTS_S + REST_S, False)[1]


def test_one_that_has_gone_by_itself_is_forgotten():
    calm, _ = look(Calm(), hosts(30, 0), 10.0, False)
    calm, _ = look(calm, hosts(16, 14), 11.0, False)
    assert look(calm, hosts(30, 0), 10.0 + LASTS_S, False)[1] == []


@given(st.lists(st.integers(0, 500), min_size=1, max_size=8))
def test_a_round_loses_nothing_and_leaves_the_load_even(loads):
    views = hosts(*loads)
    after = Counter({view.host: view.load for view in views})
    for move in moves_to_mean(views):
        assert move.count > 0
        assert move.source != move.target
        after[move.source] -= move.count
        after[move.target] += move.count
    assert sum(after.values()) == sum(loads)
    assert min(after.values()) >= 0
    assert not is_uneven([HostView(v.host, v.node, after[v.host]) for v in views])


class Balanced:
    """Hosts that come and go under load, and what the decisions of placement and balancing make of it."""

    def __init__(self, seed, count, size):
        self.dice = random.Random(seed)
        self.loads = dict.fromkeys([f"h{i}" for i in range(count)], 0)
        self.size, self.calm, self.now, self.moved, self.due = size, Calm(), 0.0, 0, 0
        for _ in range(size):
            self.place()

    def views(self):
        return [HostView(host, host, load) for host, load in self.loads.items()]

    def place(self):
        self.loads[choose(Demands(), self.views())] += 1

    def second(self):
        self.now += 1.0
        for host in self.loads:  # some end, others begin
            ended = sum(self.dice.random() < 0.02 for _ in range(self.loads[host]))
            self.loads[host] -= ended
            for _ in range(ended):
                self.place()
        self.calm, moves = look(self.calm, self.views(), self.now, False)
        for move in moves:
            self.loads[move.source] -= move.count
            self.loads[move.target] += move.count
            self.moved += move.count

    def come(self, host):
        self.loads[host] = 0
        self.due += self.size // len(self.loads) + 1

    def die(self):
        for _ in range(self.loads.pop(self.dice.choice(sorted(self.loads)))):
            self.place()


@pytest.mark.parametrize("seed", range(60))
def test_a_new_node_takes_its_share_and_little_else_moves(seed):
    world = Balanced(seed, count=5, size=318)
    for event in range(8):
        if world.dice.random() < 0.5 and len(world.loads) > 3:
            world.die()
        else:
            world.come(f"new-{event}")
        for _ in range(int(REST_S + LASTS_S) + 2):
            world.second()
        mean = world.size / len(world.loads)
        assert all(0.5 * mean - 4 <= load <= 1.5 * mean + 4 for load in world.loads.values()), world.loads
    assert world.moved <= world.due, "more has moved than the share of each new node"


@pytest.mark.parametrize("seed", range(20))
def test_nothing_moves_while_hosts_stay_as_they_are(seed):
    world = Balanced(seed, count=4, size=200)
    for _ in range(300):
        world.second()
    assert world.moved == 0
