"""Back-edges: how a long computation that never yields can be captured at the end of a pass of one of its loops.

A twin made with `back_edges=True` has its loops in a `try` of their own. When a timer of the layer above has called
`back_edges_due()`, the loop that ends a pass next is left by a private exception and suspends, with the request
registered by `suspend_at_back_edges`; its iterator is in a local, with which it goes on.

From Python 3.12 on the exception comes from `sys.monitoring`: a body is watched only while a checkpoint is due, so that
a loop costs nothing meanwhile. Elsewhere (or where other tools hold all of its ids) each pass tests one attribute.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Mapping
from threading import get_ident
from types import CellType, CodeType
from typing import Any, NamedTuple

from ray_durable.compiler.replacements import Awaited

REQUEST: list[Callable[[], Any]] = []


class Due:
    """Whether the next back-edge suspends. `cell` holds it, for compiled code to read as the free variable `DUE_NAME`:
    one instruction, as fast in code that CPython 3.11 has not specialized, which a `while` loop may never come to."""

    __slots__ = ("cell",)

    def __init__(self) -> None:
        self.cell = CellType(False)

    @property
    def on(self) -> bool:
        found: bool = self.cell.cell_contents
        return found

    @on.setter
    def on(self, value: bool) -> None:
        self.cell.cell_contents = value


class BackEdge(BaseException):
    """Leaves a loop that is to suspend; caught right around it, so nobody else meets it."""


DUE = Due()
DUE_NAME = "a back-edge is due"  # no name that source could have
TOOL_NAME = "ray_durable"


Place = tuple[int | None, ...]


class Head(NamedTuple):
    """The places of a loop in the source, as first line and column, last line and column: the statement, and the
    iterable of a `for` or the test of a `while`."""

    is_for: bool
    statement: Place
    header: Place


Places = frozenset[int]  # offsets of instructions
WATCHED: dict[CodeType, tuple[Places, Places]] = {}  # of each compiled body: the back-edges, and where they lead to
JUMPED: dict[int, CodeType] = {}  # by thread, in which body it is right on its way along a back-edge


def closure_of(code: CodeType, cells: Mapping[str, CellType]) -> tuple[CellType, ...]:
    """The closure of a compiled body, of `cells` by name and what it reads itself. Raises: KeyError."""
    return tuple(DUE.cell if name == DUE_NAME else cells[name] for name in code.co_freevars)


def suspend_at_back_edges(twin: Callable[[], Any]) -> None:
    """What a loop delegates to at a back-edge that is due: what `twin()` gives, a durable generator or an iterator.

    Example: suspend_at_back_edges(checkpoint_request)
    """
    REQUEST[:] = [twin]


def back_edges_due() -> None:
    """Let the next back-edge suspend, whichever coroutine of this process reaches it. May be called from any thread."""
    DUE.on = True
    listen(True)


def back_edge() -> Any:
    """The delegate of a loop that suspends."""
    DUE.on = False
    listen(False)
    return REQUEST[0]() if REQUEST else ()


def back_edge_async() -> Any:
    """The same, to be awaited."""
    return Awaited(iter(back_edge()))


# ---- watching jumps --------------------------------------------------------------------------------------------------

if sys.version_info >= (3, 12):
    monitoring = sys.monitoring

    @functools.cache
    def tool() -> int | None:
        """Our id for `sys.monitoring`, taken when a loop is first compiled so that it needs one; None when others hold
        those that are nobody's by convention."""
        if sys.version_info >= (3, 14):
            return None  # `back_edges_of` is not known to read the bytecode there
        for number in (4, 3):
            if monitoring.get_tool(number) in (None, TOOL_NAME):  # ours: taken by another thread meanwhile
                if monitoring.get_tool(number) is None:
                    monitoring.use_tool_id(number, TOOL_NAME)
                monitoring.register_callback(number, monitoring.events.INSTRUCTION, reached)
                return number
        return None

    def reached(code: CodeType, offset: int) -> Any:
        """Called before an instruction of a watched body while a checkpoint is due.

        A back-edge itself need not lie inside the `try` (the compiler puts some jumps outside), and what JUMP events
        raise is not caught there at all; the instruction that it leads to does lie inside."""
        edges, heads = WATCHED[code]
        if offset in heads:
            if JUMPED.pop(get_ident(), None) is code and DUE.on:
                raise BackEdge
        elif offset not in edges:
            return monitoring.DISABLE
        if offset in edges and DUE.on:
            JUMPED[get_ident()] = code
        return None

    def listen(on: bool) -> None:
        events = monitoring.events.INSTRUCTION if on else monitoring.events.NO_EVENTS
        number = tool() if WATCHED else None
        if number is not None:
            for code in list(WATCHED):
                monitoring.set_local_events(number, code, events)

else:

    def tool() -> int | None:
        """An id for `sys.monitoring`, which there is none of."""
        return None

    def listen(on: bool) -> None:
        """Nothing listens: each pass tests."""


def watch(code: CodeType, heads: Iterable[Head]) -> None:
    """Let the loops of a compiled body that begin at `heads` suspend at their back-edges."""
    if tool() is None:
        return
    found = back_edges_of(code, frozenset(heads))
    if found[0]:
        WATCHED[code] = found
        if DUE.on:
            listen(True)


def back_edges_of(code: CodeType, heads: frozenset[Head]) -> tuple[Places, Places]:
    """The back-edges of those loops in the bytecode, and where they lead to."""
    import dis

    edges: set[int] = set()
    targets: set[int] = set()
    instructions = list(dis.get_instructions(code))
    places = {each.offset: index for index, each in enumerate(instructions)}
    for index, each in enumerate(instructions):
        if each.opname == "JUMP_BACKWARD":
            target = extended(instructions, places[each.argval])
            if any(is_back_edge(each, target[-1], head) for head in heads):
                while index and instructions[index - 1].opname == "EXTENDED_ARG":
                    index -= 1
                edges.update(part.offset for part in extended(instructions, index))
                targets.update(part.offset for part in target)
    return frozenset(edges), frozenset(targets)


def extended(instructions: list[Any], index: int) -> list[Any]:
    """An instruction, with the prefixes for its argument that come first."""
    last = index
    while instructions[last].opname == "EXTENDED_ARG":
        last += 1
    return instructions[index : last + 1]


def is_back_edge(jump: Any, target: Any, head: Head) -> bool:
    """Whether a jump begins the next pass of that loop: a `for` asks for its next item, for which 3.12 has the place of
    the statement; a `while` begins to evaluate its test, in which only comprehensions are loops too. The pass that a
    resume leads into is a loop of its own (`prologue`), of no width where the iterable or the test begins."""
    to = place_of(target)
    if target.opname == "FOR_ITER" and to == head.header[:2] * 2:
        return True
    if head.is_for:
        return target.opname == "FOR_ITER" and to in (head.statement, head.header)
    again = place_of(jump) == head.statement  # after the loop was left for a checkpoint
    return not again and target.opname != "FOR_ITER" and head.header[:2] <= to[:2] and to[2:] <= head.header[2:]


def place_of(instruction: Any) -> Any:
    at = instruction.positions
    return at.lineno, at.col_offset, at.end_lineno, at.end_col_offset
