"""The simulation notices each rule that is broken on purpose."""

import re
from pathlib import Path

import pytest

from tests.simulation import mutations
from tests.simulation.mutations import MUTATIONS, NOT_SIMULATED

SEEDS_PER_MUTATION = 1500


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_a_broken_rule_is_noticed(mutation, request):
    if request.config.getoption("--seed", None) is not None:
        pytest.skip("one seed was asked for")
    for seed in range(mutation.first, mutation.first + SEEDS_PER_MUTATION):
        try:
            mutation.run(seed)
        except AssertionError:  # a checker's; any other would be a mistake in the mutation
            return
    pytest.fail(f"no seed of {SEEDS_PER_MUTATION} has noticed that {mutation}")


def test_every_rule_of_the_protocol_is_broken_or_accounted_for():
    broken = {mutation.rule for mutation in MUTATIONS}
    assert {str(number) for number in range(1, 20)} == broken | set(NOT_SIMULATED)
    assert broken & set(NOT_SIMULATED) == set()
    named = Path(mutations.__file__).read_text()
    assert re.search(r"test_clusters\.py", named)
