"""A suspended generator as plain data."""

from __future__ import annotations

import pickle

import pytest

from ray_durable.checkpoint.codec import dumps, loads
from ray_durable.compiler import durable
from ray_durable.compiler.flat import flatten, unflatten
from ray_durable.errors import RestoreError


@durable
def outer(n):
    shared = [0]
    got = yield from inner(n, shared)
    yield got, shared


def inner(n, shared):
    for i in range(n):
        shared.append(i)
        sent = yield i
        shared.append(sent)
    return "done"


def drive(step):
    """Every yield and the values sent in, with `step` applied to the generator at each."""
    generator, seen = outer(3), []
    value = None
    while True:
        try:
            seen.append(generator.send(value))
        except StopIteration:
            return seen
        value = len(seen)
        generator = step(generator)


def test_it_goes_on_as_if_nothing_had_happened():
    through_data = drive(lambda generator: unflatten(loads(dumps(flatten(generator), by_key=True))))
    assert through_data == drive(lambda generator: generator)


def test_one_that_has_not_started_and_what_is_no_generator_pass_unchanged():
    started_anew = unflatten(loads(dumps(flatten(outer(1)), by_key=True)))
    assert next(started_anew) == 0
    assert flatten(None) is None
    assert unflatten(None) is None


def test_it_is_shorter_than_the_pickled_object():
    generator = outer(3)
    next(generator)
    assert len(dumps(flatten(generator), by_key=True)) < len(pickle.dumps(generator))


def test_damaged_data_is_refused():
    generator = outer(3)
    next(generator)
    reference, state = flatten(generator)
    with pytest.raises(RestoreError):
        unflatten((reference, state[:-1]))
