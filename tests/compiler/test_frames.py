"""Frames: what they tell, what cannot be captured or restored, and tracebacks in the user's own lines."""

import linecache
import traceback

import pytest

from ray_durable.compiler import Frame, capture, discard, durable, restore
from ray_durable.compiler.frame import FINISHED, NOT_STARTED
from ray_durable.errors import CaptureError, RestoreError
from tests.compiler.roundtrip import Step


def counter(n, /, start: int = 0, *more, step=1, **options) -> "int":
    """Counts."""
    for i in range(start, n, step):
        yield i


async def coro():
    return await Step(1)


def outer():
    x = 1
    yield from middle(x)


@durable
def middle(x):
    y = x + 1
    yield y


def test_a_frame_reads_like_a_traceback_without_running_anything():
    made = durable(outer)()
    next(made)
    frame = capture(made)
    assert isinstance(frame, Frame)
    assert frame.function == f"{__name__}:outer"
    assert frame.filename == __file__
    assert linecache.getline(frame.filename, frame.lineno).strip() == "yield from middle(x)"
    assert frame.locals == {"x": 1}
    assert frame.delegate.locals == {"x": 1, "y": 2}
    assert [each.function.rpartition(":")[2] for each in frame.chain()] == ["outer", "middle"]


def test_unstarted_and_finished_objects_are_captured_as_such():
    fn = durable(counter)
    made = fn(5, 2, 9, 9, step=2, z=1)
    frame = capture(made)
    assert frame.point == NOT_STARTED
    assert list(restore(frame)) == [2, 4]
    assert list(made) == [2, 4]
    ended = capture(made)
    assert ended.point == FINISHED
    assert list(restore(ended)) == []
    early = durable(coro)()
    late = restore(capture(early))
    discard(early)
    assert late.send(None) == 1
    late.close()


def test_a_running_object_and_one_that_is_not_durable_cannot_be_captured():
    @durable
    def itself():
        try:
            capture(me)
        except CaptureError as error:
            yield str(error)

    me = itself()
    assert "running" in next(me)
    with pytest.raises(CaptureError, match="counter"):
        capture(counter(1))
    with pytest.raises(CaptureError, match="no generator"):
        capture(5)


def test_a_damaged_frame_is_refused_before_anything_runs():
    made = durable(outer)()
    next(made)
    for damage in (
        lambda f: setattr(f, "point", 99),
        lambda f: f.values.update(nobody=1),
        lambda f: setattr(f, "delegate", None),
    ):
        frame = capture(made)
        damage(frame)
        with pytest.raises(RestoreError):
            restore(frame)


def test_deep_chains_are_captured_and_restored_without_recursion():
    @durable
    def down(n):
        return ((yield from down(n - 1)) if n else (yield "bottom")) + 1

    made = down(800)
    assert next(made) == "bottom"
    made = restore(capture(made))
    with pytest.raises(StopIteration) as stop:
        made.send(0)
    assert stop.value.value == 801


@durable
def failing(n):
    value = 1
    got = yield value
    return got.attribute


def test_tracebacks_name_the_users_lines_and_mark_the_same_text():
    made = durable(outer)()
    next(made)
    for drive in (failing(1), None):
        if drive is None:
            drive = failing(1)
            next(drive)
            drive = restore(capture(drive))
        else:
            next(drive)
        with pytest.raises(AttributeError) as caught:
            drive.send(5)
        text = "".join(traceback.format_exception(caught.value))
        assert f'File "{__file__}", line' in text
        assert "got.attribute" in text
        assert "in failing" in text
        entry = traceback.extract_tb(caught.value.__traceback__)[-1]
        assert entry.line.strip() == "return got.attribute"
        assert (entry.lineno, entry.colno, entry.end_colno) == (failing.__code__.co_firstlineno + 4, 11, 24)
