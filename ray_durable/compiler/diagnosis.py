"""Which value of a coroutine's state cannot be pickled, and how to get to it: `locals.clients[3].sock`.

Only used after pickling has failed, so it may be slow: it pickles parts on their own, and goes down into the first one
that fails. Every object is looked at once, so cycles end.
"""

from __future__ import annotations

import copyreg
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ray_durable.compiler.discard import SUSPENDABLE

Part = tuple[str, Any]
SCALARS = (str, bytes, int, float, complex, bool, type(None))


@dataclass(frozen=True, slots=True)
class Unpicklable:
    """A value that cannot be pickled, the way to it, and the innermost frame that holds it, as far as known."""

    path: str
    value: Any
    reason: str
    function: str = ""
    filename: str = ""
    lineno: int = 0


def find_unpicklable(obj: Any, dumps: Callable[[Any], object] | None = None) -> Unpicklable | None:
    """The innermost part of `obj` that `dumps` (default: the compiler's own pickler) refuses; None if it takes `obj`.

    `obj` is a suspended object, a Frame, or any value. Paths start with `locals.` below a frame.
    Example: found = find_unpicklable(gen); found.path  # 'locals.clients[3].sock'"""
    from ray_durable.compiler import references

    dumps = dumps or references.dumps
    reason = refusal(obj, dumps)
    if reason is None:
        return None
    found = Unpicklable("", obj, reason)
    seen: set[int] = set()
    while True:
        seen.add(id(found.value))
        inner = first_refused(found, dumps, seen)
        if inner is None:
            return found
        found = inner


def first_refused(outer: Unpicklable, dumps: Callable[[Any], object], seen: set[int]) -> Unpicklable | None:
    """The first part of `outer.value` that is refused on its own."""
    function, filename, lineno = outer.function, outer.filename, outer.lineno
    base = outer.path
    frame = frame_of(outer.value)
    if frame is not None:
        function, filename, lineno = frame.function, frame.filename, frame.lineno
        parts: Iterator[Part] = parts_of_frame(frame)
        base = ""
    elif refuses_itself(outer.value):
        return None
    else:
        parts = parts_of(outer.value)
    for step, value in parts:
        if id(value) in seen or isinstance(value, SCALARS):
            continue
        reason = refusal(value, dumps)
        if reason is not None:
            path = (base + step) if base or not step.startswith(".") else step[1:]
            return Unpicklable(path, value, reason, function, filename, lineno)
    return None


def refusal(value: Any, dumps: Callable[[Any], object]) -> str | None:
    """Why `dumps` refuses a value, or None."""
    try:
        dumps(value)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def refuses_itself(value: Any) -> bool:
    """Whether a reducer that somebody has registered for its type says no, and why: that needs no further search."""
    reducer = copyreg.dispatch_table.get(type(value))
    if reducer is None:
        return False
    try:
        reducer(value)
    except Exception:
        return True
    return False


def frame_of(value: Any) -> Any:
    """The frame of a suspended durable object; None for anything else."""
    from ray_durable.compiler.capture import capture
    from ray_durable.compiler.frame import Frame
    from ray_durable.errors import CaptureError

    if isinstance(value, Frame):
        return value
    if not isinstance(value, SUSPENDABLE):
        return None
    try:
        return capture(value)
    except CaptureError:
        return None


def parts_of_frame(frame: Any) -> Iterator[Part]:
    """What a frame holds: its own values first, then its delegate."""
    named = dict(frame.locals)
    for name, cell in frame.cells.items():
        if name not in named:
            named.update(contents_of(name, cell))
    for name, value in named.items():
        yield f"locals.{name}", value
    for name, value in frame.temporaries.items():
        yield f"temporaries.{name}", value
    if frame.delegate is not None:
        yield "delegate", frame.delegate


def contents_of(name: str, cell: types.CellType) -> dict[str, Any]:
    try:
        return {name: cell.cell_contents}
    except ValueError:
        return {}


def parts_of(value: Any) -> Iterator[Part]:
    """What pickle would go into below a value, each with the step that leads to it."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield f"[{key!r}]", item
            yield f".keys()[{key!r}]", key
    if isinstance(value, list | tuple):
        yield from ((f"[{index}]", item) for index, item in enumerate(value))
    if isinstance(value, set | frozenset):
        yield from ((f".{{{item!r}}}", item) for item in value)
    if isinstance(value, types.CellType):
        yield from ((f".{name}", item) for name, item in contents_of("cell_contents", value).items())
    elif isinstance(value, types.FunctionType):
        yield from parts_of_function(value)
    elif isinstance(value, types.MethodType):
        yield ".__self__", value.__self__
        yield ".__func__", value.__func__
    elif isinstance(value, BaseException):
        yield from ((f".args[{index}]", item) for index, item in enumerate(value.args))
        yield from ((f".{name}", item) for name, item in vars(value).items())
        yield ".__cause__", value.__cause__
        yield ".__context__", value.__context__
    elif not isinstance(value, type | types.ModuleType):
        yield from parts_of_instance(value)


def parts_of_function(function: types.FunctionType) -> Iterator[Part]:
    """A function's closure, defaults, attributes, and the globals that it names."""
    from ray_durable.compiler.functions import names_in

    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        yield from ((f".<closure>.{key}", item) for key, item in contents_of(name, cell).items())
    yield ".__defaults__", function.__defaults__
    yield ".__kwdefaults__", function.__kwdefaults__
    yield from ((f".{name}", item) for name, item in vars(function).items())
    for name in sorted(names_in(function.__code__)):
        if name in function.__globals__:
            yield f".<globals>.{name}", function.__globals__[name]


def parts_of_instance(value: Any) -> Iterator[Part]:
    """Attributes and slots, or whatever its `__reduce_ex__` says."""
    for name, item in getattr(value, "__dict__", {}).items():
        yield f".{name}", item
    for cls in type(value).__mro__:
        slots = vars(cls).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if not name.startswith("__") and hasattr(value, name):
                yield f".{name}", getattr(value, name)
    try:
        reduced = value.__reduce_ex__(5)
    except Exception:  # it refuses to be pickled at all: the value itself is what was looked for
        return
    if isinstance(reduced, tuple):
        yield from ((".<state>", item) for item in reduced[1:] if item is not None)
