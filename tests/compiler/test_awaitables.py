"""What is awaited, other than coroutines: `types.coroutine`, async steps, and what cannot be awaited at all."""

from __future__ import annotations

import pickle
import sys
import types

import pytest

from ray_durable.compiler import capture, discard, durable, restore, suspends, twin_of
from ray_durable.compiler.references import dumps


@types.coroutine
@durable
def old_style(n):
    got = []
    for i in range(n):
        got.append((yield i))
    return got


@types.coroutine
def undecorated(n):
    return (yield from old_style(n))


@durable
async def awaits_old_style(n):
    kept = old_style(n)
    return [await kept, await undecorated(n)]


@types.coroutine
@durable
def delegates_to_a_coroutine(coroutine):
    return (yield from coroutine)


def renewed(suspended):
    found = restore(capture(suspended))
    discard(suspended)
    return found


def pickled(suspended):
    found = pickle.loads(dumps(suspended))
    discard(suspended)
    return found


@pytest.mark.parametrize("round_trip", [renewed, pickled])
def test_generators_that_types_coroutine_made_awaitable_stay_so_after_a_restore(round_trip):
    coroutine = round_trip(awaits_old_style(2))
    seen = []
    with pytest.raises(StopIteration) as stop:
        value = coroutine.send(None)
        while True:
            seen.append(value)
            coroutine = round_trip(coroutine)
            value = coroutine.send(f"sent {value}")
    assert seen == [0, 1, 0, 1]
    assert stop.value.value == [["sent 0", "sent 1"]] * 2


def mark():
    """Suspends by an iterator, as a mere yield point does."""


suspends(mark, lambda: iter(("marked",)))


@durable
def marks(n):
    for i in range(n):
        mark()
    return n


@durable
async def marks_and_awaits(n):
    mark()
    found = marks(n)
    mark()
    return found, await awaits_old_style(1)


@pytest.mark.parametrize("round_trip", [renewed, pickled])
@pytest.mark.parametrize("make", [twin_of(marks), marks_and_awaits])
def test_what_suspends_by_an_iterator_goes_on_after_it(round_trip, make):
    suspended = make(3)
    seen = [suspended.send(None)]
    with pytest.raises(StopIteration) as stop:
        while True:
            suspended = round_trip(round_trip(suspended))
            seen.append(suspended.send(None))
    assert seen[:3] == ["marked"] * 3
    assert stop.value.value == (3 if make is not marks_and_awaits else (3, [[None], [None]]))


def test_such_a_generator_held_alone_can_still_be_awaited_after_a_pickle():
    @durable
    async def outer(held):
        return await held

    coroutine = outer(pickled(old_style(1)))
    assert coroutine.send(None) == 0
    with pytest.raises(StopIteration) as stop:
        coroutine.send("x")
    assert stop.value.value == ["x"]


@pytest.mark.parametrize("round_trip", [renewed, pickled])
def test_such_a_generator_may_delegate_to_a_coroutine(round_trip):
    gen = delegates_to_a_coroutine(awaits_old_style(1))
    assert next(gen) == 0
    gen = round_trip(gen)
    assert gen.send("a") == 0
    with pytest.raises(StopIteration) as stop:
        round_trip(gen).send("b")
    assert stop.value.value == [["a"], ["b"]]


class Giving:
    """An async iterator and manager whose methods give `value` instead of an awaitable."""

    def __init__(self, value, leaving=None):
        self.value, self.leaving = value, leaving

    def __aiter__(self):
        return self

    def __anext__(self):
        return self.value

    def __aenter__(self):
        return self.value

    def __aexit__(self, *error):
        return self.leaving


class Failing:
    def __await__(self):
        return 1 / 0


class GivesNoIterator:
    def __await__(self):
        return 1


async def steps_through(giving):
    async for _ in giving:
        pass


async def enters(giving):
    async with giving:
        pass


async def nothing():
    return None


async def leaves_without_await():
    async with Giving(nothing(), 3):
        pass


async def leaves_with_an_error_without_await():
    async with Giving(nothing(), 3):
        raise KeyError("inside")


@pytest.mark.parametrize("make", [lambda: (), lambda: 5, Failing, GivesNoIterator])
@pytest.mark.parametrize("function", [steps_through, enters])
def test_what_cannot_be_awaited_is_refused_in_the_words_of_python(function, make):
    said = []
    for each in (function, durable(function)):
        with pytest.raises((TypeError, ZeroDivisionError)) as error:
            each(Giving(make())).send(None)
        cause = error.value.__cause__
        said.append((type(error.value), str(error.value), type(cause), str(cause)))
    assert said[0] == said[1]


@pytest.mark.parametrize("function", [leaves_without_await, leaves_with_an_error_without_await])
def test_a_manager_whose_exit_cannot_be_awaited_is_refused_in_the_words_of_python(function):
    said = []
    for each in (function, durable(function)):
        with pytest.raises(TypeError) as error:
            each().send(None)
        said.append((str(error.value), repr(error.value.__context__)))
    assert said[0] == said[1]


def test_closing_over_an_iterator_whose_attributes_fail_says_so_and_goes_on(monkeypatch):
    class Broken:
        def __iter__(self):
            return self

        def __next__(self):
            return 1

        def __getattr__(self, name):
            raise ZeroDivisionError(name)

    @durable
    def delegating():
        yield from Broken()

    said = []
    monkeypatch.setattr(sys, "unraisablehook", lambda found: said.append(repr(found.exc_value)))
    gen = delegating()
    assert next(gen) == 1
    gen = renewed(gen)
    gen.close()
    gen = delegating()
    next(gen)
    with pytest.raises(ZeroDivisionError):
        renewed(gen).throw(KeyError())
    assert said == ["ZeroDivisionError('close')"]
