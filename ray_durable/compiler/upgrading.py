"""Frames of an older version of a function, led into the new one by the user's hook.

The hook is given the locals of the old frame and the number of the yield point that it stood at, counted from 1 in the
order of the source; it returns those of the new one. Iterators of the loops around the yield point, managers, operands
evaluated already, and what it delegates to, are carried along: so it must lead to a yield point that stands in as many
loops and blocks.
"""

from __future__ import annotations

import types
from typing import Any

from ray_durable.compiler.frame import UNBOUND
from ray_durable.compiler.identity import Upgrade
from ray_durable.compiler.layouts import Layout
from ray_durable.compiler.unit import Unit
from ray_durable.errors import RestoreError


class Upgrading(Layout):
    """Reads states of `before`, and gives arguments for the resume body of another unit."""

    __slots__ = ("before", "hook")

    def __init__(self, before: Layout, unit: Unit, hook: Upgrade) -> None:
        super().__init__(unit, True)
        self.before, self.hook = before, hook

    def cells_by_name(self, cells: tuple[Any, ...]) -> dict[str, types.CellType]:
        """The old frame's cells; variables that became shared since start without a value."""
        found = self.before.cells_by_name(cells)
        return {name: types.CellType() for name in self.unit.cells_order} | found

    def arguments(self, state: tuple[Any, ...], delegates: list[Any], cells: tuple[Any, ...]) -> tuple[Any, ...]:
        old = dict(zip(self.before.order, self.before.arguments(state, delegates, cells), strict=True))
        variables = {name: old[name] for name in self.before.unit.variables if old[name] is not UNBOUND}
        before = abs(old[self.before.to])
        new, point = self.hook(variables, before)
        unit = self.unit
        if not 0 < point <= len(unit.points):
            raise self.refused(f"returned yield point {point}, but it has {len(unit.points)}")
        held = self.carried(before, point, old)
        values = {name: new.get(name, UNBOUND) for name in unit.variables}
        sign = -point if any(value is UNBOUND for value in values.values()) else point
        known = {**held, **values, self.to: sign, self.delegate: delegates, self.cells: cells}
        return tuple(known.get(name) for name in self.order)

    def carried(self, before: int, after: int, old: dict[str, Any]) -> dict[str, Any]:
        """What the compiler holds at the new yield point: loop iterators, managers, in the order of the old one's."""
        given = self.before.unit.points[before - 1].temporaries
        wanted = self.unit.points[after - 1].temporaries
        kinds = [[name.rstrip("0123456789") for name in names] for names in (given, wanted)]
        if kinds[0] != kinds[1]:
            raise self.refused(
                f"leads from a yield point with {self.words(given)} around it to one with {self.words(wanted)}: "
                "choose one that stands in as many loops and blocks"
            )
        return {name: old[source] for name, source in zip(wanted, given, strict=True)}

    def words(self, names: tuple[str, ...]) -> str:
        """What the compiler holds at a yield point, in words."""
        loops = sum(name.rstrip("0123456789").endswith("it") for name in names)
        return f"{loops} loops and {len(names) - loops} half-done blocks or expressions"

    def refused(self, what: str) -> RestoreError:
        return RestoreError(f"its upgrade hook {what}", self.unit.qualname)
