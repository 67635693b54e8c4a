"""Keeps drivers (`driving`) out of what a program sees of itself, so that a conformance run shows it durable functions,
and not the runner.

Hidden are their frames on the stack (`f_back`, `sys._getframe`), their events (`sys.settrace`, `sys.setprofile`,
`sys.monitoring`), and what is theirs about an object that they stand for: its frame and what it delegates to are those
of the durable object behind it. `bodies` and `variables` hide what the durable object itself has besides.

This changes attributes of CPython's own types, for the whole process; only a run of somebody's tests does it.
"""

from __future__ import annotations

import functools
import os
import sys
import types
from collections.abc import Callable
from typing import Any

from ray_durable.testing.bodies import CONSTANTS, hide_bodies, replace, shown
from ray_durable.testing.driving import CODES, FRAMES, GET_FRAME, MONITORS, driven_in, runs_driver
from ray_durable.testing.variables import hide_variables

KINDS: tuple[tuple[type, str], ...] = (
    (types.GeneratorType, "gi"), (types.CoroutineType, "cr"), (types.AsyncGeneratorType, "ag"),
)  # fmt: skip
DELEGATES = {"gi": "gi_yieldfrom", "cr": "cr_await", "ag": "ag_await"}
Getter = Callable[[Any], Any]


def hide() -> None:
    """Hide all drivers, from now on."""
    delegates: dict[type, Getter] = {kind: vars(kind)[DELEGATES[prefix]].__get__ for kind, prefix in KINDS}
    for kind, prefix in KINDS:
        replace(kind, f"{prefix}_frame", frame_getter(FRAMES))
        replace(kind, DELEGATES[prefix], frame_getter(delegates))
    replace(types.FrameType, "f_back", past_drivers)
    hide_bodies()
    hide_variables(GET_FRAME)
    hide_from_stack()
    hide_from_tracers()
    if sys.version_info >= (3, 12):
        hide_from_monitors()


def frame_getter(getters: dict[type, Getter]) -> Getter:
    """An attribute (`getters`, by type) of the durable object, where a driver that has begun is asked for it."""

    def getter(self: Any) -> Any:
        kind = type(self)
        frame = FRAMES[kind](self)
        if frame is not None and runs_driver(frame) and (driven := driven_in(frame)) is not None:
            behind = driven.suspended
            if getters is not FRAMES or FRAMES[type(behind)](behind) is not None:
                return getters[type(behind)](behind)
        return getters[kind](self)

    return getter


def past_drivers(frame: Any) -> Any:
    """A frame's `f_back`."""
    found = BACK(frame)
    while found is not None and runs_driver(found):
        found = BACK(found)
    return found


BACK: Getter = vars(types.FrameType)["f_back"].__get__  # as it is before `hide`


# ---- the stack -------------------------------------------------------------------------------------------------------


def hide_from_stack() -> None:
    """`sys._getframe` and `sys._getframemodulename` do not count drivers."""

    def to_skip(depth: int) -> int:
        """How many frames below the caller's caller are `depth` frames that show, with the drivers among them."""
        frame, skipped = GET_FRAME(2), 0
        while frame is not None and (depth > 0 or runs_driver(frame)):
            depth -= not runs_driver(frame)
            skipped += 1
            frame = BACK(frame)
        return skipped + max(depth, 0)

    @functools.wraps(GET_FRAME)
    def _getframe(depth: int = 0, /) -> types.FrameType:
        return GET_FRAME(to_skip(depth) + 1)

    sys._getframe = _getframe
    if sys.version_info >= (3, 12):
        module_name = sys._getframemodulename

        @functools.wraps(module_name)
        def _getframemodulename(depth: int = 0) -> str | None:
            return module_name(to_skip(depth) + 1)

        sys._getframemodulename = _getframemodulename


def warning_past_drivers(warn: Callable[..., None]) -> Callable[..., None]:
    """`warnings.warn` that does not count drivers among the frames that `stacklevel` skips."""

    @functools.wraps(warn, assigned=(*functools.WRAPPER_ASSIGNMENTS, "__text_signature__"))
    def past_drivers(
        message: Any, category: Any = None, stacklevel: int = 1, source: Any = None, **further: Any
    ) -> None:
        level, frame = 0, GET_FRAME(1)
        skipped = 1  # this function itself
        while frame is not None and level < stacklevel:
            if runs_driver(frame):
                skipped += 1
            else:
                level += 1
            frame = BACK(frame)
        warn(message, category, stacklevel + skipped, source, **further)

    return past_drivers


# ---- tracers and profilers -------------------------------------------------------------------------------------------


def hide_from_tracers() -> None:
    """Functions that trace or profile are told neither of drivers nor of what the runner does."""
    tell = Filter.tell.__code__
    CODES[id(CONSTANTS(tell))] = tell  # its frame is between a function that traces and what that is told of
    for name in ("trace", "profile"):
        given: Callable[[], Any] = getattr(sys, f"get{name}")
        for setter in (f"set{name}", f"_set{name}allthreads"):
            if hasattr(sys, setter):
                setattr(sys, setter, telling_less(getattr(sys, setter), name == "profile"))
        setattr(sys, f"get{name}", told_all(given))


def telling_less(natively: Callable[[Any], None], profiles: bool) -> Callable[[Any], None]:
    @functools.wraps(natively)
    def setter(function: Any, /) -> None:
        natively(Filter(function, profiles).tell if callable(function) else function)

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

    def __init__(self, function: Any, profiles: bool) -> None:
        self.function = function
        self.profiles = profiles

    def tell(self, frame: types.FrameType, event: str, arg: Any) -> Any:
        """Called by CPython."""
        if frame.f_code is SETTER and event in AS_BUILTIN:
            return self.function(frame.f_back, AS_BUILTIN[event], frame.f_locals["natively"]) if self.profiles else None
        if frame.f_code.co_filename.startswith(HERE) or runs_driver(frame):
            return None
        if frame.f_globals.get("__name__", "").startswith(RUNNER):
            return None
        return self.function(frame, event, arg)


def hide_from_monitors() -> None:
    """Callbacks of `sys.monitoring` are told neither of drivers nor of what the runner does."""
    tell = Monitor.tell.__code__
    CODES[id(CONSTANTS(tell))] = tell
    register: Callable[[int, int, Any], Any] = sys.monitoring.register_callback  # type: ignore[attr-defined]

    @functools.wraps(register)
    def register_callback(tool_id: int, event: int, func: Any, /) -> Any:
        before = register(tool_id, event, None if func is None else Monitor(func).tell)
        (MONITORS.discard if func is None else MONITORS.add)((tool_id, event))
        behind = getattr(before, "__self__", None)
        return behind.function if type(behind) is Monitor else before

    sys.monitoring.register_callback = register_callback  # type: ignore[attr-defined]


class Monitor:
    """A callback for `sys.monitoring` that tells another one less."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def tell(self, code: types.CodeType, *arguments: Any) -> Any:
        """Called by CPython."""
        if isinstance(code, types.CodeType) and (
            id(CONSTANTS(code)) in CODES or code.co_filename.startswith(PACKAGE)
        ):  # an event from C may be of anything
            return None
        return self.function(shown(code), *arguments)


RUNNER, HERE = "ray_durable.", os.path.join(os.path.dirname(__file__), "")
PACKAGE = os.path.join(os.path.dirname(os.path.dirname(__file__)), "")
SETTER = next(each for each in telling_less.__code__.co_consts if isinstance(each, types.CodeType))
AS_BUILTIN = {"call": "c_call"}  # natively a profiler is told of a setter as of the builtin that it is
