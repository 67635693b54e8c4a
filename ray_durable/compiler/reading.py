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
from ray_durable.compiler.backedges import DUE_NAME, closure_of
from ray_durable.compiler.capture import parts
from ray_durable.compiler.discard import discard
from ray_durable.compiler.frame import NOT_STARTED, Frame
from ray_durable.compiler.layouts import Layout, layout_of
from ray_durable.compiler.replacements import Awaited
from ray_durable.compiler.restore import assemble, contents, prime
from ray_durable.compiler.support import closing, forward_iterator, is_awaitable
from ray_durable.compiler.upgrading import Upgrading
from ray_durable.errors import RestoreError

Maker = tuple[Layout, dict[str, Any], types.FunctionType | None]  # globals; the function, if it has no closure

MAKERS: dict[tuple[str, ...], Maker] = {}
UNFILLED: dict[int, tuple[Layout, list[Any], Any]] = {}  # by id of an object that `new` made
WAITING: dict[int, Any] = {}  # id of a delegate that is not filled yet → who is to be started after it
SUSPENDABLE = frozenset({types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType})


def frame(*subject: Any) -> Any:
    """Makes an un-started object from a reference and cells; or fills such an object with a state.

    One name for both, as pickle writes each name that it calls once."""
    made = subject[0] if subject else None
    suspended = made.__class__ in SUSPENDABLE
    try:
        return fill(*subject) if suspended else new(subject)
    except BaseException as error:
        if suspended:
            discard(made)  # nothing of it is to run
        if isinstance(error, RestoreError) or not isinstance(error, Exception):
            raise
        name = parts(made)[1].co_qualname if suspended else str(made)
        raise RestoreError(f"the frame is damaged: {error!r}", name) from error


def maker_of(code: Any, suffix: str = "") -> Maker:
    """What makes the objects of a reference."""
    if isinstance(code, str):
        code = identity.code_for(code)
    mode, path = MODES[suffix[1:2]], tuple(map(int, filter(None, suffix[2:].split("."))))
    unit = code.unit(mode, path)
    layout = layout_of(unit.resume())
    assert layout is not None
    if code.successor is not None:
        layout = Upgrading(layout, code.successor.unit(mode, path), code.hook)
    body = layout.unit.resume()
    if {*body.co_freevars} - {DUE_NAME}:
        return layout, code.globals, None
    return layout, code.globals, types.FunctionType(body, code.globals, unit.name, None, closure_of(body, {}))


MODES = {"": "native", "n": "native", "t": "twin", "l": "looping", "a": "awaitable"}


def function_of(reference: tuple[Any, ...]) -> tuple[Layout, Any, tuple[Any, ...], tuple[Any, ...]]:
    """The resume body as a function with its closure, the argument before all others, if it takes one, and the cells.

    `reference`: a key or Code, a suffix if need be, and cells."""
    head, cells = reference[:2], reference[2:]
    maker = MAKERS.get(head)
    if maker is None:
        maker = maker_of(*head)
        if isinstance(head[0], str):
            MAKERS[head] = maker
    layout, namespace, function = maker
    if function is not None and not cells:
        return layout, function, (), cells
    unit, body = layout.unit, layout.unit.resume()
    by_name = layout.cells_by_name(cells)
    function = types.FunctionType(body, namespace, unit.name, None, closure_of(body, by_name))
    first = () if unit.first_parameter is None else (contents(by_name[unit.first_parameter]),)
    return layout, function, first, tuple(by_name[name] for name in unit.cells_order)


def new(reference: tuple[Any, ...]) -> Any:
    """An un-started object, which takes its state from a list when it is started."""
    layout, function, first, cells = function_of(reference)
    box: list[Any] = []
    made = function(*first, *layout.blank[0], box, None, cells, *layout.blank[1])
    UNFILLED[id(made)] = layout, box, cells
    return made


def fill(made: Any, state: tuple[Any, ...]) -> None:
    """Give an un-started object its state, and start it unless it is to stay so."""
    found = UNFILLED.pop(id(made), None)
    if found is None:
        return  # met twice, in a cycle
    layout, box, cells = found
    kind = state[0]
    if kind.__class__ is int:
        box[:] = layout.arguments(state, [], cells)
        start(made)
    elif kind == "c":
        box[:] = layout.arguments(state[2:], linked(state[1]), cells)
        start(made)
    elif kind == "j":
        _, _, form, inner, *own = state
        box[:] = layout.arguments(tuple(own), held_as(form, inner), cells)
        if id(inner) in UNFILLED:
            WAITING[id(inner)] = made  # a cycle: the delegate is filled later
        else:
            start(made)
    else:
        leave_unstarted(made, layout, cells, state)
    if WAITING and (waiting := WAITING.pop(id(made), None)) is not None:
        start(waiting)


def leave_unstarted(made: Any, layout: Layout, cells: Any, state: tuple[Any, ...]) -> None:
    """Put the state into the local variables themselves, where `capture` finds it."""
    match state:
        case ["i", *own]:
            delegates: list[Any] = []
        case ["d", links, *own]:
            delegates = linked(links)
        case ["k", _, form, inner, *own]:
            delegates = held_as(form, inner)
        case _:
            raise RestoreError(f"the frame's state is of no known form: {state[0]!r}", layout.unit.qualname)
    native = parts(made)[0]
    assert native is not None
    write_locals(native, dict(zip(layout.order, layout.arguments(tuple(own), delegates, cells), strict=True)))


def start(made: Any) -> None:
    """Lead a filled object, and all that it delegates to, to its yield point."""
    if made.__class__ is types.GeneratorType:
        next(made)
    else:
        prime(made)


def linked(links: tuple[Any, ...]) -> list[Any]:
    """The delegates of a chain, un-started: what the outermost frame delegates to.

    For each, outermost first, `links` has how it is held, its reference and its state; one that ends the chain and is
    no durable object has None and itself."""
    held: list[Any] = []
    for index in range(len(links) - 3, -1, -3):
        form, reference, state = links[index : index + 3]
        if reference is None:
            held = held_as(form, state)
            continue
        layout, function, first, cells = function_of(reference)
        made = function(*first, *layout.arguments(state, held, cells))
        held = [made] if form == "" else held_as(form, made)
    return held


def held_as(form: Any, inner: Any) -> list[Any]:
    """What the resume body delegates to."""
    match form:
        case "again":
            return []
        case "foreign":
            return [forward_iterator(inner)]
        case "over":
            return [Awaited(forward_iterator(iter(())))]
        case "await":
            return [Awaited(inner)]
        case "anext" | "athrow":
            return [inner.__anext__()]
        case "aclose":
            return [closing(inner)]
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
        return Awaited(forward_iterator(inner)) if is_awaitable(inner) else forward_iterator(inner)
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
