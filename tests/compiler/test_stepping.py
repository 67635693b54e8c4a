"""Who steps through a durable function (pdb, a tracer, coverage), or reads its tracebacks, sees the user's lines."""

from __future__ import annotations

import sys
import traceback

import pytest

from ray_durable.compiler import capture, discard, durable, restore


def called(value):
    return value


def with_cells(items):
    last = None

    def remember(item):
        nonlocal last
        last = item

    for item in items:
        remember(item)
        yield called(last)


def that_raises(items):
    for item in items:
        yield item
        called(1 / item)


def that_breaks(items):
    for item in items:
        yield item
        break
    called(1)


class Items:
    """An async iterator, and a manager, of which each is said in a list."""

    def __init__(self, said):
        self.said, self.left = said, 2

    def __aiter__(self):
        return self

    async def __anext__(self):
        if not self.left:
            raise StopAsyncIteration
        self.left -= 1
        return self.left

    async def __aenter__(self):
        self.said.append("enter")

    async def __aexit__(self, *error):
        self.said.append("exit")


async def async_loop(said):
    said.append("first")
    async for item in Items(said):
        said.append(item)
        if item == 9:
            break
    else:
        said.append("else")
    said.append("last")


async def async_break(said):
    async for item in Items(said):
        said.append(item)
        break
    said.append("last")


async def async_managers(said):
    async with Items(said):
        said.append("one")
    async with Items(said):
        said.append("two")
    said.append("last")


async def async_manager_raises(said):
    try:
        async with Items(said):
            called(1 / 0)
    except ZeroDivisionError:
        said.append("last")


def stepped(function, jump=()):
    """The lines, counted from the `def`, of which a tracer is told, which jumps once from one of them to another; and
    what the function has said meanwhile."""
    name, found, said = function.__name__, [], [1, 0]
    jumps = dict([jump] if jump else [])

    def tell(frame, event, arg):
        if frame.f_code.co_name == name and event == "line":
            found.append(frame.f_lineno - frame.f_code.co_firstlineno)
            if found[-1] in jumps:
                frame.f_lineno = frame.f_code.co_firstlineno + jumps.pop(found[-1])
        return tell

    before = sys.gettrace()
    made = function(said)
    sys.settrace(tell)
    try:
        while True:
            made.send(None)
    except StopIteration:
        pass
    except (ZeroDivisionError, ValueError) as error:
        said.append(str(error))
    finally:
        sys.settrace(before)
    return found, said


@pytest.mark.parametrize(
    "function",
    [with_cells, that_raises, that_breaks, async_loop, async_break, async_managers, async_manager_raises],
)
def test_line_events_are_the_users(function):
    assert stepped(durable(function)) == stepped(function)


@pytest.mark.filterwarnings("ignore:assigning None to .* unbound local")
@pytest.mark.parametrize(
    ("function", "jump"),
    [
        *((async_loop, jump) for jump in [(3, 8), (3, 2), (1, 3), (7, 3), (2, 8), (2, 7), (8, 1)]),
        *((async_managers, jump) for jump in [(2, 4), (2, 3), (3, 1), (1, 2), (3, 2), (4, 2)]),
    ],
)
def test_a_debuggers_jump_lands_where_it_does_natively(function, jump):
    assert stepped(durable(function), jump) == stepped(function, jump)


class FailsToEnd:
    def __enter__(self):
        return self

    def __exit__(self, *exception):
        raise ValueError("it does not end")


def within(manager):
    with manager:
        yield


def test_a_manager_that_fails_after_a_resume_is_called_by_the_users_frame():
    steps = durable(within)(FailsToEnd())
    next(steps)
    with pytest.raises(ValueError, match="it does not end") as found:
        next(restore(capture(steps)))
    discard(steps)
    assert [each.name for each in traceback.extract_tb(found.value.__traceback__)][1:] == ["within", "__exit__"]
