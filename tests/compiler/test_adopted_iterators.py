"""Loops over what undecorated code makes: generators of helpers and libraries, wrapped, held or made by `__iter__`."""

from __future__ import annotations

import csv
import enum
import heapq
import io
import sys
from collections.abc import Iterator

import pytest

from ray_durable.checkpoint.codec import dumps, loads
from ray_durable.compiler import durable, suspends, twin_of
from ray_durable.errors import CannotSaveError


def pause() -> None: ...


@durable
def pauses():
    yield


suspends(pause, pauses)


def counting(n):
    for i in range(n):
        yield i


def counts(n):
    return counting(n)


class Tree:
    def __init__(self, *below):
        self.below = below

    def __iter__(self):
        for each in self.below:
            yield from each if isinstance(each, Tree) else [each]

    def pairs(self):
        for number, each in enumerate(self):
            yield number, each


@durable
def over_a_helper():
    out = []
    for x in counting(4):
        out.append(x)
        pause()
    return out


@durable
def over_what_a_helper_returns():
    out = []
    for x in counts(4):
        out.append(x)
        pause()
    return out


@durable
def over_a_local():
    steps, out = counting(5), []
    out.append(next(steps))
    for x in steps:
        out.append(x)
        pause()
    return out, list(steps)


@durable
def over_an_iterable():
    out = []
    for x in Tree(1, Tree(2, Tree(3, 4)), 5):
        out.append(x)
        pause()
    return out


@durable
def over_a_method():
    tree, out = Tree("a", Tree("b", "c")), []
    for number, each in tree.pairs():
        out.append((number, each))
        pause()
    return out


@durable
def over_wrapped_ones():
    out = []
    for number, (x, y) in enumerate(zip(counting(4), map(str, filter(None, Tree(0, 1, 2, 3))), strict=False), 10):
        out.append((number, x, y))
        pause()
    return out


@durable
def over_a_librarys():
    out = []
    for x in heapq.merge([1, 4], counting(5), [2, 3]):
        out.append(x)
        pause()
    return out


@durable
def in_a_comprehension():
    def seen(x):
        pause()
        return x

    return [seen(x) + y for x in counting(3) for y in Tree(1, 2)]


@durable
def delegating():
    yield from enumerate(counting(3))
    for x in counts(3):
        yield x
    yield from Tree(1, Tree(2))


def rows(text):
    return io.StringIO(text)


@durable
def over_csv():
    out = []
    reader = csv.DictReader(rows('n,t\n1,"a\nb"\n2,c\n3,d\n'))
    for row in reader:
        out.append((row, reader.line_num))
        pause()
    return out


@pytest.mark.parametrize(
    "function",
    [
        over_a_helper,
        over_what_a_helper_returns,
        over_a_local,
        over_an_iterable,
        over_a_method,
        over_wrapped_ones,
        over_a_librarys,
        in_a_comprehension,
        over_csv,
    ],
)
@pytest.mark.parametrize("crashes", ["never", "once", "at each yield"])
def test_a_plain_function_goes_on_in_the_middle(function, crashes):
    run, steps, result = twin_of(function)(), 0, None
    while True:
        try:
            next(run)
        except StopIteration as end:
            result = end.value
            break
        steps += 1
        if crashes == "at each yield" or (crashes == "once" and steps == 2):
            run = loads(dumps(run))
    assert result == function()
    assert steps > 2


def test_a_generator_goes_on_in_the_middle():
    wanted = list(delegating())
    assert wanted == [(0, 0), (1, 1), (2, 2), 0, 1, 2, 1, 2]
    for crash in range(1, len(wanted)):
        run, got = delegating(), []
        for _ in range(crash):
            got.append(next(run))
        assert got + list(loads(dumps(run))) == wanted


@durable
def over_a_shared_one(steps):
    out = []
    for x in steps:
        out.append(x)
        yield
        if len(out) == 2:
            out.append(next(steps) * 10)
    return out


def test_one_that_somebody_else_has_stays_the_same_object():
    for wrap in (iter, enumerate, lambda steps: zip(steps, "abcd", strict=False)):
        steps = wrap(counting(4))
        run = over_a_shared_one(steps)
        next(run)
        assert next(steps) in (1, (1, 1), (1, "b")), "both step through one iterator"
        with pytest.raises(CannotSaveError, match="Put @durable .* or the call into the loop itself"):
            dumps(run)


@durable
def with_a_finally(log):
    for x in leaving(log):
        yield x


def leaving(log):
    try:
        yield 1
        yield 2
    finally:
        log.append("left")


def test_an_adopted_one_is_closed_when_its_loop_lets_it_go():
    log = []
    run = with_a_finally(log)
    next(run)
    assert log == []
    run.close()
    assert log == ["left"]


class Wrapper:
    """As many wrappers are: asked for what it has not, it asks what it wraps."""

    def __init__(self, wrapped: object, **more: object) -> None:
        self.wrapped = wrapped
        self.__dict__.update(more)

    def __getattr__(self, name: str) -> object:
        return getattr(self.wrapped, name)


class Slotted(Wrapper, dict):
    __slots__ = ("further",)


def test_a_wrapper_that_answers_for_what_it_wraps_can_be_loaded():
    again = loads(dumps(Wrapper([1, 2], name="w")))
    assert (again.wrapped, again.name, again.index(2)) == ([1, 2], "w", 1)
    slotted = Slotted("abc")
    slotted.further, slotted["key"] = 5, "value"
    again = loads(dumps(slotted))
    assert (again.wrapped, again.further, dict(again), again.upper()) == ("abc", 5, {"key": "value"}, "ABC")


class AskedMeta(type):
    def __getattr__(cls, name: str) -> str:
        return name


class Asked(metaclass=AskedMeta): ...


class Colour(enum.Enum):
    RED = 1


def test_classes_whose_metaclass_answers_for_them_go_by_name():
    assert loads(dumps([Asked, Colour, Colour.RED])) == [Asked, Colour, Colour.RED]


def test_the_standard_streams_are_those_of_the_process():
    streams = [sys.__stderr__, open(2, "w", closefd=False), open(1, "w", closefd=False)]
    assert loads(dumps(streams)) == [sys.stderr, sys.stderr, sys.stdout]


def test_a_half_read_file_of_rows_keeps_dialect_and_lines():
    reader: Iterator[list[str]] = csv.reader(iter(["a;'b", "c'", "d;e"]), delimiter=";", quotechar="'")
    next(reader)
    for _ in range(2):
        reader = loads(dumps(reader))
    assert (reader.line_num, reader.dialect.delimiter) == (2, ";")
    assert next(reader) == ["d", "e"]
    assert reader.line_num == 3
    with pytest.raises(StopIteration):
        next(reader)
