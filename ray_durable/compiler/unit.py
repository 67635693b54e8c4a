"""A unit: the text of one function and what the compiler made of it.

A unit is found from a code object (`unit_of`), so that a suspended native object leads to its layout with one lookup.
Each root function has up to two: the `native` one, which keeps its kind, and the `twin`, in which calls may suspend.
Functions nested in a root are units of their own, addressed by (root, path).

Fields are filled in by `pipeline`; the resume body is compiled when a frame of the unit is first restored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import CodeType, FunctionType
from typing import Any, Literal

Kind = Literal["plain", "generator", "coroutine", "async_generator"]
Mode = Literal["native", "twin", "looping", "awaitable"]
# looping: a twin that can be captured at back-edges of loops too; awaitable: native, and made so by `types.coroutine`


@dataclass(frozen=True, slots=True)
class Source:
    """The text of a root function and all that its compilation depends on; enough to build its units anew elsewhere.

    `text`: the lines of the definition as they stand in the file, indentation and decorators included.
    `class_name`: the class around it, for names like `__x`. `free`: its free variables, in the order of its closure.
    """

    text: str
    module: str
    qualname: str
    filename: str
    firstlineno: int
    class_name: str | None = None
    free: tuple[str, ...] = ()
    flags: int = 0  # of `from __future__`


@dataclass(frozen=True, slots=True)
class YieldPoint:
    """Where a unit can be suspended. `temporaries`: the compiler's locals that hold values there."""

    number: int
    kind: Literal["yield", "from", "await"]
    lineno: int
    column: int
    temporaries: tuple[str, ...]
    operands: tuple[str, ...] = ()  # further ones that evaluating a foreign operand again reads


@dataclass(slots=True, eq=False, repr=False)
class Unit:
    """One function as compiled. `resume_code` takes: `first_parameter` if any, `variables`, the yield point, a list
    with the delegate if any, the tuple of cells, `temporaries`."""

    source: Source
    mode: Mode
    path: tuple[int, ...]  # nested functions on the way from the root, by their order in it; () is the root itself
    kind: Kind  # of the compiled function: the twin of a plain function is a generator
    name: str
    qualname: str
    firstlineno: int
    parameters: tuple[str, ...]  # all of the signature's names, in the order of co_varnames
    variables: tuple[
        str, ...
    ]  # local variables that live in no cell, parameters first: the order of `resume`'s arguments
    own_cells: tuple[str, ...]  # local variables captured by nested functions
    free: tuple[str, ...]  # variables of the functions around it
    temporaries: tuple[str, ...]  # every name the compiler added, the arguments of `resume` after the variables
    names: dict[str, str]  # the compiler's own names: "at", "to", "cells", "delegate"
    points: tuple[YieldPoint, ...]
    code: CodeType  # the fresh body
    fingerprint: str
    nested: tuple[Unit, ...] = ()
    cells_order: tuple[str, ...] = ()  # names of the cells in the tuple that the fresh body keeps for `capture`
    is_twin: bool = False  # whether it stands for a plain function
    first_parameter: str | None = None  # the first parameter, where it lives in a cell and `super()` looks for it
    resume_code: CodeType | None = field(default=None, repr=False)
    build_resume: Callable[[], CodeType] | None = field(default=None, repr=False)
    awaitable_form: Unit | None = field(default=None, repr=False)

    @property
    def module(self) -> str:
        return self.source.module

    @property
    def filename(self) -> str:
        return self.source.filename

    def __repr__(self) -> str:
        return f"<unit {self.source.module}:{self.qualname}, {self.mode}>"

    def resume(self) -> CodeType:
        """The code of the resume body, compiled on first use."""
        if self.resume_code is None:
            assert self.build_resume is not None
            self.resume_code = self.build_resume()
            register(self.resume_code, self)
        return self.resume_code

    def awaitable(self) -> Unit:
        """This generator function as `types.coroutine` leaves it: the same code, but for one flag."""
        if self.awaitable_form is None:
            code = awaitable_code(self.code)
            resume = lambda: awaitable_code(self.resume())  # noqa: E731
            self.awaitable_form = replace(self, mode="awaitable", code=code, resume_code=None, build_resume=resume)
            register(code, self.awaitable_form)
        return self.awaitable_form


@dataclass(slots=True, eq=False)
class Compiled:
    """What `fn.__durable__` holds. `kind` is that of the source function."""

    kind: Kind
    original: FunctionType
    source: Source
    fingerprint: str
    unit: Unit | None  # of the function itself; None for a plain function, which runs as it is
    make_twin: Callable[..., Any] | None = field(default=None, repr=False)
    twin_function: Any = None
    looping_function: Any = None
    function: Any = field(default=None, repr=False)  # the durable function itself

    def __reduce__(self) -> Any:
        from ray_durable.compiler import decoration

        return decoration.new_compiled, (), (self.source, self.function), None, None, decoration.compile_again

    @property
    def twin(self) -> Any:
        """What a host calls instead: a generator function (`async def`: the compiled function), made on first use."""
        if self.twin_function is None:
            assert self.make_twin is not None
            self.twin_function = self.make_twin()
        return self.twin_function

    @property
    def looping_twin(self) -> Any:
        """Like `twin`, with yield points at the back-edges of loops as well (`backedges`)."""
        if self.looping_function is None:
            assert self.make_twin is not None
            self.looping_function = self.make_twin(mode="looping")
        return self.looping_function


UNITS: dict[int, Unit] = {}  # by id of a code object, which the unit keeps alive; hashing code objects costs 1 µs
BY_CONSTANTS: dict[int, Unit] = {}  # by id of the tuple of its constants, which copies of a code object share
CO_ITERABLE_COROUTINE = 0x100


def register(code: CodeType, unit: Unit) -> None:
    """Let `unit_of(code)` find `unit`."""
    UNITS[id(code)] = unit
    if unit.mode != "awaitable":
        BY_CONSTANTS[id(code.co_consts)] = unit


def unit_of(code: CodeType) -> Unit | None:
    """The unit whose fresh or resume body `code` is, or None for code that is not durable."""
    found = UNITS.get(id(code))
    if found is None and code.co_flags & CO_ITERABLE_COROUTINE:  # `types.coroutine` gives a function a code of its own
        native = BY_CONSTANTS.get(id(code.co_consts))
        found = None if native is None else native.awaitable()
    return found


def awaitable_code(code: CodeType) -> CodeType:
    return code.replace(co_flags=code.co_flags | CO_ITERABLE_COROUTINE)
