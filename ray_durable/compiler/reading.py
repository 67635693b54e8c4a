"""What unpickling calls: makes an un-started object of a frame's function, then fills it with its state.

A frame that does not fit its function raises RestoreError; nothing of the function has been run then.
"""

from __future__ import annotations

import ctypes
import sys
import types
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from ray_durable.compiler import identity
from ray_durable.compiler.capture import parts
from ray_durable.compiler.frame import NOT_STARTED, Frame
from ray_durable.compiler.iterators import decode
from ray_durable.compiler.layouts import LAYOUTS, Layout, layout_of
from ray_durable.compiler.restore import assemble, contents, prime
from ray_durable.compiler.support import Awaited, forward_iterator
from ray_durable.errors import RestoreError

Maker = tuple[Layout, dict[str, Any], types.FunctionType | None]  # globals; the function, if it has no closure

MAKERS: dict[tuple[str, str], Maker] = {}
UNFILLED: dict[int, Any] = {}  # id of an object that `new` made → the list that its delegate goes into
WAITING: dict[int, Any] = {}  # id of a delegate that is not filled yet → who is to be started after it


def maker_of(code: Any, suffix: str) -> Maker:
    """What makes the objects of a reference."""
    if isinstance(code, str):
        code = identity.code_for(code)
    mode, path = MODES[suffix[1:2]], tuple(map(int, filter(None, suffix[2:].split("."))))
    unit = code.unit(mode, path)
    layout = layout_of(unit.resume())
    assert layout is not None
    function = None if unit.resume().co_freevars else types.FunctionType(unit.resume(), code.globals, unit.name)
    return layout, code.globals, function


MODES = {"": "native", "n": "native", "t": "twin"}


def new(code: Any, suffix: str = "", *cells: types.CellType) -> Any:
    """An un-started object of a frame's function; `fill` or `join` gives it the state."""
    if code.__class__ is str:
        maker = MAKERS.get((code, suffix))
        if maker is None:
            maker = MAKERS[code, suffix] = maker_of(code, suffix)
    else:
        maker = maker_of(code, suffix)
    layout, variables, function = maker
    unit = layout.unit
    first: tuple[Any, ...] = ()
    if function is None or cells:
        if len(cells) != len(unit.cells_order):
            raise RestoreError(f"the frame has {len(cells)} cells, its function {len(unit.cells_order)}", unit.qualname)
        by_name = dict(zip(unit.cells_order, cells, strict=True))
        closure = tuple(by_name[name] for name in unit.resume().co_freevars)
        function = types.FunctionType(unit.resume(), variables, unit.name, None, closure)
        if unit.first_parameter is not None:
            first = (contents(by_name[unit.first_parameter]),)
    delegates: list[Any] = []
    made = function(*first, *layout.blank[0], None, delegates, cells, *layout.blank[1])
    UNFILLED[id(made)] = delegates
    return made


def fill_inner(made: Any, state: tuple[Any, ...]) -> None:
    """Gives an un-started object its state: the yield point (negative: some variables have no value), then values."""
    if UNFILLED.pop(id(made), None) is None:
        return  # met twice, in a cycle
    frame, code, _, _ = parts(made)
    assert frame is not None
    layout = LAYOUTS[id(code)]
    sign = state[0]
    names = layout.names[abs(sign)] if type(sign) is int and 0 < abs(sign) < len(layout.names) else None
    if names is None or len(names) != len(state) - 1:
        raise RestoreError("the frame does not fit the function", layout.unit.qualname)
    variables = dict(zip(names, state[1:], strict=True))
    for index in layout.loops[abs(sign)]:
        variables[names[index]] = decode(state[index + 1])
    variables[layout.to] = sign
    write_locals(frame, variables)
    if WAITING and (waiting := WAITING.pop(id(made), None)) is not None:
        prime(waiting)


def fill(made: Any, state: tuple[Any, ...]) -> None:
    """`fill_inner`, and start the object: it then stands at its yield point."""
    fill_inner(made, state)
    prime(made)


def join_inner(made: Any, state: tuple[Any, ...]) -> None:
    """`fill_inner` for an object that delegates: all delegates below, how it holds its own, that one, then as there."""
    delegates = UNFILLED.get(id(made))
    if delegates is None:
        return
    _, form, inner, *own = state
    fill_inner(made, tuple(own))
    delegates.extend(held_as(form, inner))


def join(made: Any, state: tuple[Any, ...]) -> None:
    """`join_inner`, and start the whole chain."""
    join_inner(made, state)
    if id(state[2]) in UNFILLED:
        WAITING[id(state[2])] = made  # a cycle: the delegate is filled later, and then starts this one
    else:
        prime(made)


def held_as(form: Any, inner: Any) -> list[Any]:
    """What the resume body delegates to."""
    match form:
        case "again":
            return []
        case "foreign":
            return [forward_iterator(inner)]
        case "await":
            return [Awaited(inner)]
        case "anext" | "athrow":
            return [inner.__anext__()]
        case ("anext", *default):
            return [anext(inner, *default)]
        case "":
            return [inner if is_not_started(inner) else followed(inner)]
    raise RestoreError(f"the frame delegates in an unknown way: {form!r}")


def is_not_started(inner: Any) -> bool:
    return not (inner.gi_suspended if isinstance(inner, types.GeneratorType) else inner.cr_suspended)


def followed(inner: Any) -> Any:
    """A delegate that stands at its yield point already, as it was pickled before the frame that delegates to it."""
    if isinstance(inner, types.GeneratorType):
        return forward_iterator(inner)
    return Awaited(forward_iterator(inner.__await__()))


if sys.version_info >= (3, 13):

    def write_locals(frame: types.FrameType, variables: dict[str, Any]) -> None:
        frame.f_locals.update(variables)

else:
    to_fast = ctypes.pythonapi.PyFrame_LocalsToFast
    to_fast.argtypes, to_fast.restype = (ctypes.py_object, ctypes.c_int), None

    def write_locals(frame: types.FrameType, variables: dict[str, Any]) -> None:
        """Set local variables of a frame that has not been started."""
        snapshot = frame.f_locals
        snapshot.update(variables)
        to_fast(frame, 0)
        snapshot.clear()  # it is kept on the frame, and would keep the values alive


def new_not_started(code: Any, suffix: str, values: dict[str, Any], cells: dict[str, Any]) -> Any:
    """An object that was made by this call, and not started."""
    layout, variables, _ = maker_of(code, suffix)
    return assemble(Frame(layout.unit, NOT_STARTED, variables, values, cells=cells))


def new_finished(kind: str, name: str, qualname: str) -> Any:
    """An object of this kind and name that has run to its end."""
    made: Any = FINISHED[kind]()
    made.__name__, made.__qualname__ = name, qualname
    if kind == "async_generator":
        try:
            made.aclose().send(None)
        except StopIteration:
            pass
    else:
        made.close()
    return made


def empty_generator() -> Iterator[None]:
    yield


async def empty_coroutine() -> None: ...


async def empty_async_generator() -> AsyncIterator[None]:
    yield


FINISHED: dict[str, Callable[[], Any]] = {
    "generator": empty_generator,
    "coroutine": empty_coroutine,
    "async_generator": empty_async_generator,
}
