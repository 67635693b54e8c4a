# ruff: noqa: UP028  # the loops are the point
"""Small coroutines to pickle: one with eight locals, one that holds whatever it is given."""

from __future__ import annotations

from ray_durable.compiler import durable


@durable
def eight_locals(a, b, c, d):
    e, f, g = a + b, "name", [1, 2]
    for i in range(10):
        yield i


@durable
def holding(value):
    yield
    yield value


def started(gen):
    next(gen)
    return gen
