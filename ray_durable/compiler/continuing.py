"""Where `combinators` cannot make an `itertools` object again as it stood: classes that go on from there, in Python.

Each gives the items that the object would have given, and is pickled as it stands.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray_durable.compiler.frame import UNBOUND

Reduced = tuple[Any, ...]


class Then:
    """Gives `first`, and after it what `after` gives."""

    __slots__ = ("after", "first")

    def __init__(self, first: Any, after: Any) -> None:
        self.first, self.after = first, after

    def __iter__(self) -> Then:
        return self

    def __next__(self) -> Any:
        if self.first is UNBOUND:
            return next(self.after)
        first, self.first = self.first, UNBOUND
        return first

    def __reduce__(self) -> Reduced:
        return Then, (self.first, self.after)


class Cycle:
    """Goes on as `itertools.cycle`: through the source, keeping what it gives, then through that again and again."""

    __slots__ = ("index", "keeps", "saved", "source")

    def __init__(self, source: Any, saved: list[Any], index: int, keeps: bool) -> None:
        self.source, self.saved, self.index, self.keeps = source, saved, index, keeps

    def __iter__(self) -> Cycle:
        return self

    def __next__(self) -> Any:
        if self.source is not UNBOUND:
            for item in self.source:
                if self.keeps:
                    self.saved.append(item)
                return item
            self.source = UNBOUND
        if not self.saved:
            raise StopIteration
        item = self.saved[self.index]
        self.index = (self.index + 1) % len(self.saved)
        return item

    def __reduce__(self) -> Reduced:
        return Cycle, (self.source, self.saved, self.index, self.keeps)


class Selection:
    """Goes on as `product`, `combinations`, `combinations_with_replacement` or `permutations`.

    `indices`: those of the selection given last; `fresh`: none was given yet."""

    __slots__ = ("cycles", "ended", "fresh", "indices", "kind", "pools")

    def __init__(
        self, kind: str, pools: tuple[Any, ...], indices: list[int], cycles: list[int], fresh: bool, ended: bool
    ) -> None:
        self.kind, self.pools, self.indices, self.cycles = kind, pools, indices, cycles
        self.fresh, self.ended = fresh, ended

    def __iter__(self) -> Selection:
        return self

    def __next__(self) -> tuple[Any, ...]:
        if self.fresh and not self.ended:
            self.fresh = False
            self.ended = self.kind == "product" and not all(self.pools)
        elif not self.ended:
            self.ended = not ADVANCE[self.kind](self)
        if self.ended:
            raise StopIteration
        if self.kind == "product":
            return tuple(pool[index] for pool, index in zip(self.pools, self.indices, strict=True))
        count = len(self.cycles) if self.kind == "permutations" else len(self.indices)
        return tuple(self.pools[index] for index in self.indices[:count])

    def __reduce__(self) -> Reduced:
        return Selection, (self.kind, self.pools, self.indices, self.cycles, self.fresh, self.ended)


def next_product(state: Selection) -> bool:
    for place in reversed(range(len(state.indices))):
        state.indices[place] += 1
        if state.indices[place] < len(state.pools[place]):
            return True
        state.indices[place] = 0
    return False


def next_combination(state: Selection) -> bool:
    indices, spare = state.indices, len(state.pools) - len(state.indices)
    for place in reversed(range(len(indices))):
        if indices[place] != place + spare:
            indices[place:] = range(indices[place] + 1, indices[place] + 1 + len(indices) - place)
            return True
    return False


def next_with_replacement(state: Selection) -> bool:
    indices, last = state.indices, len(state.pools) - 1
    for place in reversed(range(len(indices))):
        if indices[place] != last:
            indices[place:] = [indices[place] + 1] * (len(indices) - place)
            return True
    return False


def next_permutation(state: Selection) -> bool:
    indices, cycles = state.indices, state.cycles
    for place in reversed(range(len(cycles))):
        cycles[place] -= 1
        if cycles[place]:
            other = -cycles[place]
            indices[place], indices[other] = indices[other], indices[place]
            return True
        indices[place:] = [*indices[place + 1 :], indices[place]]
        cycles[place] = len(indices) - place
    return False


ADVANCE: dict[str, Callable[[Selection], bool]] = {
    "product": next_product,
    "combinations": next_combination,
    "combinations_with_replacement": next_with_replacement,
    "permutations": next_permutation,
}


class Groups:
    """Goes on as `itertools.groupby`. `turn` tells the group that is current from those before it."""

    __slots__ = ("key", "keyed", "source", "target", "turn", "value")

    def __init__(self, source: Any, key: Any, target: Any, keyed: Any, value: Any, turn: int = 0) -> None:
        self.source, self.key, self.target, self.keyed, self.value, self.turn = source, key, target, keyed, value, turn

    def __iter__(self) -> Groups:
        return self

    def __next__(self) -> tuple[Any, Group]:
        self.turn += 1
        while self.keyed is UNBOUND or (self.target is not UNBOUND and self.target == self.keyed):
            self.step()
        self.target = self.keyed
        return self.keyed, Group(self, self.target, self.turn)

    def step(self) -> None:
        value = next(self.source)
        self.keyed = value if self.key is None else self.key(value)
        self.value = value

    def __reduce__(self) -> Reduced:
        return Groups, (self.source, self.key, self.target, self.keyed, self.value, self.turn)


class Group:
    """The items of one key."""

    __slots__ = ("parent", "target", "turn")

    def __init__(self, parent: Groups, target: Any, turn: int) -> None:
        self.parent, self.target, self.turn = parent, target, turn

    def __iter__(self) -> Group:
        return self

    def __next__(self) -> Any:
        parent = self.parent
        if parent.turn != self.turn:
            raise StopIteration
        if parent.value is UNBOUND:
            parent.step()
        if self.target != parent.keyed:
            raise StopIteration
        value, parent.value = parent.value, UNBOUND
        return value

    def __reduce__(self) -> Reduced:
        return Group, (self.parent, self.target, self.turn)


BLOCK = 57  # items that CPython keeps in one


class Block:
    """A stretch of what the source of several `Tee`s gave."""

    __slots__ = ("after", "source", "values")

    def __init__(self, source: Any, values: list[Any], after: Any) -> None:
        self.source, self.values, self.after = source, values, after

    def __reduce__(self) -> Reduced:
        return Block, (self.source, self.values, self.after)


class Tee:
    """Goes on as one of the iterators of `itertools.tee`, and shares what was read with the others."""

    __slots__ = ("block", "index")

    def __init__(self, block: Block, index: int) -> None:
        self.block, self.index = block, index

    def __iter__(self) -> Tee:
        return self

    def __next__(self) -> Any:
        block = self.block
        if self.index >= BLOCK:
            if block.after is UNBOUND:
                block.after = Block(block.source, [], UNBOUND)
            self.block, self.index = block, _ = block.after, 0
        if self.index == len(block.values):
            block.values.append(next(block.source))
        self.index += 1
        return block.values[self.index - 1]

    def __copy__(self) -> Tee:
        return Tee(self.block, self.index)

    def __reduce__(self) -> Reduced:
        return Tee, (self.block, self.index)
