"""Exceptions in a frame keep everything: type, arguments, attributes, chain, notes and traceback."""

from __future__ import annotations

import io
import pickle
import traceback

import pytest

from ray_durable.compiler import exceptions


class ByReducer(dict):
    def __missing__(self, cls):
        if issubclass(cls, BaseException):
            return exceptions.reduce_exception
        raise KeyError(cls)


class Pickler(pickle.Pickler):
    dispatch_table = ByReducer()


def round_trip(value):
    written = io.BytesIO()
    Pickler(written, 5).dump(value)
    return pickle.loads(written.getvalue())


class OddArguments(Exception):
    def __init__(self, first, *, second):
        super().__init__(f"text {first}")
        self.second = second


class Slotted(OSError):
    __slots__ = ("extra",)


class OwnReduce(Exception):
    def __init__(self, value):
        self.value = value

    def __reduce__(self):
        return OwnReduce, (self.value,), {"from_state": 1}


class OwnNew(ValueError):
    def __new__(cls, *, needed):
        return super().__new__(cls, needed)

    def __init__(self, *, needed):
        super().__init__(needed)


def slotted():
    made = Slotted(2, "no", "file")
    made.extra = 5
    return made


EXAMPLES = [
    OddArguments(1, second=2),
    slotted(),
    OwnReduce(5),
    OwnNew(needed=3),
    OSError(2, "x", "file"),
    OSError("only text"),
    BlockingIOError(11, "x", 5),
    StopIteration(4),
    KeyError("k"),
    SystemExit(3),
    KeyboardInterrupt(),
    UnicodeDecodeError("utf8", b"abc", 0, 1, "why"),
    UnicodeEncodeError("utf8", "abc", 0, 1, "why"),
    SyntaxError("m", ("f", 1, 2, "text")),
    ImportError("m", name="n", path="p"),
    NameError("x", name="x"),
    ExceptionGroup("g", [ValueError(1), ExceptionGroup("h", [TypeError(2)])]),
    GeneratorExit(),
]


def raised(exc):
    try:
        try:
            raise ZeroDivisionError("first")
        except ZeroDivisionError as first:
            first.add_note("a note")
            raise exc from KeyError("cause")
    except BaseException as caught:
        return caught


def printed(exc):
    lines = "".join(traceback.format_exception(exc)).splitlines()
    return [line for line in lines if set(line.strip()) - set("^~")]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: f"{type(e).__name__}-{e}")
def test_all_of_an_exception_is_kept(example):
    before = raised(example)
    after = round_trip(before)
    assert type(after) is type(before)
    assert str(after) == str(before)
    assert after.args[:1] == before.args[:1]
    assert [line.partition(". Did you mean")[0] for line in printed(after)] == [
        line.partition(". Did you mean")[0] for line in printed(before)
    ]
    assert type(after.__cause__) is KeyError
    assert type(after.__context__) is ZeroDivisionError
    assert after.__context__.__notes__ == ["a note"]
    for name in exceptions.c_fields(exceptions.builtin_base(type(before))):
        assert getattr(after, name, None) == getattr(before, name, None), name


def test_attributes_and_slots_are_kept():
    assert round_trip(OddArguments(1, second=2)).second == 2
    assert round_trip(slotted()).extra == 5
    assert round_trip(OwnReduce(5)).from_state == 1


def test_suppressed_context_stays_suppressed():
    try:
        try:
            raise ValueError(1)
        except ValueError:
            raise TypeError(2) from None
    except TypeError as caught:
        after = round_trip(caught)
    assert after.__suppress_context__
    assert type(after.__context__) is ValueError


def test_cycles_are_kept():
    exc = ValueError(1)
    exc.itself = [exc]
    exc.__context__ = other = TypeError(2)
    other.__cause__ = exc
    after = round_trip(exc)
    assert after.itself[0] is after
    assert after.__context__.__cause__ is after


def test_a_very_long_traceback_keeps_its_ends():
    def deep(n):
        if n:
            deep(n - 1)
        raise ValueError("deep")

    try:
        deep(500)
    except ValueError as caught:
        entries = exceptions.traceback_entries(caught.__traceback__)
        after = round_trip(caught)
    assert len(entries) == exceptions.TRACEBACK_ENTRIES_MAX
    assert exceptions.traceback_entries(after.__traceback__) == entries


def test_a_restored_exception_is_pickled_again_the_same():
    once = round_trip(raised(OddArguments(1, second=2)))
    assert printed(round_trip(once)) == printed(once)
