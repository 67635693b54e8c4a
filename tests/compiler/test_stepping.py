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


def lines(function):
    """The lines, counted from the `def`, of which a tracer is told."""
    name, found = function.__name__, []

    def tell(frame, event, arg):
        if frame.f_code.co_name == name and event == "line":
            found.append(frame.f_lineno - frame.f_code.co_firstlineno)
        return tell

    before = sys.gettrace()
    sys.settrace(tell)
    try:
        list(function([1, 0]))
    except ZeroDivisionError:
        pass
    finally:
        sys.settrace(before)
    return found


@pytest.mark.parametrize("function", [with_cells, that_raises])
def test_line_events_are_the_users(function):
    assert lines(durable(function)) == lines(function)


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
