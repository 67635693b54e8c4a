"""Kinds of programs in which other people's tests found durable functions to differ."""

from __future__ import annotations

import types

import pytest

from ray_durable.compiler import capture, durable, restore


@types.coroutine
@durable
def paused(value):
    yield value


def run_restored(suspended):
    """All that it yields, restored at each yield point, and its result."""
    found = []
    while True:
        try:
            found.append(suspended.send(None))
        except StopIteration as stop:
            return found, stop.value
        suspended = restore(capture(suspended))


class Suppressing:
    def __enter__(self):
        return self

    def __exit__(self, *exception):
        return True


def test_a_loop_goes_on_after_a_manager_suppressed_what_always_ends_a_pass():
    # as a retry loop does: for attempt in attempts: with attempt: raise
    @durable
    def retrying(managers):
        for manager in managers:
            yield manager
            with manager:
                raise KeyError

    managers = [Suppressing(), Suppressing()]
    assert run_restored(retrying(managers)) == (managers, None)


def test_a_set_comprehension_makes_a_set_where_the_name_is_another_thing():
    made = types.FunctionType(gathering.__code__, globals() | {"set": None}, "gathering")
    assert run_restored(durable(made)()) == ([1, 2], {None})


async def gathering():
    return {await paused(number) for number in (1, 2)}


def test_managers_and_locals_are_not_asked_for_attributes_that_python_would_not_ask_for():
    class Closed(Suppressing):
        def __getattr__(self, name):
            raise RuntimeError(f"{name}: not open")

    class Calling:
        def __getattr__(self, name):
            raise RuntimeError(name)

        def __call__(self):
            return "called"

    @durable
    async def entering(manager, callee):
        with manager:
            await paused(1)
        return callee.called()

    owner = types.SimpleNamespace(called=Calling())
    assert run_restored(entering(Closed(), owner)) == ([1], "called")


def test_a_manager_may_name_a_method_that_it_does_not_have():
    class Entering:
        __aexit__ = None

        async def __aenter__(self):
            raise TypeError("use the other one")

    @durable
    async def entering(manager):
        async with manager:
            await paused(1)

    with pytest.raises(TypeError, match="use the other one"):
        run_restored(entering(Entering()))


class Stepping:
    def __init__(self):
        self.asked = 0

    def __iter__(self):
        self.asked += 1
        return self

    def __next__(self):
        return self.asked


class Generating:
    def __iter__(self):
        yield 1
        yield 2
        return 3


def test_an_object_whose_own_iterator_is_a_generator_can_be_delegated_to():
    @durable
    def delegating(source):
        return (yield from source)

    assert run_restored(delegating(Generating())) == ([1, 2], 3)
    assert run_restored(delegating([4, 5])) == ([4, 5], None)
    assert next(delegating(Stepping())) == 1


class Handle:
    def __await__(self):
        result = yield from self.finish().__await__()
        return result

    async def finish(self):
        await paused(1)
        return 2


def test_an_awaitable_may_delegate_to_the_steps_of_a_coroutine():
    @durable
    async def awaiting():
        return await Handle()

    assert run_restored(awaiting()) == ([1], 2)
