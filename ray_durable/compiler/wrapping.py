"""Values on the way into a pickler that knows nothing of ours: `pickle.dumps(gen)`, Ray, multiprocessing.

Such a pickler takes reducers from `copyreg` only, and none at all for functions. So where a value of a suspended
object's local is of a kind that it would refuse, or write wrongly, `wrapped` gives it an object whose `__reduce__` is
ours; unpickled, it is the value itself. Values deeper down (a closure in a list) are beyond reach: `references.dumps`
and the checkpoint codec take those too.
"""

from __future__ import annotations

import types
import weakref
from threading import get_ident
from typing import Any

from ray_durable.compiler.exceptions import reduce_exception
from ray_durable.compiler.functions import (
    is_importable,
    reduce_by_bytecode,
    reduce_cell,
    reduce_function,
    reduce_module,
)
from ray_durable.compiler.identity import Code
from ray_durable.compiler.iterators import NATIVE_IS_RIGHT, REDUCERS

PLAIN: set[type] = {int, float, complex, bool, str, bytes, bytearray, type(None), list, tuple, dict, set, frozenset}
PLAIN |= NATIVE_IS_RIGHT
OURS = frozenset({Code, types.CellType, types.ModuleType, *REDUCERS})


class WrappedFunction:
    """Stands for a function, for a pickler that has all of our reducers but `reducer_override`: C's pickler takes
    functions by name only, before it looks for a reducer. One per function, as for `Wrapped`."""

    __slots__ = ("__weakref__", "function")

    def __init__(self, function: types.FunctionType) -> None:
        self.function = function

    def __reduce__(self) -> Any:
        made, arguments, (used, *rest), *setting = reduce_function(self.function)
        used = {name: wrapped_function(value) for name, value in used.items()}
        return made, arguments, (used, *rest), *setting


def wrapped_function(value: Any) -> Any:
    """`value`, or what stands for it if it is a function that no import finds."""
    if type(value) is not types.FunctionType or is_importable(value):
        return value
    key = (get_ident(), id(value))
    found = FUNCTIONS.get(key)
    if found is None:
        found = FUNCTIONS[key] = WrappedFunction(value)
    return found


def reduce_cell_of_functions(cell: types.CellType) -> Any:
    """`reduce_cell`, for a pickler without `reducer_override`."""
    made, arguments, *state = reduce_cell(cell)
    return made, arguments, *((tuple(map(wrapped_function, state[0])), *state[1:]) if state else ())


FUNCTIONS: weakref.WeakValueDictionary[tuple[int, int], WrappedFunction] = weakref.WeakValueDictionary()


class Wrapped:
    """Stands for `value` in a pickle. There is one per value while a pickler's memo keeps it, so identity is kept."""

    __slots__ = ("__weakref__", "value")

    def __init__(self, value: Any) -> None:
        self.value = value

    def __reduce__(self) -> Any:
        return reduce_wrapped(self.value)


WRAPPED: weakref.WeakValueDictionary[tuple[int, int], Wrapped] = weakref.WeakValueDictionary()


def wrapped(value: Any) -> Any:
    """`value`, or what stands for it in a pickle."""
    kind = type(value)
    if kind in PLAIN or not needs_wrapping(value, kind):
        return value
    key = (get_ident(), id(value))
    found = WRAPPED.get(key)
    if found is None:
        found = WRAPPED[key] = Wrapped(value)
    return found


def needs_wrapping(value: Any, kind: type) -> bool:
    if kind is types.FunctionType:
        return not is_importable(value)
    if (
        kind is Code
        or kind is types.CellType
        or kind is types.ModuleType
        or kind in REDUCERS
        or issubclass(kind, BaseException)
    ):
        return True
    if issubclass(kind, type):
        return value.__module__ == "__main__" or "<locals>" in value.__qualname__
    if kind.__flags__ & 1 << 8:  # Py_TPFLAGS_IMMUTABLETYPE: builtin, so there are not many
        PLAIN.add(kind)
    return False


def reduce_wrapped(value: Any) -> Any:
    """What our own picklers would write, each part of it wrapped in turn."""
    kind = type(value)
    if kind is types.FunctionType:
        reduced = reduce_function(value)
    elif kind is types.CellType:
        reduced = reduce_cell(value)
    elif kind is types.ModuleType:
        reduced = reduce_module(value)
    elif kind is Code:
        reduced = value.__reduce__()
    elif issubclass(kind, BaseException):
        reduced = reduce_exception(value)
    elif issubclass(kind, type):
        reduced = reduce_by_bytecode(value)
    else:
        reduced = REDUCERS[kind](value)
    return tuple(deeply(part) if index in (1, 2) else part for index, part in enumerate(reduced))


def deeply(part: Any) -> Any:
    """`part` with its values wrapped; it is a tuple or dict that a reducer has just built."""
    if type(part) is tuple:
        return tuple(deeply(item) for item in part)
    if type(part) is dict:
        return {key: wrapped(value) for key, value in part.items()}
    return wrapped(part)
