"""Files in frames: one that is closed comes back closed, as `with open(…) as file` leaves it behind in a local, and the
standard streams come back as those of the process they come to.

An open file cannot be pickled: its descriptor is this process's, and what was written may not be on disk.
"""

from __future__ import annotations

import io
import os
import sys
from typing import Any

__all__ = ["REDUCERS"]

STANDARD = ("stdin", "stdout", "stderr")
STREAMS: dict[object, str] = {**dict(enumerate(STANDARD)), **{f"<{name}>": name for name in STANDARD}}
"""By the names that they have as files: their own, or their descriptor's number where somebody has wrapped them."""
KINDS = (io.TextIOWrapper, io.BufferedReader, io.BufferedWriter, io.BufferedRandom, io.FileIO)


def reduce_file(file: Any) -> tuple[Any, ...]:
    if not file.closed:
        name = getattr(file, "name", None)
        if type(file) is io.TextIOWrapper and name in STREAMS:
            return getattr, (sys, STREAMS[name])
        instead = "close it before this yield point, or read it through ray_durable.open()"
        raise TypeError(f"cannot pickle the open file {name!r}: {instead}")
    return closed_file, (KINDS.index(type(file)),)


def closed_file(kind: int) -> Any:
    """A closed file of that type; whatever is done with it raises ValueError, as with any closed file."""
    raw = io.FileIO(os.devnull, "r+")
    wrapped: Any = raw
    if KINDS[kind] is io.TextIOWrapper:
        wrapped = io.TextIOWrapper(io.BufferedReader(raw), encoding="utf-8")
    elif KINDS[kind] is io.BufferedReader:
        wrapped = io.BufferedReader(raw)
    elif KINDS[kind] is not io.FileIO:  # a random-access file among them: devnull cannot seek, which one must
        wrapped = io.BufferedWriter(raw)
    wrapped.close()
    return wrapped


REDUCERS = dict.fromkeys(KINDS, reduce_file)
