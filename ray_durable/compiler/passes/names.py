"""The compiler's own variables: short names that read well and meet none of the user's."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

WORDS = (
    "at",
    "to",
    "cells",
    "delegate",
    "it",
    "mgr",
    "v",
    "exc",
    "out",
    "left",
    "saved",
    "item",
    "step",
    "case",
    "done",
    "fn",
    "due",
    "site",
)
RESERVED = re.compile(rf"({'|'.join(WORDS)})\d*$")


@dataclass(slots=True)
class Names:
    """Gives out names. `at` holds the number of the yield point, `to` the one that a resume is on its way to.

    Value names (`_v1`, …) are used again from statement to statement, so that a frame stays small.
    """

    prefix: str
    counts: dict[str, int] = field(default_factory=dict)
    used: dict[str, None] = field(default_factory=dict)
    sites: list[str] = field(default_factory=list)
    values: int = 0
    taken: int = 0  # value names that an expression around the statements at hand holds on to

    @classmethod
    def avoiding(cls, identifiers: set[str]) -> Names:
        """Names that differ from all `identifiers`."""
        prefix = "_"
        while any(name.startswith(prefix) and RESERVED.match(name[len(prefix) :]) for name in identifiers):
            prefix += "d_" if prefix == "_" else "_"
        return cls(prefix)

    @property
    def at(self) -> str:
        return self.prefix + "at"

    @property
    def to(self) -> str:
        return self.prefix + "to"

    @property
    def cells(self) -> str:
        return self.prefix + "cells"

    @property
    def delegate(self) -> str:
        return self.prefix + "delegate"

    @property
    def first(self) -> str:
        """The first parameter's value, for `super()`, where the parameter itself lives in a cell."""
        return self.prefix + "v0"

    def site(self) -> str:
        """A name for what a call site remembers; no frame carries it."""
        self.sites.append(f"{self.prefix}site{len(self.sites) + 1}")
        return self.sites[-1]

    def fresh(self, word: str) -> str:
        """A name that nobody else gets: `_it1`, `_it2`, …"""
        self.counts[word] = number = self.counts.get(word, 0) + 1
        return self._kept(f"{self.prefix}{word}{number}")

    def value(self) -> str:
        """The next name for a half-evaluated value of the statement at hand."""
        self.values += 1
        return self._kept(f"{self.prefix}v{self.values}")

    def _kept(self, name: str) -> str:
        self.used[name] = None
        return name


def is_iterator(name: str, prefix: str) -> bool:
    """Whether it is the compiler's variable for a loop's iterator."""
    return name.startswith(prefix) and re.fullmatch(r"it\d+", name[len(prefix) :]) is not None


def is_ours(name: str, prefix: str) -> bool:
    """Whether a variable is one of the compiler's, in a function whose names have this prefix."""
    return " " in name or (name.startswith(prefix) and RESERVED.match(name[len(prefix) :]) is not None)
