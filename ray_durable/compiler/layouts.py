"""How the state of a durable object is read by its unit: names, getters and delegates, for pickle.

`capture` gives frames to people and to tests; pickling reads the same state with one `itemgetter` per yield point, and
without a `Frame` in between.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from functools import partial
from gc import get_referents
from operator import itemgetter
from typing import Any

from ray_durable.compiler.capture import CLOSING, FORWARD, STEPS, is_over, parts
from ray_durable.compiler.frame import UNBOUND
from ray_durable.compiler.iterators import decode
from ray_durable.compiler.passes.names import is_iterator
from ray_durable.compiler.replacements import Awaited
from ray_durable.compiler.support import is_awaitable
from ray_durable.compiler.unit import Unit, unit_of
from ray_durable.errors import CannotPickleError, RestoreError


class Layout:
    """How the state of one body's frames is read and given back: names and getters per yield point, made once.

    A state is a tuple: the yield point, the values of the variables, those of the compiler's locals that are held
    there, and last those of them that are loop iterators. Where some variable has no value, it is minus the yield
    point, a number whose bits say which variables, and the values of the others."""

    __slots__ = (
        "at", "blank", "cells", "delegate", "has_cells", "held", "loops", "makes_functions",
        "order", "places", "references", "resumed", "suffix", "taking", "to", "unit", "whole",
    )  # fmt: skip

    def __init__(self, unit: Unit, resumed: bool) -> None:
        self.unit, self.resumed = unit, resumed
        self.references: list[Any] = [None, None]  # `Writer` keeps here what it found, per value of `by_key`
        self.has_cells = bool(unit.cells_order)
        self.at, self.to, self.cells, self.delegate = (unit.names[name] for name in ("at", "to", "cells", "delegate"))
        self.suffix = "" if unit.mode == "native" and not unit.path else suffix(unit)
        self.blank = (None,) * len(unit.variables), (None,) * len(unit.temporaries)
        self.order = (*unit.variables, self.to, self.delegate, self.cells, *unit.temporaries)
        held = [()] + [point.temporaries for point in unit.points]
        prefix = self.at.removesuffix("at")
        self.loops = [tuple(name for name in names if is_iterator(name, prefix)) for names in held]
        self.held = [tuple(name for name in names if not is_iterator(name, prefix)) for names in held]
        self.makes_functions = any(isinstance(each, types.CodeType) for each in unit.code.co_consts)
        self.whole: list[Any] = [getter((self.at, *unit.variables, *names)) for names in self.held]
        """How to take the state: where all variables have a value, until once one had none."""
        self.taking: list[dict[tuple[str, ...], Taking]] = [{} for _ in held]
        self.places: dict[tuple[int, int], Any] = {}

    def take(self, point: int, variables: Any) -> tuple[Any, ...]:
        """The state at a yield point, without the loop iterators."""
        try:
            state: tuple[Any, ...] = self.whole[point](variables)
        except KeyError:  # it costs more than to look first, so from now on look
            self.whole[point] = partial(self.look, point)
            state = self.look(point, variables)
        return state

    def look(self, point: int, variables: Any) -> tuple[Any, ...]:
        """`take`, where not all variables may have a value."""
        known = self.taking[point]
        bound = tuple(variables)
        found = known.get(bound)
        if found is None:
            if len(known) > PATTERNS_MAX:
                known.clear()
            found = known[bound] = self.learn(point, bound)
        before, values = found
        state: tuple[Any, ...] = before + values(variables)
        return state

    def learn(self, point: int, bound: tuple[str, ...]) -> Taking:
        """How to take the state where exactly the names `bound` have a value."""
        unbound = [number for number, name in enumerate(self.unit.variables) if name not in bound]
        names = (*(name for name in self.unit.variables if name in bound), *self.held[point])
        if not unbound:
            return (), getter((self.at, *names))
        return (-point, sum(1 << number for number in unbound)), getter(names)

    def cells_by_name(self, cells: tuple[Any, ...]) -> dict[str, types.CellType]:
        """A frame's cells, which are written in the order of `Unit.cells_order`."""
        names = self.unit.cells_order
        if len(cells) != len(names) or not all(type(cell) is types.CellType for cell in cells):
            raise RestoreError("the frame's cells do not fit the function", self.unit.qualname)
        return dict(zip(names, cells, strict=True))

    def arguments(self, state: tuple[Any, ...], delegates: list[Any], cells: tuple[Any, ...]) -> tuple[Any, ...]:
        """What the resume body is called with, but for a first parameter that lives in a cell.

        Raises: RestoreError when the state does not fit."""
        sign = state[0]
        point, unbound = (sign, 0) if sign.__class__ is not int or sign > 0 else (-sign, state[1])
        place = self.places.get((point, unbound))
        if place is None or len(state) != place[0]:
            place = self.place(point, unbound, state)
        _, loops, values = place
        if loops:
            state = (*state[:-loops], *map(decode, state[-loops:]))
        found: tuple[Any, ...] = values((*state, None, delegates, cells, UNBOUND))
        return found

    def place(self, point: Any, unbound: Any, state: tuple[Any, ...]) -> tuple[int, int, Any]:
        """Where in a state each argument of the resume body is found, behind the state's length."""
        variables = self.unit.variables
        if (
            type(point) is int
            and 0 < point < len(self.held)
            and type(unbound) is int
            and 0 <= unbound >> len(variables) == 0
        ):
            bound = [name for number, name in enumerate(variables) if not unbound >> number & 1]
            names = (*bound, *self.held[point], *self.loops[point])
            start = 2 if unbound else 1
            length = start + len(names)
            if len(state) == length:
                index = dict.fromkeys(variables, length + 3) | {
                    self.to: 0,
                    self.delegate: length + 1,
                    self.cells: length + 2,
                }
                index |= {name: number for number, name in enumerate(names, start)}
                found = length, len(self.loops[point]), getter(tuple(index.get(name, length) for name in self.order))
                self.places[point, unbound] = found
                return found
        raise RestoreError("the frame does not fit the function", self.unit.qualname)


Taking = tuple[tuple[int, ...], Callable[[Any], tuple[Any, ...]]]  # what goes first, and the getter of the rest
PATTERNS_MAX = 256  # sets of bound names remembered per yield point


def suffix(unit: Unit) -> str:
    """How a reference goes on from a function to a unit of it: `~t` for the twin, then the path of a nested one."""
    return "~" + unit.mode[0] + ".".join(map(str, unit.path))


def getter(names: tuple[Any, ...]) -> Callable[[Any], tuple[Any, ...]]:
    """`itemgetter` that gives a tuple also of one item."""
    if len(names) > 1:
        return itemgetter(*names)
    if not names:
        return lambda variables: ()
    (only,) = names
    return lambda variables: (variables[only],)


LAYOUTS: dict[int, Layout] = {}  # by id of a code object, fresh or resume


def layout_of(code: types.CodeType) -> Layout | None:
    """The layout of a body; None for code that is not durable."""
    found = LAYOUTS.get(id(code))
    if found is None and (unit := unit_of(code)) is not None:
        own = unit.resume_code if code is unit.resume_code else unit.code  # not a copy, whose id is soon another's
        found = LAYOUTS.get(id(own))
        if found is None:
            found = LAYOUTS[id(own)] = Layout(unit, own is not unit.code)
    return found


# ---- delegates -------------------------------------------------------------------------------------------------------

ENDS = frozenset({"foreign", "over", "again"})  # forms whose inner end is no durable object


def delegate_of(outer: Any, inner: Any) -> tuple[Any, Any]:
    """How `outer` holds `inner`, and what is to be written: a durable object, or the iterator that it goes through.

    Forms: "" directly; "await" a generator as an awaitable's steps; "anext", "athrow", "aclose" or ("anext", default)
    the step of an async generator; "foreign": an iterator that is not durable; "over": such a one that has given its
    last item; "again": to be evaluated again."""
    kind = type(inner)
    if kind is types.GeneratorType:
        if inner.gi_code is FORWARD:
            iterator = inner.gi_frame.f_locals["iterator"]
            return ("over", None) if is_over(iterator) else ("foreign", iterator)
        if unit_of(inner.gi_code) is not None:
            return ("await" if is_awaiting(outer) and not is_awaitable(inner) else ""), inner
    elif kind is types.CoroutineType:
        if unit_of(inner.cr_code) is not None:
            return "", inner
        if inner.cr_code is CLOSING:
            return ("aclose", step_of(inner.cr_await)[1])
    elif kind is Awaited:
        return "await", inner.generator
    elif kind.__name__ == "coroutine_wrapper":
        return delegate_of(outer, next(each for each in get_referents(inner) if type(each) is types.CoroutineType))
    elif kind.__name__ in STEPS or kind.__name__ == "anext_awaitable":
        return step_of(inner)
    if is_over(inner):
        return "over", None
    if is_awaiting(outer):
        return "again", None
    if kind is types.GeneratorType:
        raise not_durable(inner, inner.gi_code)
    return "foreign", inner


def is_awaiting(outer: Any) -> bool:
    return type(outer) is not types.GeneratorType


def step_of(step: Any) -> tuple[Any, Any]:
    """The form of an async generator's step, and the async generator."""
    form: Any = STEPS.get(type(step).__name__, "anext")
    if form == "athrow" and len(get_referents(step)) == 1:
        form = "aclose"  # the same type, without an exception to throw
    if type(step).__name__ == "anext_awaitable":
        step, *default = get_referents(step)
        form = ("anext", *default)
    while type(step) is not types.AsyncGeneratorType:
        found = [each for each in get_referents(step) if type(each).__name__ in STEPS or is_async_generator(each)]
        if not found:
            return "again", None
        step = found[0]
    return (form, step) if unit_of(step.ag_code) is not None else ("again", None)


def is_async_generator(obj: Any) -> bool:
    return type(obj) is types.AsyncGeneratorType


def pending(obj: Any) -> Any:
    """What a restored object that was not driven yet is going to delegate to."""
    frame, code, _, _ = parts(obj)
    layout = layout_of(code)
    if frame is None or layout is None or not layout.resumed:
        return None
    variables = frame.f_locals
    waiting = variables.get(layout.delegate) if variables.get(layout.to) else None
    return waiting[0] if waiting else None


def where(unit: Unit) -> tuple[str, str, int]:
    return unit.qualname, unit.filename, unit.firstlineno


def not_durable(obj: Any, code: types.CodeType) -> CannotPickleError:
    kind = type(obj).__name__.replace("_", " ")
    reason = (
        f"this {kind} is not durable, so it cannot be pickled. Put @durable (or @ray_durable.remote) on the function, "
        f"or the call into the loop itself: `for … in {code.co_name}(…)`."
    )
    return CannotPickleError(reason, code.co_qualname, code.co_filename, code.co_firstlineno)
