"""Who steps through a durable function (pdb, a tracer, coverage) sees the user's lines, from the first one on."""

from __future__ import annotations

import sys

import pytest

from ray_durable.compiler import durable


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
