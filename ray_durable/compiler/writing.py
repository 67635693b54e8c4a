"""The reducers of suspended objects: from a native object straight to what pickle writes.

Wire form, so that cycles are kept and depth takes no recursion: `frame(code)` makes an object, un-started; when all
that it refers to exists, `frame(object, state)` fills it. A state is as `layouts.Layout` says, and belongs to an object
that is started then, which leads it to its yield point. Others begin with a letter:

    "c", links, …    it delegates to frames that nothing else refers to: they are written out in `links`
    "j", before, form, inner, …    it delegates to objects that others refer to as well, all of them in `before`
    "i", … and "k", …    as a plain one and as "j", but left un-started: a delegate, or one that was not driven yet
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
from ray_durable.compiler.reading import frame, new_finished, new_not_started
from ray_durable.compiler.wrapping import PLAIN, wrapped
from ray_durable.errors import CannotPickleError

Reduced = tuple[Any, ...]
State = tuple[Any, ...]
Link = tuple[Any, ...]  # of a chain: how the one before holds it, then code, suffix, cells, state; or an end


class Inner:
    """A delegate in a pickle that others refer to too: unpickled, the delegate itself, un-started.

    While the pickler that wrote it lives, `Writer.suspended` finds it by the object, wherever that turns up."""

    __slots__ = ("__weakref__", "form", "inner", "obj", "writer")

    def __init__(self, writer: Writer, obj: Any, form: Any, inner: Any) -> None:
        self.writer, self.obj, self.form, self.inner = writer, obj, form, inner

    def __reduce__(self) -> Reduced:
        return self.writer.joined(self.obj, (), self.form, self.inner, False)


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
        native, code, running, inner = parts(obj)
        layout = LAYOUTS.get(id(code)) or layout_of(code)
        if layout is None:
            raise not_durable(obj, code)
        if native is None:
            return new_finished, (type(obj).__name__, obj.__name__, obj.__qualname__)
        if running:
            raise CannotPickleError("it is running; it can be pickled when it is suspended", *where(layout.unit))
        if inner is not None:
            del inner  # `delegating` counts references
            return self.delegating(obj, layout)
        variables = native.f_locals
        if layout.resumed and variables[layout.to]:
            return self.not_driven(obj)
        if layout.at not in variables:
            return self.not_started(obj, layout)
        if self.met is not None:
            self.met.append(obj)
        cells = variables[layout.cells] if layout.unit.cells_order else ()
        state = self.state(layout, variables)
        return frame, self.reference(layout, native.f_globals, cells), state, None, None, frame

    def state(self, layout: Layout, variables: Any) -> State:
        """The state of a frame that was driven to where it is; `variables` is emptied where it is a copy."""
        point = variables[layout.at]
        try:
            state: State = layout.take[point](variables)
        except KeyError:
            names = layout.names[point][: -len(layout.loops[point]) or None]
            state = (-point, *(variables.get(name, UNBOUND) for name in names))
        for name in layout.loops[point]:
            iterator = variables.pop(name) if SNAPSHOTS else variables[name]
            # one that only the loop refers to: local, loop (and in a resume body: chunk, its tuple), here, argument
            held = getrefcount(iterator)
            state += (encode(iterator) if held <= (6 if layout.resumed else 4) else iterator,)
        if SNAPSHOTS:
            variables.clear()  # it is kept on the frame, and would keep the values alive
        if self.wraps and not PLAIN.issuperset(map(type, state)):
            return tuple(map(wrapped, state))
        return state

    def reference(self, layout: Layout, variables: dict[str, Any], cells: Any) -> Reduced:
        """What `reading.frame` makes the un-started object from."""
        code = self.code(layout, variables)
        if cells:
            return (code, layout.suffix, *(map(wrapped, cells) if self.wraps else cells))
        return (code, layout.suffix) if layout.suffix else (code,)

    def code(self, layout: Layout, variables: dict[str, Any]) -> Any:
        """How a frame names its code."""
        known = layout.references[self.by_key]
        if known is not None and known[0] is variables:
            return known[1]
        found = identity.reference(layout.unit.source, variables, self.by_key)
        if isinstance(found, str):
            layout.references[self.by_key] = variables, found
        return wrapped(found) if self.wraps else found

    # ---- frames that delegate ----------------------------------------------------------------------------------------

    def delegating(self, outer: Any, layout: Layout) -> Reduced:
        """Reduces a frame that delegates, with its delegates in it if nothing else refers to them."""
        links: list[Link] = []
        obj, inner, driven = outer, parts(outer)[3], True
        while inner is not None:
            form, held = delegate_of(obj, inner)
            if form in ENDS:
                links.append((form, wrapped(held) if self.wraps else held))
                driven = form == "foreign"
                break
            obj = held
            inner = held = None
            alone = getrefcount(obj) <= 3  # the frame around it, here, argument
            native, code, _, inner = parts(obj)
            below = layout_of(code)
            if not alone or type(form) is tuple or below is None or native is None:
                return self.shared(outer)
            variables = native.f_locals
            if below.at not in variables or (below.resumed and variables[below.to]):
                return self.shared(outer)
            cells = variables[below.cells] if below.unit.cells_order else ()
            links.append((form, self.reference(below, native.f_globals, cells), self.state(below, variables)))
            if self.met is not None:
                self.met.append(obj)
        native = parts(outer)[0]
        assert native is not None
        variables = native.f_locals
        cells = variables[layout.cells] if layout.unit.cells_order else ()
        state = ("c" if driven else "d", tuple(links), *self.state(layout, variables))
        if self.met is not None:
            self.met.append(outer)
        return frame, self.reference(layout, native.f_globals, cells), state, None, None, frame

    def not_driven(self, obj: Any) -> Reduced:
        return self.shared(obj, driven=False)

    def shared(self, outer: Any, driven: bool = True) -> Reduced:
        """Reduces a frame whose delegates others refer to as well: they go first, as objects, innermost first."""
        links: list[tuple[Any, Any, Any]] = []  # object, how it holds the next, the next
        obj, inner = outer, parts(outer)[3] or pending(outer)
        while inner is not None:
            form, held = delegate_of(obj, inner)
            links.append((obj, form, held))
            if form in ENDS:
                driven = driven and form == "foreign"
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
        return self.joined(outer, tuple(holders), links[0][1], below, driven)

    def joined(self, obj: Any, before: tuple[Inner, ...], form: Any, inner: Any, driven: bool) -> Reduced:
        """Reduces one activation. `form`: how it holds `inner`, a delegate or what stands for it; None: it has none."""
        native, code, _, _ = parts(obj)
        layout = layout_of(code)
        assert native is not None
        assert layout is not None
        variables = native.f_locals
        if self.met is not None:
            self.met.append(obj)
        cells = variables[layout.cells] if layout.unit.cells_order else ()
        if layout.at not in variables:
            return self.not_started(obj, layout)
        if layout.resumed and variables[layout.to]:
            variables = {**variables, layout.at: abs(variables[layout.to])}
        whole = self.reference(layout, native.f_globals, cells)
        state = self.state(layout, variables)
        if form is None:
            state = state if driven else ("i", *state)
        else:
            if self.wraps and form in ENDS:
                inner = wrapped(inner)
            state = ("j" if driven else "k", before, form, inner, *state)
        return frame, whole, state, None, None, frame

    def not_started(self, obj: Any, layout: Layout) -> Reduced:
        """Reduces an object that was made and not started: the call that makes it again."""
        found = capture(obj)
        arguments = (self.code(layout, found.globals), layout.suffix, found.values, found.cells)
        if self.wraps:
            values, cells = ({name: wrapped(value) for name, value in part.items()} for part in arguments[2:])
            arguments = (*arguments[:2], values, cells)
        return new_not_started, arguments
