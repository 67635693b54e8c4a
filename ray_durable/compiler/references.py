"""Pickling suspended objects: how a frame names its code, and the reducers around it.

Three ways in:

- `pickle.dumps(gen)`: importing this module gives generators, coroutines and async generators a reducer in `copyreg`.
  Durable ones are pickled, others fail naming the reason. Functions, exceptions, modules, cells and iterators that are
  the value of a local (not deeper in a list, say) are pickled by our own reducers too.
- `dumps(obj)`: all of that at any depth, self-contained: code that no import finds goes along.
- `Pickler`, `dispatch_table()` and `reducer_override` for a pickler of one's own (the checkpoint codec):
    class Codec(pickle.Pickler): dispatch_table = dispatch_table(by_key=True); reducer_override = reducer_override
  With `by_key=True` the code is only named, by keys of `identity.exported()`, and must be stored beside the pickles.
  `reducer_override` costs a Python call for each object that is no builtin container; a codec may leave it out at first
  and try again with it when pickle refuses a function or class.

`find_unpicklable(obj)` tells which value is refused. Loading needs nothing but `pickle.loads`.
"""

from __future__ import annotations

import copyreg
import io
import pickle
import types
from typing import Any

from ray_durable.compiler import csv_readers, files
from ray_durable.compiler.diagnosis import Unpicklable, find_unpicklable
from ray_durable.compiler.exceptions import reduce_exception_sharing, reduce_traceback
from ray_durable.compiler.functions import (
    class_parts,
    is_importable,
    reduce_by_bytecode,
    reduce_cell,
    reduce_function,
    reduce_module,
)
from ray_durable.compiler.iterators import REDUCERS
from ray_durable.compiler.wrapping import reduce_cell_of_functions
from ray_durable.compiler.writing import Writer

__all__ = ["Pickler", "Unpicklable", "dispatch_table", "dumps", "find_unpicklable", "reducer_override"]


def suspendable(writer: Writer) -> dict[type, Any]:
    return {
        types.GeneratorType: writer.generator,
        types.CoroutineType: writer.suspended,
        types.AsyncGeneratorType: writer.suspended,
    }


class Table(dict[type, Any]):
    """A dispatch table: ours, then `copyreg`'s, then exceptions of every class, and what the bodies of classes hold."""

    def __missing__(self, kind: type) -> Any:
        found = copyreg.dispatch_table.get(kind)
        if found is None:
            found = reduce_exception_sharing if issubclass(kind, BaseException) else class_parts().get(kind)
            if found is None and asks_too_early(kind):
                found = reduce_plainly
            if found is None:
                raise KeyError(kind)
            self[kind] = found
        return found


def asks_too_early(kind: type) -> bool:
    """Whether plain unpickling would ask an object's own `__getattr__` for `__setstate__` before it has any attribute,
    which in proxies and wrappers ends in recursion: what was saved could not be loaded."""
    if not hasattr(kind, "__getattr__") or hasattr(kind, "__setstate__") or issubclass(kind, type):
        return False
    return all(getattr(kind, name) is getattr(object, name) for name in ("__reduce__", "__reduce_ex__"))


def reduce_plainly(obj: Any) -> tuple[Any, ...]:
    """As pickle does, with a state that is set without asking the object."""
    reduced: Any = object.__reduce_ex__(obj, pickle.HIGHEST_PROTOCOL)
    make, args, *rest = reduced
    state, items, pairs = (*rest, None, None, None)[:3]
    return (make, args, state, items, pairs) if state is None else (make, args, state, items, pairs, set_plainly)


def set_plainly(obj: Any, state: Any) -> None:
    """Give an object its attributes: those of its `__dict__`, and those of its slots, if it has both."""
    own, slots = state if isinstance(state, tuple) else (state, None)
    if own:
        object.__getattribute__(obj, "__dict__").update(own)
    for name, value in (slots or {}).items():
        object.__setattr__(obj, name, value)


def dispatch_table(*, by_key: bool = False, met: list[Any] | None = None, functions: bool = False) -> Table:
    """The reducers for a pickler's `dispatch_table`: suspended objects, cells, modules, exceptions, iterators.

    `by_key`: write only the key of a frame's code, which is then in `identity.exported()` and must be stored beside
    the pickle; else the code of functions that no import finds is in the pickle itself. `met`: a list that gets every
    suspended object written, for `discard(obj, also=met)`; the caller clears it. `functions`: the pickler has no
    `reducer_override`, so functions that are values of locals (not deeper) are pickled here; never both, as a function
    met both ways would become two.

    Example: class Codec(pickle.Pickler): dispatch_table = dispatch_table(by_key=True)"""
    table = Table(REDUCERS | files.REDUCERS | csv_readers.REDUCERS)
    table |= suspendable(Writer(by_key=by_key, met=met, functions=functions))
    table[types.CellType] = reduce_cell_of_functions if functions else reduce_cell
    table[types.ModuleType] = reduce_module
    table[types.TracebackType] = reduce_traceback
    return table


def reducer_override(obj: Any) -> Any:
    """For a pickler's `reducer_override`: functions and classes that no import finds go by source, others by name."""
    kind = type(obj)
    if kind is types.FunctionType:
        return reduce_function(obj)
    if issubclass(kind, type) and not is_importable(obj):
        return reduce_by_bytecode(obj)
    return NotImplemented


class Pickler(pickle.Pickler):
    """A pickler that writes all that a durable frame may hold, self-contained."""

    dispatch_table = dispatch_table()

    def reducer_override(self, obj: Any) -> Any:
        return reducer_override(obj)


def dumps(obj: Any, *, buffer_callback: Any = None) -> bytes:
    """`obj` pickled so that `pickle.loads` gives it back in any process, on any supported Python version.

    Example: pickle.loads(dumps([gen, lambda: 1]))"""
    written = io.BytesIO()
    Pickler(written, pickle.HIGHEST_PROTOCOL, buffer_callback=buffer_callback).dump(obj)
    return written.getvalue()


WRAPPING = suspendable(Writer(wraps=True))


def register() -> None:
    """Give `pickle.dumps` reducers for the native types of suspended objects; done once, with the first durable
    function, so that whoever takes them out again is obeyed."""
    if not REGISTERED:
        REGISTERED.append(True)
        for kind, write in WRAPPING.items():
            copyreg.pickle(kind, write)


REGISTERED: list[bool] = []
register()
