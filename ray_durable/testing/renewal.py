"""Functions whose suspensions are all captured and restored: what the conformance runner puts in the place of a
package's own generator and async functions.

`renewing(function)` gives a function of the same kind. What it makes drives a durable object (`driving`) and, each time
that suspends, replaces it by one restored from its frame, and discards the original. Values go by reference, so nothing
needs to be picklable. What the object delegates to stays the same, if that is driven too.

Each function, and each suspension that could not be renewed, is counted in `COUNTS`, with the reason.
"""

from __future__ import annotations

import ctypes
import sys
import types
import weakref
from typing import Any

from ray_durable.compiler import durable
from ray_durable.compiler.capture import one, parts
from ray_durable.compiler.decoration import like
from ray_durable.compiler.discard import delegates_of, mark
from ray_durable.compiler.frame import FINISHED, NOT_STARTED, EvaluateAgain, Frame
from ray_durable.compiler.replacements import Awaited
from ray_durable.compiler.restore import Renewed, assembled, prime
from ray_durable.errors import CaptureError, CompileError
from ray_durable.testing.driving import (
    COUNTS,
    FRAMES,
    KINDS,
    LEFT,
    driver_of,
    is_driver,
    stand,
    untraced,
    without_hooks,
)


def renewing(function: Any) -> Any:
    """A function of the kind of `function`, all of whose suspensions are captured and restored.

    One that cannot be compiled stays as it is, and is counted as "refused: …"."""
    if not isinstance(function, types.FunctionType):
        return function
    if not any(function.__code__.co_flags & kind for kind in KINDS):
        return function
    code = function.__code__
    known = DRIVERS.get(id(code))
    if known is None:  # a function inside another is made anew, of the same code, whenever that runs
        known = DRIVERS[id(code)] = code, untraced(compiled, function)
    return function if known[1] is None else untraced(like, function, known[1])


DRIVERS: dict[int, tuple[types.CodeType, types.CodeType | None]] = {}  # by id of the native code, which is kept alive


def compiled(function: types.FunctionType) -> types.CodeType | None:
    try:
        made = durable(function)
    except CompileError as error:
        COUNTS[f"refused: {error.reason}"] += 1
        return None
    COUNTS["functions"] += 1
    return driver_of(made.__code__, renewed, mark)


def renewed(suspended: Any) -> Any:
    """What goes on in the place of `suspended`: restored from its frame, where that is possible."""
    try:
        originals, frames, driver = captured(suspended)
    except CaptureError as error:
        COUNTS[f"not captured: {error.reason}"] += 1
        return suspended
    standing = None if driver is None else can_stand(driver)
    # only the innermost can wait for what is not durable
    if type(frames[-1].delegate) is EvaluateAgain or (driver is not None and standing is None):
        COUNTS["not captured: awaits what is not durable"] += 1
        return suspended
    handle = None if driver is None else held_by(originals[-1], frames[-1], driver)
    steps_of_generators = types.AsyncGeneratorType in map(type, (driver, *originals))
    if steps_of_generators:
        found = without_hooks(restored, frames, handle, standing)
    else:
        found = restored(frames, handle, standing)
    if len(originals) == 1 and driver is None and frames[0].delegate is None:
        mark(suspended)
    else:
        for each in delegates_of(suspended):
            if each is driver:
                break
            mark(each)
    for each, frame in zip(originals, frames, strict=True):
        let_go(each, frame)
    COUNTS["renewed"] += 1
    return found


def captured(suspended: Any) -> tuple[list[Any], list[Frame], Any]:
    """`suspended` and what it delegates to, their frames, and the first object on the way that stays the same one, if
    there is one: a driver, or an async generator, which an attribute somewhere may hold as well."""
    originals: list[Any] = []
    frames: list[Frame] = []
    while suspended is not None and not is_driver(suspended):
        if originals and isinstance(suspended, types.AsyncGeneratorType):
            break
        originals.append(suspended)
        frame, suspended = one(suspended)
        if frames:
            frames[-1].delegate = frame
        frames.append(frame)
    return originals, frames, suspended


def can_stand(driver: Any) -> Any:
    """The first driver from `driver` on that can be told to stand: not an async generator's, but what that awaits."""
    for each in delegates_of(driver):
        if is_driver(each) and not isinstance(each, types.AsyncGeneratorType):
            return each
    return None


def held_by(outer: Any, frame: Frame, driver: Any) -> Any:
    """What `outer` waits for: the driver itself, or the step of an async generator."""
    if isinstance(driver, types.AsyncGeneratorType):
        return parts(outer)[3]
    if isinstance(driver, types.CoroutineType) and frame.unit.kind == "generator":
        return driver.__await__()
    return Awaited(driver) if frame.via == "await" else driver


def let_go(original: Any, frame: Frame) -> None:
    """Empty the compiler's own variables of an object that was replaced: a traceback may hold its frame for long."""
    native = FRAMES[type(original)](original)
    if native is None or sys.getrefcount(native) <= 3:  # the object, `native` and the argument
        return
    variables = native.f_locals
    variables.update(dict.fromkeys(frame.temporaries.keys() & variables.keys()))
    if sys.version_info < (3, 13):
        ctypes.pythonapi.PyFrame_LocalsToFast(ctypes.py_object(native), 0)
        variables.clear()
    if any(type(value) is tuple and value[:1] == ("raise",) for value in frame.temporaries.values()):
        LEFT.append((weakref.ref(original), native))  # in an `__aexit__`, the exception is on the stack of the frame


def restored(frames: list[Frame], handle: Any, standing: Any) -> Any:
    """The object restored from `frames`, whose last delegates to `handle`, and led to where it stood."""
    if handle is not None:
        frames[-1].delegate, frames[-1].via = Frame(frames[-1].unit, FINISHED, {}), ""
    replaced: Renewed = {}
    made = handle
    for frame in reversed(frames):
        made = assembled(frame, made, replaced)
        mark(made)  # it is its driver's to close
        if (original := frame.original and frame.original()) is not None:
            replaced[id(original)] = (original, made)
    if frames[0].point > NOT_STARTED:
        if standing is not None:
            stand(standing)
        prime(made)
    return made
