"""The simulation notices each rule that is broken on purpose."""

import pytest

from tests.simulation.mutations import MUTATIONS

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


def test_every_rule_of_the_protocol_is_broken_somehow():
    assert {mutation.rule for mutation in MUTATIONS} == {str(number) for number in range(1, 20)}
