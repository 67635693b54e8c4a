"""Durable checkpoints: records to segments to an object store, and back. Knows nothing of Ray.

log = open_log("/data/checkpoints")                        # a writer; one name, one process, ever
log.append("job", 1, 1, Kind.CHECKPOINT, dumps(state))
log.flush()                                                # durable now
recover(log.store, log.writer).coroutines["job"].latest    # also from another process, after a crash
seal(log.store, log.writer, "me", {})                      # from here on `log` can write nothing more
"""

from __future__ import annotations

import importlib
from typing import Any

NAMES = {
    "Codec": "record",
    "Consumed": "record",
    "Keys": "keys",
    "Kind": "record",
    "Log": "log",
    "Record": "record",
    "Recovered": "recovery",
    "Recovery": "recovery",
    "Sealed": "sealing",
    "Store": "stores",
    "claim": "names",
    "dumps": "codec",
    "loads": "codec",
    "open_log": "log",
    "open_store": "stores",
    "probe": "stores",
    "read_records": "reading",
    "recover": "recovery",
    "seal": "sealing",
    "writers": "names",
}

__all__ = sorted(NAMES)


def __getattr__(name: str) -> Any:
    if name not in NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{NAMES[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
