"""Letting go of a suspended object without running any of its code.

CPython closes a suspended generator or coroutine that is dropped: its `finally` blocks and `__exit__`s run. That is
wrong for one that lives on elsewhere, so `discard` sets CPython's own "already finalized" bit on it: the object is then
freed without running anything, be it by its last reference, a cycle collection or interpreter exit. `close()` and
`throw()` on it still work.

A frame also holds generators that would be closed with it: its delegates, those of `@contextmanager` managers, those in
local variables and in builtin containers there. `discard` finds and marks them too. What hangs deeper (an attribute of
a user's object, say) only the pickler can name, as it has just written it: see `references.dispatch_table(met=…)`, and
hand that list over as `also`.

Invariant: only objects that are part of the frame are marked. A generator that somebody else goes on driving is not
harmed: the bit only says what happens when it is dropped.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import gc
import itertools
import sys
import sysconfig
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any

SUSPENDABLE = (types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType)


def discard(obj: object, also: Iterable[object] = (), *, deep: bool = True) -> None:
    """Give up a suspended generator, coroutine, async generator or asyncio Task: freeing it runs none of its code.

    Its delegates and the generators that its frames hold are given up with it, and so is each of `also`. An asyncio
    Task moreover stops waiting: what it awaited no longer wakes it. Anything else is left alone. `deep=False`: only
    the object and its delegates, for one whose values live on in what was restored from its frame by reference. Costs
    about 2 microseconds per frame, and 0.03 for each item in a container that the frame holds.

    Example: frame = capture(gen); send_elsewhere(frame); discard(gen)"""
    seen: set[int] = set()
    for root in (obj, *also):
        if is_task(root):
            root = let_go_of_task(root)
        for suspended in held_by(root, seen) if deep else delegates_of(root):
            mark(suspended)
            forget_by_event_loop(suspended)


def delegates_of(root: object) -> Iterator[Any]:
    """A suspended object and all that it delegates to."""
    while isinstance(root, SUSPENDABLE):
        yield root
        root = root.gi_yieldfrom if isinstance(root, types.GeneratorType) else awaited_by(root)


def awaited_by(root: Any) -> object:
    """What a coroutine or async generator awaits, behind CPython's helper objects."""
    found = root.cr_await if isinstance(root, types.CoroutineType) else root.ag_await
    while type(found) in HELPERS:
        found = next((each for each in gc.get_referents(found) if type(each) in BEHIND_HELPERS), None)
    return found


def held_by(root: object, seen: set[int]) -> Iterator[Any]:
    """`root` if it is suspendable, and every suspendable object that it holds; `seen` are ids not to visit again."""
    stack = [root]
    while stack:
        item = stack.pop()
        if id(item) in seen:
            continue
        if isinstance(item, SUSPENDABLE):
            seen.add(id(item))
            stack.extend(filter(gc.is_tracked, gc.get_referents(item)))  # locals, value stack and delegate
            yield item
        elif (inside := passes_through(item)) is not None:
            seen.add(id(item))
            stack.extend(filter(gc.is_tracked, inside))  # what cannot be part of a cycle cannot lead to a generator


def passes_through(item: object) -> Iterable[object] | None:
    """What to look into behind `item`, if it is a holder that the frame alone is likely to own; None if not.

    Classes, modules, functions' globals and users' instances are borders: behind them lie things that others own."""
    kind = type(item)
    if kind in TRANSPARENT:
        return gc.get_referents(item)
    if kind is types.MethodType:
        return (item.__self__,)  # type: ignore[attr-defined]  # a `with` block keeps its manager as a bound `__exit__`
    if kind is types.FunctionType:
        return item.__closure__ or ()  # type: ignore[attr-defined]
    if isinstance(item, contextlib._GeneratorContextManagerBase):
        return (item.gen,)
    if isinstance(item, contextlib.ExitStack | contextlib.AsyncExitStack):
        return list(item._exit_callbacks)  # type: ignore[union-attr]
    return None


async def async_probe() -> Any:
    yield


def helper_types() -> frozenset[type]:
    """CPython's objects between a coroutine and what it awaits: steps of async generators, coroutine wrappers."""
    probe: Any = async_probe()
    waiting = probe.asend(None)
    anext_default = anext(probe, None)

    async def coroutine() -> None: ...

    unstarted: Any = coroutine()
    wrapper = unstarted.__await__()
    throwing = probe.athrow(GeneratorExit())
    found = {type(waiting), type(anext_default), type(wrapper), type(throwing)}
    for awaiting in (anext_default, waiting, throwing, unstarted):
        awaiting.close()
    return frozenset(found)


def transparent_types() -> frozenset[type]:
    """Containers, cells, iterators and CPython's awaiting helpers: they have no code of their own to protect."""
    found: set[type] = {list, tuple, dict, set, frozenset, collections.deque, types.CellType}
    containers: tuple[Any, ...] = ([], (), {}, set(), collections.deque(), {}.keys(), {}.values(), {}.items())
    found |= {type(iter(container)) for container in containers}
    found |= {enumerate, zip, map, filter, type(reversed([])), type(iter(int, 1))}
    found |= {value for value in vars(itertools).values() if isinstance(value, type)}
    return frozenset(found) | HELPERS


HELPERS = helper_types()
BEHIND_HELPERS = HELPERS | frozenset(SUSPENDABLE)
TRANSPARENT = transparent_types()


def is_task(obj: object) -> bool:
    asyncio = sys.modules.get("asyncio")  # nobody can hold a Task without having imported it
    return asyncio is not None and isinstance(obj, asyncio.Task)


def let_go_of_task(task: Any) -> object:
    """Part a pending Task from the future that it waits for, and return its coroutine.

    Else the future would still wake the Task, which would run the original on beside its successor."""
    waits_for = task._fut_waiter
    if waits_for is not None:
        for callback, _ in list(waits_for._callbacks or ()):
            if getattr(callback, "__self__", None) is task:
                waits_for.remove_done_callback(callback)
    task._log_destroy_pending = False  # it is dropped on purpose
    return task.get_coro()


def forget_by_event_loop(suspended: object) -> None:
    """Take an async generator off its event loop's list of those to close at shutdown."""
    if isinstance(suspended, types.AsyncGeneratorType) and (asyncio := sys.modules.get("asyncio")) is not None:
        loop = asyncio._get_running_loop()
        known = getattr(loop, "_asyncgens", None)
        if known is not None:
            known.discard(suspended)


# ---- the mark itself -------------------------------------------------------------------------------------------------

WORD = ctypes.sizeof(ctypes.c_size_t)
FINALIZED = 1  # _PyGC_PREV_MASK_FINALIZED: bit 0 of PyGC_Head._gc_prev, the word right before the object


def set_finalized(obj: object) -> None:
    """Set CPython's "finalized" bit on a garbage-collected object: its `tp_finalize` is then never called."""
    ctypes.c_size_t.from_address(id(obj) - WORD).value |= FINALIZED


def keep_for_ever(obj: object) -> None:
    """Where the bit cannot be set: never free the object (a reference is leaked), which runs nothing either."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(obj))


def can_set_finalized() -> bool:
    """Try the bit on a probe. Only on CPython builds with a GIL: others lay objects out differently."""
    if sys.implementation.name != "cpython" or sysconfig.get_config_var("Py_GIL_DISABLED"):
        return False
    ran = []

    def suspended() -> Iterator[None]:
        try:
            yield
        finally:
            ran.append(True)

    probe = suspended()
    next(probe)
    before = gc.is_finalized(probe)
    set_finalized(probe)
    after = gc.is_finalized(probe)
    del probe
    return after and not before and not ran


mark: Callable[[object], None] = set_finalized if can_set_finalized() else keep_for_ever
