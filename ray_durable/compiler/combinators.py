"""`itertools` in flight: read from the objects themselves, as their own pickling goes away in Python 3.14.

What such an object refers to and counts lies in its C structure, in an order that has been the same for years. It is
read from there, for types whose size is the known one, and nothing is advanced by it. The object is made again by the
public constructors where they can say it, and else goes on in Python (`continuing`): `itertools.cycle` comes back as
`Cycle`, which gives the same items.
"""

from __future__ import annotations

import ctypes
import itertools
import sys
from collections.abc import Callable, Iterator
from typing import Any

from ray_durable.compiler.continuing import BLOCK, Block, Cycle, Group, Groups, Selection, Tee, Then
from ray_durable.compiler.frame import UNBOUND

Reduced = tuple[Any, ...]
WORD = ctypes.sizeof(ctypes.c_ssize_t)
HEADER = object.__basicsize__
STATE_WORD = 1  # some versions end the structure with a pointer to their module's state
INT_MAX = 0xFFFFFFFF  # C ints that share a word


def words(iterator: Any, count: int) -> list[int]:
    """The first words of an object's structure.

    Raises: TypeError when the structure is not the one that is known."""
    kind = type(iterator)
    extra = (kind.__basicsize__ - HEADER) // WORD - count
    if sys.implementation.name != "cpython" or HEADER != 2 * WORD or not 0 <= extra <= STATE_WORD:
        raise TypeError(f"cannot pickle {kind.__name__!r} object: this Python lays it out in an unknown way")
    return list((ctypes.c_ssize_t * count).from_address(id(iterator) + HEADER))


def at(word: int) -> Any:
    """The object that a word of a structure points to; UNBOUND if none."""
    return ctypes.cast(word, ctypes.py_object).value if word else UNBOUND


def fields(iterator: Any, layout: str) -> list[Any]:
    """The fields of an object: "o" an object, "i" a number, "p" an address."""
    return [at(word) if kind == "o" else word for kind, word in zip(layout, words(iterator, len(layout)), strict=True)]


def empty() -> Iterator[Any]:
    return iter(())


def rest(iterator: Any) -> Any:
    return iterator


# ---- those that their own constructors make again --------------------------------------------------------------------


def reduce_count(iterator: Any) -> Reduced:
    number, large, step = fields(iterator, "ioo")
    return itertools.count, (number if large is UNBOUND else large, step)


def reduce_repeat(iterator: Any) -> Reduced:
    element, left = fields(iterator, "oi")
    return itertools.repeat, ((element,) if left < 0 else (element, left))


def reduce_takewhile(iterator: Any) -> Reduced:
    predicate, source, stopped = fields(iterator, "ooi")
    return (empty, ()) if stopped & INT_MAX else (itertools.takewhile, (predicate, source))


def reduce_dropwhile(iterator: Any) -> Reduced:
    predicate, source, started = fields(iterator, "ooi")
    return (rest, (source,)) if started & INT_MAX else (itertools.dropwhile, (predicate, source))


def reduce_starmap(iterator: Any) -> Reduced:
    return itertools.starmap, tuple(fields(iterator, "oo"))


def reduce_compress(iterator: Any) -> Reduced:
    return itertools.compress, tuple(fields(iterator, "oo"))


def reduce_filterfalse(iterator: Any) -> Reduced:
    return itertools.filterfalse, tuple(fields(iterator, "oo"))


def reduce_islice(iterator: Any) -> Reduced:
    source, following, stop, step, taken = fields(iterator, "oiiii")
    if source is UNBOUND:
        return empty, ()
    return itertools.islice, (source, following - taken, None if stop < 0 else stop - taken, step)


def reduce_zip_longest(iterator: Any) -> Reduced:
    count, active, sources, _, fill = words(iterator, 5)
    if not active or not sources:
        return empty, ()
    first = sources + tuple.__basicsize__
    held = [at(word) for word in (ctypes.c_ssize_t * count).from_address(first)]  # none where one is used up
    return zip_longest, (at(fill), *(() if each is UNBOUND else each for each in held))


def zip_longest(fill: Any, *sources: Any) -> Any:
    return itertools.zip_longest(*sources, fillvalue=fill)


def reduce_accumulate(iterator: Any) -> Reduced:
    total, source, function, initial = fields(iterator, "oooo")
    return accumulate, (source, None if function is UNBOUND else function, initial, total)


def accumulate(source: Any, function: Any, initial: Any, total: Any) -> Any:
    """`itertools.accumulate` that has come to `total`; UNBOUND if it has not begun."""
    if total is UNBOUND:
        return itertools.accumulate(source, function, initial=initial)
    made = itertools.accumulate(itertools.chain((total,), source), function)
    next(made)
    return made


def reduce_batched(iterator: Any) -> Reduced:
    strict = sys.version_info >= (3, 13)
    source, size, *flag = fields(iterator, "oii" if strict else "oi")
    if source is UNBOUND:
        return empty, ()
    return batched, (source, size, bool(flag and flag[0] & 0xFF))


def batched(source: Any, size: int, strict: bool) -> Any:
    made: Any = itertools.batched  # type: ignore[attr-defined, unused-ignore]
    return made(source, size, strict=True) if strict else made(source, size)


def reduce_chain(iterator: Any) -> Reduced:
    source, active = fields(iterator, "oo")
    if source is UNBOUND:
        return empty, ()
    while type(source) is Then and source.first is UNBOUND:
        source = source.after
    if type(source) is TUPLE_ITERATOR:
        reduced: Any = source.__reduce__()
        left = reduced[1][0][reduced[2] if len(reduced) > 2 else 0 :]
        return itertools.chain, (*(() if active is UNBOUND else (active,)), *left)
    return chain, (source, active)


def chain(source: Any, active: Any) -> Any:
    return itertools.chain.from_iterable(source if active is UNBOUND else Then(active, source))


TUPLE_ITERATOR: type = type(iter(()))


# ---- those that go on in Python --------------------------------------------------------------------------------------


def reduce_cycle(iterator: Any) -> Reduced:
    source, saved, index, repeated = fields(iterator, "ooii")
    return Cycle, (source, list(saved), index, not repeated & INT_MAX)


def numbers(address: int, count: int) -> list[int]:
    return list((ctypes.c_ssize_t * count).from_address(address)) if address and count else []


def reduce_product(iterator: Any) -> Reduced:
    pools, indices, given, ended = fields(iterator, "opii")
    found = numbers(indices, len(pools))
    return Selection, ("product", pools, found, [], not given, bool(ended & INT_MAX))


def reduce_combinations(iterator: Any) -> Reduced:
    pool, indices, given, count, ended = fields(iterator, "opiii")
    return Selection, (type(iterator).__name__, pool, numbers(indices, count), [], not given, bool(ended & INT_MAX))


def reduce_permutations(iterator: Any) -> Reduced:
    pool, indices, cycles, given, count, ended = fields(iterator, "oppiii")
    found = numbers(indices, len(pool)), numbers(cycles, count)
    return Selection, ("permutations", pool, *found, not given, bool(ended & INT_MAX))


# ---- groupby and tee: several objects that share a state ----------------------------------------------------------


def reduce_groupby(iterator: Any) -> Reduced:
    return Groups, tuple(fields(iterator, "ooooop")[:5])


def reduce_group(iterator: Any) -> Reduced:
    parent, target = fields(iterator, "oo")
    is_current = fields(parent, "ooooop")[5] == id(iterator)
    return Group, (parent, target, 0 if is_current else -1)


def reduce_tee(iterator: Any) -> Reduced:
    block, index, _ = fields(iterator, "oii")
    return Tee, (block, index & INT_MAX)


def reduce_block(block: Any) -> Reduced:
    source, count, after, *_ = words(block, 3 + BLOCK)
    read = [at(word) for word in words(block, 3 + BLOCK)[3 : 3 + (count & INT_MAX)]]
    return Block, (at(source), read, at(after))


def reduce_own(iterator: Any) -> Reduced:
    found: Reduced = iterator.__reduce__()
    return found


GROUP: type = type(next(itertools.groupby([0]))[1])
TEE: type = type(itertools.tee(())[0])
TEE_BLOCK: type = itertools._tee_dataobject  # type: ignore[attr-defined]
REDUCERS: dict[type, Callable[[Any], Reduced]] = {
    itertools.count: reduce_count,
    itertools.repeat: reduce_repeat,
    itertools.takewhile: reduce_takewhile,
    itertools.dropwhile: reduce_dropwhile,
    itertools.starmap: reduce_starmap,
    itertools.compress: reduce_compress,
    itertools.filterfalse: reduce_filterfalse,
    itertools.islice: reduce_islice,
    itertools.zip_longest: reduce_zip_longest,
    itertools.accumulate: reduce_accumulate,
    itertools.chain: reduce_chain,
    itertools.cycle: reduce_cycle,
    itertools.product: reduce_product,
    itertools.combinations: reduce_combinations,
    itertools.combinations_with_replacement: reduce_combinations,
    itertools.permutations: reduce_permutations,
    itertools.groupby: reduce_groupby,
    GROUP: reduce_group,
    TEE: reduce_tee,
    TEE_BLOCK: reduce_block,
    **dict.fromkeys((Then, Cycle, Selection, Groups, Group, Tee, Block), reduce_own),
}
if hasattr(itertools, "batched"):
    REDUCERS[itertools.batched] = reduce_batched
