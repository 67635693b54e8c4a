# ruff: noqa: UP028  # the loops are the point
"""What can be pickled around frames, how large it is, and what is refused, with its name."""

from __future__ import annotations

import asyncio
import io
import pickle
import random
import subprocess
import sys
import textwrap
import threading

import cloudpickle
import pytest

from ray_durable.compiler import capture, discard, durable, references, restore
from ray_durable.compiler.references import dumps
from tests.compiler.small_coroutines import eight_locals, holding, started


@durable
def nested(depth):
    if depth:
        return (yield from nested(depth - 1)) + 1
    for i in range(3):
        yield i
    return 0


@durable
async def nested_await(depth, pause):
    if depth:
        return await nested_await(depth - 1, pause) + 1
    await pause
    return 0


class Pause:
    def __await__(self):
        return paused()


@durable
def paused():
    yield "paused"


def test_sizes_stay_small():
    assert len(pickle.dumps(started(eight_locals(1, 2, 3, 4)), 5)) <= 200  # the target is 300
    assert len(pickle.dumps(started(nested(9)), 5)) <= 400  # the target is 1000


@pytest.mark.parametrize("depth", [50, 500])
@pytest.mark.parametrize("write", [pickle.dumps, dumps])
def test_depth_needs_no_recursion(depth, write):
    gen = nested(depth)
    assert next(gen) == 0
    again = pickle.loads(write(gen))
    assert [*again] == [1, 2]
    coroutine = nested_await(depth, Pause())
    assert coroutine.send(None) == "paused"
    other = pickle.loads(write(coroutine))
    discard(coroutine)
    with pytest.raises(StopIteration) as stop:
        other.send(None)
    assert stop.value.value == depth


def test_depth_needs_no_recursion_when_delegates_are_locals_too():
    @durable
    def held(depth):
        inner = held(depth - 1) if depth else iter("ab")
        yield from inner
        return inner

    gen = held(300)
    next(gen)
    assert list(pickle.loads(dumps(gen))) == ["b"]


def test_generator_among_its_own_locals():
    box = []
    gen = started(holding({"box": box}))
    box.append(gen)
    for write in (pickle.dumps, dumps):
        again = pickle.loads(write(gen))
        assert next(again)["box"][0] is again
    in_list = pickle.loads(dumps(box))
    assert next(in_list[0])["box"] is in_list


def test_two_generators_that_hold_each_other():
    box_a, box_b = [], []
    a, b = started(holding(box_a)), started(holding(box_b))
    box_a.append(b)
    box_b.append(a)
    again_a, again_b = pickle.loads(dumps((a, b)))
    assert next(again_a)[0] is again_b
    assert next(again_b)[0] is again_a


def test_delegate_pickled_before_the_frame_around_it_is_still_that_delegate():
    inner = nested(2)
    outer = delegating(inner)
    next(outer)
    again_inner, again_outer = pickle.loads(dumps([inner, outer]))
    assert next(again_outer) == 1
    assert next(again_inner) == 2
    assert next(again_outer, "ended") == "ended"


@durable
def delegating(inner):
    yield from inner


def test_objects_around_stay_the_same_objects():
    shared = []
    gens = [started(holding(shared)), started(holding((shared, "more")))]
    again_shared, first, second = pickle.loads(pickle.dumps([shared, *gens]))
    assert next(first) is again_shared
    assert next(second)[0] is again_shared


def test_functions_that_share_a_cell_go_on_sharing_it():
    def make():
        count = 0

        def add():
            nonlocal count
            count += 1
            return count

        def read():
            return count

        return add, read

    add, read = make()
    add()
    for value in ([add, read], {"deep": [(add,), {"er": read}]}):
        data = dumps(started(holding(value)))
        found = next(pickle.loads(data))
        add_again, read_again = found if isinstance(found, list) else (found["deep"][0][0], found["deep"][1]["er"])
        assert add_again() == 2
        assert read_again() == 2
    assert read() == 1


def test_restored_once_more_before_it_is_driven():
    gen = restore(capture(started(nested(3))))
    assert list(pickle.loads(dumps(gen))) == [1, 2]
    unstarted = nested(3)
    assert list(pickle.loads(dumps(unstarted))) == [0, 1, 2]


def test_finished_stays_finished():
    gen = nested(1)
    list(gen)
    again = pickle.loads(pickle.dumps(gen))
    assert again.gi_frame is None
    assert again.__name__ == "nested"
    assert next(again, "ended") == "ended"
    assert pickle.loads(pickle.dumps(again)).gi_frame is None


MAIN = textwrap.dedent(
    """
    import pickle, sys, cloudpickle
    from ray_durable.compiler import durable, references

    FACTOR = 10
    calls = []

    def helper(n):
        return n * FACTOR

    @durable
    def even(n):
        yield helper(n)
        if n:
            yield from odd(n - 1)

    @durable
    def odd(n, *, add=0.5):
        yield helper(n) + add
        if n:
            yield from even(n - 1)

    @durable
    def plain(n):
        return [helper(n)]

    class Job:
        def __init__(self, n): self.n = n
        @durable
        def run(self):
            yield from even(self.n)


    gen, job = even(4), Job(2).run()
    made = [next(gen), next(gen), next(job)]
    holder = {"even": even, "plain": plain, "Job": Job}
    by_cloudpickle = cloudpickle.dumps(holder)
    with open(sys.argv[1], "wb") as file:
        pickle.dump((references.dumps(gen), pickle.dumps(even(2)), references.dumps([gen, job]),
            references.dumps(holder), by_cloudpickle), file)
    """
)
READER = textwrap.dedent(
    """
    import pickle, sys, cloudpickle
    gen, unstarted, both, holder, by_cloudpickle = pickle.load(open(sys.argv[1], "rb"))
    print(list(pickle.loads(gen)), list(pickle.loads(unstarted)), [list(each) for each in pickle.loads(both)])
    for data in (holder, by_cloudpickle):
        found = pickle.loads(data)
        gen = found["even"](3)
        next(gen)
        from ray_durable.compiler import references
        again = pickle.loads(references.dumps(gen))
        twin = found["plain"].__durable__.twin
        print(list(again), found["plain"](2), list(twin(2)), list(found["Job"](1).run()))
        again = pickle.loads(cloudpickle.dumps(found["even"]))(1)
        next(again)
        print(list(pickle.loads(references.dumps(again))))
    """
)


def test_functions_and_frames_of_main_go_to_a_new_process(tmp_path):
    (tmp_path / "main.py").write_text(MAIN)
    data = str(tmp_path / "data")
    subprocess.run([sys.executable, str(tmp_path / "main.py"), data], timeout=60, check=True)
    (tmp_path / "main.py").unlink()
    done = subprocess.run([sys.executable, "-c", READER, data], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0] == "[20, 10.5, 0] [20, 10.5, 0] [[20, 10.5, 0], [10.5, 0]]"
    assert lines[1] == lines[3] == "[20.5, 10, 0.5] [20] [] [10, 0.5]"
    assert lines[2] == lines[4] == "[0.5]"


def test_by_key_pickles_name_code_and_do_not_hold_it():
    def here(n):
        yield from range(n)

    gen = durable(here)(3)
    next(gen)
    written = io.BytesIO()
    pickler = pickle.Pickler(written, 5)
    pickler.dispatch_table = references.dispatch_table(by_key=True)
    pickler.dump(gen)
    assert b"yield from" not in written.getvalue()
    assert b"yield from" in dumps(gen)
    assert list(pickle.loads(written.getvalue())) == [1, 2]


def test_met_lists_every_suspended_object_written():
    met = []
    pickler = pickle.Pickler(io.BytesIO(), 5)
    pickler.dispatch_table = references.dispatch_table(met=met)
    inner, outer = started(nested(1)), started(nested(2))
    pickler.dump({"deep": [started(holding(inner)), outer]})
    assert inner in met
    assert outer in met
    assert outer.gi_yieldfrom in met


def later(seconds):
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    loop.call_later(seconds, future.set_result, None)
    return future


def test_a_foreign_awaitable_is_evaluated_again():
    @durable
    async def waits(seconds):
        await later(seconds)
        return "slept"

    async def main():
        coroutine = waits(0.01)
        coroutine.send(None)
        again = pickle.loads(dumps(coroutine))
        discard(coroutine)
        third = pickle.loads(dumps(again))
        discard(again)
        return await third

    assert asyncio.run(main()) == "slept"


def test_picklers_can_be_used_again_from_many_threads():
    results = []

    def work():
        chance = random.Random(1)
        for _ in range(100):
            gen = started(nested(chance.randrange(5)))
            results.append(list(pickle.loads(dumps(gen))) == [1, 2])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 400


def test_cloudpickle_takes_frames_too():
    gen = started(holding([1]))
    assert next(cloudpickle.loads(cloudpickle.dumps([gen]))[0]) == [1]


def test_picklers_without_an_override_take_functions_of_locals():
    @durable
    def work():
        count = 0

        def add(n=1):
            nonlocal count
            count += n
            return count

        def twice():
            return add() + add()

        yield add()
        yield twice()
        return count, add.__defaults__

    written = io.BytesIO()
    pickler = pickle.Pickler(written, 5)
    pickler.dispatch_table = references.dispatch_table(functions=True)
    gen = work()
    assert next(gen) == 1
    pickler.dump(gen)
    assert list(gen) == [5]
    again = pickle.loads(written.getvalue())
    assert next(again) == 5
    with pytest.raises(StopIteration) as stop:
        next(again)
    assert stop.value.value == (3, (1,))


def test_comparing_users_values_is_never_asked_for():
    class Touchy:
        def __eq__(self, other):
            raise AssertionError("compared")

        __hash__ = None

    gen = started(holding(Touchy()))
    assert isinstance(next(restore(capture(gen))), Touchy)
    gen = started(holding(Touchy()))
    assert references.dumps(gen)
