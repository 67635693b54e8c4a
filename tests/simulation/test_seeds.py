"""Worlds of all kinds, each decided by one seed. See one again: `pytest tests/simulation --seed 81723`."""

import re
from collections import Counter
from pathlib import Path

import pytest

from tests.simulation import mutations
from tests.simulation.cluster import simulate
from tests.simulation.duel import duel
from tests.simulation.mutations import MUTATIONS, NOT_SIMULATED

CLUSTERS = 1200
DUELS = 1000
PARTS = 5
MUST_MEET = {
    "compacted",
    "compaction cut short",
    "controller fenced",
    "controller killed",
    "controller usurped",
    "debt left by another's plan",
    "host fenced",
    "host killed",
    "host stopped",
    "message came twice",
    "moved",
    "name taken",
    "retired",
    "sealed a living host",
    "store failed before",
    "store lost a reply",
    "store put doubled",
    "store put late",
}
met = Counter()


def run(world, seed):
    try:
        met.update(world(seed).world.met.keys())
    except Exception as error:
        raise AssertionError(f"see it with: pytest tests/simulation --seed {seed}") from error


@pytest.mark.timeout(300)
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize(("world", "seeds"), [(simulate, CLUSTERS), (duel, DUELS)], ids=["clusters", "duels"])
def test_every_promise_holds_in_every_world(world, seeds, part, request):
    one = request.config.getoption("--seed", None)
    if one is not None:
        if part == 0:
            run(world, one)
        return
    for seed in range(part, seeds, PARTS):
        run(world, seed)


def test_the_worlds_have_met_what_can_happen(request):
    if request.config.getoption("--seed", None) is not None or not met:
        pytest.skip("asks about all seeds together")
    assert MUST_MEET - set(met) == set()


def test_one_seed_is_one_world():
    first, second = simulate(11), simulate(11)
    assert first.world.trace == second.world.trace
    assert first.bucket.objects == second.bucket.objects
    assert simulate(12).world.trace != first.world.trace


SEEDS_PER_MUTATION = 1500


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_a_broken_rule_is_noticed(mutation, request):
    if request.config.getoption("--seed", None) is not None:
        pytest.skip("one seed was asked for")
    for seed in range(SEEDS_PER_MUTATION):
        try:
            mutation.run(seed)
        except Exception:
            return
    pytest.fail(f"no seed of {SEEDS_PER_MUTATION} has noticed that {mutation}")


def test_every_rule_of_the_protocol_is_broken_or_accounted_for():
    broken = {mutation.rule for mutation in MUTATIONS}
    assert {str(number) for number in range(1, 19)} == broken | set(NOT_SIMULATED)
    assert broken & set(NOT_SIMULATED) == set()
    named = Path(mutations.__file__).read_text()
    assert re.search(r"test_clusters\.py", named)
