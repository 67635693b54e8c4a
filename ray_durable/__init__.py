"""Durable coroutines for Ray: change one decorator, and a function survives the death of its node.

import ray, ray_durable

ray_durable.init("s3://bucket/prefix")

@ray_durable.remote
def nightly(urls):
    return ray.get([fetch.remote(url) for url in urls])
"""

from __future__ import annotations

import importlib
from typing import Any

NAMES = {
    "DurableHandle": "handle",
    "DurableStream": "decorator",
    "current": "running",
    "gather": "concurrency.waiting",
    "get_handle": "handle",
    "init": "connection",
    "list": "handle",
    "open": "compiler.reopening",
    "receive": "operations",
    "remote": "decorator",
    "resource": "resources",
    "shutdown": "connection",
    "sleep": "operations",
    "step": "steps",
    "yield_point": "operations",
}

__all__ = sorted(NAMES)


def __getattr__(name: str) -> Any:
    if name not in NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(f"{__name__}.{NAMES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return list(__all__)
