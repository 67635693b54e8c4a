"""`f_locals` of a durable function's frame without what is the compiler's, in a conformance run.

A durable function keeps some variables besides the user's (`_at`, `_it1`, …): its `locals()` leaves them out, a frame's
`f_locals` does not. So do tests that compare the whole of `f_locals` look at everything else in it.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

from ray_durable.compiler.unit import Unit, unit_of
from ray_durable.testing.bodies import BODIES, CODE, replace

LOCALS: Callable[[Any], Any] = vars(types.FrameType)["f_locals"].__get__  # as it is before `hide_variables`
OWN = "ray_durable."


def hide_variables(caller: Callable[[int], Any]) -> None:
    """Show the user's variables only, from now on, to all but the compiler. `caller` is the real `sys._getframe`."""

    def getter(frame: Any) -> Any:
        code = CODE(frame)
        unit = unit_of(code) if id(code) in BODIES else None
        if unit is None or caller(1).f_globals.get("__name__", "").startswith(OWN):
            return LOCALS(frame)
        return Variables(LOCALS(frame), unit)

    replace(types.FrameType, "f_locals", getter)


class Variables(dict[str, Any]):
    """The user's variables in a frame. What is set here is set there, as far as that is so natively."""

    def __init__(self, behind: Any, unit: Unit) -> None:
        shown = {*unit.parameters, *unit.variables, *unit.own_cells, *unit.free}
        super().__init__((name, value) for name, value in behind.items() if name in shown)
        self.behind = behind

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, value)
        self.behind[name] = value

    def __delitem__(self, name: str) -> None:
        super().__delitem__(name)
        del self.behind[name]

    def update(self, *others: Any, **named: Any) -> None:
        for name, value in dict(*others, **named).items():
            self[name] = value

    def setdefault(self, name: str, value: Any = None) -> Any:
        if name not in self:
            self[name] = value
        return self[name]

    def pop(self, name: str, *default: Any) -> Any:
        if name not in self and default:
            return default[0]
        value = self[name]
        del self[name]
        return value

    def __reduce__(self) -> Any:
        return dict, (dict(self),)
