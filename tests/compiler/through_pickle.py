"""Round trips through bytes, as a checkpoint makes them: for `roundtrip.run(…, round_trip=Trips())`."""

from __future__ import annotations

import io
import pickle
import re
from collections import Counter
from typing import Any

from ray_durable.compiler import discard, references
from ray_durable.errors import CannotPickleError
from tests.compiler.roundtrip import Run

REFUSED = re.compile("this (async )?(generator|coroutine) is not durable|cannot pickle '(anext_awaitable|typing.Type)")


class Trips:
    """Pickles what has suspended, gives it up, and unpickles it. A run, to which programs log, stays the same object.
    What holds something that no frame may hold is passed on as it is; `made` counts the trips, `refused` those."""

    def __init__(self) -> None:
        self.kept: dict[int, Run] = {}
        self.made, self.refused = 0, Counter[str]()

    def __call__(self, suspended: Any) -> Any:
        met: list[Any] = []
        written = io.BytesIO()
        pickler = references.Pickler(written, pickle.HIGHEST_PROTOCOL)
        pickler.dispatch_table = references.dispatch_table(met=met)
        pickler.persistent_id = self.name_of
        try:
            pickler.dump(suspended)
        except (CannotPickleError, TypeError, pickle.PicklingError) as error:
            if not REFUSED.search(str(error)):
                raise
            self.refused[str(error)] += 1
            return suspended
        unpickler = pickle.Unpickler(io.BytesIO(written.getvalue()))
        unpickler.persistent_load = self.kept.__getitem__
        made = unpickler.load()
        discard(suspended, also=met)
        self.made += 1
        return made

    def name_of(self, obj: Any) -> int | None:
        if not isinstance(obj, Run):
            return None
        self.kept[id(obj)] = obj
        return id(obj)
