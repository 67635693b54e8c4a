"""Loops that never yield can be captured at the end of a pass, and go on elsewhere."""

import subprocess
import sys
import threading

import pytest

from ray_durable.compiler import back_edges_due, capture, discard, durable, restore, suspend_at_back_edges, twin_of
from ray_durable.compiler.backedges import DUE, REQUEST, tool


@durable
def checkpoint_request():
    yield "edge"


def one_request():
    return iter(("edge",))


@pytest.fixture(autouse=True, params=[checkpoint_request, one_request])
def request_at_back_edges(request):
    before = list(REQUEST)
    suspend_at_back_edges(request.param)
    yield
    REQUEST[:] = before
    DUE.on = False


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
            original, made = made, restore(capture(made))
            discard(original)
            back_edges_due()
    except StopIteration as stop:
        return stop.value, count


def test_a_loop_that_never_yields_is_captured_at_every_back_edge_that_is_due():
    expected = numeric(20)
    result, count = drive(twin_of(numeric, back_edges=True)(20))
    assert result == expected
    assert count > 80


@durable
def leaves_early(n, left):
    try:
        for i in range(2 * n):
            if i > n:
                return "early"
            with left:
                for k in range(3):
                    if i + k > 2 * n:
                        return k
        return "late"
    finally:
        left.append(i)


class Left(list):
    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.append("exit")


def test_a_loop_that_is_left_by_return_through_a_finally_goes_on_with_its_iterator():
    """Found by random programs, through pickle: letting the iterator go was taken for making it anew in each pass."""
    native, left = Left(), Left()
    expected = leaves_early(3, native)
    result, count = drive(twin_of(leaves_early, back_edges=True)(3, left))
    assert (result, left) == (expected, native)
    assert count > 10


def test_it_does_not_suspend_unless_due():
    DUE.on = False
    with pytest.raises(StopIteration) as stop:
        next(twin_of(numeric, back_edges=True)(20))
    assert stop.value.value == numeric(20)


def test_coroutines_too():
    result, count = drive(twin_of(numeric_async, back_edges=True)(10))
    assert (result, count) == (45, 10)


class Held(Exception):
    pass


@durable
def every_way_out(n, log):
    """Each way from one pass to the next, and out of a loop."""
    found = []
    for i in range(n):
        with Noted(log, i):
            try:
                if i % 4 == 1:
                    continue
                if i % 4 == 2:
                    raise Held(i)
            except Held as error:
                found.append(str(error))
                continue
            finally:
                log.append(("finally", i))
        k = i
        while log_test(log, k := k - 1):
            if k == 3:
                continue
            found.append([x * k for x in range(3) if x])
        else:
            found.append("else")
        for letter in iter("ab"):
            found.append(letter)
            if i > 5:
                break
        else:
            continue
        for _ in ():
            pass
        else:
            if i > 7:
                return found, k
    return found


class Noted:
    def __init__(self, log, i):
        self.log, self.i = log, i

    def __enter__(self):
        self.log.append(("enter", self.i))

    def __exit__(self, *error):
        self.log.append(("exit", self.i, error[0]))


def log_test(log, value):
    log.append(("test", value))
    return value > 0


def test_every_way_from_pass_to_pass_is_a_back_edge_and_nothing_runs_twice():
    expected, got = [], []
    result = every_way_out(9, expected)
    assert drive(twin_of(every_way_out, back_edges=True)(9, got)) == (result, 32 if tool() is None else 36)
    assert got == expected  # where jumps are monitored, a `continue` in a `try` suspends twice if it is due twice


def test_a_request_from_a_timer_reaches_a_loop_that_runs():
    timer = threading.Timer(0.05, back_edges_due)
    made = twin_of(numeric, back_edges=True)(10**7)
    timer.start()
    assert made.send(None) == "edge"  # else it would run for minutes
    timer.join()
    assert capture(made).locals["n"] == 10**7


def test_an_iterator_without_iter_and_a_test_with_effects_go_on_where_they_were():
    result, count = drive(twin_of(bare_iterator, back_edges=True)())
    assert result == bare_iterator() == [3, 2, 1]
    assert count >= 3


class Down:
    def __init__(self, n):
        self.n = n

    def __iter__(self):
        return Bare(self)


class Bare:
    def __init__(self, down):
        self.down = down

    def __next__(self):
        if not self.down.n:
            raise StopIteration
        self.down.n -= 1
        return self.down.n + 1


@durable
def bare_iterator():
    found = []
    for value in Down(3):
        found.append(value)
    return found


MONITORED = """
import sys
import ray_durable
from ray_durable.compiler import durable, twin_of

def passes(n):
    for i in range(n):
        pass
    return n

def steps(n):
    yield from range(n)

def tools():
    return [number for number in range(6) if sys.monitoring.get_tool(number) is not None]

assert list(durable(steps)(3)) == [0, 1, 2]
assert tools() == [], tools()
assert list(twin_of(durable(passes), back_edges=True)(3)) == []
assert tools() == [4], tools()
"""


@pytest.mark.skipif(sys.version_info < (3, 12), reason="there is no sys.monitoring")
def test_an_id_for_monitoring_is_taken_only_by_loops_that_need_it(tmp_path):
    (tmp_path / "monitored.py").write_text(MONITORED)
    subprocess.run([sys.executable, str(tmp_path / "monitored.py")], check=True)


@durable
def over_comprehensions(n):
    found = []
    for x in [y + 1 for y in range(n)]:
        found.append(x)
    for x in {y for y in {y: y for y in range(n)}}:
        found += [y for y in [y for y in [x, x]]]
    while [y for y in range(n) if y > len(found) - 8]:
        found.append([y for y in range(2)])
    return found


def test_a_comprehension_that_a_loop_runs_over_is_no_loop_of_its_own():
    result, count = drive(twin_of(over_comprehensions, back_edges=True)(3))
    assert result == over_comprehensions(3)
    assert count >= 6
