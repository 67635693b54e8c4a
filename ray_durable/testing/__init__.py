"""For tests of one's own durable functions, without a cluster; and of the compiler, on other people's code.

`crash_at_every_yield(function, *args)` crashes a function at each of its yield points in turn, and compares.
`python -m ray_durable.testing.conformance MODULE…` runs a package's own tests with all of its functions durable.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray_durable.testing.crashing import Crashed as Crashed
    from ray_durable.testing.crashing import Differs as Differs
    from ray_durable.testing.crashing import crash_at_every_yield as crash_at_every_yield

HOME = "crashing"
__all__ = ["Crashed", "Differs", "crash_at_every_yield"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{HOME}"), name)
    globals()[name] = value
    return value
