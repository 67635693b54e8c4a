"""A second cluster takes over from a silent first only, or when it is told to."""

from tests.simulation.rivals import meet, rivals

SEEDS = 60


def test_a_second_cluster_takes_over_only_from_a_silent_first(request):
    one = request.config.getoption("--seed", None)
    for seed in range(SEEDS) if one is None else [one]:
        rivals(seed)


def test_a_takeover_that_was_asked_for_does_not_wait():
    for seed in range(20):
        old, new, fate = meet(seed, takeover=True)
        assert not new.refused
        assert old.stopped or fate == "dies"
        assert not new.stopped
