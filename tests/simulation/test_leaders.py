"""The real leader under fire, each world decided by one seed; and broken on purpose, which must be noticed."""

from __future__ import annotations

from unittest.mock import patch

import pytest

from ray_durable.actors.host import Host
from ray_durable.actors.leader import Leader
from tests.simulation.leaders import simulate_leaders
from tests.simulation.overtaken import overtaken

SEEDS = 30
SEEDS_PER_MUTATION = 60
met = set()


@pytest.mark.timeout(120)
def test_what_was_admitted_ends_once_whatever_befalls_hosts_and_leaders(request):
    one = request.config.getoption("--seed", None)
    for seed in range(SEEDS) if one is None else [one]:
        try:
            met.update(simulate_leaders(seed).met)
        except Exception as error:
            raise AssertionError(f"see it with: pytest tests/simulation/test_leaders.py --seed {seed}") from error
    assert one is not None or {"taken for dead", "usurped", "died young", "emptied a log", "compacted"} <= met


def test_a_term_that_was_replaced_does_nothing_that_the_later_one_cannot_know(request):
    one = request.config.getoption("--seed", None)
    for seed in range(100) if one is None else [one]:
        overtaken(seed)


async def leave_debts(self, entry):
    """A debt that the plan of a seal lacks stays where it is."""


async def forget_what_left(self, term, id, epoch, to):
    """A release that is asked for again finds nothing, though the first one went through."""
    self.leaving.clear()
    return await honest_release(self, term, id, epoch, to)


forget_what_left.__name__ = "release"
honest_release = Host.release


BROKEN = {
    "debts of a sealed log are not planned anew": (Leader, "plan_again", leave_debts),
    "a release whose answer was lost is forgotten": (Host, "release", forget_what_left),
}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_leader_is_noticed(name, request):
    if request.config.getoption("--seed", None) is not None:
        pytest.skip("one seed was asked for")
    with patch.object(*BROKEN[name]):
        for seed in range(SEEDS_PER_MUTATION):
            try:
                simulate_leaders(seed)
            except AssertionError:
                return
    pytest.fail(f"no seed of {SEEDS_PER_MUTATION} has noticed that {name}")
