"""`discard`: freeing a suspended object runs none of its code, however it is freed."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import subprocess
import sys
import textwrap
import types
import warnings
from collections import deque

import pytest

from ray_durable.compiler import discard

module = importlib.import_module("ray_durable.compiler.discard")
RAN: list[str] = []


@pytest.fixture(autouse=True)
def nothing_ran_yet():
    RAN.clear()
    yield
    RAN.clear()


@contextlib.contextmanager
def manager():
    try:
        yield 1
    finally:
        RAN.append("manager")


def inner():
    try:
        yield 1
    finally:
        RAN.append("inner")


def outer():
    with manager():
        try:
            yield from inner()
        finally:
            RAN.append("outer")


def keeps_generators_in_locals():
    in_list = [started(inner())]
    in_deque = deque([{"k": (started(inner()),)}])
    through_map = map(str, started(inner()))
    stack = contextlib.ExitStack()
    stack.enter_context(manager())
    held = started(inner())

    def closure():
        return held

    yield in_list, in_deque, through_map, stack, closure


@types.coroutine
def pause():
    yield


async def waits():
    try:
        await pause()
    finally:
        RAN.append("coroutine")


async def async_generator():
    try:
        yield 1
    finally:
        RAN.append("async generator")


def started(generator):
    next(generator)
    return generator


def drop(obj):
    discard(obj)
    del obj
    gc.collect()


@pytest.mark.parametrize("make", [inner, outer, keeps_generators_in_locals])
def test_dropped_generator_runs_no_finally(make):
    drop(started(make()))
    assert RAN == []


@pytest.mark.parametrize("make", [inner, outer, keeps_generators_in_locals])
def test_without_discard_it_would(make):
    generator = started(make())
    del generator
    gc.collect()
    assert RAN


def test_generator_in_a_cycle_runs_no_finally():
    cycle = [started(outer())]
    cycle.append(cycle)
    discard(cycle[0])
    del cycle
    gc.collect()
    assert RAN == []


def test_suspended_coroutine_runs_no_finally():
    coroutine = waits()
    coroutine.send(None)
    drop(coroutine)
    assert RAN == []


def test_unstarted_coroutine_is_not_called_never_awaited():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drop(waits())


def test_async_generator_in_an_event_loop_is_not_closed_by_it():
    async def main():
        generator = async_generator()
        await anext(generator)
        discard(generator)
        del generator
        gc.collect()

    asyncio.run(main())
    assert RAN == []


def test_discarded_task_is_not_woken():
    async def main():
        future = asyncio.get_running_loop().create_future()

        async def victim():
            try:
                await future
                RAN.append("woken")
            finally:
                RAN.append("finally")

        task = asyncio.ensure_future(victim())
        await asyncio.sleep(0)
        discard(task)
        future.set_result(1)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        del task
        gc.collect()

    asyncio.run(main())
    assert RAN == []


def test_also_names_what_hangs_deeper():
    class Holder:
        pass

    def function():
        holder = Holder()
        holder.generator = started(inner())
        yield holder

    generator = function()
    holder = next(generator)
    discard(generator, also=[holder.generator])
    del generator, holder
    gc.collect()
    assert RAN == []


def test_close_and_throw_still_work_afterwards():
    generator = started(outer())
    discard(generator)
    generator.close()
    assert RAN == ["inner", "outer", "manager"]


def test_interpreter_exit_runs_nothing():
    script = textwrap.dedent(
        """
        from ray_durable.compiler.discard import discard
        def generator():
            try: yield
            finally: print("ran")
        discarded, kept = generator(), generator()
        next(discarded); next(kept)
        discard(discarded)
        keep_alive = [discarded, kept]
        keep_alive.append(keep_alive)
        print("end")
        """
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() in (["end", "ran"], ["end"])  # at most the one that was not discarded


def test_where_the_bit_cannot_be_set_the_object_is_never_freed(monkeypatch):
    monkeypatch.setattr(module, "mark", module.keep_for_ever)
    drop(started(outer()))
    assert RAN == []


def test_the_bit_works_on_this_interpreter():
    assert module.mark is module.set_finalized
