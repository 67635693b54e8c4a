"""Undecorated helpers that durable code delegates to: compiled on first use, and put in the place of the native object.

The object is met un-started, as the value of `helper(…)`; its arguments are still in its frame, so that the durable
equivalent starts with the same ones. Whatever cannot be compiled stays as it is, and is then foreign.
"""

from __future__ import annotations

import dis
import gc
import warnings
from types import AsyncGeneratorType, CodeType, CoroutineType, FrameType, FunctionType, GeneratorType
from typing import Any

from ray_durable.compiler.capture import SNAPSHOTS, not_started, parts
from ray_durable.compiler.decoration import like
from ray_durable.compiler.frame import NOT_STARTED, Frame
from ray_durable.compiler.restore import start_again
from ray_durable.compiler.unit import CO_ITERABLE_COROUTINE, Unit, unit_of
from ray_durable.errors import CompileError

UNITS_OF: dict[object, tuple[CodeType, Unit | None]] = {}  # by id of the native code, or itself where it is a copy
RETURN_GENERATOR = dis.opmap["RETURN_GENERATOR"]


def adopted(native: Any) -> Any:
    """The durable equivalent of `native` if that is un-started and has source; else `native`."""
    frame, code, running, _ = parts(native)
    if frame is None or running or is_suspended(native, frame, code) or unit_of(code) is not None:
        return native
    unit = unit_for(code, native)
    if unit is None:
        return native
    made = start_again(not_started(native, Frame(unit, NOT_STARTED, frame.f_globals), frame.f_locals))
    made.__name__, made.__qualname__ = native.__name__, native.__qualname__
    let_go(native)
    return made


def is_suspended(native: Any, frame: FrameType, code: CodeType) -> bool:
    """Whether it was started. Python 3.11 does not say so of async generators, but there the last opcode does."""
    if isinstance(native, AsyncGeneratorType):
        found: bool | None = getattr(native, "ag_suspended", None)
        return code.co_code[frame.f_lasti] != RETURN_GENERATOR if found is None else found
    started: bool = native.gi_suspended if isinstance(native, GeneratorType) else native.cr_suspended
    return started


def is_half_evaluated(value: Any, frame: FrameType) -> bool:
    """Whether one of the compiler's variables, and none of the user's, holds a value in a durable frame that runs."""
    unit, code = unit_of(frame.f_code), frame.f_code
    if unit is None:
        return False
    variables: Any = frame.f_locals
    holders = [name for name, held in variables.items() if held is value]
    if SNAPSHOTS:
        variables.clear()
    return len(holders) == 1 and holders[0] not in (*unit.variables, *code.co_cellvars, *code.co_freevars)


def let_go(native: Any) -> None:
    """Close the un-started original, so that nothing warns of a coroutine that was never awaited."""
    if isinstance(native, CoroutineType):
        native.close()
    elif isinstance(native, AsyncGeneratorType):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            del native
    else:
        native.close()


def maker(function: FunctionType) -> FunctionType | None:
    """What makes the durable equivalents of an undecorated function's generators; None where it cannot be compiled."""
    unit = unit_for(function.__code__, function)
    return None if unit is None else like(function, unit.code)


def unit_for(code: CodeType, native: Any) -> Unit | None:
    """The unit of an undecorated function's code, compiled on first use. `native`: that function, or what it made."""
    awaitable = code.co_flags & CO_ITERABLE_COROUTINE  # `types.coroutine` copies the code each time it is applied
    key: object = (code.co_filename, code) if awaitable else id(code)
    known = UNITS_OF.get(key)
    if known is None:
        known = UNITS_OF[key] = (code, compiled(code, native))
    unit = known[1]
    return unit.awaitable() if unit is not None and awaitable else unit


def compiled(code: CodeType, native: Any) -> Unit | None:
    from ray_durable.compiler.pipeline import compile_function

    functions = [native] if type(native) is FunctionType else gc.get_referents(native)
    function = next((each for each in functions if type(each) is FunctionType), None)
    if function is None or function.__code__ is not code:
        return None
    try:
        return compile_function(function, "native")
    except CompileError:
        return None
