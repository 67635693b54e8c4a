"""From a suspended native object to its frames; no value is copied, and the object is left as it is."""

from __future__ import annotations

import gc
import sys
import weakref
from types import AsyncGeneratorType, CellType, CodeType, CoroutineType, FrameType, FunctionType, GeneratorType
from typing import Any

from ray_durable.compiler.frame import FINISHED, NOT_STARTED, UNBOUND, EvaluateAgain, ForeignIterator, Frame
from ray_durable.compiler.replacements import COROUTINE_WRAPPER, Awaited
from ray_durable.compiler.support import closing, forward_iterator, is_awaitable
from ray_durable.compiler.unit import Unit, unit_of
from ray_durable.errors import CaptureError

FORWARD = forward_iterator.__code__
TUPLE_ITERATOR: Any = type(iter(()))
CLOSING = closing.__code__
STEPS = {"async_generator_asend": "anext", "async_generator_athrow": "athrow"}
SNAPSHOTS = sys.version_info < (3, 13)  # `f_locals` is a dict kept on the frame, which would hold on to old values


def capture(suspended: Any) -> Frame:
    """The frame of a suspended (or un-started, or finished) durable generator, coroutine or async generator.

    The frame holds the live objects. Once it has been restored elsewhere, the original must not be driven on.
    Raises: CaptureError when the object is running, or is not durable, or waits inside something that is not.

    Example: frame = capture(gen); other = restore(frame)
    """
    outermost, inner = one(suspended)
    frame = outermost
    while inner is not None:
        frame.delegate, inner = one(inner)
        frame = frame.delegate
    return outermost


def one(suspended: Any) -> tuple[Frame, Any]:
    """The frame of one activation, and the durable object that it delegates to, if any."""
    frame, code, running, inner = parts(suspended)
    unit = unit_of(code)
    if unit is None:
        raise CaptureError(
            "this is not durable code: it was made by a function that ray_durable did not compile. "
            "Put @durable (or @ray_durable.remote) on the function.",
            code.co_qualname, code.co_filename, code.co_firstlineno,
        )  # fmt: skip
    if running:
        raise CaptureError(
            "it is running; capture it when it is suspended", unit.qualname, unit.filename, unit.firstlineno
        )
    if frame is None:
        return Frame(unit, FINISHED, {}), None
    return own_frame(suspended, unit, frame, inner)


def parts(suspended: Any) -> tuple[FrameType | None, CodeType, bool, Any]:
    """The native frame, the code, whether it runs right now, and what it delegates to."""
    kind = type(suspended)
    if kind is GeneratorType:
        return suspended.gi_frame, suspended.gi_code, suspended.gi_running, suspended.gi_yieldfrom
    if kind is CoroutineType:
        return suspended.cr_frame, suspended.cr_code, suspended.cr_running, suspended.cr_await
    if kind is AsyncGeneratorType:
        inner = suspended.ag_await
        # `ag_running` also says that a step is under way, which then waits in `ag_await`
        executing = suspended.ag_running and inner is None
        return suspended.ag_frame, suspended.ag_code, executing, inner
    raise CaptureError(f"a {kind.__qualname__} is no generator, coroutine or async generator")


def own_frame(suspended: Any, unit: Unit, frame: FrameType, inner: Any) -> tuple[Frame, Any]:
    variables: Any = frame.f_locals
    at = variables.get(unit.names["at"])
    to = variables.get(unit.names["to"])
    if to:  # restored and not driven yet: the arguments of the resume body are the frame
        return waiting_frame(suspended, unit, frame, variables)
    values = {name: variables[name] for name in unit.variables if name in variables}
    found = Frame(unit, at or NOT_STARTED, frame.f_globals, values, original=weakref.ref(suspended))
    if at is None:
        return not_started(suspended, found, variables), None
    point = unit.points[at - 1]
    found.temporaries = {name: variables[name] for name in point.temporaries if name in variables}
    if unit.cells_order:
        cells: tuple[CellType, ...] = variables[unit.names["cells"]]
        found.cells = dict(zip(unit.cells_order, cells, strict=True))
    further = None
    if inner is not None:
        further = link(found, inner)
        if point.operands and isinstance(found.delegate, EvaluateAgain):
            found.temporaries |= {name: variables[name] for name in point.operands if name in variables}
    if SNAPSHOTS:
        variables.clear()
    return found, further


def not_started(suspended: Any, found: Frame, variables: Any) -> Frame:
    """An un-started frame has its parameters, also those that will live in cells, and its function's closure."""
    unit = found.unit
    found.values = {name: variables[name] for name in unit.parameters if name in variables}
    if unit.free:
        function = next(each for each in gc.get_referents(suspended) if type(each) is FunctionType)
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        found.cells = {name: cell for name, cell in cells if name in unit.free}
    return found


def waiting_frame(suspended: Any, unit: Unit, frame: FrameType, variables: Any) -> tuple[Frame, Any]:
    """The frame of an object that was restored and has not been driven to its yield point."""
    names = unit.names
    if type(variables[names["to"]]) is list:  # unpickled: all arguments in one list
        order = (*unit.variables, names["to"], names["delegate"], names["cells"], *unit.temporaries)
        variables = dict(zip(order, variables[names["to"]], strict=True))
    to = abs(variables[names["to"]])
    point = unit.points[to - 1]
    values = {name: variables[name] for name in unit.variables if variables.get(name, UNBOUND) is not UNBOUND}
    found = Frame(unit, to, frame.f_globals, values, original=weakref.ref(suspended))
    found.temporaries = {name: variables[name] for name in (*point.temporaries, *point.operands) if name in variables}
    if unit.cells_order:
        found.cells = dict(zip(unit.cells_order, variables[names["cells"]], strict=True))
    waiting = variables[names["delegate"]]
    if waiting:
        return found, link(found, waiting[0])
    if point.kind == "await":
        found.delegate = EvaluateAgain()
    return found, None


def is_over(iterator: Any) -> bool:
    """Whether it is the iterator of a tuple, and has given its last item: any other such one is as good."""
    return iterator.__class__ is TUPLE_ITERATOR and not iterator.__length_hint__()


def link(outer: Frame, inner: Any) -> Any:
    """Note how `outer` holds what it delegates to: a durable object (returned), another iterator, or something to be
    awaited anew."""
    awaiting = outer.unit.points[outer.point - 1].kind == "await"
    if type(inner) is Awaited:
        inner = inner.generator
    kind = type(inner)
    if kind is COROUTINE_WRAPPER:
        inner = next(each for each in gc.get_referents(inner) if type(each) is CoroutineType)
        kind = CoroutineType
    elif kind.__name__ in STEPS or kind.__name__ == "anext_awaitable":
        return link_step(outer, inner)
    if kind is CoroutineType and inner.cr_code is CLOSING:
        generator = link_step(outer, inner.cr_await)
        outer.via = "aclose"
        return generator
    if kind is GeneratorType and inner.gi_code is FORWARD:
        outer.delegate = ForeignIterator(inner.gi_frame.f_locals["iterator"])
    elif kind in (GeneratorType, CoroutineType) and unit_of(parts(inner)[1]) is not None:
        outer.via = "await" if awaiting and kind is GeneratorType and not is_awaitable(inner) else ""
        return inner
    elif awaiting and not is_over(inner):
        outer.delegate = EvaluateAgain(kind.__qualname__)
    elif kind is GeneratorType:
        return inner  # `one` says which function is not durable
    else:
        outer.delegate = ForeignIterator(inner)
    return None


def link_step(outer: Frame, step: Any) -> Any:
    """The step of an async generator: the generator itself is what is captured."""
    via, generator, *default = step_of(step)
    if generator is None or unit_of(generator.ag_code) is None:
        outer.delegate = EvaluateAgain(type(step).__qualname__)
        return None
    outer.via, outer.via_arguments = via, tuple(default)
    return generator


def step_of(step: Any) -> tuple[Any, ...]:
    """What kind of step it is, its async generator (None if it has none), and the default of `anext`."""
    parts_of_step = gc.get_referents(step)
    if type(step).__name__ == "anext_awaitable":
        _, generator = step_of(parts_of_step[0])[:2]
        return "anext_default", generator, *parts_of_step[1:]
    via = STEPS.get(type(step).__name__, "anext")
    generator = next((each for each in parts_of_step if type(each) is AsyncGeneratorType), None)
    if via == "athrow" and len(parts_of_step) == 1:
        via = "aclose"  # the same type, without an exception to throw
    return via, generator
