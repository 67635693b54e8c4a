"""Iterators in flight: how each builtin one is pickled, and goes on where it was.

`REDUCERS` maps iterator types to pickle reducers. It is private to our own picklers (`references.dispatch_table`):
putting it into `copyreg` would change how the whole process pickles. `encode` and `decode` are a shorter form for the
iterators that `for` loops keep in a frame.

Promises, beyond going on with the same items:
- the container stays the same object, so that what is appended to a list later is still seen;
- a dict or set that changed size, before the capture or after the resume, still raises RuntimeError at the next step;
- nothing is consumed by being captured.

`itertools` have a module of their own, `combinators`.
"""

from __future__ import annotations

import gc
import itertools
import types
from collections import deque
from collections.abc import Callable, Iterator
from operator import attrgetter
from sys import _getframe, getrefcount
from typing import Any

from ray_durable.compiler import combinators
from ray_durable.compiler.replacements import ADOPTABLE, adopted_alone

Reduced = tuple[Any, ...]
Reducer = Callable[[Any], Reduced]


class Stepper:
    """The steps of an iterator that lacks `__iter__`, or whose `__iter__` may do more than return it: a plain `for` or
    `yield from` asks for it once, and so do we. It has no frame of its own in tracebacks."""

    __slots__ = ("iterator",)

    def __init__(self, iterator: Any) -> None:
        self.iterator = iterator

    def __iter__(self) -> Stepper:
        return self

    __next__ = property(attrgetter("iterator.__next__"))

    def __getattr__(self, name: str) -> Any:
        if name in ("send", "throw", "close"):
            return getattr(self.iterator, name)
        raise AttributeError(name)

    def __reduce__(self) -> Reduced:
        return Stepper, (self.iterator,)


C_METHOD: type = type(object.__repr__)
RETURNS_ITSELF = (lambda self: self).__code__.co_code


def loop_iter(iterable: Any) -> Any:
    """What `for x in iterable` would step through, as an object that a second `iter` leaves as it is. Generators of
    undecorated functions are adopted, where nobody else has them and could notice."""
    iterator = iter(iterable)
    if type(iterator) in ADOPTABLE:
        others = getrefcount(iterator) - (3 if iterator is iterable else 2)
        if others == 1:
            from ray_durable.compiler.adoption import is_half_evaluated

            others -= is_half_evaluated(iterator, _getframe(1))
        if others <= 0:
            return adopted_alone(iterator)
    return steps_of(iterator)


def steps_of(iterator: Any) -> Any:
    """The same for what `iter` gave."""
    method = getattr(type(iterator), "__iter__", None)
    if method.__class__ is C_METHOD or (
        method.__class__ is types.FunctionType and method.__code__.co_code == RETURNS_ITSELF
    ):
        return iterator
    return Stepper(iterator)


# ---- sequences: the container and an index ---------------------------------------------------------------------------

SEQUENCES: tuple[Any, ...] = ([], (), "", "é", b"", bytearray())
INDEXED = frozenset(type(iter(sequence)) for sequence in SEQUENCES)
REVERSED_LIST: type = type(reversed([]))
DEQUE: type = type(iter(deque()))
REVERSED_DEQUE: type = type(reversed(deque()))
RANGES: tuple[type, ...] = (type(iter(range(0))), type(iter(range(1 << 80))))


class Later:
    """An iterator over a container that is still being unpickled: the first step, later, makes the real one.

    Only met where a container holds the iterator, or the generator that steps through it."""

    __slots__ = ("args", "iterator", "make")

    def __init__(self, make: Callable[..., Any], *args: Any) -> None:
        self.make, self.args = make, args
        self.iterator: Any = None

    def __iter__(self) -> Later:
        return self

    def __next__(self) -> Any:
        if self.iterator is None:
            self.iterator = self.make(*self.args)
        return next(self.iterator)

    def __reduce__(self) -> Reduced:
        return (Stepper, (self.iterator,)) if self.iterator is not None else (Later, (self.make, *self.args))


def set_index(iterator: Any, index: int) -> Any:
    iterator.__setstate__(index)
    return iterator


def iterator_at(sequence: Any, index: int) -> Any:
    """The iterator of a sequence that gives `sequence[index]` next."""
    if index > len(sequence):  # `__setstate__` would move the index back to what the end is now
        return Later(iterator_now, sequence, index)
    return set_index(iter(sequence), index)


def iterator_now(sequence: Any, index: int) -> Any:
    return set_index(iter(sequence), index)


def reversed_at(sequence: Any, index: int) -> Any:
    """The reversed iterator of a list that gives `sequence[index]` next."""
    if index >= len(sequence):
        return Later(reversed_now, sequence, index)
    return set_index(reversed(sequence), index)


def reversed_now(sequence: Any, index: int) -> Any:
    return set_index(reversed(sequence), index)


def deque_iterator(items: Any, consumed: int, backwards: bool) -> Any:
    """The iterator of a deque (`reversed`, if `backwards`) that has given `consumed` items."""
    if consumed > len(items):
        return Later(deque_iterator_now, items, consumed, backwards)
    return deque_iterator_now(items, consumed, backwards)


def deque_iterator_now(items: Any, consumed: int, backwards: bool) -> Any:
    iterator = reversed(items) if backwards else iter(items)
    next(itertools.islice(iterator, consumed, consumed), None)
    return iterator


def reduce_deque_iterator(iterator: Any) -> Reduced:
    items, consumed = iterator.__reduce__()[1]
    return deque_iterator, (items, consumed, type(iterator) is REVERSED_DEQUE)


def range_iterator(start: int, stop: int, step: int) -> Iterator[int]:
    return iter(range(start, stop, step))


def reduce_indexed(iterator: Any) -> Reduced:
    _, args, *index = iterator.__reduce__()
    return iterator_at, (args[0], index[0] if index else 0)


def reduce_reversed_list(iterator: Any) -> Reduced:
    _, args, *index = iterator.__reduce__()
    return (reversed_at, (args[0], index[0])) if index else (iterator_at, ((), 0))


def reduce_range(iterator: Any) -> Reduced:
    reduced = iterator.__reduce__()
    left = reduced[1][0]
    start, step = left.start, left.step
    if len(reduced) > 2 and reduced[2]:  # None from Python 3.12 on
        start += reduced[2] * step  # a third of the time of slicing
    return range_iterator, (start, left.stop, step)


# ---- dicts: which view, the dict, how many entries are consumed, how many there were ---------------------------------

DICT_VIEWS: tuple[Callable[[Any], Any], ...] = (dict.keys, dict.values, dict.items)
DICT_ITERATORS: tuple[Callable[[Any], Any], ...] = (
    dict.__iter__,
    lambda mapping: iter(dict.values(mapping)),
    lambda mapping: iter(dict.items(mapping)),
    dict.__reversed__,
    lambda mapping: reversed(dict.values(mapping)),
    lambda mapping: reversed(dict.items(mapping)),
)
DICT_KINDS: dict[type, int] = {type(make({})): kind for kind, make in enumerate(DICT_ITERATORS)}
VIEW_KINDS: dict[type, int] = {type(make({})): kind for kind, make in enumerate(DICT_VIEWS)}


def dict_iterator(kind: int, mapping: dict[Any, Any], consumed: int, size: int) -> Any:
    """An iterator over `mapping`, of `size` entries, that has given `consumed` of them."""
    if len(mapping) != size:
        return Later(dict_iterator_now, kind, mapping, consumed, size)
    return dict_iterator_now(kind, mapping, consumed, size)


def dict_iterator_now(kind: int, mapping: dict[Any, Any], consumed: int, size: int) -> Any:
    if len(mapping) != size:
        return changed_dict_iterator(kind)
    iterator = DICT_ITERATORS[kind](mapping)
    next(itertools.islice(iterator, consumed, consumed), None)
    return iterator


def changed_dict_iterator(kind: int) -> Any:
    """An iterator whose dict has changed size: each step raises RuntimeError."""
    mapping = {0: 0}
    iterator = DICT_ITERATORS[kind](mapping)
    mapping[1] = 1
    return iterator


def reduce_dict_iterator(iterator: Any) -> Reduced:
    mapping = next((item for item in gc.get_referents(iterator) if isinstance(item, dict)), None)
    if mapping is None:  # exhausted
        return iterator_at, ((), 0)
    kind = DICT_KINDS[type(iterator)]
    left = iterator.__length_hint__()
    if not left:
        try:
            iterator.__reduce__()  # goes through what is left
        except RuntimeError:
            return changed_dict_iterator, (kind,)
    return dict_iterator, (kind, mapping, len(mapping) - left, len(mapping))


def dict_view(kind: int, mapping: dict[Any, Any]) -> Any:
    return DICT_VIEWS[kind](mapping)


def reduce_dict_view(view: Any) -> Reduced:
    return dict_view, (VIEW_KINDS[type(view)], gc.get_referents(view)[0])


def reduce_mapping_proxy(proxy: Any) -> Reduced:
    return types.MappingProxyType, (gc.get_referents(proxy)[0],)


# ---- sets: order is not kept from process to process, so the items that are left -------------------------------------

SET_ITERATOR: type = type(iter(set()))


class SetSteps:
    """Goes on over the items of a set that were left, and raises, as the native iterator does, if its size changes."""

    __slots__ = ("items", "left", "size")

    def __init__(self, items: Any, left: list[Any], size: int) -> None:
        self.items, self.left, self.size = items, left, size  # `left` is in reverse

    def __iter__(self) -> SetSteps:
        return self

    def __next__(self) -> Any:
        if len(self.items) != self.size:
            self.size = -1  # it stays so
            raise RuntimeError("Set changed size during iteration")
        if not self.left:
            self.items, self.size = (), 0
            raise StopIteration
        return self.left.pop()

    def __length_hint__(self) -> int:
        return len(self.left)

    def __reduce__(self) -> Reduced:
        return SetSteps, (self.items, self.left, self.size)


def reduce_set_iterator(iterator: Any) -> Reduced:
    items = next(iter(gc.get_referents(iterator)), None)
    if items is None:  # exhausted
        return iterator_at, ((), 0)
    try:
        left = iterator.__reduce__()[1][0]
    except RuntimeError:
        return SetSteps, (items, [], -1)
    if isinstance(items, frozenset):
        return iterator_at, (left, 0)
    return SetSteps, (items, left[::-1], len(items))


# ---- the rest --------------------------------------------------------------------------------------------------------


def reduce_natively(iterator: Any) -> Reduced:
    """By the type's own `__reduce__`, which does what is promised above."""
    reduced: Reduced = iterator.__reduce__()
    return reduced


def pairwise_referents(iterator: Any) -> list[Any]:
    return [item for item in gc.get_referents(iterator) if item is not itertools.pairwise]


FRESH_PAIRWISE_REFERENTS = len(pairwise_referents(itertools.pairwise(iter("ab"))))  # one more once an item was read


def reduce_pairwise(iterator: Any) -> Reduced:
    """`pairwise` has no `__reduce__`: its source, and the item that it read last, are what it refers to."""
    source, *more = pairwise_referents(iterator) or ((),)
    if isinstance(source, tuple):  # its result tuple is left, or nothing: exhausted
        return iterator_at, ((), 0)
    if 1 + len(more) > FRESH_PAIRWISE_REFERENTS:
        return itertools.pairwise, (itertools.chain((more[0],), source),)
    return itertools.pairwise, (source,)


THROUGH_OTHERS: tuple[type, ...] = (enumerate, zip, map, filter, type(iter(int, 1)))
REDUCERS: dict[type, Reducer] = {
    **dict.fromkeys(INDEXED, reduce_indexed),
    REVERSED_LIST: reduce_reversed_list,
    DEQUE: reduce_deque_iterator,
    REVERSED_DEQUE: reduce_deque_iterator,
    **dict.fromkeys(RANGES, reduce_range),
    **dict.fromkeys(DICT_KINDS, reduce_dict_iterator),
    **dict.fromkeys(VIEW_KINDS, reduce_dict_view),
    types.MappingProxyType: reduce_mapping_proxy,
    SET_ITERATOR: reduce_set_iterator,
    **dict.fromkeys(THROUGH_OTHERS, reduce_natively),
    **combinators.REDUCERS,
    itertools.pairwise: reduce_pairwise,
}
NATIVE_IS_RIGHT = frozenset({*INDEXED, REVERSED_LIST, *RANGES})  # but for containers that hold their own iterator


# ---- the short form for the iterators of `for` loops -----------------------------------------------------------------


def encode(iterator: Any) -> Any:
    """A tuple that stands for the iterator of a `for` loop in a pickled frame, or the iterator itself if none does.

    No iterator is a tuple, so `decode` needs no mark. Only for one that nothing else refers to: identity is lost."""
    reducer = REDUCERS.get(type(iterator))
    if reducer is None:
        return iterator
    if reducer is reduce_range:
        return reduce_range(iterator)[1]
    function, args = reducer(iterator)[:2]
    if function is range_iterator or function is iterator_at:
        return args  # three integers; a sequence and an index
    if function is dict_iterator or function is SetSteps:
        return (function is dict_iterator, *args)
    return iterator


def decode(encoded: Any) -> Any:
    """The iterator that `encode` made a tuple of; another iterator, or None for a loop that is over, as it is.

    Raises: TypeError when it is neither."""
    if encoded.__class__ is not tuple:
        kind = encoded.__class__
        if encoded is not None and not hasattr(kind, "__next__") and not hasattr(kind, "__anext__"):
            raise TypeError(f"a loop cannot go on over a {kind.__name__}")
        return encoded
    if len(encoded) == 3:
        return iter(range(*encoded))
    if len(encoded) == 2:
        return iterator_at(*encoded)
    return dict_iterator(*encoded[1:]) if encoded[0] else SetSteps(*encoded[1:])
