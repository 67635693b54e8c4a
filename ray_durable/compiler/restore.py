"""From frames back to a native object, suspended where it was: one `next` leads down the whole chain."""

from __future__ import annotations

from types import AsyncGeneratorType, CellType, CoroutineType, FunctionType, GeneratorType
from typing import Any

from ray_durable.compiler.backedges import closure_of
from ray_durable.compiler.frame import FINISHED, NOT_STARTED, UNBOUND, EvaluateAgain, ForeignIterator, Frame
from ray_durable.compiler.replacements import Awaited, generator_of
from ray_durable.compiler.support import closing, forward_iterator
from ray_durable.compiler.unit import Unit
from ray_durable.errors import RestoreError

Renewed = dict[int, tuple[Any, Any]]  # by id of what was captured: that, and what was made of it


def restore(frame: Frame) -> Any:
    """A native generator, coroutine or async generator that stands where `frame` does; no value is copied.

    When `frame.evaluates_again`, the object is given back un-driven: its first step evaluates the foreign operand.
    Raises: RestoreError when the frame does not fit its function; nothing was run then.

    Example: gen = restore(capture(gen))
    """
    restored = assemble(frame)
    if frame.point > 0 and not frame.evaluates_again:
        prime(restored)
    return restored


def assemble(frame: Frame) -> Any:
    """The restored object, not driven yet; `prime` (or the frame around it) leads it to its yield point.

    Locals that hold one of the objects that are replaced here get the new one."""
    renewed: Renewed = {}
    made: Any = None
    for each in reversed(list(frame.chain())):
        made = assembled(each, made, renewed)
        original = each.original and each.original()
        if original is not None:
            renewed[id(original)] = (original, made)
    return made


def assembled(frame: Frame, inner: Any, renewed: Renewed) -> Any:
    """The object of one frame; `inner` is that of the frame which it delegates to."""
    unit = frame.unit
    if frame.point == FINISHED:
        return finished(frame)
    if frame.point == NOT_STARTED:
        return start_again(frame)
    check(frame)
    values = [frame.values.get(name, UNBOUND) for name in unit.variables]
    unbound = any(value is UNBOUND for value in values)  # `in` would ask users' `__eq__`
    to = -frame.point if unbound else frame.point
    held = [frame.temporaries.get(name) for name in unit.temporaries]
    if renewed:
        values, held = replace_all(values, renewed), replace_all(held, renewed)
        for cell in frame.cells.values():
            replace_in_cell(cell, renewed)
    function = bound(unit, unit.resume(), frame.globals, frame.cells)
    if unit.first_parameter is not None:
        values.insert(0, contents(frame.cells[unit.first_parameter]))
    cells = tuple(frame.cells[name] for name in unit.cells_order)
    return function(*values, to, delegates(frame, inner), cells, *held)


def contents(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return None


def bound(unit: Unit, code: Any, namespace: dict[str, Any], cells: dict[str, CellType]) -> FunctionType:
    """The function of a body, with the frame's own cells as its closure."""
    try:
        closure = closure_of(code, cells)
    except KeyError as missing:
        raise RestoreError(f"the frame lacks the cell of {missing}", unit.qualname) from None
    return FunctionType(code, namespace, unit.name, None, closure)


def check(frame: Frame) -> None:
    """Refuse a frame that does not fit its function, before anything runs."""
    unit = frame.unit
    if not 0 < frame.point <= len(unit.points):
        raise RestoreError(f"there is no yield point {frame.point}; it has {len(unit.points)}", unit.qualname)
    point = unit.points[frame.point - 1]
    missing = [name for name in point.temporaries if name not in frame.temporaries]
    missing += [name for name in unit.cells_order if name not in frame.cells]
    unknown = [name for name in frame.values if name not in unit.variables]
    if missing or unknown:
        raise RestoreError(f"the frame does not fit the function: missing {missing}, unknown {unknown}", unit.qualname)
    if point.kind == "from" and frame.delegate is None:
        raise RestoreError(f"the frame lacks what it delegates to in line {point.lineno}", unit.qualname)


def replace_all(values: list[Any], renewed: Renewed) -> list[Any]:
    for value in values:
        held = generator_of(value)
        if held is not None and id(held) in renewed and renewed[id(held)][0] is held:
            value.gen = renewed[id(held)][1]
    return [renewed[id(value)][1] if id(value) in renewed else value for value in values]


def replace_in_cell(cell: CellType, renewed: Renewed) -> None:
    value = contents(cell)
    if id(value) in renewed and renewed[id(value)][0] is value:
        cell.cell_contents = renewed[id(value)][1]


def delegates(frame: Frame, inner: Any) -> list[Any]:
    """What the frame delegates to, un-driven, for the resume body to take; nothing if it is to be evaluated again."""
    delegate = frame.delegate
    if delegate is None or isinstance(delegate, EvaluateAgain):
        return []
    if isinstance(delegate, ForeignIterator):
        return [Awaited(forward_iterator(delegate.iterator))]
    match frame.via:
        case "await":
            return [Awaited(inner)]
        case "anext" | "athrow":
            return [inner.__anext__()]
        case "anext_default":
            return [anext(inner, *frame.via_arguments)]
        case "aclose":
            return [closing(inner)]
    if type(inner) is CoroutineType and frame.unit.kind == "generator":
        return [inner.__await__()]  # as in `def __await__(self): yield from coroutine.__await__()`
    return [inner]


def start_again(frame: Frame) -> Any:
    """An un-started object: the call of the function that made it, with the arguments that it holds."""
    unit = frame.unit
    code = unit.code
    function = bound(unit, code, frame.globals, frame.cells)
    names = unit.parameters
    count = code.co_argcount
    keywords = names[count : count + code.co_kwonlyargcount]
    extra = list(names[count + code.co_kwonlyargcount :])
    values = frame.values
    positional = [values[name] for name in names[:count]]
    named = {name: values[name] for name in keywords}
    if code.co_flags & 0x04:
        positional += values[extra.pop(0)]
    if code.co_flags & 0x08:
        named |= values[extra.pop(0)]
    return function(*positional, **named)


def finished(frame: Frame) -> Any:
    """An object of the unit's kind that has run to its end."""
    cells = {name: CellType() for name in frame.unit.code.co_freevars}
    made = start_again_empty(frame.unit, cells)
    if isinstance(made, AsyncGeneratorType):
        try:
            made.aclose().send(None)
        except StopIteration:
            pass
    else:
        made.close()
    return made


def start_again_empty(unit: Unit, cells: dict[str, CellType]) -> Any:
    code = unit.code
    function = FunctionType(code, {}, unit.name, None, closure_of(code, cells))
    keywords = unit.parameters[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    return function(*[None] * code.co_argcount, **dict.fromkeys(keywords))


def prime(restored: Any) -> None:
    """Drive a restored object to its yield point: through its prologue and those of all that it delegates to."""
    if type(restored) is GeneratorType:
        next(restored)
    elif type(restored) is CoroutineType:
        restored.send(None)
    elif restored.ag_frame is not None:
        try:
            restored.asend(None).send(None)
        except StopIteration:
            pass
