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
from types import CoroutineType, FunctionType, GeneratorType
from typing import Any

from ray_durable.compiler import identity
from ray_durable.compiler.capture import FORWARD, SNAPSHOTS, capture, is_over, parts
from ray_durable.compiler.frame import UNBOUND
from ray_durable.compiler.iterators import encode
from ray_durable.compiler.layouts import ENDS, LAYOUTS, Layout, delegate_of, layout_of, not_durable, pending, where
from ray_durable.compiler.reading import frame, new_finished, new_not_started
from ray_durable.compiler.wrapping import PLAIN, wrapped, wrapped_function
from ray_durable.errors import CannotPickleError

Reduced = tuple[Any, ...]
State = tuple[Any, ...]
OVER = "c", ("over", None, None)


class Mark:
    """Says that an object about to be pickled is a delegate, which is to be left un-started, and of what form.

    It is pickled right before that object (as 0), so that it lives as long as the pickler's memo, and no longer."""

    __slots__ = ("__weakref__", "form", "inner")

    def __init__(self, form: Any, inner: Any) -> None:
        self.form, self.inner = form, inner

    def __reduce__(self) -> Reduced:
        return int, ()


MARKS: weakref.WeakValueDictionary[tuple[int, int], Mark] = weakref.WeakValueDictionary()  # by thread, id of the object
MARKED: dict[Any, Any] = MARKS.data  # type: ignore[attr-defined]  # whether there are any, without a call


def delegated_by(obj: Any) -> Any:
    return obj.gi_yieldfrom if type(obj) is GeneratorType else parts(obj)[3]


class Writer:
    """Reducers of one kind. `wraps`: for a pickler that knows nothing of ours, so values of locals are wrapped for it.

    `by_key`: code is named, not written. `met`: a list that gets every suspended object written, for `discard`.
    `functions`: for a pickler without `reducer_override`: functions that are values of locals are wrapped for it."""

    def __init__(
        self, wraps: bool = False, by_key: bool = False, met: list[Any] | None = None, functions: bool = False
    ) -> None:
        self.wraps, self.by_key, self.met, self.functions = wraps, by_key, met, functions

    def generator(self, obj: Any) -> Reduced:
        """`suspended` for generators: the usual cases first, with few calls (this is the speed of every checkpoint)."""
        layout = LAYOUTS.get(id(obj.gi_code))
        native = obj.gi_frame
        if layout is None or native is None or MARKED or layout.has_cells or obj.gi_running:
            return self.suspended(obj)
        known = layout.references[self.by_key]
        if known is None or known[0] is not native.f_globals:
            return self.suspended(obj)
        inner = obj.gi_yieldfrom
        before: State = ()
        if inner is not None:
            if not is_over(inner):  # as it is at a mere yield point
                del inner  # `delegating` counts references
                return self.delegating(obj, layout)
            before = OVER
        variables = native.f_locals
        point = variables.get(layout.at)
        if point is None or (layout.resumed and variables[layout.to]):
            return self.suspended(obj)
        if self.met is not None:
            self.met.append(obj)
        try:
            state = before + layout.whole[point](variables)
        except KeyError:  # a variable has no value
            state = before + layout.take(point, variables)
        if names := layout.loops[point]:
            state += self.iterators(names, variables)
        if SNAPSHOTS:
            variables.clear()
        if self.wraps or (self.functions and layout.makes_functions):
            state = self.wrapped(state)
        return frame, known[1], state, None, None, frame

    def suspended(self, obj: Any) -> Reduced:
        """Reduces a generator, coroutine or async generator."""
        if MARKS and (mark := MARKS.get((get_ident(), id(obj)))) is not None:
            return self.joined(obj, (), mark.form, mark.inner, False)
        native, code, running, inner = parts(obj)
        if native is None:  # durable or not, there is nothing left of it but its name
            return new_finished, (type(obj).__name__, obj.__name__, obj.__qualname__)
        layout = LAYOUTS.get(id(code)) or layout_of(code)
        if layout is None:
            raise not_durable(obj, code)
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
        reference = self.reference(layout, native.f_globals, variables)
        return frame, reference, self.state(layout, variables), None, None, frame

    def state(self, layout: Layout, variables: Any) -> State:
        """The state of a frame that was driven to where it is; `variables` is emptied where it is a copy."""
        point = variables[layout.at]
        state = layout.take(point, variables)
        if layout.loops[point]:
            state += self.iterators(layout.loops[point], variables)
        if SNAPSHOTS:
            variables.clear()  # it is kept on the frame, and would keep the values alive
        return self.wrapped(state) if self.wraps or (self.functions and layout.makes_functions) else state

    def wrapped(self, state: State) -> State:
        """A state with the values that the pickler refuses in a wrapper."""
        if self.wraps:
            return state if PLAIN.issuperset(map(type, state)) else tuple(map(wrapped, state))
        return tuple(map(wrapped_function, state)) if FunctionType in map(type, state) else state

    def iterators(self, names: tuple[str, ...], variables: Any) -> State:
        """The iterators of the loops around a yield point, in the short form if only the loop refers to them."""
        # local variable, loop, `iterator` here, argument
        found = []
        for name in names:
            iterator = variables.pop(name) if SNAPSHOTS else variables[name]
            found.append(encode(iterator) if getrefcount(iterator) <= 4 else iterator)
        return tuple(found)

    def reference(self, layout: Layout, namespace: dict[str, Any], variables: Any) -> Reduced:
        """What `reading.frame` makes the un-started object from: the code, a suffix if need be, and cells."""
        known = layout.references[self.by_key]
        if known is None or known[0] is not namespace:
            code = self.code(layout, namespace)
            known = namespace, ((code, layout.suffix) if layout.suffix or layout.unit.cells_order else (code,))
            if isinstance(code, str):
                layout.references[self.by_key] = known
        found: Reduced = known[1]
        if layout.unit.cells_order:
            cells = variables[layout.cells]
            return (*found, *(map(wrapped, cells) if self.wraps else cells))
        return found

    def code(self, layout: Layout, namespace: dict[str, Any]) -> Any:
        """How a frame names its code."""
        found = identity.reference(layout.unit.source, namespace, self.by_key)
        return wrapped(found) if self.wraps else found

    # ---- frames that delegate ----------------------------------------------------------------------------------------

    def delegating(self, outer: Any, layout: Layout) -> Reduced:
        """Reduces a frame that delegates, with its delegates in it if nothing else refers to them."""
        links: list[Any] = []
        obj, driven = outer, True
        form: Any = ""
        wraps = self.wraps
        while (inner := delegated_by(obj)) is not None:
            kind = type(inner)
            if kind is type(obj) and kind is GeneratorType and inner.gi_code is not FORWARD:
                native, code = inner.gi_frame, inner.gi_code
            elif kind is CoroutineType:
                native, code = inner.cr_frame, inner.cr_code
            else:
                form, inner = delegate_of(obj, inner)
                if form in ENDS:
                    links += (form, None, wrapped(inner) if self.wraps else inner)
                    driven = form != "again"
                    break
                native, code, _, _ = parts(inner)
            obj = None  # now `inner` is held by the frame around it, here, and as an argument
            below = LAYOUTS.get(id(code)) or layout_of(code)
            if getrefcount(inner) > 3 or form.__class__ is tuple or below is None or native is None:
                return self.shared(outer)
            variables = native.f_locals
            if below.at not in variables or (below.resumed and variables[below.to]):
                return self.shared(outer)
            known, point = below.references[self.by_key], variables[below.at]
            if known is None or known[0] is not native.f_globals or below.has_cells or below.loops[point]:
                links += (form, self.reference(below, native.f_globals, variables), self.state(below, variables))
            else:  # the usual frame, with fewer calls
                state = below.take(point, variables)
                if SNAPSHOTS:
                    variables.clear()
                if (wraps and not PLAIN.issuperset(map(type, state))) or (self.functions and below.makes_functions):
                    state = self.wrapped(state)
                links += (form, known[1], state)
            if self.met is not None:
                self.met.append(inner)
            obj, form = inner, ""
        native, _, _, _ = parts(outer)
        assert native is not None
        variables = native.f_locals
        reference = self.reference(layout, native.f_globals, variables)
        state = ("c" if driven else "d", tuple(links), *self.state(layout, variables))
        if self.met is not None:
            self.met.append(outer)
        return frame, reference, state, None, None, frame

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
                driven = driven and form != "again"
                break
            obj, inner = held, parts(held)[3] or pending(held)
        else:
            links.append((obj, None, None))
        thread = get_ident()
        before: list[Any] = []
        for obj, form, held in reversed(links[1:]):
            mark = MARKS[thread, id(obj)] = Mark(form, held)
            before += (mark, obj)
        return self.joined(outer, tuple(before), *links[0][1:], driven)

    def joined(self, obj: Any, before: State, form: Any, inner: Any, driven: bool) -> Reduced:
        """Reduces one activation. `form`: how it holds `inner`, a delegate or what stands for it; None: it has none."""
        native, code, _, _ = parts(obj)
        layout = layout_of(code)
        assert native is not None
        assert layout is not None
        variables = native.f_locals
        if self.met is not None:
            self.met.append(obj)
        if layout.resumed and variables[layout.to]:
            values = {name: value for name, value in variables.items() if value is not UNBOUND}
            variables = {**values, layout.at: abs(variables[layout.to])}
        if layout.at not in variables:
            return self.not_started(obj, layout)
        whole = self.reference(layout, native.f_globals, variables)
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
