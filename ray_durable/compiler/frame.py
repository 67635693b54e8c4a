"""What a frame is: the state of one activation of a durable function, in the terms of its source.

A frame holds live objects, never copies. It names its code by a `Unit` (compiler/unit.py), its place by the number of a
yield point, and what it delegates to (`yield from`, `await`, a durable call) by a further frame. How units, cells and
values become bytes is the business of `references`.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import CellType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray_durable.compiler.unit import Unit

FRAME_VERSION = 1  # of the fields below; a change that old readers would misread raises it
NOT_STARTED = 0  # the yield point of an object that was made and not driven yet
FINISHED = -1  # the yield point of an object that ran to its end


class Unbound:
    """The type of `UNBOUND`, which stands for a local that has no value at a yield point."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "UNBOUND"

    def __reduce__(self) -> str:
        return "UNBOUND"


UNBOUND = Unbound()


@dataclass(slots=True, eq=False)
class ForeignIterator:
    """The delegate of `yield from x` where x is an iterator that is no durable generator; it is resumed as it is."""

    iterator: Any


@dataclass(slots=True, eq=False)
class EvaluateAgain:
    """The delegate of `await x` where x is not durable (a Future, say): the operand is evaluated again on resume."""

    description: str = ""


Delegate = "Frame | ForeignIterator | EvaluateAgain | None"


@dataclass(slots=True, eq=False)
class Frame:
    """One suspended activation: its function, the yield point it stands at, its locals and the frame it delegates to.

    `values`: the source variables that are bound and live in no cell. `cells`: the cells of captured and of free
    variables, by name; identity matters, as functions share them. `temporaries`: what CPython would hold on its value
    stack here (loop iterators, managers, half-evaluated expressions), by the compiler's names. `via`: how the outer
    frame holds this one: "" directly, "await" as the generator of an awaitable, or "anext", "athrow", "aclose" for the
    step of an async generator (`via_arguments` are that step's own).

    Example: capture(gen).lineno
    """

    unit: Unit
    point: int
    globals: dict[str, Any] = field(repr=False)
    values: dict[str, Any] = field(default_factory=dict)
    temporaries: dict[str, Any] = field(default_factory=dict)
    cells: dict[str, CellType] = field(default_factory=dict)
    delegate: Frame | ForeignIterator | EvaluateAgain | None = None
    via: str = ""
    via_arguments: tuple[Any, ...] = ()
    original: weakref.ref[Any] | None = field(default=None, repr=False)  # what was captured, if it still lives

    @property
    def function(self) -> str:
        """The function's name, as `module:qualname`."""
        return f"{self.unit.module}:{self.unit.qualname}"

    @property
    def filename(self) -> str:
        """The user's file."""
        return self.unit.filename

    @property
    def lineno(self) -> int:
        """The line of the yield point, or of the `def` when the function has not started or has ended."""
        if self.point <= 0:
            return self.unit.firstlineno
        return self.unit.points[self.point - 1].lineno

    @property
    def locals(self) -> dict[str, Any]:
        """The source variables with a value now, those in cells included."""
        found = dict(self.values)
        for name in self.unit.own_cells:
            cell = self.cells.get(name)
            if cell is not None:
                try:
                    found[name] = cell.cell_contents
                except ValueError:
                    pass
        return found

    @property
    def evaluates_again(self) -> bool:
        """Whether a resume starts by evaluating the operand of a foreign `await` again, so that `restore` gives an
        object that is not yet driven: send None to it."""
        return any(isinstance(frame.delegate, EvaluateAgain) for frame in self.chain())

    def chain(self) -> Iterator[Frame]:
        """This frame and the frames it delegates to, outermost first."""
        frame: Any = self
        while isinstance(frame, Frame):
            yield frame
            frame = frame.delegate
