"""Ray's own functions in a frame: what `ray.remote` has made of a plain one."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import ray

__all__ = ["reduce_remote_function"]


def reduce_remote_function(function: Any) -> tuple[Any, ...]:
    """A Ray task's function: by name where that finds it, else made again from the plain function."""
    plain = function._function
    module = sys.modules.get(plain.__module__)
    if plain.__module__ != "__main__" and getattr(module, plain.__qualname__, None) is function:
        return named, (plain.__module__, plain.__qualname__)
    return remote_again, (plain, function._default_options)


def named(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


def remote_again(function: Any, options: dict[str, Any]) -> Any:
    return ray.remote(**options)(function) if options else ray.remote(function)
