"""When a host that did not start is tried again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_durable.actors.backoff import LONGEST_PAUSE_S, SETTLED_S, Tries, after_end, is_due

NOW = 100.0


def test_one_that_has_lived_is_replaced_at_once_and_forgotten():
    tries = after_end(Tries(5, 1.0, "why"), NOW, SETTLED_S, 0.9, "killed")
    assert tries == Tries()
    assert is_due(tries, NOW)


@pytest.mark.parametrize("lived_s", [None, 0.1, SETTLED_S - 0.1])
def test_one_that_did_not_start_or_died_young_is_given_a_pause(lived_s):
    tries = after_end(Tries(), NOW, lived_s, 0.5, "why")
    assert (tries.failures, tries.reason) == (1, "why")
    assert not is_due(tries, NOW)
    assert is_due(tries, tries.again_at)


def test_only_a_lasting_fault_is_given_up_and_only_after_some_tries():
    once = after_end(Tries(), NOW, None, 0.5, "no such package", lasting=True)
    assert not once.hopeless
    assert Tries(3, NOW, "no such package", lasting=True).hopeless
    assert not Tries(100, NOW, "the store fails").hopeless


@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=60))
def test_pauses_grow_at_random_and_never_beyond_a_minute(dice):
    tries, longest = Tries(), 0.0
    for number, chance in enumerate(dice, 1):
        tries = after_end(tries, NOW, None, chance, "why")
        pause = tries.again_at - NOW
        assert tries.failures == number
        assert 0.25 <= pause <= LONGEST_PAUSE_S
        assert pause >= min(longest / 3, LONGEST_PAUSE_S / 3)
        longest = max(longest, pause)
    assert len(dice) < 12 or longest > LONGEST_PAUSE_S / 4


def test_where_nothing_failed_a_host_may_start():
    assert is_due(None, NOW)
