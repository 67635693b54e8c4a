"""What a seed is: one world, of the kind that its number says, with every fault in it decided by the number alone.

Of a hundred seeds in a row each kind has a fixed share, so a million seeds are a million worlds, and any run of some
hundred seeds has some of each. Of the time, more than two fifths go to whole clusters, where most faults were found,
almost a quarter to the real leader, the rest to single logs and encounters, of which there are more as they are
shorter. The same number in worlds of every kind: `pytest tests/simulation --seed 81723`.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """A kind of world: where the function is that runs one, and how many of a hundred seeds are of it."""

    module: str
    function: str
    share: int

    def load(self):
        """The function. Loading it takes Ray and more along, which whoever only asks for help need not wait for."""
        return getattr(importlib.import_module(f"tests.simulation.{self.module}"), self.function)

    def run(self, seed):
        """One world to its end. Raises: AssertionError for a broken promise."""
        return self.load()(seed)


KINDS = {
    "cluster": Kind("cluster", "simulate", 13),
    "succession": Kind("cluster", "succession", 17),
    "leaders": Kind("leaders", "simulate_leaders", 5),
    "duel": Kind("duel", "duel", 20),
    "hoard": Kind("hoard", "hoard", 15),
    "lease": Kind("lease", "lease", 10),
    "overtaken": Kind("overtaken", "overtaken", 12),
    "rivals": Kind("rivals", "rivals", 8),
}
NAMES = [name for name, kind in KINDS.items() for _ in range(kind.share)]


def kind_of(seed):
    """The name of the kind of world that a seed is."""
    return NAMES[37 * seed % len(NAMES)]  # so that neighbours differ
