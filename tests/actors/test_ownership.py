"""The fold over the logs' facts: one owner at a time, whatever order the facts come in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ray_durable.actors.ownership import (
    Fact,
    Owned,
    Plan,
    decode_plans,
    encode_plans,
    fold,
    live_in,
    plan_takeover,
    still_owed,
)


def facts(*rows):
    return [Fact("c", *row) for row in rows]


TABLE = [
    ("admitted only: nobody owns it", facts(("admitted", 1)), (Plan(0, ""), False, False)),
    ("placed: a debt", facts(("admitted", 1), ("planned", 1, "a")), (Plan(1, "a"), False, True)),
    ("adopted: it runs", facts(("planned", 1, "a"), ("adopted", 1, "a")), (Plan(1, "a"), True, False)),
    (
        "moved and not adopted: a debt of the target",
        facts(("planned", 1, "a"), ("adopted", 1, "a"), ("planned", 2, "b")),
        (Plan(2, "b"), False, True),
    ),
    (
        "the target's seal carries the debt on",
        facts(("adopted", 1, "a"), ("planned", 2, "b"), ("planned", 3, "c")),
        (Plan(3, "c"), False, True),
    ),
    ("a placement that was compacted away", facts(("adopted", 4, "a")), (Plan(4, "a"), True, False)),
    ("finished: neither runs nor is owed", facts(("adopted", 1, "a"), ("terminal", 1)), (Plan(1, "a"), False, False)),
    ("nobody can run it yet", facts(("admitted", 1), ("planned", 2, "")), (Plan(2, ""), False, True)),
]


def test_the_highest_plan_counts_and_is_carried_out_by_an_adoption_at_its_epoch():
    for reason, found, (plan, running, debt) in TABLE:
        owned = fold(found)["c"]
        assert (owned.plan, owned.running, owned.debt) == (plan, running, debt), reason


any_fact = st.builds(
    Fact,
    st.sampled_from(["c", "d"]),
    st.sampled_from(["admitted", "planned", "adopted", "terminal"]),
    st.integers(1, 5),
    st.sampled_from(["a", "b"]),
)


@given(st.lists(any_fact, max_size=12), st.randoms(use_true_random=False))
def test_the_order_of_facts_and_repeats_change_nothing_but_between_plans_of_one_epoch(found, chance):
    one_plan_per_epoch = {(f.coroutine, f.epoch, f.kind in ("planned", "adopted")): f for f in found}
    found = list(one_plan_per_epoch.values())
    shuffled = found + found
    chance.shuffle(shuffled)
    assert fold(shuffled) == fold(found)


def test_what_a_log_still_owns_excludes_what_moved_away_or_ended():
    log = [
        *(Fact(id, "adopted", 1, "a") for id in ("stays", "moved", "ended", "came back")),
        Fact("moved", "planned", 2, "b"),
        Fact("came back", "planned", 2, "b"),
        Fact("came back", "adopted", 3, "a"),
        Fact("ended", "terminal", 1),
    ]
    assert live_in(log, "a") == {"stays": 1, "came back": 3}


def test_a_debt_is_paid_by_an_adoption_at_its_epoch_not_by_an_earlier_stay():
    log = [
        Fact("was here before", "adopted", 2, "a"),
        Fact("was here before", "planned", 3, "b"),
        Fact("arrived", "adopted", 4, "a"),
        Fact("arrived and left", "adopted", 4, "a"),
        Fact("arrived and left", "planned", 5, "c"),
        Fact("left, the rest compacted", "planned", 5, "c"),
        Fact("ended, the rest compacted", "terminal", 4),
    ]
    debts = {"was here before": 4, "arrived": 4, "arrived and left": 4, "never seen": 1}
    debts |= {"left, the rest compacted": 4, "ended, the rest compacted": 4}
    assert still_owed(debts, log) == {"was here before": 4, "never seen": 1}


def test_a_takeover_plans_what_was_owned_and_what_was_owed_one_epoch_up():
    plans = plan_takeover({"x": 3}, {"y": 1, "x": 2}, lambda id: {"x": "b", "y": ""}[id])
    assert plans == {"x": Plan(4, "b"), "y": Plan(2, "")}
    assert decode_plans(encode_plans(plans)) == plans


def test_nothing_is_known_of_a_coroutine_without_facts():
    assert fold([]) == {}
    assert not Owned().running
    assert not Owned().debt
