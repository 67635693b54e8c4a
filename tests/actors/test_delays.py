"""Delays per batch are those that each member had."""

from __future__ import annotations

from collections import Counter, deque

from hypothesis import given
from hypothesis import strategies as st

from ray_durable.actors.delays import Delays


@given(st.lists(st.tuples(st.sampled_from(["come", "leave"]), st.integers(0, 9)), max_size=60))
def test_batches_add_up_to_what_members_see(steps):
    seen: Counter[float] = Counter()
    expected: Counter[float] = Counter()
    delays = Delays(lambda delay, n: seen.update({delay: n}))
    queue: deque[float] = deque()
    come = left = 0
    for now, (what, n) in enumerate(steps):
        if what == "come":
            queue.extend([now] * n)
            come += n
            delays.came(come, now)
        else:
            n = min(n, len(queue))
            expected.update(now - queue.popleft() for _ in range(n))
            left += n
            delays.left(left, now)
        assert delays.oldest(now) == (now - queue[0] if queue else 0)
    assert +seen == +expected


def test_more_leaving_than_was_told_of_is_no_trouble():
    delays = Delays(lambda delay, n: None)
    delays.left(5, 1.0)
    delays.came(7, 2.0)
    assert delays.oldest(3.0) == 1.0
