"""A script whose classes no other process can import: writes a generator that holds one object of each, pickled."""

from __future__ import annotations

import abc
import collections
import dataclasses
import enum
import functools
import sys
import typing

from ray_durable.compiler import durable, references

T = typing.TypeVar("T")


@dataclasses.dataclass
class Order:
    amount: int = 0
    notes: list = dataclasses.field(default_factory=list)


@dataclasses.dataclass(slots=True, frozen=True)
class Frozen:
    amount: int = 1


class Account:
    balance = 3

    @property
    def doubled(self):
        return 2 * self.balance

    @functools.cached_property
    def tripled(self):
        return 3 * self.balance

    @classmethod
    def named(cls):
        return cls.__name__

    @staticmethod
    def plus_one(x):
        return x + 1


class Point(typing.NamedTuple):
    x: int
    y: int = 2


Pair = collections.namedtuple("Pair", "a b")


class Box(typing.Generic[T]):
    def get(self) -> str:
        return "box"


class Colour(enum.Enum):
    RED = 1


class Shape(abc.ABC):
    @abc.abstractmethod
    def name(self): ...


class Square(Shape):
    def name(self):
        return f"{type(self).__name__}, a {Shape.__name__}"


@durable
def holds(order, account, things):
    yield "suspended"
    yield order, account.doubled, account.tripled, account.named(), account.plus_one(1)
    yield [thing.name() if isinstance(thing, Shape) else thing for thing in things]
    yield isinstance(order, Order), things[-1].get(), type(things[0]) is Frozen


if __name__ == "__main__":
    generator = holds(Order(5, ["a"]), Account(), [Frozen(), Point(1), Pair(1, 2), Colour.RED, Square(), Box()])
    next(generator)
    sys.stdout.buffer.write(references.dumps(generator))
