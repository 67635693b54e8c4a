"""The reducers of suspended objects: from a native object straight to what pickle writes.

Wire form: an object is made first, un-started, and filled when all that it refers to exists, so that cycles are kept.
Delegates are written before their outermost frame, innermost first, which takes no recursion; they are left un-started:
filling the outermost one starts it once, and its prologue leads down the chain.
"""

from __future__ import annotations

import weakref
from sys import getrefcount
from threading import get_ident
from typing import Any

from ray_durable.compiler import identity
from ray_durable.compiler.capture import SNAPSHOTS, capture, parts
from ray_durable.compiler.frame import UNBOUND
from ray_durable.compiler.iterators import encode
from ray_durable.compiler.layouts import ENDS, LAYOUTS, Layout, delegate_of, layout_of, not_durable, pending, where
from ray_durable.compiler.reading import fill, fill_inner, join, join_inner, new, new_finished, new_not_started
from ray_durable.compiler.wrapping import PLAIN, wrapped
from ray_durable.errors import CannotPickleError

Reduced = tuple[Any, ...]


class Inner:
    """A delegate in a pickle: unpickled, the delegate itself, left un-started. `Writer.suspended` finds it again by the
    object, while the pickler that wrote it lives, wherever else the object turns up."""

    __slots__ = ("__weakref__", "form", "inner", "obj", "writer")

    def __init__(self, writer: Writer, obj: Any, form: Any, inner: Any) -> None:
        self.writer, self.obj, self.form, self.inner = writer, obj, form, inner

    def __reduce__(self) -> Reduced:
        return self.writer.frame(self.obj, (), self.form, self.inner, False)


INNERS: weakref.WeakValueDictionary[tuple[int, int], Inner] = weakref.WeakValueDictionary()


def same(obj: Any) -> Any:
    return obj


class Writer:
    """Reducers of one kind. `wraps`: for a pickler that knows nothing of ours, so values of locals are wrapped for it.

    `by_key`: code is named, not written. `met`: a list that gets every suspended object written, for `discard`."""

    def __init__(self, wraps: bool = False, by_key: bool = False, met: list[Any] | None = None) -> None:
        self.wraps, self.by_key, self.met = wraps, by_key, met

    def suspended(self, obj: Any) -> Reduced:
        """Reduces a generator, coroutine or async generator, which is not known to be the delegate of another."""
        if INNERS and (known := INNERS.get((get_ident(), id(obj)))) is not None:
            return same, (known,)
        inner = parts(obj)[3]
        if inner is None:
            return self.frame(obj, (), None, None, True)
        return self.chain(obj, inner)

    def chain(self, outer: Any, inner: Any) -> Reduced:
        """Reduces a frame that delegates: the delegates go first, innermost first."""
        links: list[tuple[Any, Any, Any]] = []  # object, how it holds the next, the next
        obj = outer
        while inner is not None:
            form, held = delegate_of(obj, inner)
            links.append((obj, form, held))
            if form in ENDS:
                break
            obj, inner = held, parts(held)[3] or pending(held)
        else:
            links.append((obj, None, None))
        form, below = links[-1][1:]
        thread = get_ident()
        holders: list[Inner] = []
        for obj, form, _ in reversed(links[1:]):
            below = INNERS[thread, id(obj)] = Inner(self, obj, form, below)
            holders.append(below)
        driven = links[-1][1] != "again"
        return self.frame(outer, tuple(holders), links[0][1], below, driven)

    def frame(self, obj: Any, before: tuple[Inner, ...], form: Any, inner: Any, is_root: bool) -> Reduced:
        """Reduces one activation. `form`: how it holds `inner`, which is a delegate or what stands for it."""
        frame, code, running, _ = parts(obj)
        layout = LAYOUTS.get(id(code)) or layout_of(code)
        if layout is None:
            raise not_durable(obj, code)
        if running:
            raise CannotPickleError("it is running; it can be pickled when it is suspended", *where(layout.unit))
        if self.met is not None:
            self.met.append(obj)
        if frame is None:
            return new_finished, (type(obj).__name__, obj.__name__, obj.__qualname__)
        variables = frame.f_locals
        unit = layout.unit
        point = variables.get(layout.at)
        if point is None or code is not unit.code:
            if code is not unit.code and variables[layout.to]:
                point, is_root = abs(variables[layout.to]), False  # restored and not driven yet: it stays so
                if form is None and (waiting := pending(obj)) is not None:
                    return self.chain(obj, waiting)
            elif point is None:
                return self.not_started(obj, layout)
        state: list[Any] = [point]
        try:
            state += layout.getters[point](variables)
        except KeyError:
            state[0] = -point
            state += [variables.get(name, UNBOUND) for name in layout.names[point]]
        cells = variables[layout.cells] if unit.cells_order else ()
        if SNAPSHOTS:
            variables.clear()
        held = 6 if code is unit.code else 8
        for index in layout.loops[point]:
            if getrefcount(state[index + 1]) <= held - 2:
                state[index + 1] = encode(state[index + 1])
        return self.made(layout, frame.f_globals, cells, state, before, form, inner, is_root)

    def made(
        self, layout: Layout, variables: dict[str, Any], cells: Any, state: list[Any],
        before: Any, form: Any, inner: Any, is_root: bool,
    ) -> Reduced:  # fmt: skip
        """The reduction of a frame with this state."""
        if self.wraps and not PLAIN.issuperset(map(type, state)):
            state = [wrapped(value) for value in state]
        if cells:
            if self.wraps:
                cells = tuple(wrapped(cell) for cell in cells)
            arguments: Reduced = (self.code(layout, variables), layout.suffix, *cells)
        elif layout.suffix:
            arguments = (self.code(layout, variables), layout.suffix)
        else:
            arguments = (self.code(layout, variables),)
        if form is None:
            return new, arguments, tuple(state), None, None, fill if is_root else fill_inner
        if self.wraps and form in ENDS:
            inner = wrapped(inner)
        whole = (before, form, inner, *state)
        return new, arguments, whole, None, None, join if is_root else join_inner

    def not_started(self, obj: Any, layout: Layout) -> Reduced:
        """Reduces an object that was made and not started: the call that makes it again."""
        found = capture(obj)
        arguments = (self.code(layout, found.globals), layout.suffix, found.values, found.cells)
        if self.wraps:
            values, cells = ({name: wrapped(value) for name, value in part.items()} for part in arguments[2:])
            arguments = (*arguments[:2], values, cells)
        return new_not_started, arguments

    def code(self, layout: Layout, variables: dict[str, Any]) -> Any:
        """How a frame names its code."""
        known = layout.references[self.by_key]
        if known is not None and known[0] is variables:
            return known[1]
        found = identity.reference(layout.unit.source, variables, self.by_key)
        if isinstance(found, str):
            layout.references[self.by_key] = variables, found
        return wrapped(found) if self.wraps else found
