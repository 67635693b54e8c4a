"""Exceptions in a captured frame: a pickle reducer that keeps all of them.

Plain pickle calls `cls(*args)`: it loses cause, context, suppression and traceback, and fails for every class whose
`__init__` takes other arguments than it hands on. `reduce_exception` makes the object by the `__new__` of its builtin
base, without running the user's `__init__`, and puts back `args`, attributes, slots, `__cause__`, `__context__`,
`__suppress_context__`, `__notes__` and a traceback with the same files, functions and lines (no locals, no carets).
A class with a `__reduce__` of its own is made by that; the chain is put back all the same.

Cycles (an exception that is its own context's cause) are kept: the object is made first, then filled.
"""

from __future__ import annotations

import builtins
import copyreg
import functools
import sys
import types
from collections.abc import Callable
from typing import Any

HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: a class made by a `class` statement
TRACEBACK_ENTRIES_MAX = 100  # of a longer traceback (a RecursionError's) the outermost and innermost halves are kept

Entry = tuple[str, str, int]  # file, function, line
Reduced = tuple[Any, ...]


def reduce_exception(exc: BaseException) -> Reduced:
    """What pickle needs to make `exc` again, with all that `raise … from …` and `add_note` left on it."""
    cls: type = type(exc)
    made_by = own_reduction(exc)
    base = builtin_base(cls)
    fields = {name: value for name in c_fields(base) if (value := getattr(exc, name, None)) is not None}
    slots = {name: getattr(exc, name) for name in slot_names(cls) if hasattr(exc, name)}
    state: tuple[Any, ...] = (
        exc.args,
        exc.__dict__ or None,
        fields | slots or None,
        exc.__cause__,
        exc.__context__,
        exc.__suppress_context__,
        traceback_entries(exc.__traceback__),
    )
    if made_by is not None:
        return remake_exception, made_by[:2], (made_by[2], *state), None, None, fill_remade
    if issubclass(base, BaseExceptionGroup):
        return new_exception, (cls, *exc.args), state, None, None, fill_exception
    return new_exception, (cls,), state, None, None, fill_exception


def reduce_exception_sharing(exc: BaseException) -> Reduced:
    """The same for a pickler with `reduce_traceback`: exceptions that share a traceback go on sharing it. By that,
    among other things, `except*` knows the parts of the group that it has split."""
    make, args, state, *rest = reduce_exception(exc)
    return make, args, (*state[:-1], exc.__traceback__), *rest


def reduce_traceback(traceback: types.TracebackType) -> Reduced:
    return make_traceback, (traceback_entries(traceback),)


def own_reduction(exc: BaseException) -> tuple[Any, tuple[Any, ...], Any] | None:
    """What the class's own `__reduce__`, if it has one, says: maker, arguments, state."""
    cls: type = type(exc)
    if not any("__reduce__" in vars(c) or "__reduce_ex__" in vars(c) for c in heap_classes(cls)):
        return None
    reduced = exc.__reduce_ex__(4)
    if not isinstance(reduced, tuple):  # a string: the exception is a global; that needs no state at all
        return getattr, (sys.modules[cls.__module__], reduced), None
    return reduced[0], tuple(reduced[1]), reduced[2] if len(reduced) > 2 else None


@functools.lru_cache(maxsize=1024)
def heap_classes(cls: type) -> tuple[type, ...]:
    """The classes in `cls.__mro__` that are written in Python."""
    return tuple(c for c in cls.__mro__ if c.__flags__ & HEAP_TYPE)


@functools.lru_cache(maxsize=1024)
def builtin_base(cls: type) -> type:
    """The builtin exception whose memory layout `cls` has: the one whose `__new__` may make it."""
    base: type = cls
    while base.__flags__ & HEAP_TYPE and base.__base__ is not None:
        base = base.__base__
    return base


@functools.lru_cache(maxsize=128)
def c_fields(base: type) -> tuple[str, ...]:
    """The writable attributes that a builtin exception keeps outside `__dict__`: `errno`, `start`, `value`, `name`…

    `AttributeError.obj` is left out, as CPython itself does: it may be anything, and only serves hints."""
    if issubclass(base, BaseExceptionGroup):
        return ()  # read-only: its `__new__` sets them
    kinds = (types.MemberDescriptorType, types.GetSetDescriptorType)
    skipped = {*vars(BaseException), *vars(object), "obj"}
    return tuple(n for c in base.__mro__ for n, v in vars(c).items() if isinstance(v, kinds) and n not in skipped)


@functools.lru_cache(maxsize=1024)
def slot_names(cls: type) -> tuple[str, ...]:
    return tuple(copyreg._slotnames(cls))  # type: ignore[attr-defined]


def new_exception(cls: type, *args: Any) -> BaseException:
    """An empty exception of class `cls`; no `__init__` is run."""
    made: BaseException = builtin_base(cls).__new__(cls, *args)
    return made


def remake_exception(maker: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """An exception as its class's own `__reduce__` wants it made."""
    return maker(*args)


def fill_remade(exc: BaseException, state: tuple[Any, ...]) -> None:
    """The class's own state, then ours; `args` and attributes are what its own `__reduce__` made of them."""
    own, _, _, _, *chain = state
    if own is not None:
        setter = getattr(exc, "__setstate__", None)
        if setter is not None:
            setter(own)
        else:
            exc.__dict__.update(own)
    notes = (state[2] or {}).get("__notes__")
    if notes is not None:
        exc.__notes__ = notes
    fill_exception(exc, (exc.args, None, None, *chain))


def fill_exception(exc: BaseException, state: tuple[Any, ...]) -> None:
    """Put back what `reduce_exception` took."""
    args, attributes, fields, cause, context, suppress, entries = state
    if not isinstance(exc, BaseExceptionGroup):
        exc.args = args
    if attributes:
        exc.__dict__.update(attributes)
    for name, value in (fields or {}).items():
        setattr(exc, name, value)
    exc.__cause__ = cause
    exc.__context__ = context
    exc.__suppress_context__ = suppress  # last: setting a cause sets it
    exc.__traceback__ = make_traceback(entries) if isinstance(entries, tuple) else entries


# ---- tracebacks ------------------------------------------------------------------------------------------------------


def traceback_entries(traceback: types.TracebackType | None) -> tuple[Entry, ...]:
    """File, function and line of each entry, outermost first."""
    entries: list[Entry] = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        entries.append((code.co_filename, code.co_name, traceback.tb_lineno))
        traceback = traceback.tb_next
    half = TRACEBACK_ENTRIES_MAX // 2
    if len(entries) > TRACEBACK_ENTRIES_MAX:
        entries[half:-half] = []
    return tuple(entries)


def make_traceback(entries: tuple[Entry, ...]) -> types.TracebackType | None:
    """A real traceback object that prints as the one the entries were read from."""
    made = None
    for filename, name, line in reversed(entries):
        made = types.TracebackType(made, stand_in_frame(filename, name), -1, line)  # lasti -1: no carets
    return made


def current_frame() -> types.FrameType:
    return sys._getframe()


@functools.lru_cache(maxsize=1024)
def stand_in_frame(filename: str, name: str) -> types.FrameType:
    """A finished frame that says it ran function `name` of `filename`, and holds nothing else."""
    code = current_frame.__code__.replace(co_filename=filename, co_name=name, co_qualname=name)
    frame: types.FrameType = types.FunctionType(code, {"sys": sys, "__builtins__": builtins})()
    return frame
