"""Loops that never yield can be captured at the end of a pass, and go on elsewhere."""

import pytest

from ray_durable.compiler import back_edges_due, capture, durable, restore, suspend_at_back_edges, twin_of
from ray_durable.compiler.backedges import DUE, REQUEST


@durable
def checkpoint_request():
    yield "edge"


@pytest.fixture(autouse=True)
def request_at_back_edges():
    before = list(REQUEST)
    suspend_at_back_edges(checkpoint_request)
    yield
    REQUEST[:] = before
    DUE.clear()


@durable
def numeric(n):
    total = 0
    i = 0
    while i < n:
        i += 1
        if i % 3 == 0:
            continue
        for k in range(i):
            total += k
            if k > 5:
                break
        else:
            total += 100
    else:
        total += 1000
    return total


@durable
async def numeric_async(n):
    total = 0
    for i in range(n):
        total += i
    return total


def drive(made, every=1):
    """Run to the end with a capture and restore at each back-edge; the result and how often it suspended."""
    count = 0
    back_edges_due()
    try:
        while True:
            assert made.send(None) == "edge"
            count += 1
            made = restore(capture(made))
            back_edges_due()
    except StopIteration as stop:
        return stop.value, count


def test_a_loop_that_never_yields_is_captured_at_every_back_edge_that_is_due():
    expected = numeric(20)
    result, count = drive(twin_of(numeric, back_edges=True)(20))
    assert result == expected
    assert count > 80


def test_it_does_not_suspend_unless_due():
    DUE.clear()
    with pytest.raises(StopIteration) as stop:
        next(twin_of(numeric, back_edges=True)(20))
    assert stop.value.value == numeric(20)


def test_coroutines_too():
    result, count = drive(twin_of(numeric_async, back_edges=True)(10))
    assert (result, count) == (45, 10)
