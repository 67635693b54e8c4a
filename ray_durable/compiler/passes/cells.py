"""Cells: a captured variable is the resume body's own, as natively, and lives in the cell that came with the frame.

Goal    the functions that share a cell with a frame share it with the resumed one; where the variable has no value, the
        error is that of a local variable.
Needs   `_cells`, the frame's cells, in the order of `Unit.cells_order`.
"""

from __future__ import annotations

import ast
import opcode
from collections.abc import Sequence
from types import CodeType

from ray_durable.compiler.passes.build import assign, constant, if_, load

STORE_DEREF, STORE_FAST, EXTENDED_ARG = (opcode.opmap[name] for name in ("STORE_DEREF", "STORE_FAST", "EXTENDED_ARG"))


def receive_cells(own: Sequence[str], order: Sequence[str], cells: str) -> list[ast.stmt]:
    """The statements that `put_cells` makes to what they mean: first in the body, before others that name a cell."""
    # if False: lambda: (n, m)     so that each is a captured variable, also if the functions that capture it are made
    # n = _cells[0]                before the yield point only; the cell itself becomes the variable's: to put it into
    # m = _cells[2]                the variable is one instruction, which source code cannot say
    if not own:
        return []
    nothing = ast.arguments([], [], None, [], [], None, [])
    variables = ast.Tuple([load(name) for name in own], ast.Load())
    captured = if_(constant(False), [ast.Expr(ast.Lambda(nothing, variables))])
    places = [ast.Subscript(load(cells), constant(order.index(name)), ast.Load()) for name in own]
    return [captured, *(assign(name, place) for name, place in zip(own, places, strict=True))]


def put_cells(code: CodeType, own: Sequence[str]) -> CodeType:
    """Let the first assignment to each of these variables set its cell, and not what is in it."""
    parameters = {*code.co_varnames}  # a captured one stays where it is; of `own`, none is a parameter here
    places = (*code.co_varnames, *(name for name in code.co_cellvars if name not in parameters))
    waiting = {places.index(name) for name in own}
    raw, argument = bytearray(code.co_code), 0
    for offset in range(0, len(raw), 2):
        argument = argument << 8 | raw[offset + 1]
        if raw[offset] == STORE_DEREF and argument in waiting:
            raw[offset] = STORE_FAST
            waiting.remove(argument)
        if raw[offset] != EXTENDED_ARG:
            argument = 0
    assert not waiting
    return code.replace(co_code=bytes(raw))
