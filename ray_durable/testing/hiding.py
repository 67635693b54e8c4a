"""Keeps drivers (`driving`) out of what a program sees of itself, so that a conformance run shows it durable functions,
and not the runner.

Hidden are their frames on the stack (`f_back`, `sys._getframe`), their events (`sys.settrace`, `sys.setprofile`), and
what is theirs about an object that they stand for: its frame, its code, and what it delegates to are those of the
durable object behind it. `function.__code__` is the durable code.

This changes attributes of CPython's own types, for the whole process; only a run of somebody's tests does it.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import sys
import types
from collections.abc import Callable
from typing import Any

from ray_durable.compiler.unit import CO_ITERABLE_COROUTINE
from ray_durable.testing.driving import CODES, SHOWN, STARTS, driven_in, runs_driver

KINDS: tuple[tuple[type, str], ...] = (
    (types.GeneratorType, "gi"), (types.CoroutineType, "cr"), (types.AsyncGeneratorType, "ag"),
)  # fmt: skip
DELEGATES = {"gi": "gi_yieldfrom", "cr": "cr_await", "ag": "ag_await"}
Getter = Callable[[Any], Any]


def hide() -> None:
    """Hide all drivers, from now on."""
    frames: dict[type, Getter] = {kind: vars(kind)[f"{prefix}_frame"].__get__ for kind, prefix in KINDS}
    delegates: dict[type, Getter] = {kind: vars(kind)[DELEGATES[prefix]].__get__ for kind, prefix in KINDS}
    for kind, prefix in KINDS:
        replace(kind, f"{prefix}_frame", frame_getter(frames, frames))
        replace(kind, DELEGATES[prefix], frame_getter(frames, delegates))
        replace(kind, f"{prefix}_code", shown_code(vars(kind)[f"{prefix}_code"].__get__))
    back = vars(types.FrameType)["f_back"].__get__
    replace(types.FrameType, "f_back", past_drivers(back))
    replace_function_code()
    hide_from_stack(back)
    hide_from_tracers()


def replace(kind: type, name: str, getter: Getter, setter: Callable[[Any, Any], None] | None = None) -> None:
    """Compute an attribute of one of CPython's types by `getter`."""
    namespace: Any = gc.get_referents(vars(kind))[0]
    namespace[name] = property(getter, setter, doc=vars(kind)[name].__doc__)
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(kind))


def frame_getter(frames: dict[type, Getter], getters: dict[type, Getter]) -> Getter:
    """An attribute (`getters`, by type) of the durable object, where a driver that has begun is asked for it."""

    def getter(self: Any) -> Any:
        kind = type(self)
        frame = frames[kind](self)
        if frame is not None and runs_driver(frame) and (driven := driven_in(frame)) is not None:
            behind = driven.suspended
            if getters is not frames or frames[type(behind)](behind) is not None:
                return getters[type(behind)](behind)
        return getters[kind](self)

    return getter


def shown_code(natively: Getter) -> Getter:
    def getter(self: Any) -> Any:
        code = natively(self)
        start = STARTS.get(id(code.co_consts))
        return code if start is None else start.shown(code)

    return getter


def past_drivers(back: Getter) -> Getter:
    def f_back(self: Any) -> Any:
        found = back(self)
        while found is not None and runs_driver(found):
            found = back(found)
        return found

    return f_back


def replace_function_code() -> None:
    """Let `function.__code__` be the durable code behind a driver, also where a changed copy of that is set."""
    natively = vars(types.FunctionType)["__code__"]

    def put(self: Any, code: Any) -> None:
        driver = SHOWN.get((id(code.co_consts), code.co_firstlineno)) if type(code) is types.CodeType else None
        if driver is not None:
            code = driver.replace(co_flags=driver.co_flags | code.co_flags & CO_ITERABLE_COROUTINE)
        natively.__set__(self, code)

    replace(types.FunctionType, "__code__", shown_code(natively.__get__), put)


# ---- the stack -------------------------------------------------------------------------------------------------------


def hide_from_stack(back: Getter) -> None:
    """`sys._getframe` and `sys._getframemodulename` do not count drivers."""
    natively = sys._getframe

    def to_skip(depth: int) -> int:
        """How many frames below the caller's caller are `depth` frames that show, with the drivers among them."""
        frame, skipped = natively(2), 0
        while frame is not None and (depth > 0 or runs_driver(frame)):
            depth -= not runs_driver(frame)
            skipped += 1
            frame = back(frame)
        return skipped + max(depth, 0)

    @functools.wraps(natively)
    def _getframe(depth: int = 0, /) -> types.FrameType:
        return natively(to_skip(depth) + 1)

    sys._getframe = _getframe
    if sys.version_info >= (3, 12):
        module_name = sys._getframemodulename

        @functools.wraps(module_name)
        def _getframemodulename(depth: int = 0) -> str | None:
            return module_name(to_skip(depth) + 1)

        sys._getframemodulename = _getframemodulename


# ---- tracers and profilers -------------------------------------------------------------------------------------------


def hide_from_tracers() -> None:
    """Functions that trace or profile are told neither of drivers nor of what the runner does."""
    tell = Filter.tell.__code__
    CODES[id(tell.co_consts)] = tell  # its frame is between a function that traces and what that is told of
    for name in ("trace", "profile"):
        given: Callable[[], Any] = getattr(sys, f"get{name}")
        for setter in (f"set{name}", f"_set{name}allthreads"):
            if hasattr(sys, setter):
                setattr(sys, setter, telling_less(getattr(sys, setter)))
        setattr(sys, f"get{name}", told_all(given))


def telling_less(natively: Callable[[Any], None]) -> Callable[[Any], None]:
    @functools.wraps(natively)
    def setter(function: Any, /) -> None:
        natively(Filter(function).tell if callable(function) else function)

    return setter


def told_all(natively: Callable[[], Any]) -> Callable[[], Any]:
    @functools.wraps(natively)
    def getter() -> Any:
        function = natively()
        behind = getattr(function, "__self__", None)
        return behind.function if type(behind) is Filter else function

    return getter


class Filter:
    """A function for `sys.settrace` or `sys.setprofile` that tells another one less."""

    def __init__(self, function: Any) -> None:
        self.function = function

    def tell(self, frame: types.FrameType, event: str, arg: Any) -> Any:
        """Called by CPython."""
        if runs_driver(frame) or frame.f_globals.get("__name__", "").startswith(RUNNER):
            return None
        return self.function(frame, event, arg)


RUNNER = "ray_durable."
