"""The bodies of a durable function show one code object: natively, a function has one.

In a conformance run it has three: of its driver, which is the function's `__code__`, of the fresh body, and of the one
that is restored. `hide_bodies` lets frames of all three show the first, so that who compares them, as debuggers do,
finds the function that they look for. That code shows what the fresh body has, its bytecode included, and `f_lasti` and
`tb_lasti` are places in that: where a restored body runs, the place of the same operation. So a function that is made
anew of its parts runs the fresh body, without a driver.
"""

from __future__ import annotations

import ctypes
import gc
import opcode
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Getter = Callable[[Any], Any]


@dataclass(slots=True)
class Body:
    """One body of a function: its code, what its frames show instead, and where each place in it is in the fresh body,
    once somebody has asked."""

    code: types.CodeType
    shown: types.CodeType
    fresh: types.CodeType
    places: list[int] | None = None


BODIES: dict[int, Body] = {}  # by id of the code, which it keeps alive
FRESH: dict[int, types.CodeType] = {}  # by id of the constants of what is shown


def show(own: types.CodeType, fresh: types.CodeType, resume: types.CodeType) -> None:
    """Let frames of both bodies show a function's own code."""
    for code in (fresh, resume):
        BODIES[id(code)] = Body(code, own, fresh)
    FRESH[id(CONSTANTS(own))] = fresh


def replace(kind: type, name: str, getter: Getter) -> None:
    """Compute a read-only attribute of one of CPython's types by `getter`."""
    natively = vars(kind)[name]
    looks = {"__class__": property(lambda self: type(natively))}  # to `inspect`, too
    put(kind, name, type("attribute", (property,), looks)(getter, doc=natively.__doc__))


def put(kind: type, name: str, value: Any) -> None:
    namespace: Any = gc.get_referents(vars(kind))[0]
    namespace[name] = value
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(kind))


CODE: Getter = vars(types.FrameType)["f_code"].__get__  # these are as they are before `hide_bodies`
LASTI: Getter = vars(types.FrameType)["f_lasti"].__get__
TRACEBACK_LASTI: Getter = vars(types.TracebackType)["tb_lasti"].__get__
CONSTANTS: Getter = vars(types.CodeType)["co_consts"].__get__
BYTES: Getter = vars(types.CodeType)["co_code"].__get__
REPLACE: Callable[..., Any] = types.CodeType.replace
POSITIONS = types.CodeType.co_positions
CACHE = opcode.opmap["CACHE"]
PARTS = (  # what is another one in each body
    "co_code", "_co_code_adaptive", "co_consts", "co_names", "co_varnames", "co_nlocals", "co_stacksize", "co_cellvars",
    "co_linetable", "co_lnotab", "co_exceptiontable",
)  # fmt: skip
METHODS = ("co_positions", "co_lines", "_varname_from_oparg")


def hide_bodies() -> None:
    """Show one code object per function, from now on."""
    replace(types.FrameType, "f_code", lambda frame: shown(CODE(frame)))
    replace(types.FrameType, "f_lasti", lambda frame: place(frame, LASTI(frame)))
    replace(types.TracebackType, "tb_lasti", lambda entry: place(entry.tb_frame, TRACEBACK_LASTI(entry)))
    for name in PARTS:
        replace(types.CodeType, name, of_fresh(vars(types.CodeType)[name].__get__))
    for name in METHODS:
        put(types.CodeType, name, of_fresh(getattr(types.CodeType, name)))
    put(types.CodeType, "replace", made_anew)


def shown(code: Any) -> Any:
    """What frames show of this code."""
    body = BODIES.get(id(code))
    return code if body is None else body.shown


def fresh_of(code: Any) -> Any:
    return FRESH.get(id(CONSTANTS(code)), code)


def of_fresh(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda code, *arguments: function(fresh_of(code), *arguments)


def made_anew(self: Any, /, **parts: Any) -> Any:
    """`replace` of a code object: parts that were read of the fresh body go into that."""
    return REPLACE(fresh_of(self) if parts.keys() & {*PARTS} else self, **parts)


def place(frame: Any, offset: int) -> int:
    """Where in the fresh body a frame of either body is."""
    body = BODIES.get(id(CODE(frame)))
    if body is None or offset < 0 or body.code is body.fresh:
        return offset
    if body.places is None:
        body.places = places(body.code, body.fresh)
    return body.places[offset // 2]


def places(code: types.CodeType, fresh: types.CodeType) -> list[int]:
    """For each instruction of `code`, the offset of one in `fresh` that is there for the same text, if possible with
    the same operation, or else in the same line; of the compiler's own, the offset of the one before."""
    exactly: dict[Any, int] = {}
    lines: dict[int | None, int] = {}
    for index, (position, operation) in enumerate(instructions(fresh)):
        if operation == CACHE:
            continue
        exactly.setdefault((position, operation), index * 2)
        exactly.setdefault(position, index * 2)
        if position[0] is not None:
            lines.setdefault(position[0], index * 2)
    found: list[int] = []
    for position, operation in instructions(code):
        if operation == CACHE:  # belongs to the instruction before
            found.append(found[-1] + 2)
            continue
        offset = exactly.get((position, operation), exactly.get(position, lines.get(position[0])))
        found.append(offset if offset is not None else found[-1] if found else 0)
    return found


def instructions(code: types.CodeType) -> Iterator[tuple[Any, int]]:
    return zip(POSITIONS(code), BYTES(code)[::2], strict=True)
