"""Source to durable function: capture and restore of suspended Python. Knows neither Ray nor storage.

Importing this loads nothing: each name is resolved on first use, and `libcst` only when source is rendered.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray_durable.compiler.backedges import back_edges_due as back_edges_due
    from ray_durable.compiler.backedges import suspend_at_back_edges as suspend_at_back_edges
    from ray_durable.compiler.capture import capture as capture
    from ray_durable.compiler.decoration import compiled_of as compiled_of
    from ray_durable.compiler.decoration import durable as durable
    from ray_durable.compiler.decoration import twin_of as twin_of
    from ray_durable.compiler.discard import discard as discard
    from ray_durable.compiler.frame import Frame as Frame
    from ray_durable.compiler.reopening import open as open
    from ray_durable.compiler.replacements import awaits as awaits
    from ray_durable.compiler.replacements import suspends as suspends
    from ray_durable.compiler.restore import restore as restore

HOMES = {
    "Frame": "frame",
    "awaits": "replacements",
    "back_edges_due": "backedges",
    "capture": "capture",
    "compiled_of": "decoration",
    "discard": "discard",
    "durable": "decoration",
    "open": "reopening",
    "restore": "restore",
    "suspend_at_back_edges": "backedges",
    "suspends": "replacements",
    "twin_of": "decoration",
}
__all__ = [
    "Frame",
    "awaits",
    "back_edges_due",
    "capture",
    "compiled_of",
    "discard",
    "durable",
    "open",
    "restore",
    "suspend_at_back_edges",
    "suspends",
    "twin_of",
]


class Package(ModuleType):
    """Importing a submodule binds it in its package; where a function bears that name too, the function is meant."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in HOMES and isinstance(value, ModuleType):
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = Package


def __getattr__(name: str) -> Any:
    home = HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
