"""Functions that stand inside durable code suspend where they do, also after the frame that holds them was pickled."""

from __future__ import annotations

import functools
import pickle

import pytest

from ray_durable.checkpoint import codec
from ray_durable.compiler import durable, identity, suspends, twin_of


def pause() -> None: ...


@durable
def pauses():
    yield


suspends(pause, pauses)


@durable
def a_def():
    def seen(x):
        pause()
        return x

    return [seen(x) for x in range(4)]


@durable
def a_lambda():
    seen = lambda x: pause() or x  # noqa: E731
    out = []
    for x in range(4):
        out.append(seen(x))
    return out


@durable
def lambdas_of_one_line():
    two, out = 2, []
    for step in [lambda x: x + two, lambda x: x - two, lambda x: x * two, lambda x: lambda: x % two, lambda x: x % two]:
        found = step(7)
        pause()
        out.append(found() if callable(found) else found)
    made = [lambda x: pause() or x + two, lambda x: pause() or x - two]
    for step in made:
        out.append(step(7))
    return out


@durable
def a_def_in_a_def():
    def outer(x):
        def inner():
            nonlocal x
            pause()
            x += 1
            return x

        return [inner(), inner()]

    return [outer(x) for x in range(3)]


@durable
def a_method():
    class Steps:
        def __init__(self):
            self.done = 0

        def step(self):
            pause()
            self.done += 1
            return self.done

    steps = Steps()
    return [steps.step() for _ in range(4)]


@durable
def a_partial():
    def seen(x, y):
        pause()
        return x + y

    seen_by_one = functools.partial(seen, 1)
    out = []
    for x in range(4):
        out.append(seen_by_one(x))
    return out


@durable
def a_generator():
    def steps(n):
        for x in range(n):
            yield x

    out = []
    for n in range(3):
        found = steps(n)
        for x in found:
            pause()
            out.append(x)
        pause()
    return out


@durable
def recursion():
    def depth(n):
        pause()
        return 0 if n == 0 else 1 + depth(n - 1)

    return [depth(n) for n in range(3)]


@durable
def tuples_in_a_comprehension():
    def seen(pair):
        pause()
        return pair

    return [(seen(a), b) for a in [(1, 2), (3, 4, 5), (0, 1, 2, 3)] for b in [(6, 7), (8,)]]


def through_pickle(run):
    return pickle.loads(pickle.dumps(run))


def through_a_checkpoint(run):
    return codec.loads(codec.dumps(run))


def through_a_checkpoint_by_key(run):
    data = codec.dumps(run, by_key=True)
    identity.set_provider(identity.exported().get)
    try:
        return codec.loads(data)
    finally:
        identity.set_provider(None)


def drive(function, crashes, through):
    """How often it suspends, and its result, when it goes `through` something after the steps `crashes`."""
    run, steps = twin_of(function)(), 0
    while True:
        try:
            next(run)
        except StopIteration as end:
            return steps, end.value
        steps += 1
        if steps in crashes:
            run = through(run)


@pytest.mark.parametrize("through", [through_pickle, through_a_checkpoint, through_a_checkpoint_by_key])
@pytest.mark.parametrize(
    "function",
    [
        a_def,
        a_lambda,
        lambdas_of_one_line,
        a_def_in_a_def,
        a_method,
        a_partial,
        a_generator,
        recursion,
        tuples_in_a_comprehension,
    ],
)
def test_they_suspend_as_often_after_a_resume(function, through):
    if through is through_pickle and function in (a_method, a_partial, lambdas_of_one_line):
        pytest.skip("plain pickle takes no class that no import finds, nor functions deeper than in a local")
    steps, result = drive(function, (), through)
    assert result == function.__durable__.original()
    assert steps > 2
    for crash in range(1, steps + 1):
        assert drive(function, (crash,), through) == (steps, result)
    assert drive(function, range(steps + 1), through) == (steps, result)
